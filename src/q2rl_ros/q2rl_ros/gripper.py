# SPDX-License-Identifier: Apache-2.0
"""The gripper's topic, that of a joint group position controller of ros2_control, and what is on it."""

from __future__ import annotations

from array import array

import numpy as np
from std_msgs.msg import Float64MultiArray

from q2rl_ros.errors import MessageError
from q2rl_task import TaskSpec

GRIPPER_TOPIC = 'gripper_controller/commands'
"""Commanded positions of the gripper's joints [m], in the order in which the task names them."""


def gripper_to_msg(opening: float, task: TaskSpec) -> Float64MultiArray:
    """Return the command for an opening in [0, 1] (1: open)."""
    gripper = task.gripper
    return Float64MultiArray(data=array('d', [opening * gripper.open_m] * len(gripper.joints)))


def gripper_from_msg(msg: Float64MultiArray, task: TaskSpec) -> float:
    """Return the opening that is commanded, kept to [0, 1].

    :raises MessageError: not one finite position per joint
    """
    positions = np.asarray(msg.data)
    if len(positions) != len(task.gripper.joints) or not np.isfinite(positions).all():
        raise MessageError('malformed', 'not one finite position per joint of the gripper')
    return float(np.clip(positions.mean() / task.gripper.open_m, 0.0, 1.0))
