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


class PoseTargetSink:
    """Poses of the tip, for a Cartesian controller: crisp_controllers, FZI cartesian_controllers, the simulation.

    In real time the controller gets `rate_hz` interpolated poses a second, since it may follow what it gets at once; a
    simulation in lockstep gets one per tick, and interpolates itself.

    :param rate_hz: of the interpolated poses; 0: one per tick, for a controller that interpolates itself
    """

    def __init__(self, node: Q2rlNode, topic: str, rate_hz: float) -> None:
        self._frame = node.task.frames.base
        self._out = node.publisher(PoseStamped, topic, node.qos.command)
        self.topic = self._out.topic_name
        self._msg: PoseStamped | None = None
        self._between: PoseInterpolation | None = None
        self._stamp = 0.0
        if rate_hz and not node.lockstep:
            self._between = PoseInterpolation(node.task.period_s)
            node.wall_timer(1.0 / rate_hz, self._interpolate)

    def send(self, target: Pose, stamp: float, measured: Measurement | None) -> None:
        """Command the pose, stamped like the measurement that it answers."""
        self._stamp = stamp
        if self._between is None:
            self._publish(target)
            return
        start = measured.tip_pose if measured is not None else target
        self._between.command(target, time.monotonic(), start)
        self._interpolate()

    def send_again(self) -> None:
        """Publish the last pose once more."""
        if self._msg is not None:
            self._out.publish(self._msg)

    def go_on(self) -> None:
        """Publish the interpolated pose of now, where it is this that interpolates."""
        if self._between is not None:
            self._interpolate()

    def forget(self) -> None:
        """Drop the last pose."""
        self._msg = None
        if self._between is not None:
            self._between.forget()

    def blocked(self) -> str:
        """Never: such a controller says nothing of itself, see `ArmReadiness`."""
        return ''

    def diagnose(self) -> dict[str, object]:
        """Nothing to show."""
        return {}

    def _interpolate(self) -> None:
        pose = self._between.at(time.monotonic())
        if pose is not None:
            self._publish(pose)

    def _publish(self, pose: Pose) -> None:
        self._msg = pose_to_msg(pose, self._frame, self._stamp)
        self._out.publish(self._msg)


class JointPositionSink:
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
        self._node = node
        self._tracking, self._stopped = tracking, stopped
        self._between = Interpolation(node.task.period_s)
        self._out = node.publisher(Float64MultiArray, topic, node.qos.command)
        self.topic = self._out.topic_name
        self._msg: Float64MultiArray | None = None
        self._stamp = 0.0
        if not node.lockstep:
            node.wall_timer(1.0 / rate_hz, self._interpolate)

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
        if self._node.lockstep:
            self._publish(positions)
        else:
            self._between.command(positions, time.monotonic(), joints)
            self._interpolate()
        if self._tracking.behind and not was_behind:
            self._stopped(f'the arm does not follow its command: {self._tracking.behind}')

    def send_again(self) -> None:
        """Publish the last positions once more."""
        if self._msg is not None:
            self._out.publish(self._msg)

    def go_on(self) -> None:
        """Publish the interpolated positions of now."""
        self._interpolate()

    def forget(self) -> None:
        """Start from the measured joints."""
        self._tracking.forget()
        self._between.forget()
        self._msg = None

    def blocked(self) -> str:
        """Never: such a controller says nothing of itself, see `ArmReadiness`."""
        return ''

    def diagnose(self) -> dict[str, object]:
        """Show what kept the joints from following."""
        return {'joints': ', '.join(self._tracking.codes) or 'follow'}

    def _interpolate(self) -> None:
        positions = self._between.at(time.monotonic())
        if positions is not None:
            self._publish(positions)

    def _publish(self, positions: np.ndarray) -> None:
        self._msg = joints_to_msg(positions, self._stamp)
        self._out.publish(self._msg)
