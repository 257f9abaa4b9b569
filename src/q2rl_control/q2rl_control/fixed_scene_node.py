# SPDX-License-Identifier: Apache-2.0
"""Node `fixed_scene`: the scene of a real cell whose fixture is bolted down and has a switch."""

from __future__ import annotations

import sys
import time

import numpy as np
from std_msgs.msg import Bool

from q2rl_msgs.msg import SuccessSignal
from q2rl_msgs.srv import PrepareScene
from q2rl_ros.conversions import pose_to_msg
from q2rl_ros.node import Q2rlNode
from q2rl_ros.spin import spin
from q2rl_task import InputError, Pose

SIGNALS_PER_TICK = 2.0
"""At the least: an arm that ticks must never wait for the next one."""


class HeldInput:
    """What a switch said last, for as long as that counts.

    :param max_age_s: time [s] after which it says nothing any more
    :param hold_s: time [s] for which it must have said true, without a break, before that counts
    """

    def __init__(self, max_age_s: float, hold_s: float = 0.0) -> None:
        self._max_age_s, self._hold_s = max_age_s, hold_s
        self._at, self._on_since = float('-inf'), float('inf')

    def add(self, on: bool, now: float) -> None:
        """Take what it says at `now` [s, monotonic]."""
        silent = self.at(now) is None
        if not on:
            self._on_since = float('inf')
        elif silent or self._on_since > now:
            self._on_since = now
        self._at = now

    def at(self, now: float) -> bool | None:
        """Return what it says, None where it has been silent for too long."""
        if now - self._at > self._max_age_s:
            return None
        return self._at - self._on_since >= self._hold_s


class FixedScene(Q2rlNode):
    """Answer `prepare_scene` with where the fixture is believed to be, and repeat a switch as `success_signal`.

    The switch is a `std_msgs/Bool` that comes again and again. While it is fresh a signal goes out at `signal_rate`,
    stamped with the time of sending, so it is old by `input_max_age` at most; when the switch falls silent so does the
    signal, and the arm holds. A silent switch prepares no scene either.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__('fixed_scene', **kwargs)
        self.declare(
            'estimate',
            [0.0],
            'Where the fixture is believed to be, in the base frame: x, y, z [m], quaternion x, y, z, w. One number: '
            "the task's nominal pose.",
        )
        self.declare(
            'success_input',
            'seat_switch',
            "Topic of the fixture's switch, std_msgs/Bool, repeated.",
        )
        self.declare(
            'input_max_age',
            0.25,
            'Time without a message of the switch after which no signal is sent [s].',
            low=0.01,
            high=10.0,
        )
        self.declare(
            'success_hold',
            0.0,
            'Time for which the switch must have said true without a break before success_signal does [s].',
            low=0.0,
            high=10.0,
        )
        self.declare(
            'signal_rate',
            0.0,
            "Signals per second [Hz], at least twice the task's control rate; 0: four times that.",
            low=0.0,
            high=1000.0,
        )

    def configure(self) -> None:
        """Make topics and service.

        :raises InputError: the task has a loose part, the estimate is no pose, or signals would come too seldom
        """
        if self.task.part is not None:
            raise InputError(
                f'task {self.task.name}',
                'has a loose part, of which fixed_scene knows nothing',
                'serve prepare_scene by a node of your own',
            )
        self._estimate = self._believed()
        self._input = HeldInput(self.value('input_max_age'), self.value('success_hold'))
        self._signal_out = self.publisher(SuccessSignal, 'success_signal', self.qos.sensors)
        self.subscribe(Bool, self.value('success_input'), self._on_input, self.qos.sensors)
        self.serve(PrepareScene, 'prepare_scene', self._on_prepare_scene)
        least = SIGNALS_PER_TICK * self.task.rate_hz
        rate = self.value('signal_rate') or 2.0 * least
        if rate < least:
            raise InputError(
                'parameter `signal_rate`',
                f'{rate:g} Hz is less than twice the control rate',
                f'set {least:g} or more, or 0',
            )
        self.wall_timer(1.0 / rate, self._repeat)

    def diagnose(self) -> dict[str, object]:
        """What the switch says."""
        said = self._input.at(time.monotonic())
        return {'switch': 'silent' if said is None else said}

    def _believed(self) -> Pose:
        numbers = np.asarray(self.value('estimate'), dtype=np.float64)
        if numbers.size == 1:
            return self.task.fixture.nominal.pose
        turned = numbers.size == 7 and np.isfinite(numbers).all() and np.linalg.norm(numbers[3:])
        if not turned:
            raise InputError(
                'parameter `estimate`',
                'is not a pose',
                'give x, y, z and a quaternion x, y, z, w: seven numbers, or one for the nominal pose',
            )
        return Pose.of(numbers[:3], numbers[3:])

    def _on_input(self, msg: Bool) -> None:
        self._input.add(msg.data, time.monotonic())

    def _repeat(self) -> None:
        said = self._input.at(time.monotonic())
        if said is None:
            self.drop('silent', f'nothing on {self.value("success_input")}: no success_signal')
            return
        signal = SuccessSignal(success=said)
        signal.header.stamp = self.get_clock().now().to_msg()
        signal.header.frame_id = self.task.frames.fixture
        self._signal_out.publish(signal)

    def _on_prepare_scene(self, request: PrepareScene.Request, response: PrepareScene.Response):
        if not self.active:
            response.message = 'not active'
        elif self._input.at(time.monotonic()) is None:
            response.message = f'the switch is silent: nothing on {self.value("success_input")}'
        else:
            now = self.stamp_now()
            response.estimate = pose_to_msg(self._estimate, self.task.frames.base, now)
            response.success = True
        return response


def main(args=None) -> int:
    """Run the node."""
    return spin(FixedScene, args)


if __name__ == '__main__':
    sys.exit(main())
