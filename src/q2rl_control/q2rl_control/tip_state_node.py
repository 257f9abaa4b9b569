# SPDX-License-Identifier: Apache-2.0
"""Node `tip_state`: pose and twist of the tool's tip, for arms whose controllers tell joints only."""

from __future__ import annotations

import sys

from geometry_msgs.msg import PoseStamped, TwistStamped
import numpy as np
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from q2rl_control.kinematics import ArmKinematics
from q2rl_ros.conversions import pose_to_msg
from q2rl_ros.errors import MessageError
from q2rl_ros.node import Q2rlNode
from q2rl_ros.spin import spin
from q2rl_ros.stamps import stamp_from_msg


class TipState(Q2rlNode):
    """Publish `current_pose` and `current_twist` with the stamps of `joint_states`, by the kinematics of
    `robot_description`: the parameter, or without it the topic (which robot_state_publisher latches).

    Between the base and the tip no other body than the arm is in motion: the base stands.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__('tip_state', **kwargs)
        self.declare(
            'max_rate',
            100.0,
            'Most messages per second of joint_states time [Hz]; readings between are skipped.',
            low=1.0,
            high=1000.0,
        )
        self.declare(
            'publish_pose', True, 'Whether to publish current_pose; false: a controller does.'
        )
        self.declare('joint_topic', 'joint_states', 'Topic of the joint state broadcaster.')
        self.declare(
            'robot_description',
            '',
            'URDF of the robot with what it holds, or the path of a file with it, where the one on the topic '
            "robot_description is the driver's and lacks the tool. Empty: the topic.",
        )

    def configure(self) -> None:
        """Make the topics; a description that is not given is waited for.

        :raises InputError: the one that is given has no such arm
        """
        self._arm: ArmKinematics | None = None
        self._last = float('-inf')
        self._period = 1.0 / self.value('max_rate')
        self._pose_out = (
            self.publisher(PoseStamped, 'current_pose', self.qos.sensors)
            if self.value('publish_pose')
            else None
        )
        self._twist_out = self.publisher(TwistStamped, 'current_twist', self.qos.sensors)
        if self.value('robot_description'):
            self._describe(self.value('robot_description'))
        else:
            latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
            told = self._on_description
            self.subscribe(String, 'robot_description', told, latched, while_inactive=True)
        self.subscribe(JointState, self.value('joint_topic'), self._on_joints, self.qos.sensors)

    def diagnose(self) -> dict[str, object]:
        """Whether the description is there."""
        return {'description': self._arm is not None}

    def _on_description(self, msg: String) -> None:
        self._describe(msg.data)

    def _describe(self, description: str) -> None:
        frames = self.task.frames
        self._arm = ArmKinematics(description, frames.base, frames.tip)

    def _on_joints(self, msg: JointState) -> None:
        if self._arm is None:
            self.drop('no_description', 'joint_states, but no robot_description yet')
            return
        stamp = stamp_from_msg(msg.header.stamp)
        if 0.0 <= stamp - self._last < self._period:
            return
        order, missing = self._arm.among(msg.name)
        if missing:
            return  # of another part of the robot
        if not len(msg.name) == len(msg.position) == len(msg.velocity):
            raise MessageError('malformed', 'names, positions and velocities of unequal number')
        # The arm's alone: a broadcaster says NaN of what a joint does not measure, as a gripper's velocity.
        positions, velocities = np.array(msg.position)[order], np.array(msg.velocity)[order]
        if not (np.isfinite(positions).all() and np.isfinite(velocities).all()):
            raise MessageError('not_finite', 'a reading of the arm is not finite')
        self._last = stamp
        base = self.task.frames.base
        if self._pose_out is not None:
            self._pose_out.publish(pose_to_msg(self._arm.tip_pose(positions), base, stamp))
        twist = self._arm.jacobian(positions) @ velocities
        out = TwistStamped()
        out.header.stamp, out.header.frame_id = msg.header.stamp, base
        (out.twist.linear.x, out.twist.linear.y, out.twist.linear.z) = twist[:3].tolist()
        (out.twist.angular.x, out.twist.angular.y, out.twist.angular.z) = twist[3:].tolist()
        self._twist_out.publish(out)


def main(args=None) -> int:
    """Run the node."""
    return spin(TipState, args)


if __name__ == '__main__':
    sys.exit(main())
