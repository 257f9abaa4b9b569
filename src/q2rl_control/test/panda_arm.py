# SPDX-License-Identifier: Apache-2.0
"""The Panda's description, and a posture in its middle, for tests about joints."""

from __future__ import annotations

from importlib import metadata

import numpy as np

BASE, TIP = 'panda_link0', 'panda_hand'
POSTURE = np.array([0.1, -0.3, 0.05, -2.2, 0.1, 2.0, 0.7])


def panda_urdf() -> str:
    """Return the path of the installed panda.urdf."""
    files = metadata.files('example-robot-data')
    return str(next(f for f in files if f.name == 'panda.urdf').locate())
