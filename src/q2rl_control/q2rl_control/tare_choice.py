# SPDX-License-Identifier: Apache-2.0
"""How `arm_interface` zeroes the wrench: its parameters, a driver's own service, and the service for a person."""

from __future__ import annotations

import numpy as np
from std_srvs.srv import Trigger

from q2rl_control.arm_logic import ArmLogic
from q2rl_control.arm_state import ArmState
from q2rl_control.wrench_tare import Payload, StartTare, TareRefused, WrenchTare
from q2rl_ros.node import Q2rlNode
from q2rl_task import InputError

AT_REST = (ArmState.IDLE, ArmState.READY)


def declare_tare_parameters(node: Q2rlNode) -> None:
    """Declare what the functions below read."""
    node.declare(
        'tare',
        'none',
        'How the wrench is zeroed at each start pose. none: the driver does it. measure: by the mean while the tool '
        "hangs free. service: by the driver's tare_service.",
        choices=('none', 'measure', 'service'),
    )
    node.declare(
        'tare_service',
        'io_and_status_controller/zero_ftsensor',
        'tare service: std_srvs/Trigger of the driver (the default is that of UR).',
    )
    node.declare('tare_time', 0.5, 'Time [s] over which the mean is taken.', low=0.05, high=5.0)
    node.declare(
        'tare_limit_n',
        50.0,
        'Largest force [N] that is believed to be an offset; above it no episode starts.',
        low=0.0,
        high=1000.0,
    )
    node.declare(
        'payload_mass',
        0.0,
        "Mass [kg] of what hangs on the sensor, whose weight is taken off the wrench by the tip's pose; 0: the driver "
        'does it.',
        low=0.0,
        high=100.0,
    )
    node.declare('payload_centre', [0.0, 0.0, 0.0], 'Its centre of mass in the tip frame [m].')
    node.declare('gravity', [0.0, 0.0, -9.81], 'Gravity in the base frame [m/s2].')


def make_payload(node: Q2rlNode) -> Payload | None:
    """Return what weighs on the sensor, None where nothing is to be taken off.

    :raises InputError: a vector that is none
    """
    vectors = {name: np.array(node.value(name)) for name in ('payload_centre', 'gravity')}
    for name, vector in vectors.items():
        if vector.shape != (3,) or not np.isfinite(vector).all():
            raise InputError(f'parameter `{name}`', 'is no vector', 'give three numbers')
    mass = node.value('payload_mass')
    return Payload(mass, vectors['payload_centre'], vectors['gravity']) if mass > 0.0 else None


class ServiceTare:
    """A driver that zeroes its sensor when asked; asked again for each episode.

    :param heard: hears every reading, for its stamp
    """

    def __init__(self, node: Q2rlNode, heard: WrenchTare) -> None:
        self._node, self._heard = node, heard
        self._name = node.value('tare_service')
        self._client = node.client(Trigger, self._name)
        self._future = None
        self._zeroed_at: float | None = None

    def begin(self) -> None:
        """Ask, unless the service is not there yet: then `poll` does."""
        self._future = self._zeroed_at = None
        if self._client.service_is_ready():
            self._future = self._client.call_async(Trigger.Request())

    def poll(self) -> bool:
        """Return whether the driver said that it did, and the last reading was taken after it said so.

        :raises TareRefused: it said that it did not
        """
        if self._future is None:
            self.begin()
            return False
        if not self._future.done():
            return False
        answer = self._future.result()
        if answer is None or not answer.success:
            said = getattr(answer, 'message', '') or 'no reason given'
            raise TareRefused(f'{self._name}: {said}')
        if self._zeroed_at is None:
            self._zeroed_at = self._node.stamp_now()
            self._heard.forget()
        return self._heard.heard_at > self._zeroed_at


def make_start_tare(node: Q2rlNode, tare: WrenchTare) -> StartTare | None:
    """Return what zeroes the wrench before an episode, None where the driver does it by itself."""
    way = node.value('tare')
    if way == 'service':
        return ServiceTare(node, tare)
    return tare if way == 'measure' else None


def serve_tare(node: Q2rlNode, logic: ArmLogic, tare: WrenchTare) -> None:
    """Serve `arm_interface/tare` (std_srvs/Trigger): the mean of the last readings becomes the zero, now."""

    def answer(request: Trigger.Request, response: Trigger.Response):
        if not node.active or logic.state not in AT_REST or not logic.guard.at_rest:
            state = logic.state.name if node.active else 'INACTIVE'
            response.message = f'refused: the arm is {state} or moves'
            return response
        age = node.stamp_now() - tare.heard_at
        if not (node.lockstep or age <= node.task.limits.observation_max_age_s):
            response.message = 'refused: the wrench has not been heard just now'
            return response
        try:
            tare.take()
        except TareRefused as refused:
            response.message = f'refused: {refused}'
            return response
        response.success = True
        numbers = ', '.join(f'{value:.2f}' for value in tare.offset)
        response.message = f'taken off from now on: {numbers} (N, Nm; tip axes)'
        return response

    node.serve(Trigger, 'arm_interface/tare', answer)
