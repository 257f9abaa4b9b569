# SPDX-License-Identifier: Apache-2.0
"""What `episode_manager` asks of the arm: start an episode, end it, leave the fixture."""

from __future__ import annotations

from collections.abc import Callable

from std_srvs.srv import Trigger

from q2rl_control.arm_logic import ArmLogic
from q2rl_msgs.srv import StartEpisode
from q2rl_ros.conversions import pose_from_msg
from q2rl_ros.errors import MessageError
from q2rl_ros.node import Q2rlNode
from q2rl_task import Mode


class EpisodeServices:
    """The services about episodes, for one `ArmLogic`; refused while the node is inactive.

    :param acted: called after something was asked that the arm may act on at once; its argument is False
    """

    def __init__(self, node: Q2rlNode, logic: ArmLogic, acted: Callable[[bool], None]) -> None:
        self._node, self._logic, self._acted = node, logic, acted
        node.serve(StartEpisode, 'arm_interface/start_episode', self._on_start)
        node.serve(Trigger, 'arm_interface/retreat', self._on_retreat)
        node.serve(Trigger, 'arm_interface/end_episode', self._on_end)

    def _on_start(self, request: StartEpisode.Request, response: StartEpisode.Response):
        try:
            mode = Mode(request.mode)
            base = self._node.task.frames.base
            estimate = pose_from_msg(request.estimate, base)
            part = pose_from_msg(request.part, base) if self._node.task.part else None
        except (ValueError, MessageError) as error:
            response.message = str(error)
            return response
        done = self._node.active and self._logic.start_episode(
            request.episode, mode, request.seed, estimate, request.explore, part
        )
        return self._answered(response, done)

    def _on_retreat(self, request: Trigger.Request, response: Trigger.Response):
        return self._answered(response, self._node.active and self._logic.retreat())

    def _on_end(self, request: Trigger.Request, response: Trigger.Response):
        return self._answered(response, self._node.active and self._logic.request_end())

    def _answered(self, response, done: bool):
        """Fill a service's answer, and let a waiting arm act at once on what was asked."""
        response.success = bool(done)
        if not done:
            state = self._logic.state.name if self._node.active else 'INACTIVE'
            response.message = f'refused: the arm is {state}'
        else:
            self._acted(False)
        return response
