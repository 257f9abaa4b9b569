# SPDX-License-Identifier: Apache-2.0
"""What a viewer hears of a run, at its own pace and at almost no cost to anybody."""

from __future__ import annotations

from collections.abc import Callable
import time

from geometry_msgs.msg import PoseStamped, WrenchStamped
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import JointState

from q2rl_bringup.scene_state import SceneState
from q2rl_msgs.msg import EpisodeSummary, GateDecision, GuardState, Observation, RunState
from q2rl_ros.errors import MessageError
from q2rl_ros.node import Q2rlNode

STREAM = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Of what comes at every tick: nobody sends again, or waits, for the sake of a picture."""


class SceneFeed:
    """Subscriptions of `node` that fill `state` when `read` is called.

    A message of a stream is kept as the bytes it came in; only the newest of each, once per `read`, is decoded: a
    simulation takes hundreds of steps a second, a picture shows ten. Of an observation and the pose that was there when
    it came the oldest pair that was not read is kept: of an episode in real time that is the first one, from before
    the arm moved.
    """

    def __init__(self, node: Q2rlNode, state: SceneState) -> None:
        self._node, self._state = node, state
        self._bytes: dict[type, bytes] = {}
        self._fresh: set[type] = set()
        self._pair: tuple[bytes, bytes] | None = None
        for kind, topic in (
            (JointState, 'joint_states'),
            (PoseStamped, 'current_pose'),
            (WrenchStamped, 'contact_wrench'),
            (GateDecision, 'gate_decision'),
        ):
            node.subscribe(kind, topic, self._keep(kind), STREAM, raw=True)
        node.subscribe(Observation, 'observation', self._keep_pair, STREAM, raw=True)
        qos = node.qos
        node.subscribe(GuardState, 'guard_state', self._on_guard, qos.latched, while_inactive=True)
        node.subscribe(RunState, 'run_state', state.hear_run, qos.latched, while_inactive=True)
        node.subscribe(EpisodeSummary, 'episode_summary', state.hear_episode, qos.events)

    def read(self) -> None:
        """Decode what came since the last time."""
        state, now = self._state, time.monotonic()
        for kind, hear in (
            (JointState, state.hear_joints),
            (PoseStamped, state.hear_pose),
            (WrenchStamped, state.hear_wrench),
            (GateDecision, lambda msg: state.hear_decision(msg, now)),
        ):
            if kind in self._fresh:
                self._fresh.discard(kind)
                self._try(lambda k=kind, h=hear: h(deserialize_message(self._bytes[k], k)))
        if self._pair is not None:
            observation, pose = self._pair
            self._pair = None
            self._try(
                lambda: state.hear_observation(
                    deserialize_message(observation, Observation),
                    deserialize_message(pose, PoseStamped),
                )
            )
        state.pass_time(now)

    def _keep(self, kind: type) -> Callable[[bytes], None]:
        def keep(data: bytes) -> None:
            self._bytes[kind] = data
            self._fresh.add(kind)

        return keep

    def _keep_pair(self, data: bytes) -> None:
        if self._pair is None and PoseStamped in self._bytes:
            self._pair = (data, self._bytes[PoseStamped])

    def _on_guard(self, msg: GuardState) -> None:
        self._state.hear_guard(msg, time.monotonic())

    def _try(self, hear: Callable[[], None]) -> None:
        try:
            hear()
        except MessageError as error:
            self._node.drop(error.kind, str(error))
