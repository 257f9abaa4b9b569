# SPDX-License-Identifier: Apache-2.0
"""Where guarded commands go: one sink, chosen by `command_sink`, that puts the guarded pose on a controller's topic.

A sink translates and does nothing else: what may be commanded is the guard's to decide.
"""

from __future__ import annotations

import time
from typing import Protocol

from geometry_msgs.msg import PoseStamped
import numpy as np
from std_msgs.msg import Float64MultiArray

from q2rl_control.joint_tracking import SEEDED, Interpolation, JointTracking
from q2rl_control.kinematics import ArmKinematics
from q2rl_ros.conversions import pose_to_msg
from q2rl_ros.joint_command import joints_to_msg
from q2rl_ros.node import Q2rlNode
from q2rl_task import Measurement, Pose


class CommandSink(Protocol):
    """One way to command an arm."""

    def send(self, target: Pose, stamp: float, measured: Measurement | None) -> None:
        """Command a guarded pose.

        :param target: of the tip, base frame
        :param stamp: of the measurement that it answers [s]
        :param measured: of this tick; None: nothing usable was measured, and the target brakes
        """

    def send_again(self) -> None:
        """Repeat the last command, for a simulation that did not hear it."""

    def forget(self) -> None:
        """Start anew from the next measurement."""

    def blocked(self) -> str:
        """Return why the controller below cannot follow just now, or an empty string."""

    def diagnose(self) -> dict[str, object]:
        """Return what diagnostics show."""


class PoseTargetSink:
    """Poses of the tip, for a Cartesian controller: crisp_controllers, FZI cartesian_controllers, the simulation."""

    def __init__(self, node: Q2rlNode, topic: str) -> None:
        self._frame = node.task.frames.base
        self._out = node.publisher(PoseStamped, topic, node.qos.command)
        self._msg: PoseStamped | None = None

    def send(self, target: Pose, stamp: float, measured: Measurement | None) -> None:
        """Publish the pose, stamped like the measurement that it answers."""
        self._msg = pose_to_msg(target, self._frame, stamp)
        self._out.publish(self._msg)

    def send_again(self) -> None:
        """Publish the last pose once more."""
        if self._msg is not None:
            self._out.publish(self._msg)

    def forget(self) -> None:
        """Drop the last pose."""
        self._msg = None

    def blocked(self) -> str:
        """Never: such a controller says nothing of itself."""
        return ''

    def diagnose(self) -> dict[str, object]:
        """Nothing to show."""
        return {}


class JointPositionSink:
    """Joint positions, for a forward_command_controller.

    In real time the controller gets `rate_hz` interpolated commands a second, since it passes on what it gets at once;
    a simulation in lockstep gets one per tick, and interpolates itself.

    :param rate_hz: of the interpolated commands
    """

    def __init__(
        self, node: Q2rlNode, topic: str, kinematics: ArmKinematics, rate_hz: float
    ) -> None:
        self._node = node
        self._size = len(kinematics.joints)
        self._tracking = JointTracking(kinematics, node.task.period_s)
        self._between = Interpolation(node.task.period_s)
        self._out = node.publisher(Float64MultiArray, topic, node.qos.command)
        self._msg: Float64MultiArray | None = None
        self._stamp = 0.0
        if not node.lockstep:
            node.wall_timer(1.0 / rate_hz, self._interpolate)

    def send(self, target: Pose, stamp: float, measured: Measurement | None) -> None:
        """Follow the pose by joint positions within their limits."""
        joints = self._tracking.commanded
        if measured is not None:
            joints = measured.joint_positions[: self._size]
        if joints is None:
            return
        positions = self._tracking.follow(target, joints)
        for code in self._tracking.codes:
            self._node.count(f'joints_{code}')
        self._stamp = stamp
        if self._node.lockstep:
            self._publish(positions)
            return
        if SEEDED in self._tracking.codes:
            self._between.forget()
        self._between.command(positions, time.monotonic(), joints)
        self._interpolate()

    def send_again(self) -> None:
        """Publish the last positions once more."""
        if self._msg is not None:
            self._out.publish(self._msg)

    def forget(self) -> None:
        """Start from the measured joints."""
        self._tracking.forget()
        self._between.forget()
        self._msg = None

    def blocked(self) -> str:
        """Never: such a controller says nothing of itself."""
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
