# SPDX-License-Identifier: Apache-2.0
"""`fixed_scene`: a bolted fixture with a switch is all that a cell must bring."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from std_msgs.msg import Bool

from q2rl_control import fixed_scene_node
from q2rl_control.fixed_scene_node import FixedScene, HeldInput
from q2rl_msgs.msg import SuccessSignal
from q2rl_msgs.srv import PrepareScene
from q2rl_ros.conversions import pose_from_msg
from q2rl_ros.qos import profiles
from q2rl_ros.stamps import stamp_from_msg
from q2rl_task import load_task

TASK = load_task('pipe_assembly')
QOS = profiles(False, TASK.period_s)
ELSEWHERE = [0.45, 0.02, 0.16, 2.0, 0.0, 0.0, 0.0]


class Clock:
    """A monotonic clock that stands still until it is told to go on."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        watched = SimpleNamespace(monotonic=lambda: self.now)
        monkeypatch.setattr(fixed_scene_node, 'time', watched)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def test_a_switch_counts_as_long_as_it_is_heard():
    held = HeldInput(0.5)
    assert held.at(0.0) is None
    held.add(True, 1.0)
    assert held.at(1.5) is True and held.at(1.51) is None
    held.add(False, 2.0)
    assert held.at(2.0) is False


def test_a_success_counts_once_it_was_said_without_a_break_for_so_long():
    held = HeldInput(0.25, hold_s=0.5)
    heard = []
    for on, now in (
        (True, 0.0), (True, 0.2), (True, 0.4), (False, 0.6),  # cut short
        (True, 0.8), (True, 1.0), (True, 1.3), (True, 1.5), (True, 1.7),  # silent for too long
        (True, 1.8), (False, 1.9), (True, 2.0),
    ):  # fmt: skip
        held.add(on, now)
        heard.append(held.at(now))
    assert heard == [False] * 9 + [True, False, False]
    assert HeldInput(0.25).at(0.0) is None


def test_the_signal_of_success_waits_for_success_hold(bench, clock):
    node = bench.start(FixedScene, lockstep=False, input_max_age=1.0, success_hold=0.5)
    signals = bench.listen(SuccessSignal, 'success_signal', QOS.sensors)
    switch = bench.talk(Bool, 'seat_switch', QOS.sensors)
    switch.publish(Bool(data=True))
    bench.until(lambda: len(signals) >= 3)
    assert not any(signal.success for signal in signals)
    clock.now += 0.5
    switch.publish(Bool(data=True))
    bench.until(lambda: signals[-1].success)
    assert node.diagnose()['switch'] is True


def test_the_switch_is_repeated_with_fresh_stamps_and_falls_silent_with_its_source(bench, clock):
    node = bench.start(FixedScene, lockstep=False, input_max_age=0.5)
    signals = bench.listen(SuccessSignal, 'success_signal', QOS.sensors)
    switch = bench.talk(Bool, 'seat_switch', QOS.sensors)
    bench.until(lambda: node.counters['silent'])
    assert not signals
    switch.publish(Bool(data=True))
    bench.until(lambda: len(signals) >= 3)
    assert all(signal.success for signal in signals)
    assert {signal.header.frame_id for signal in signals} == {TASK.frames.fixture}
    stamps = [stamp_from_msg(signal.header.stamp) for signal in signals]
    assert stamps == sorted(stamps) and len(set(stamps)) == len(stamps)
    switch.publish(Bool(data=False))
    bench.until(lambda: not signals[-1].success)
    clock.now += 0.6
    before = node.counters['silent']
    bench.until(lambda: node.counters['silent'] > before)
    # What was sent before the silence may still be on its way.
    heard = len(signals)
    bench.until(lambda: node.counters['silent'] > before + 4)
    assert len(signals) <= heard + 2 and node.diagnose()['switch'] == 'silent'


@pytest.mark.parametrize('estimate', [[0.0], ELSEWHERE])
def test_the_fixture_is_where_the_task_or_the_parameter_says(bench, clock, estimate):
    node = bench.start(FixedScene, lockstep=False, estimate=estimate)
    switch = bench.talk(Bool, 'seat_switch', QOS.sensors)
    refused = bench.call(PrepareScene, 'prepare_scene', PrepareScene.Request(seed=1))
    assert not refused.success and 'seat_switch' in refused.message
    switch.publish(Bool(data=False))
    bench.until(lambda: node.diagnose()['switch'] is False)
    answer = bench.call(PrepareScene, 'prepare_scene', PrepareScene.Request(seed=1))
    assert answer.success and not answer.message
    pose = pose_from_msg(answer.estimate, TASK.frames.base)
    expected = TASK.fixture.nominal.position if len(estimate) == 1 else estimate[:3]
    np.testing.assert_allclose(pose.position, expected)
    np.testing.assert_allclose(pose.quaternion, [1.0, 0.0, 0.0, 0.0])


@pytest.mark.parametrize(
    ('parameters', 'problem'),
    [
        ({'estimate': [0.5, 0.0, 0.1]}, 'estimate'),
        ({'estimate': [0.5, 0.0, 0.1, 0.0, 0.0, 0.0, 0.0]}, 'estimate'),
        ({'signal_rate': 30.0}, 'signal_rate'),
        ({'task': 'kitting'}, 'loose part'),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(bench, parameters, problem, capfd):
    node = bench.start(FixedScene, lockstep=False, activate=False, **parameters)
    assert node.start() == 2
    said = capfd.readouterr().err
    assert problem in said and said.count('\n') == 1
