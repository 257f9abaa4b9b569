# SPDX-License-Identifier: Apache-2.0
"""What others say of the arm: whether its program runs, whether its controller is active, who else commands it."""

from __future__ import annotations

import time

from std_msgs.msg import Bool

from q2rl_control.service_calls import RetryingCall
from q2rl_ros.node import Q2rlNode
from q2rl_task import InputError

POLL_S = 0.2
TIMEOUT_S = 1.0
SILENT_S = 2.0
"""An answer of the controller manager that is older than this says nothing."""


def declare_readiness_parameters(node: Q2rlNode) -> None:
    """Declare what `ArmReadiness` reads."""
    node.declare(
        'robot_ready_topic',
        '',
        'Real time: std_msgs/Bool, latched, without whose true the arm is blocked; empty: none. UR: '
        'io_and_status_controller/robot_program_running.',
    )
    node.declare(
        'controller',
        '',
        'Real time: name of the controller that must be active, or the arm is blocked; empty: nobody asks.',
    )
    node.declare(
        'controller_manager', 'controller_manager', "Name of ros2_control's node, which is asked."
    )


class ArmReadiness:
    """Why the arm cannot be commanded just now, by what the parameters name.

    :param command_topic: where this node alone may publish
    :raises InputError: a controller is named, and controller_manager_msgs is not there
    """

    def __init__(self, node: Q2rlNode, command_topic: str) -> None:
        self._node, self._topic = node, command_topic
        self._ready_topic, self._controller = (
            node.value('robot_ready_topic'),
            node.value('controller'),
        )
        self._ready: bool | None = None
        self._state = ''
        self._heard = float('-inf')
        if self._ready_topic:
            node.subscribe(
                Bool, self._ready_topic, self._on_ready, node.qos.latched, while_inactive=True
            )
        if self._controller:
            service = _list_controllers()
            self._request = service.Request()
            name = f'{node.value("controller_manager")}/list_controllers'
            self._call = RetryingCall(node.client(service, name), TIMEOUT_S)
            node.wall_timer(POLL_S, self._poll)

    def blocked(self) -> str:
        """Return why the arm cannot be commanded just now, or an empty string."""
        publishers = self._node.count_publishers(self._topic)
        if publishers != 1:
            return (
                f'{publishers} publishers on {self._topic}, where this node must be the only one: stop the '
                'other node that commands the arm, or if it was just killed wait up to 20 s'
            )
        if self._ready_topic and not self._ready:
            said = 'nothing heard on' if self._ready is None else 'false on'
            return f'the robot is not ready: {said} {self._ready_topic}'
        if self._controller and time.monotonic() - self._heard > SILENT_S:
            return f'{self._call.service} does not answer'
        if self._controller and self._state != 'active':
            return f'the controller {self._controller} is {self._state}'
        return ''

    def _on_ready(self, msg: Bool) -> None:
        self._ready = msg.data

    def _poll(self) -> None:
        if not self._call.busy:
            self._call.call(self._request, self._on_listed)
        self._call.poll()

    def _on_listed(self, response) -> None:
        self._heard = time.monotonic()
        states = {one.name: one.state for one in response.controller}
        self._state = states.get(self._controller, 'not loaded')


def _list_controllers() -> type:
    """Return the service type of the controller manager, which only a system with ros2_control has."""
    try:
        from controller_manager_msgs.srv import ListControllers
    except ImportError:
        raise InputError(
            'parameter `controller`',
            'nobody can be asked for it: controller_manager_msgs is not installed',
            'install ros-jazzy-controller-manager-msgs, or name no controller',
        ) from None
    return ListControllers
