# SPDX-License-Identifier: Apache-2.0
"""What the gripper is told beside the arm's targets."""

from __future__ import annotations

import math

from std_msgs.msg import Float64MultiArray

from q2rl_control.arm_logic import ArmLogic
from q2rl_ros.gripper import GRIPPER_TOPIC, gripper_to_msg
from q2rl_ros.node import Q2rlNode


class GripperCommand:
    """Publish what one `ArmLogic` wants of the gripper, if the task has one.

    Nothing is said before something was decided, nor in an emergency stop: a gripper that holds a part keeps it, a
    restart of the node included. A simulation in lockstep waits for a word at every step, and is told to keep still.
    """

    def __init__(self, node: Q2rlNode, logic: ArmLogic) -> None:
        self._task, self._lockstep, self._logic = node.task, node.lockstep, logic
        if self._task.gripper:
            self._out = node.publisher(Float64MultiArray, GRIPPER_TOPIC, node.qos.command)

    def send(self) -> None:
        """Publish the commanded opening, if there is one to be published."""
        if not self._task.gripper:
            return
        opening, measured = self._logic.gripper, self._logic.measurement
        if self._lockstep and math.isnan(opening) and measured is not None:
            opening = measured.gripper
        if math.isnan(opening) or (self._logic.latch.stopped and not self._lockstep):
            return
        self._out.publish(gripper_to_msg(opening, self._task))
