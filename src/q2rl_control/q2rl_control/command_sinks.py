# SPDX-License-Identifier: Apache-2.0
"""Where guarded commands go: one sink, chosen by `command_sink`, that puts the guarded pose on a controller's topic.

A sink translates and does nothing else: what may be commanded is the guard's to decide.
"""

from __future__ import annotations

from collections.abc import Callable
import time
from typing import Protocol

from geometry_msgs.msg import PoseStamped
import numpy as np
from std_msgs.msg import Float64MultiArray

from q2rl_control.interpolation import Interpolation, PoseInterpolation
from q2rl_control.joint_tracking import JointTracking
from q2rl_ros.conversions import pose_to_msg
from q2rl_ros.joint_command import joints_to_msg
from q2rl_ros.node import Q2rlNode
from q2rl_task import Measurement, Pose


class CommandSink(Protocol):
    """One way to command an arm. topic: where it does, resolved."""

    topic: str

    def send(self, target: Pose, stamp: float, measured: Measurement | None) -> None:
        """Command a guarded pose.

        :param target: of the tip, base frame
        :param stamp: of the measurement that it answers [s]
        :param measured: of this tick; None: nothing usable was measured, and the target brakes
        """

    def send_again(self) -> None:
        """Repeat the last command, for a simulation that did not hear it."""

    def go_on(self) -> None:
        """Command what is due between two targets; a sink sees to that itself while its node is active."""

    def forget(self) -> None:
        """Start anew from the next measurement."""

    def blocked(self) -> str:
        """Return why the controller below cannot follow just now, or an empty string."""

    def diagnose(self) -> dict[str, object]:
        """Return what diagnostics show."""


class StreamingSink:
    """What sinks share that put each command on one topic: as it is, or interpolated from tick to tick.

    :param to_msg: makes a message of a command and the stamp of the measurement that it answers
    :param between: interpolates; None: one message per tick
    :param rate_hz: of the interpolated messages
    """

    def __init__(
        self,
        node: Q2rlNode,
        kind: type,
        topic: str,
        to_msg: Callable,
        between: Interpolation | PoseInterpolation | None,
        rate_hz: float,
    ) -> None:
        self._node, self._to_msg, self._between = node, to_msg, between
        self._out = node.publisher(kind, topic, node.qos.command)
        self.topic = self._out.topic_name
        self._msg = None
        self._stamp = self._ahead_s = 0.0
        if between is not None:
            # Not a `control_timer`: of several on a simulation's clock rclpy's EventsExecutor may call one twice at one
            # jump of that clock and leave its next call out, which costs ticks.
            node.wall_timer(1.0 / rate_hz, self.go_on)

    def send_again(self) -> None:
        """Publish the last message once more."""
        if self._msg is not None:
            self._out.publish(self._msg)

    def go_on(self) -> None:
        """Publish the interpolated command of now, where it is this that interpolates."""
        command = None if self._between is None else self._between.at(self._now())
        if command is not None:
            self._publish(command)

    def forget(self) -> None:
        """Drop the last command."""
        self._msg = None
        if self._between is not None:
            self._between.forget()

    def blocked(self) -> str:
        """Never: such a controller says nothing of itself, see `ArmReadiness`."""
        return ''

    def diagnose(self) -> dict[str, object]:
        """Nothing to show."""
        return {}

    def _command(self, command: Pose | np.ndarray, start: Pose | np.ndarray) -> None:
        """Publish a command, or begin the way to it; the first one begins at `start`."""
        if self._between is None:
            self._publish(command)
            return
        self._between.command(command, self._now(), start)
        self.go_on()

    def _now(self) -> float:
        """Return the control time [s]; while the node is not active, it goes on at the pace of the wall clock."""
        # A node that brakes its arm as it ends hears nothing meanwhile, a simulation's clock neither.
        wall = time.monotonic()
        if self._node.active:
            self._ahead_s = self._node.control_time() - wall
        return wall + self._ahead_s

    def _publish(self, command: Pose | np.ndarray) -> None:
        self._msg = self._to_msg(command, self._stamp)
        self._out.publish(self._msg)


class PoseTargetSink(StreamingSink):
    """Poses of the tip, for a Cartesian controller: crisp_controllers, FZI cartesian_controllers, the simulation.

    In real time the controller gets `rate_hz` interpolated poses a second, since it may follow what it gets at once; a
    simulation in lockstep gets one per tick, and interpolates itself.

    :param rate_hz: of the interpolated poses; 0: one per tick, for a controller that interpolates itself
    """

    def __init__(self, node: Q2rlNode, topic: str, rate_hz: float) -> None:
        frame, streams = node.task.frames.base, rate_hz and not node.lockstep
        between = PoseInterpolation(node.task.period_s) if streams else None

        def to_msg(pose: Pose, stamp: float) -> PoseStamped:
            return pose_to_msg(pose, frame, stamp)

        super().__init__(node, PoseStamped, topic, to_msg, between, rate_hz)

    def send(self, target: Pose, stamp: float, measured: Measurement | None) -> None:
        """Command the pose, stamped like the measurement that it answers."""
        self._stamp = stamp
        self._command(target, measured.tip_pose if measured is not None else target)


class JointPositionSink(StreamingSink):
    """Joint positions, for a forward_command_controller.

    In real time the controller gets `rate_hz` interpolated commands a second, since it passes on what it gets at once;
    a simulation in lockstep gets one per tick, and interpolates itself.

    :param tracking: for joints in the order of the controller
    :param rate_hz: of the interpolated commands
    :param stopped: called with a reason when the joints do not follow
    """

    def __init__(
        self,
        node: Q2rlNode,
        topic: str,
        tracking: JointTracking,
        rate_hz: float,
        stopped: Callable[[str], None],
    ) -> None:
        between = None if node.lockstep else Interpolation(node.task.period_s)
        super().__init__(node, Float64MultiArray, topic, joints_to_msg, between, rate_hz)
        self._tracking, self._stopped = tracking, stopped

    def send(self, target: Pose, stamp: float, measured: Measurement | None) -> None:
        """Follow the pose by joint positions within their limits."""
        joints = self._tracking.commanded
        if measured is not None:
            joints = measured.joint_positions[: self._tracking.size]
        if joints is None:
            return
        was_behind = self._tracking.behind
        positions = self._tracking.follow(target, joints)
        for code in self._tracking.codes:
            self._node.count(f'joints_{code}')
        self._stamp = stamp
        self._command(positions, joints)
        if self._tracking.behind and not was_behind:
            self._stopped(f'the arm does not follow its command: {self._tracking.behind}')

    def forget(self) -> None:
        """Start from the measured joints."""
        super().forget()
        self._tracking.forget()

    def diagnose(self) -> dict[str, object]:
        """Show what kept the joints from following."""
        return {'joints': ', '.join(self._tracking.codes) or 'follow'}
