# SPDX-License-Identifier: Apache-2.0
"""Observations find their place in the stream of (episode, step)."""

from __future__ import annotations

from q2rl_ros.ticks import Arrival, TickTracker


def test_steps_of_an_episode_are_new_once():
    tracker = TickTracker()
    assert [tracker.arrive('a', k) for k in (0, 1, 1, 0, 2)] == [
        Arrival.NEW,
        Arrival.NEW,
        Arrival.REPEAT,
        Arrival.LATE,
        Arrival.NEW,
    ]
    assert tracker.gapless and not tracker.fresh


def test_a_missed_step_is_remembered_until_the_next_episode():
    tracker = TickTracker()
    for k in (0, 2, 3):
        tracker.arrive('a', k)
    assert not tracker.gapless
    assert tracker.arrive('b', 0) is Arrival.NEW
    assert tracker.gapless and tracker.fresh


def test_an_episode_entered_in_its_middle_has_a_gap():
    tracker = TickTracker()
    assert tracker.arrive('a', 5) is Arrival.NEW
    assert tracker.fresh and not tracker.gapless


def test_stragglers_of_a_former_episode_open_nothing():
    tracker = TickTracker()
    tracker.arrive('a', 9)
    tracker.arrive('b', 0)
    assert tracker.arrive('a', 10) is Arrival.LATE
    assert tracker.episode == 'b'
    assert tracker.is_over('a', 10) and not tracker.is_over('b', 1) and not tracker.is_over('c', 0)
