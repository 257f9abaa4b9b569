# SPDX-License-Identifier: Apache-2.0
"""A gripper that takes goals: the action of Franka's hand, or of ros2_control's gripper controllers (Robotiq)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import time

from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient

from q2rl_control.gripper_joints import make_travel
from q2rl_ros.node import Q2rlNode
from q2rl_task import InputError

ACTION_TYPES = ('GripperCommand', 'ParallelGripperCommand')
ANSWER_S = 1.0
"""Within this a server must have taken a goal, or ended one that it was asked to cancel."""
GOAL_S = 10.0
"""No goal takes longer: no gripper does."""
RETRY_S = 1.0
"""A goal that failed is not sent again sooner."""
OPEN_END = 0.9
"""Below this opening the fingers have left the open end."""


def declare_gripper_action(node: Q2rlNode) -> None:
    """Declare what `GripperAction` reads."""
    node.declare(
        'gripper_action',
        '',
        "Real time: the gripper's action, instead of the topic gripper_controller/commands; empty: the topic. Franka's "
        'hand: franka_gripper/gripper_action; Robotiq: robotiq_gripper_controller/gripper_cmd.',
    )
    node.declare(
        'gripper_action_type',
        ACTION_TYPES[0],
        "Its type in control_msgs. GripperCommand: Franka's hand, position_controllers/GripperActionController. "
        'ParallelGripperCommand: parallel_gripper_action_controller/GripperActionController.',
        choices=ACTION_TYPES,
    )
    node.declare(
        'gripper_effort',
        0.0,
        "Effort that goes with each goal [N, or what the gripper's driver takes]; 0: force_n of the task.",
        low=0.0,
        high=1000.0,
    )


@dataclass
class _Goal:
    """A goal that has not ended. wanted: the opening. since: monotonic seconds. disturbed: one before was cancelled."""

    wanted: float
    since: float
    handle: object | None = None
    cancelled: float | None = None
    late: bool = False
    disturbed: bool = False


class GripperAction:
    """Send the gripper a goal whenever the commanded opening changes, one at a time.

    The newest replaces one that runs: that one is cancelled, and its end waited for, since a server may run both side
    by side and stop the new one when it comes to the cancelled one. A goal that was rejected or failed is told of and
    sent again. One that was aborted because the gripper stalled is as good as reached. So is one to close that was
    aborted with the fingers off the open end: that is what Franka's hand makes of a part of another width than it was
    told.

    :param opening: the measured opening; NaN: unknown
    :raises InputError: control_msgs is not there, or the positions are impossible
    """

    def __init__(self, node: Q2rlNode, opening: Callable[[], float]) -> None:
        self._node, self._opening = node, opening
        self._travel = make_travel(node)
        self._effort = node.value('gripper_effort') or node.task.gripper.force_n
        self._type = _action_type(node.value('gripper_action_type'))
        self._name = node.value('gripper_action')
        self._client = ActionClient(node, self._type, self._name)
        node.when_released(self._client.destroy)
        self._goal: _Goal | None = None
        self._problem = ''
        self.forget()

    def send(self, opening: float) -> None:
        """Have the gripper take an opening in [0, 1]; called once a tick."""
        if self.blocked():
            return
        now, goal = time.monotonic(), self._goal
        if goal is not None and not self._given_up(goal, opening, now):
            return
        if opening == self._reached or (opening == self._failed and now < self._again):
            return
        self._goal = goal = _Goal(opening, now)
        self._reached = None
        future = self._client.send_goal_async(self._message(self._travel.position(opening)))
        future.add_done_callback(lambda done: self._on_taken(goal, done.result()))

    def forget(self) -> None:
        """Say the next opening whatever was said before."""
        self._reached: float | None = None
        self._failed: float | None = None
        self._again = 0.0

    def blocked(self) -> str:
        """Return why the gripper cannot be told anything just now, or an empty string."""
        if self._client.server_is_ready():
            return ''
        # A server that comes back knows nothing of what the last one was told.
        self._goal = None
        self.forget()
        return f'nobody serves the action {self._name} of the gripper'

    def diagnose(self) -> dict[str, object]:
        """Show how the gripper does."""
        moving = 'moves' if self._goal is not None else 'as told'
        return {'gripper': self.blocked() or self._problem or moving}

    def _given_up(self, goal: _Goal, opening: float, now: float) -> bool:
        """Cancel a goal that is not wanted any more or takes too long; return whether its end is waited for in vain."""
        unanswered = goal.handle is None and now - goal.since > ANSWER_S
        unended = goal.cancelled is not None and now - goal.cancelled > ANSWER_S
        if unanswered or unended:
            self._ended(goal, 'not answered')
            return True
        goal.late = goal.late or now - goal.since > GOAL_S
        unwanted = goal.late or opening != goal.wanted
        if unwanted and goal.handle is not None and goal.cancelled is None:
            goal.cancelled = now
            goal.handle.cancel_goal_async()
        return False

    def _on_taken(self, goal: _Goal, handle) -> None:
        if goal is not self._goal:
            if (
                handle.accepted
            ):  # it was given up unanswered, and must not run against what is wanted since
                handle.cancel_goal_async()
                self._reached = None
                if self._goal is not None:  # which a server may stop with the other
                    self._goal.disturbed = True
            return
        if not handle.accepted:
            self._ended(goal, 'rejected')
            return
        goal.handle = handle
        handle.get_result_async().add_done_callback(lambda done: self._on_end(goal, done.result()))

    def _on_end(self, goal: _Goal, answer) -> None:
        if goal is not self._goal:
            return
        aborted = answer.status == GoalStatus.STATUS_ABORTED
        if answer.status == GoalStatus.STATUS_SUCCEEDED or (
            aborted
            and not goal.disturbed
            and (answer.result.stalled or self._has_closed_on_a_part(goal))
        ):
            self._goal, self._reached, self._failed = None, goal.wanted, None
            self._problem = ''
        elif goal.cancelled is not None and not goal.late:
            self._goal = None  # as it was asked to
        else:
            self._ended(goal, 'aborted' if aborted else 'given up')

    def _has_closed_on_a_part(self, goal: _Goal) -> bool:
        # One that was asked to cancel may have been stopped by that.
        return goal.wanted == 0.0 and goal.cancelled is None and self._opening() < OPEN_END

    def _ended(self, goal: _Goal, how: str) -> None:
        """Take note of a goal that failed."""
        self._goal, self._failed, self._again = None, goal.wanted, goal.since + RETRY_S
        act = 'close' if goal.wanted == 0.0 else 'open'
        self._problem = f'a goal to {act} was {how}'
        self._node.drop('gripper_goals', f'{self._problem} by {self._name}')

    def _message(self, position: float):
        """Return the goal for a position of the joints [m or rad]."""
        goal = self._type.Goal()
        if hasattr(goal.command, 'max_effort'):
            goal.command.position, goal.command.max_effort = position, self._effort
        else:
            joints = self._travel.joints
            goal.command.name = list(joints)
            goal.command.position = [position] * len(joints)
            goal.command.effort = [self._effort] * len(joints)
        return goal


def _action_type(name: str) -> type:
    """Return a type of control_msgs/action, which only a system with ros2_control has."""
    try:
        from control_msgs import action

        return getattr(action, name)
    except (ImportError, AttributeError):
        raise InputError(
            'parameter `gripper_action`',
            f'control_msgs/action/{name} is not installed',
            'install ros-jazzy-control-msgs, or leave it empty for a joint group controller',
        ) from None
