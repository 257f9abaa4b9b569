# SPDX-License-Identifier: Apache-2.0
"""What the gripper is told beside the arm's targets, by the topic of its joints or by its action."""

from __future__ import annotations

import math

from std_msgs.msg import Float64MultiArray

from q2rl_control.arm_logic import ArmLogic
from q2rl_control.gripper_action import GripperAction, declare_gripper_action
from q2rl_control.gripper_joints import declare_gripper_joints
from q2rl_ros.gripper import GRIPPER_TOPIC, gripper_to_msg
from q2rl_ros.node import Q2rlNode


def declare_gripper_parameters(node: Q2rlNode) -> None:
    """Declare what the gripper is commanded and measured by."""
    declare_gripper_action(node)
    declare_gripper_joints(node)


class GripperCommand:
    """Tell the gripper what one `ArmLogic` wants of it, if the task has one.

    Nothing is said before something was decided, nor in an emergency stop: a gripper that holds a part keeps it, a
    restart of the node included. In a hold nothing is said again, since somebody may have their hand in it: only what a
    person who acts wants otherwise. A simulation in lockstep takes the topic alone, waits for a word at every step, and
    is told to keep still.

    :raises InputError: the gripper's action cannot be spoken to
    """

    def __init__(self, node: Q2rlNode, logic: ArmLogic) -> None:
        self._lockstep, self._logic = node.lockstep, logic
        self._said = math.nan
        self._out: _Topic | GripperAction | None = None
        if node.task.gripper:
            by_action = not node.lockstep and node.value('gripper_action')
            self._out = GripperAction(node, self._measured) if by_action else _Topic(node)

    def send(self) -> None:
        """Say the commanded opening, if there is one to be said."""
        if self._out is None:
            return
        opening = self._logic.gripper
        if self._lockstep and math.isnan(opening):
            opening = self._measured()
        latch = self._logic.latch
        silent = latch.stopped or (latch.held and opening == self._said)
        if math.isnan(opening) or (silent and not self._lockstep):
            return
        self._said = opening
        self._out.send(opening)

    def blocked(self) -> str:
        """Return why the gripper cannot be told anything just now, or an empty string."""
        return self._out.blocked() if self._out is not None else ''

    def forget(self) -> None:
        """Say the next opening whatever was said before."""
        if self._out is not None:
            self._out.forget()

    def diagnose(self) -> dict[str, object]:
        """Return what diagnostics show."""
        return self._out.diagnose() if self._out is not None else {}

    def _measured(self) -> float:
        measurement = self._logic.measurement
        return math.nan if measurement is None else measurement.gripper


class _Topic:
    """The topic of a joint group position controller, on which every tick says it again."""

    def __init__(self, node: Q2rlNode) -> None:
        self._task = node.task
        self._out = node.publisher(Float64MultiArray, GRIPPER_TOPIC, node.qos.command)

    def send(self, opening: float) -> None:
        self._out.publish(gripper_to_msg(opening, self._task))

    def forget(self) -> None:
        """Nothing is kept."""

    def blocked(self) -> str:
        return ''

    def diagnose(self) -> dict[str, object]:
        return {}
