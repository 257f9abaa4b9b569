# SPDX-License-Identifier: Apache-2.0
"""The parameters that everything has which draws the scene."""

from __future__ import annotations

from q2rl_bringup.scene_picture import Scale
from q2rl_ros.node import Q2rlNode


def declare_scale(node: Q2rlNode) -> None:
    """Declare how large and how often things are drawn."""
    node.declare(
        'stretch',
        Scale().stretch,
        'Length of an arrow over that of the motion it stands for.',
        low=0.1,
        high=1e3,
    )
    node.declare(
        'force_scale',
        Scale().force,
        "Length of the contact force's arrow [m/N].",
        low=1e-5,
        high=1.0,
    )
    node.declare('period', 0.1, 'Wall time between two pictures [s].', low=0.01, high=10.0)


def read_scale(node: Q2rlNode) -> Scale:
    """Return how large things are drawn."""
    return Scale(node.value('stretch'), node.value('force_scale'))
