# SPDX-License-Identifier: Apache-2.0
"""The gripper's joints as its driver names and measures them, and the opening of the task that they stand for."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, replace
import math
import time

import numpy as np
from sensor_msgs.msg import JointState

from q2rl_ros.errors import MessageError
from q2rl_ros.node import Q2rlNode
from q2rl_task import InputError, TaskSpec

SILENT_S = 0.5
"""What was last heard of the gripper's joints counts for so long; Franka's hand says it 15 times a second."""


def declare_gripper_joints(node: Q2rlNode) -> None:
    """Declare what the functions below read."""
    node.declare(
        'gripper_joints',
        [''],
        "Real time: joints by which the gripper's driver measures it; none: those of the task.",
    )
    node.declare(
        'gripper_topic',
        '',
        "Real time: topic of these joints' states (sensor_msgs/JointState); empty: joint_topic, with the arm's or in "
        'messages of their own.',
    )
    for where in ('open', 'closed'):
        node.declare(
            f'gripper_{where}_position',
            0.0,
            f'Real time: position of these joints [m or rad] at which the gripper is {where}; also what its action is '
            'sent. Open and closed both 0: as the task says.',
            low=-10.0,
            high=10.0,
        )


@dataclass(frozen=True)
class GripperTravel:
    """Which joints tell the opening, and their positions [m or rad] when open and when closed: not the same ones."""

    joints: tuple[str, ...]
    opened: float
    closed: float

    def position(self, opening: float) -> float:
        """Return the joints' position at an opening in [0, 1] (1: open)."""
        return self.closed + opening * (self.opened - self.closed)

    def opening(self, positions: Iterable[float]) -> float:
        """Return the opening in [0, 1] at the joints' positions; NaN where one is not finite."""
        mean = float(np.mean(list(positions)))
        return float(np.clip((mean - self.closed) / (self.opened - self.closed), 0.0, 1.0))


def make_travel(node: Q2rlNode) -> GripperTravel:
    """Return how the gripper of the node's task is told its opening, and how that is measured.

    :raises InputError: positions by which open and closed cannot be told apart
    """
    plain = _plain(node.task)
    names = tuple(name for name in node.value('gripper_joints') if name) or plain.joints
    opened, closed = node.value('gripper_open_position'), node.value('gripper_closed_position')
    if opened == closed == 0.0:
        return replace(plain, joints=names)
    if not math.isfinite(opened - closed) or opened == closed:
        raise InputError(
            'parameter `gripper_open_position`',
            f'{opened:g} cannot be told from gripper_closed_position {closed:g}',
            'give both as the driver measures them, or leave both at 0 for what the task says',
        )
    return GripperTravel(names, opened, closed)


def make_gripper_joints(node: Q2rlNode, sorted_out: bool) -> GripperJoints | None:
    """Return what brings the gripper's joints to the arm's; None where they are there already, as the task names them.

    A simulation in lockstep always has them there.

    :param sorted_out: only the arm's own joints are taken from a message
    :raises InputError: see `make_travel`
    """
    if node.task.gripper is None:
        return None
    plain = _plain(node.task)
    travel = plain if node.lockstep else make_travel(node)
    topic = '' if node.lockstep else node.value('gripper_topic')
    if travel == plain and not topic and not sorted_out:
        return None
    joints = GripperJoints(node.task, travel, bool(topic))
    if topic:
        node.subscribe(JointState, topic, joints.note, node.qos.sensors)
    return joints


class GripperJoints:
    """Keep the last positions of the gripper's joints and put them behind the arm's, named and measured as in the task.

    :param apart: they come on a topic of their own; what the arm's topic says of them does not count
    """

    def __init__(self, task: TaskSpec, travel: GripperTravel, apart: bool) -> None:
        self._gripper, self._travel, self._apart = task.gripper, travel, apart
        self._as_in_the_task = travel == _plain(task)
        self._heard: dict[str, tuple[float, float]] = {}

    def note(self, msg: JointState) -> None:
        """Take what a message says of the gripper's joints."""
        now = time.monotonic()
        for name, position in zip(msg.name, msg.position, strict=False):
            if name in self._travel.joints:
                self._heard[name] = now, position

    def take_out(self, msg: JointState) -> bool:
        """Take the gripper's joints out of a message of the arm's topic; return whether it says anything else."""
        if not self._apart:
            self.note(msg)
        others = [k for k, name in enumerate(msg.name) if name not in self._travel.joints]
        if len(others) < len(msg.name):
            for field in ('position', 'velocity'):
                values = getattr(msg, field)
                setattr(msg, field, array('d', [values[k] for k in others if k < len(values)]))
            msg.name = [msg.name[k] for k in others]
        return bool(others)

    def append(self, msg: JointState) -> None:
        """Put the task's joints of the gripper behind those of a message, at rest.

        :raises MessageError: some joint was not heard of for `SILENT_S`
        """
        oldest = time.monotonic() - SILENT_S
        never = float('-inf'), 0.0
        silent = [name for name in self._travel.joints if self._heard.get(name, never)[0] < oldest]
        if silent:
            raise MessageError(
                'gripper_silent', f'no word of {", ".join(silent)} for {SILENT_S:g} s'
            )
        positions = [self._heard[name][1] for name in self._travel.joints]
        if not self._as_in_the_task:
            opening = self._travel.opening(positions)
            positions = [opening * self._gripper.open_m] * len(self._gripper.joints)
        msg.name = [*msg.name, *self._gripper.joints]
        msg.position = array('d', [*msg.position, *positions])
        msg.velocity = array('d', [*msg.velocity, *[0.0] * len(positions)])


def _plain(task: TaskSpec) -> GripperTravel:
    """Return the travel of a gripper whose driver names and measures it as the task does."""
    return GripperTravel(tuple(task.gripper.joints), task.gripper.open_m, 0.0)
