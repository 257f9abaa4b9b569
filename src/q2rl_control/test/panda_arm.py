# SPDX-License-Identifier: Apache-2.0
"""Descriptions of a Panda and of a UR5, and a posture in the middle of the Panda, for tests about joints."""

from __future__ import annotations

from importlib import metadata

import numpy as np

BASE, TIP = 'panda_link0', 'panda_hand'
POSTURE = np.array([0.1, -0.3, 0.05, -2.2, 0.1, 2.0, 0.7])


def panda_urdf() -> str:
    """Return the path of the installed panda.urdf."""
    return _installed('panda.urdf')


def ur5_urdf() -> str:
    """Return the path of the installed ur5_robot.urdf: base_link to tool0."""
    return _installed('ur5_robot.urdf')


def _installed(name: str) -> str:
    files = metadata.files('example-robot-data')
    return str(next(f for f in files if f.name == name).locate())
