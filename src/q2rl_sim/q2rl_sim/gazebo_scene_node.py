# SPDX-License-Identifier: Apache-2.0
"""Node `gazebo_scene`: the scene of an episode in Gazebo, as `mujoco_arm` prepares it in MuJoCo."""

from __future__ import annotations

import sys

from geometry_msgs.msg import PoseStamped

from q2rl_msgs.msg import SuccessSignal
from q2rl_msgs.srv import PrepareScene
from q2rl_ros.conversions import pose_from_msg, pose_to_msg
from q2rl_ros.errors import MessageError
from q2rl_ros.node import Q2rlNode
from q2rl_ros.spin import spin
from q2rl_sim.gazebo_service import GazeboError, set_model_pose
from q2rl_sim.gazebo_world import SOCKET
from q2rl_sim.placement import draw_placement, placement_refusal
from q2rl_sim.socket_parts import is_deep
from q2rl_task import Pose


class GazeboScene(Q2rlNode):
    """Move the socket to where an episode's seed has it, and press its switch when the pipe is in.

    The switch goes by the poses of socket and tip, as in MuJoCo; one signal per `current_pose`, with its stamp. Gazebo
    needs about a second to move the socket, in which no signal is sent: between episodes the arm only holds then.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__('gazebo_scene', **kwargs)
        self.declare('world', '', 'World of Gazebo; empty: named as the task.')

    def configure(self) -> None:
        """Make topics and service; the socket is believed at its nominal pose."""
        self._world = self.value('world') or self.task.name
        self._socket = self.task.fixture.nominal.pose
        self._tip: Pose | None = None
        self._signal_out = self.publisher(SuccessSignal, 'success_signal', self.qos.sensors)
        self.subscribe(PoseStamped, 'current_pose', self._on_pose, self.qos.sensors)
        self.serve(PrepareScene, 'prepare_scene', self._on_prepare_scene)

    def _on_pose(self, msg: PoseStamped) -> None:
        tip = pose_from_msg(msg, self.task.frames.base)
        if not tip.is_finite():
            raise MessageError('not_finite', 'a current_pose that is not finite')
        self._tip = tip
        inside = self._tip.relative_to(self._socket).position
        signal = SuccessSignal(success=is_deep(self.task, inside))
        signal.header.stamp = msg.header.stamp
        signal.header.frame_id = self.task.frames.fixture
        self._signal_out.publish(signal)

    def _on_prepare_scene(self, request: PrepareScene.Request, response: PrepareScene.Response):
        response.message = self._refusal()
        if not response.message:
            placement = draw_placement(self.task, request.seed)
            try:
                set_model_pose(self._world, SOCKET, placement.truth)
            except GazeboError as error:
                self.drop('gazebo', str(error))
                response.message = str(error)
            else:
                self._socket = placement.truth
                stamp = self.stamp_now()
                base = self.task.frames.base
                response.estimate = pose_to_msg(placement.estimate, base, stamp)
        response.success = not response.message
        return response

    def _refusal(self) -> str:
        if not self.active:
            return 'not active'
        if self._tip is None:
            return 'the tip has not been seen yet'
        return placement_refusal(self.task, self._tip)


def main(args=None) -> int:
    """Run the node."""
    return spin(GazeboScene, args)


if __name__ == '__main__':
    sys.exit(main())
