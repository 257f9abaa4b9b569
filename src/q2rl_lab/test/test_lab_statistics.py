# SPDX-License-Identifier: Apache-2.0
"""Success statistics."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from q2rl_lab.statistics import (
    Rate,
    failures_until,
    first_reaching,
    longest_below,
    moving_band,
    moving_success,
    wilson,
)

OUTCOMES = st.lists(st.booleans(), max_size=80)


@pytest.mark.parametrize('successes, n', [(34, 100), (99, 100), (1, 2), (7, 20)])
def test_wilson_against_the_formula(successes, n):
    z, p = 1.9599639845, successes / n
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    expected = [(p + z * z / (2 * n) + sign * half) / (1 + z * z / n) for sign in (-1, 1)]
    assert wilson(successes, n) == pytest.approx(expected, abs=1e-6)


def test_wilson_at_the_ends():
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 20)[0] == 0.0
    assert wilson(20, 20)[1] == 1.0
    assert wilson(20, 20)[0] == pytest.approx(20 / (20 + 1.959964**2), abs=1e-6)
    with pytest.raises(ValueError):
        wilson(3, 2)


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_contains_the_rate_and_mirrors(pair):
    successes, n = pair
    low, high = wilson(successes, n)
    assert 0.0 <= low <= successes / n <= high <= 1.0
    assert wilson(n - successes, n) == pytest.approx((1.0 - high, 1.0 - low))


def test_rates():
    assert Rate.of([True, False, True, True]) == Rate(3, 4)
    assert Rate(3, 4).as_dict() == {'success': 0.75, 'n': 4, 'wilson': list(wilson(3, 4))}
    assert math.isnan(Rate.of([]).success)
    assert Rate.of([]).as_dict() == {'success': None, 'n': 0, 'wilson': [0.0, 1.0]}


def test_moving_success_grows_into_its_window():
    assert moving_success([True, False, False, True, True], 2).tolist() == [1.0, 0.5, 0.0, 0.5, 1.0]
    assert moving_success([], 5).shape == (0,)


@given(OUTCOMES, st.integers(1, 20))
def test_moving_success_is_the_mean_of_each_window(outcomes, window):
    expected = [np.mean(outcomes[max(0, k + 1 - window) : k + 1]) for k in range(len(outcomes))]
    np.testing.assert_allclose(moving_success(outcomes, window), expected, atol=1e-12)


def test_the_band_holds_the_curve():
    outcomes = [k % 3 == 0 for k in range(60)]
    low, high = moving_band(outcomes, 25)
    moving = moving_success(outcomes, 25)
    assert (low <= moving).all() and (moving <= high).all()
    assert (low[-1], high[-1]) == pytest.approx(wilson(round(moving[-1] * 25), 25))
    assert moving_band([], 5)[0].shape == (0,)


def test_first_reaching_needs_a_full_window():
    assert first_reaching([True] * 4, 0.8, 5) is None
    assert first_reaching([True] * 5, 0.8, 5) == 5
    assert first_reaching([False, False] + [True] * 5, 0.8, 5) == 6
    assert first_reaching([False] * 30, 0.8, 5) is None
    assert first_reaching([False] * 10 + [True] * 40, 0.8, 50) == 50


def test_failures_until_counts_only_up_to_there_and_is_none_when_censored():
    outcomes = [False] * 3 + [True] * 20 + [False] * 4
    assert failures_until(outcomes, 0.95, 20) == 3
    assert failures_until([False] * 30, 0.95, 20) is None


def test_longest_below_skips_the_start_and_finds_the_longest():
    outcomes = [False] * 4 + [True] * 4 + [False] * 2 + [True] * 2
    assert longest_below(outcomes, 0.5, 1, 0) == 4
    assert longest_below(outcomes, 0.5, 1, 4) == 2
    assert longest_below([True] * 10, 1.0, 3, 0) == 0
