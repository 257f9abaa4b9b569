# SPDX-License-Identifier: Apache-2.0
"""Node `scene_view`: markers for RViz. It only listens; nothing waits for it."""

from __future__ import annotations

import sys
import time

from geometry_msgs.msg import PoseStamped
from visualization_msgs.msg import MarkerArray

from q2rl_bringup.scene_markers import believed_fixture, decision_markers, scene_markers
from q2rl_msgs.msg import GateDecision, Observation
from q2rl_ros.conversions import (
    decision_from_msg,
    observation_from_msg,
    pose_from_msg,
    pose_to_msg,
)
from q2rl_ros.node import Q2rlNode
from q2rl_ros.spin import spin
from q2rl_ros.stamps import stamp_from_msg
from q2rl_task import Pose


class SceneView(Q2rlNode):
    """Show the workspace, the fixture as the policies believe it to stand, and who wanted what at the last tick.

    The fixture's estimate comes from an observation and the tip pose that it was built from: what the policies see, not
    the truth. In lockstep both have one stamp; in real time the first observation of an episode is taken, before which
    the arm stood still.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__('scene_view', **kwargs)
        self.declare(
            'stretch',
            10.0,
            'Length of an arrow over that of the motion it stands for.',
            low=0.1,
            high=1e3,
        )
        self.declare(
            'period', 0.1, 'Wall time between two pictures of the gate [s].', low=0.01, high=10.0
        )

    def configure(self) -> None:
        """Make the topics."""
        qos = self.qos
        self._tip: tuple[float, Pose] | None = None
        self._fixture: Pose | None = None
        self._episode, self._shown_at = '', -1.0
        self._scene_out = self.publisher(MarkerArray, 'scene_view/scene', qos.latched)
        self._gate_out = self.publisher(MarkerArray, 'scene_view/gate', qos.events)
        self._estimate_out = self.publisher(PoseStamped, 'scene_view/fixture_estimate', qos.latched)
        self.subscribe(PoseStamped, 'current_pose', self._on_pose, qos.sensors)
        self.subscribe(Observation, 'observation', self._on_observation, qos.tick)
        self.subscribe(GateDecision, 'gate_decision', self._on_decision, qos.tick)

    def activate(self) -> None:
        """Show the workspace; the fixture follows with the first episode."""
        self._scene_out.publish(scene_markers(self.task, self._fixture))

    def _on_pose(self, msg: PoseStamped) -> None:
        self._tip = (stamp_from_msg(msg.header.stamp), pose_from_msg(msg, self.task.frames.base))

    def _on_observation(self, msg: Observation) -> None:
        record = observation_from_msg(msg, self.task)
        if record.episode == self._episode or self._tip is None:
            return
        age = abs(record.stamp - self._tip[0])
        if age > 0.0 and (record.step > 0 or age > self.task.limits.observation_max_age_s):
            return
        fixture = believed_fixture(self.task, self._tip[1], record)
        if fixture is None or not fixture.is_finite():
            return
        self._episode, self._fixture = record.episode, fixture
        self._estimate_out.publish(pose_to_msg(fixture, self.task.frames.base, record.stamp))
        self._scene_out.publish(scene_markers(self.task, fixture))

    def _on_decision(self, msg: GateDecision) -> None:
        now = time.monotonic()
        if (
            self._tip is None
            or self._fixture is None
            or now - self._shown_at < self.value('period')
        ):
            return
        self._shown_at = now
        decision = decision_from_msg(msg, self.task).decision
        self._gate_out.publish(
            decision_markers(
                self.task, self._tip[1], self._fixture, decision, self.value('stretch')
            )
        )


def main(args=None) -> int:
    """Run the node."""
    return spin(SceneView, args)


if __name__ == '__main__':
    sys.exit(main())
