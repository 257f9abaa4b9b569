# SPDX-License-Identifier: Apache-2.0
"""What a node hears and says for a person who steers in the browser: the arm's word in, `human_action` out."""

from __future__ import annotations

from collections.abc import Callable
import time

from geometry_msgs.msg import PoseArray, PoseStamped
from rclpy.serialization import deserialize_message

from q2rl_bringup.scene_feed import STREAM
from q2rl_bringup.steering import Steering
from q2rl_msgs.msg import ArmStatus, HumanAction
from q2rl_ros.conversions import pose_from_msg, to_array
from q2rl_ros.errors import MessageError
from q2rl_ros.node import Q2rlNode
from q2rl_ros.stamps import stamp_to_msg
from q2rl_task import Pose


class SteeringLink:
    """Feed a `Steering`, and publish its action at the control rate, as `teleop` does with that of a device.

    :param fixture: where the fixture is believed to stand
    """

    def __init__(self, node: Q2rlNode, steering: Steering, fixture: Callable[[], Pose]) -> None:
        self._node, self._steering, self._fixture = node, steering, fixture
        self._stamp = 0.0
        self._target: bytes | None = None
        qos = node.qos
        self._out = node.publisher(HumanAction, 'human_action', qos.sensors)
        node.subscribe(PoseArray, 'true_poses', self._on_truth, STREAM)
        node.subscribe(PoseStamped, 'target_pose', self._on_target, STREAM, raw=True)
        node.subscribe(PoseStamped, 'current_pose', self._on_measured, STREAM, raw=True)
        node.subscribe(ArmStatus, 'arm_status', self._on_arm, qos.latched, while_inactive=True)
        node.wall_timer(node.task.period_s, self._tick)

    def _on_truth(self, msg: PoseArray) -> None:
        base = self._node.task.frames.base
        poses = [pose_from_msg(PoseStamped(header=msg.header, pose=p), base) for p in msg.poses]
        self._steering.hear_truth(poses, time.monotonic())

    def _on_target(self, data: bytes) -> None:
        # Resets command far more often than anybody looks.
        self._target = data

    def _on_measured(self, data: bytes) -> None:
        # An arm that waits is told nothing: who came too late for its last target begins where it stands.
        if self._steering.commanded is None:
            self._target = self._target or data

    def _on_arm(self, msg: ArmStatus) -> None:
        if msg.robot == self._node.robot:
            self._steering.hear_arm(msg.state, msg.detail, msg.episode)

    def _take_target(self, msg: PoseStamped) -> None:
        try:
            self._steering.commanded = pose_from_msg(msg, self._node.task.frames.base)
        except MessageError as error:
            self._node.drop(error.kind, f'target_pose: {error}')

    def _tick(self) -> None:
        if self._target is not None:
            data, self._target = self._target, None
            self._take_target(deserialize_message(data, PoseStamped))
        action = self._steering.action(self._fixture(), time.monotonic())
        if action is None:
            return
        # Stamps must grow; the clock of a simulation that waits for the person stands still.
        self._stamp = max(time.time(), self._stamp + 1e-6)
        msg = HumanAction(contract=self._node.task.contract_hash, action=to_array(action))
        msg.header.stamp = stamp_to_msg(self._stamp)
        self._out.publish(msg)
