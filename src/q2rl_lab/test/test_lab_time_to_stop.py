# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from q2rl_lab.time_to_stop import EVENTS, as_table, measure
from q2rl_task import load_task

TASK = load_task('pipe_assembly')


@pytest.mark.parametrize('joints', [False, True])
@pytest.mark.parametrize('event', EVENTS)
def test_the_arm_comes_to_rest_from_a_motion(event, joints):
    times = measure(TASK, event, trials=2, seed=3, joints=joints)
    again = measure(TASK, event, trials=1, seed=3, joints=joints)
    assert times.seconds[0] == again.seconds[0]  # simulated time: the same on every machine
    assert (times.speeds > 0.005).all() and (times.metres > 0.0).all()
    assert (times.seconds < 1.0).all()
    row = times.as_dict()
    assert row['trials'] == 2 and row['p50_ms'] <= row['max_ms']
    assert f'| {event} | 2 |' in as_table({event: row})


def test_an_emergency_stop_is_shorter_than_waiting_for_the_arm_to_catch_up():
    stop, silence = (measure(TASK, e, trials=6) for e in ('emergency stop', 'no decision'))
    assert stop.seconds.mean() < 0.8 * silence.seconds.mean()
