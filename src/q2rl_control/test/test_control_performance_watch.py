# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import asdict
from itertools import product
import json

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import binom

from q2rl_control.performance_watch import WINDOW, Fault, PerformanceWatch
from q2rl_control.sequential_tests import (
    FALLS,
    RATES,
    evidence_of_better,
    evidence_of_drop,
    evidence_since,
    is_below,
    lower_bound,
)
from q2rl_task import Mode


@pytest.mark.parametrize(('wins', 'losses'), [(0, 0), (7, 0), (0, 4), (9, 3), (60, 25)])
def test_the_evidence_is_the_mean_likelihood_ratio_of_win_rates_above_one_half(wins, losses):
    ratio, _ = quad(lambda p: 2 * (2 * p) ** wins * (2 * (1 - p)) ** losses, 0.5, 1.0)
    assert evidence_of_better(wins, losses) == pytest.approx(ratio, rel=1e-6)


def test_evidence_beyond_all_numbers_is_a_number():
    assert evidence_of_better(5000, 3) > 1e300
    assert evidence_of_drop([False] * 400, 10**5, 10**5) > 1e300


def test_equal_policies_hardly_ever_graduate_however_often_one_looks():
    rng = np.random.default_rng(0)
    graduated = 0
    for _ in range(400):
        wins = np.cumsum(rng.random(60) < 0.5)
        graduated += any(
            evidence_of_better(int(w), n + 1 - int(w)) >= 20 for n, w in enumerate(wins)
        )
    assert graduated / 400 <= 0.05


@pytest.mark.parametrize('rate', [0.1, 0.35, 0.7])
@pytest.mark.parametrize('better_by', [(0.0,) * 5, (0.2,) * 5, (0.2, 0.0, 0.1, 0.0, 0.05)])
def test_evidence_of_a_drop_does_not_grow_in_expectation_where_there_is_none(rate, better_by):
    """Of all outcomes of five episodes that are no worse than the other policy's, and of six of that one's."""
    expected = 0.0
    for outcomes in product([False, True], repeat=5):
        chances = [
            rate + more if o else 1 - rate - more
            for o, more in zip(outcomes, better_by, strict=True)
        ]
        for successes in range(7):
            found = evidence_since(outcomes, successes, 6)
            expected = expected + np.prod(chances) * binom.pmf(successes, 6, rate) * found
    assert (expected <= 1.0 + 1e-9).all() and expected[0] > 0.1


def test_evidence_of_a_drop_is_the_mean_likelihood_ratio_of_the_wagers():
    (one, two) = evidence_since([False, True], 3, 4)
    # Two in two against three in four: no pair of rates with the first below the second is as likely.
    assert evidence_since([True, True], 3, 4).max() < 1.0
    wagers = [(share * b, b) for b in RATES for share in FALLS]
    null = (4 / 6) ** 4 * (2 / 6) ** 2
    assert two == pytest.approx(np.mean([a * (1 - a) * b**3 * (1 - b) for a, b in wagers]) / null)
    null = 0.75**3 * 0.25
    assert one == pytest.approx(np.mean([a * b**3 * (1 - b) for a, b in wagers]) / null)


def alarm_after(rate: float, bc: float, rng: np.random.Generator, episodes: int = 240) -> int:
    """Return after how many episodes of success `rate` the watch is alarmed, BC acting in one of nine."""
    watch = PerformanceWatch(bc_successes=int(rng.binomial(20, bc)), bc_episodes=20)
    for episode in range(1, episodes + 1):
        watch.learned_from(bool(rng.random() < rate), 1)
        if episode % 8 == 0:
            watch.measured(Mode.BC, bool(rng.random() < bc))
        if episode % 4 == 0 and watch.evidence_of_drop >= 200:
            return episode
    return episodes + 1


def test_a_drop_is_noticed_soon_and_steady_success_rarely_taken_for_one():
    rng = np.random.default_rng(1)
    assert sum(alarm_after(0.35, 0.35, rng) <= 240 for _ in range(12)) <= 2
    assert np.mean([alarm_after(0.0, 0.35, rng) for _ in range(12)]) < 50
    assert np.mean([alarm_after(0.1, 0.35, rng) for _ in range(12)]) < 120


def test_a_drop_after_long_success_is_noticed_as_soon():
    watch = PerformanceWatch(bc_successes=12, bc_episodes=30)
    for _ in range(300):
        watch.learned_from(True, 1)
    episodes = 0
    while watch.evidence_of_drop < 200:
        watch.learned_from(False, 1)
        episodes += 1
        assert episodes < 40


@pytest.mark.parametrize('n', [0, 20])
def test_nothing_is_a_drop_below_a_policy_that_was_never_seen_to_succeed(n):
    assert evidence_of_drop([False] * 300, 0, n) == evidence_of_drop([], 0, n) == 0.0


@pytest.mark.parametrize(('level', 'failures'), [(0.3, 9), (0.5, 5), (0.99, 1)])
def test_so_many_failures_in_a_row_are_rare_at_a_level(level, failures):
    assert is_below(0, failures, level)
    assert not is_below(1, failures, level) and (
        failures == 1 or not is_below(0, failures - 1, level)
    )


@pytest.mark.parametrize(
    ('outcomes', 'fault'),
    [('11', Fault.WEIGHTS), ('0001001', Fault.WEIGHTS), ('0' * 11, Fault.WORLD), ('01' + 15 * '0', Fault.WORLD)],
)  # fmt: skip
def test_two_successes_clear_the_world_and_too_few_convict_it(outcomes, fault):
    watch = PerformanceWatch(bc_successes=10, bc_episodes=20)  # level 0.30
    watch.doubt()
    found = [watch.measured(Mode.BC, outcome == '1') for outcome in outcomes]
    assert found == [None] * (len(outcomes) - 1) + [fault]


@pytest.mark.parametrize(
    ('known', 'outcomes', 'fault'),
    [(1, '0' * 40, Fault.WEIGHTS), (5, '0' * 34, Fault.WORLD), (5, '1' + '0' * 39, Fault.WEIGHTS)],
)
def test_a_doubt_ends_after_forty_episodes(known, outcomes, fault):
    watch = PerformanceWatch(bc_successes=known, bc_episodes=20)
    watch.doubt()
    found = [watch.measured(Mode.BC, o == '1') for o in outcomes]
    assert found == [None] * (len(outcomes) - 1) + [fault]


@pytest.mark.parametrize('level', [0.2, 0.3, 0.5, 0.8])
def test_a_world_that_is_as_it_was_is_convicted_once_in_twenty_at_most(level):
    """Of all courses that a doubt can take, exactly."""
    convicted, courses = 0.0, [('', 1.0)]
    while courses:
        seen, chance = courses.pop()
        for outcome, likely in (('1', level), ('0', 1 - level)):
            watch = PerformanceWatch(doubt_level=level)
            found = [watch.measured(Mode.BC, o == '1') for o in seen + outcome][-1]
            if found is None:
                courses.append((seen + outcome, chance * likely))
            convicted += chance * likely * (found is Fault.WORLD)
    assert 0.0 < convicted <= 0.05


def test_the_lower_bound_is_clopper_pearsons():
    assert lower_bound(0, 20) == 0.0
    assert lower_bound(20, 20) == pytest.approx(0.05 ** (1 / 20))


def test_outcomes_are_compared_in_pairs_and_pairs_that_end_alike_say_nothing():
    watch = PerformanceWatch()
    for rl, bc in ((True, False), (True, True), (False, False), (False, True), (True, False)):
        watch.measured(Mode.RL, rl)
        watch.measured(Mode.BC, bc)
    watch.measured(Mode.BC, False)  # without a partner: of BC alone
    assert (watch.wins, watch.losses) == (2, 1)
    assert (watch.bc_successes, watch.bc_episodes) == (2, 6)


def test_the_best_window_keeps_the_newest_version_that_was_as_good():
    watch = PerformanceWatch(bc_successes=10, bc_episodes=20)
    for version in range(2, 2 + 2 * WINDOW):
        watch.learned_from(True, version)
    good = watch.best_version
    assert good == 1 + 2 * WINDOW
    episodes = 0
    while watch.evidence_of_drop < 200:
        watch.learned_from(False, 999)
        episodes += 1
        assert episodes < 40
    assert watch.best_version == good
    assert watch.rolled_back() == good
    assert watch.evidence_of_drop == 0.0 and watch.evidence == 1.0
    assert watch.rolled_back() == 1  # those weights have not shown yet that they are still good


def test_a_window_below_bc_is_no_window_to_go_back_to():
    watch = PerformanceWatch(bc_successes=10, bc_episodes=20)
    for version in range(2, 2 + WINDOW):
        watch.learned_from(version % 5 == 0, version)
    assert watch.best_version == 1


def test_it_is_plain_data():
    watch = PerformanceWatch()
    watch.measured(Mode.RL, True)
    watch.learned_from(False, 3)
    assert PerformanceWatch(**json.loads(json.dumps(asdict(watch)))) == watch
