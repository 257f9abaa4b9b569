# SPDX-License-Identifier: Apache-2.0
"""The comparison's statistics against numbers that rliable 1.2.0 gave for the same scores."""

from __future__ import annotations

import numpy as np
import pytest

from q2rl_lab.bench_statistics import (
    censored_median,
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
    stratified_interval,
)

Q = [
    np.array([0.842, 0.661, 0.681, 0.483, 0.818, 0.846, 0.813]),
    np.array([0.962, 0.887, 0.698, 0.87, 0.638, 0.576, 0.836]),
]
R = [
    np.array([0.51, 0.198, 0.699, 0.659, 0.794, 0.471, 0.485]),
    np.array([0.492, 0.216, 0.771, 0.737, 0.789, 0.575, 0.409]),
]
NOISE = 0.03
"""Of the ends of intervals, between two bootstraps of some thousand draws."""


@pytest.mark.parametrize(
    ('scores', 'mean', 'interval'),
    [(Q, 0.774375, (0.687, 0.844)), (R, 0.5785, (0.449, 0.692))],
)
def test_interquartile_mean_and_its_interval(scores, mean, interval):
    assert interquartile_mean(scores) == pytest.approx(mean)
    assert stratified_interval([scores], interquartile_mean) == pytest.approx(interval, abs=NOISE)


def test_probability_of_improvement_and_its_interval():
    assert probability_of_improvement(Q, R) == pytest.approx(0.81632653)
    assert probability_of_improvement(R, Q) == pytest.approx(1 - 0.81632653)
    assert probability_of_improvement(Q, Q) == pytest.approx(0.5)
    found = stratified_interval([Q, R], probability_of_improvement)
    assert found == pytest.approx((0.622, 0.959), abs=NOISE)


def test_performance_profile():
    levels = np.array([0.2, 0.5, 0.8])
    assert performance_profile(Q, levels) == pytest.approx([1.0, 13 / 14, 4 / 7])
    assert performance_profile(R, levels) == pytest.approx([13 / 14, 4 / 7, 0.0])


def test_an_interval_resamples_within_tasks_and_is_repeatable():
    """A method that is sure on each of two unlike tasks is sure altogether."""
    sure = [np.full(5, 0.1), np.full(5, 0.9)]
    assert stratified_interval([sure], lambda s: float(np.mean(s))) == (0.5, 0.5)
    assert stratified_interval([Q], interquartile_mean) == stratified_interval(
        [Q], interquartile_mean
    )


@pytest.mark.parametrize(
    ('counts', 'seen', 'median'),
    [
        ([10, 30, 20], [99, 99, 99], (20, False)),
        ([10, None, 20], [99, 80, 99], (20, False)),
        ([10, None, None], [99, 80, 70], (70, True)),
        ([None, None], [80, 60], (80, True)),
        ([10, None], [99, 60], (60, True)),
        ([5], [9], (5, False)),
    ],
)
def test_what_never_came_is_a_bound_not_a_number(counts, seen, median):
    assert censored_median(counts, seen) == median
