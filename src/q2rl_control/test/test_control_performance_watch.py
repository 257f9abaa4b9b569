# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import asdict
import json

import numpy as np
import pytest
from scipy.integrate import quad

from q2rl_control.performance_watch import WINDOW, Fault, PerformanceWatch
from q2rl_control.sequential_tests import (
    evidence_of_better,
    evidence_of_drop,
    is_below,
    lower_bound,
    wager_on_drop,
)
from q2rl_task import Mode


@pytest.mark.parametrize(('wins', 'losses'), [(0, 0), (7, 0), (0, 4), (9, 3), (60, 25)])
def test_the_evidence_is_the_mean_likelihood_ratio_of_win_rates_above_one_half(wins, losses):
    ratio, _ = quad(lambda p: 2 * (2 * p) ** wins * (2 * (1 - p)) ** losses, 0.5, 1.0)
    assert evidence_of_better(wins, losses) == pytest.approx(ratio, rel=1e-6)


def test_evidence_beyond_all_numbers_is_a_number():
    assert evidence_of_better(5000, 3) > 1e300
    assert evidence_of_drop([1e4, 0.0, 0.0]) > 1e300


def test_equal_policies_hardly_ever_graduate_however_often_one_looks():
    rng = np.random.default_rng(0)
    graduated = 0
    for _ in range(400):
        wins = np.cumsum(rng.random(60) < 0.5)
        graduated += any(
            evidence_of_better(int(w), n + 1 - int(w)) >= 20 for n, w in enumerate(wins)
        )
    assert graduated / 400 <= 0.05


def alarm_after(rate: float, level: float, rng: np.random.Generator, evidence: float = 200) -> int:
    wagers: list[float] = []
    for episode in range(1, 3000):
        wagers = wager_on_drop(wagers, bool(rng.random() < rate), level)
        if evidence_of_drop(wagers) >= evidence:
            return episode
    return 3000


def test_a_drop_is_noticed_soon_and_steady_success_rarely_taken_for_one():
    rng = np.random.default_rng(1)
    assert np.mean([alarm_after(0.3, 0.3, rng) for _ in range(60)]) > 200
    assert np.mean([alarm_after(0.0, 0.3, rng) for _ in range(60)]) < 40
    assert np.mean([alarm_after(0.05, 0.5, rng) for _ in range(60)]) < 30


def test_nothing_is_a_drop_below_a_level_of_zero():
    wagers: list[float] = []
    for success in (False, True, False, False):
        wagers = wager_on_drop(wagers, success, 0.0)
    assert evidence_of_drop(wagers) <= 1.0


@pytest.mark.parametrize(('level', 'failures'), [(0.3, 9), (0.5, 5), (0.99, 1)])
def test_so_many_failures_in_a_row_are_rare_at_a_level(level, failures):
    assert is_below(0, failures, level)
    assert not is_below(1, failures, level) and (
        failures == 1 or not is_below(0, failures - 1, level)
    )


@pytest.mark.parametrize(
    ('outcomes', 'fault'),
    [('11', Fault.WEIGHTS), ('0001001', Fault.WEIGHTS), ('0' * 9, Fault.WORLD), ('01' + 12 * '0', Fault.WORLD)],
)  # fmt: skip
def test_two_successes_clear_the_world_and_too_few_convict_it(outcomes, fault):
    watch = PerformanceWatch(bc_successes=10, bc_episodes=20)  # level 0.30
    watch.doubt()
    found = [watch.measured(Mode.BC, outcome == '1') for outcome in outcomes]
    assert found == [None] * (len(outcomes) - 1) + [fault]


@pytest.mark.parametrize(
    ('known', 'outcomes', 'fault'),
    [(1, '0' * 20, Fault.WEIGHTS), (1, '1' + '0' * 19, Fault.WEIGHTS), (8, '1' + '0' * 19, Fault.WORLD)],
)  # fmt: skip
def test_a_doubt_ends_after_twenty_episodes(known, outcomes, fault):
    watch = PerformanceWatch(bc_successes=known, bc_episodes=20)
    watch.doubt()
    assert [watch.measured(Mode.BC, o == '1') for o in outcomes] == [None] * 19 + [fault]


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
    assert watch.evidence_of_drop == watch.evidence == 1.0
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
