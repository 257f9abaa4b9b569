# SPDX-License-Identifier: Apache-2.0
"""Node `operator_view`: the cell in a browser, with the operator's buttons. The run goes on without it."""

from __future__ import annotations

import os
import sys

from q2rl_bringup.arm_model import ArmModel, read_arm
from q2rl_bringup.operator_page import OperatorPage
from q2rl_bringup.operator_services import OperatorServices
from q2rl_bringup.robot_description import robot_urdf
from q2rl_bringup.scene_feed import SceneFeed
from q2rl_bringup.scene_parameters import declare_scale, read_scale
from q2rl_bringup.scene_state import SceneState
from q2rl_bringup.steering import Steering
from q2rl_bringup.steering_link import SteeringLink
from q2rl_ros.node import Q2rlNode
from q2rl_ros.spin import spin
from q2rl_task import InputError, Pose

NICE = 5
"""A picture that is late harms nobody; a tick that is late costs one."""


class OperatorView(Q2rlNode):
    """Serve a page that shows what `scene_view` shows RViz, and the arm, and asks for what its buttons say.

    It listens at its own pace (see `SceneFeed`) and commands nothing: the buttons call services that are there without
    it, and what a person who steers wants goes the way of every lever, `human_action`. Whoever reaches the page can
    press and steer, so it is served to this machine only unless `host` says otherwise.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__('operator_view', **kwargs)
        declare_scale(self)
        self.declare(
            'host',
            '127.0.0.1',
            'Address the page is served on; 0.0.0.0 lets everybody in the network stop and resume the arm.',
        )
        self.declare('port', 8080, 'TCP port of the page.', low=1, high=65535)
        self.declare(
            'steer',
            False,
            'Whether a person can steer a simulated arm on the page (teleop:=browser); a real one never.',
        )
        self.declare(
            'silent_after',
            2.0,
            'Time without a move of the gizmo after which whoever drags it counts as gone [s].',
            low=0.3,
            high=10.0,
        )

    def configure(self) -> None:
        """Make the page and the clients.

        :raises InputError: the port is taken
        """
        self._state = SceneState(self.task)
        self._feed = SceneFeed(self, self._state)
        self._operator = OperatorServices(self, self._told, lambda: self._state.episode)
        host, port = self.value('host'), self.value('port')
        steering = None
        if self.value('steer'):
            steering = Steering(self.task, self.value('silent_after'), self.lockstep)
            SteeringLink(self, steering, self._fixture)
        self._page = OperatorPage(
            host, port, self._state, read_scale(self), self._arm(), self._operator.ask, steering
        )
        self.when_released(self._page.close)
        self.wall_timer(self.value('period'), self._draw)
        self.get_logger().info(f'watch and stop the arm at http://{host}:{port}')

    def activate(self) -> None:
        """Show what there is."""
        self._draw()

    def _fixture(self) -> Pose:
        # Before the first observation of a run actions are in the axes of the nominal fixture: a bent path, no more.
        return self._state.fixture or self.task.fixture.nominal.pose

    def _draw(self) -> None:
        self._feed.read()
        self._operator.look()
        self._page.draw()

    def _told(self, text: str, good: bool) -> None:
        self._page.say(text, good)
        # A logger keeps to one severity per line of code that calls it.
        if good:
            self.get_logger().info(text)
        else:
            self.get_logger().error(text)

    def _arm(self) -> ArmModel | None:
        try:
            return read_arm(robot_urdf(self.task))
        except InputError as error:
            self.get_logger().warning(f'the page shows no arm: {error}')
            return None


def main(args=None) -> int:
    """Run the node."""
    os.nice(NICE)
    return spin(OperatorView, args)


if __name__ == '__main__':
    sys.exit(main())
