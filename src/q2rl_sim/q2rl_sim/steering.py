# SPDX-License-Identifier: Apache-2.0
"""What scripted behaviours share: the action that takes the commanded pose towards a wanted one."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from q2rl_task import Pose, TaskSpec


def steer(
    task: TaskSpec, commanded: Pose, wanted: Pose, fixture: Pose, speed: float = 1.0
) -> np.ndarray:
    """Return the action (D,) in [-1, 1] that moves `commanded` towards `wanted`, both in the base frame.

    :param fixture: frame in whose axes actions are; an error of a degree or two only bends the path
    :param speed: largest component the action may have, in (0, 1]; each of translation and rotation keeps its direction
    """
    axes = fixture.rotation.inv()
    shift = axes.apply(wanted.position - commanded.position) / task.action.translation_m
    turn = axes.apply(commanded.rotation_vector_to(wanted)) / task.action.rotation_rad
    action = np.zeros(task.action_size)
    action[:3] = shift * (speed / max(speed, np.abs(shift).max()))
    action[3:6] = turn * (speed / max(speed, np.abs(turn).max()))
    return action


def in_fixture(
    fixture: Pose, position: np.ndarray, rotation_vector: np.ndarray | None = None
) -> Pose:
    """Return the base-frame pose at `position` (3,) [m] and `rotation_vector` (3,) [rad] of the fixture frame."""
    turn = Rotation.identity() if rotation_vector is None else Rotation.from_rotvec(rotation_vector)
    return fixture @ Pose.from_rotation(position, turn)
