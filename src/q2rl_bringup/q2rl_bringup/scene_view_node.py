# SPDX-License-Identifier: Apache-2.0
"""Node `scene_view`: markers for RViz. It only listens; nothing waits for it."""

from __future__ import annotations

import sys

from geometry_msgs.msg import PoseStamped
from visualization_msgs.msg import MarkerArray

from q2rl_bringup.scene_feed import SceneFeed
from q2rl_bringup.scene_parameters import declare_scale, read_scale
from q2rl_bringup.scene_picture import picture
from q2rl_bringup.scene_state import SceneState
from q2rl_ros.conversions import pose_to_msg
from q2rl_ros.node import Q2rlNode
from q2rl_ros.spin import spin


class SceneView(Q2rlNode):
    """Show the workspace, the fixture as the policies believe it to stand, who wants what, the force, and the run.

    The fixture's estimate comes from an observation and the tip pose that it was built from: what the policies see, not
    the truth.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__('scene_view', **kwargs)
        declare_scale(self)

    def configure(self) -> None:
        """Make the topics."""
        qos = self.qos
        self._scale = read_scale(self)
        self._state = SceneState(self.task)
        self._feed = SceneFeed(self, self._state)
        self._out = {
            'scene': self.publisher(MarkerArray, 'scene_view/scene', qos.latched),
            'gate': self.publisher(MarkerArray, 'scene_view/gate', qos.events),
            'run': self.publisher(MarkerArray, 'scene_view/run', qos.latched),
        }
        self._estimate_out = self.publisher(PoseStamped, 'scene_view/fixture_estimate', qos.latched)
        self.wall_timer(self.value('period'), self._draw)

    def activate(self) -> None:
        """Show what there is; the fixture follows with the first episode."""
        self._draw()

    def _draw(self) -> None:
        self._feed.read()
        state, base = self._state, self.task.frames.base
        for part in state.changed():
            shown = picture(state, part, self._scale)
            if shown.markers:
                self._out[part].publish(shown)
            if part == 'scene' and state.fixture is not None:
                self._estimate_out.publish(pose_to_msg(state.fixture, base, state.estimated_at))


def main(args=None) -> int:
    """Run the node."""
    return spin(SceneView, args)


if __name__ == '__main__':
    sys.exit(main())
