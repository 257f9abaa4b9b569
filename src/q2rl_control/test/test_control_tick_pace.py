# SPDX-License-Identifier: Apache-2.0
"""Guarded steps keep apart in real time, by a clock that may start over."""

from __future__ import annotations

from types import SimpleNamespace

from q2rl_control.tick_pace import STEP_AFTER, TickPace

PERIOD_S = 0.05


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def paced() -> tuple[TickPace, Clock]:
    clock, node = Clock(), SimpleNamespace(lockstep=False, count=lambda name: None)
    return TickPace(node, PERIOD_S, clock), clock


def test_a_tick_that_comes_at_once_after_another_is_left_out():
    pace, clock = paced()
    assert pace.begin_tick(steps=True)
    pace.stepped()
    clock.now += 0.1 * PERIOD_S
    assert not pace.begin_tick(steps=True) and not pace.may_step()
    assert 0.0 < pace.wait() <= STEP_AFTER * PERIOD_S
    clock.now += PERIOD_S
    assert pace.begin_tick(steps=True) and pace.wait() == 0.0


def test_a_clock_that_starts_over_makes_nobody_wait():
    pace, clock = paced()
    assert pace.begin_tick(steps=True)
    pace.stepped()
    clock.now = 0.0
    assert pace.wait() == 0.0 and pace.may_step()
    assert pace.begin_tick(steps=True)
    pace.stepped()
    clock.now += 0.1 * PERIOD_S
    assert not pace.begin_tick(steps=True), 'the new clock counts from now on'
