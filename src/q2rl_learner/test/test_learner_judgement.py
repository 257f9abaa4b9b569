# SPDX-License-Identifier: Apache-2.0
"""What whole rollouts left out say of V: where it tells something, and where it cannot."""

from __future__ import annotations

from dataclasses import replace

from learner_helpers import small_config, toy_task, transition
import numpy as np
import pytest
import torch

from q2rl_learner.episodes import Episode
from q2rl_learner.judgement import SHARED, compare, judge_value, look_at, rate
from q2rl_task import Source

TASK = toy_task()
RANGE = (-20.0, 0.0)
CONFIG = small_config(fit={'value_steps': 60, 'folds': 4, 'evaluate_every': 20})


def rollout(number: int, success: bool, state: np.ndarray, held: tuple[int, ...] = ()) -> Episode:
    """Return an episode of 12 steps, 30 where it failed, whose observations are `state` and the time."""
    steps = 12 if success else 30
    episode = Episode.from_transitions(
        [
            transition(
                TASK,
                step + 1,
                f'e{number}',
                step,
                terminated=success and step == steps - 1,
                truncated=not success and step == steps - 1,
                source=Source.HOLD if step in held else Source.BC,
            )
            for step in range(steps)
        ]
    )
    observations = np.tile(state.astype(np.float32), (steps + 1, 1))
    observations[:, 2] = np.arange(steps + 1) / 30
    return replace(episode, observations=observations[:-1], next_observations=observations[1:])


def rollouts(told: float, seed: int, count: int = 16) -> list[Episode]:
    """Return rollouts, every third of which succeeds; `told`: how far apart their states are then."""
    rng = np.random.default_rng(seed)
    return [
        rollout(i, i % 3 == 0, rng.normal(size=3) + told * np.array([i % 3 == 0, 0, 0]))
        for i in range(count)
    ]


def judged(episodes: list[Episode]):
    return judge_value(episodes, CONFIG, TASK, RANGE)


def test_v_that_tells_success_from_failure_is_found_to_do_so():
    found = judged(rollouts(8.0, 0))
    assert found.ordered > 0.9 and found.chance < 0.02


def test_v_of_the_time_alone_tells_nothing():
    """Failures last longer, so that late observations mean failure; at the same time nothing tells them apart."""
    chances = [judged(rollouts(0.0, seed)).chance for seed in range(8)]
    assert sum(chance <= 0.1 for chance in chances) <= 2 and max(chances) > 0.5


def test_it_is_the_same_every_time_and_draws_on_nobody_elses_numbers():
    episodes = rollouts(1.0, 2)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = judged(episodes)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert judged(episodes) == first


def test_what_was_held_is_rated_by_nobody():
    episodes = [rollout(i, i < 2, np.zeros(3), held=(3, 4)) for i in range(4)]
    values = np.concatenate([np.full(len(e) - 2, float(i)) for i, e in enumerate(episodes)])
    ratings = rate(episodes, values)
    # On the ten steps that all have the mean is 1.5, later that of the two failures 2.5.
    np.testing.assert_allclose(ratings[:2], [-1.5, -0.5])
    np.testing.assert_allclose(
        ratings[2:], [(10 * 0.5 - 18 * 0.5) / 28, (10 * 1.5 + 18 * 0.5) / 28]
    )


def test_only_episodes_that_one_network_rated_are_compared():
    ratings = np.array([1.0, 0.0, 10.0, 9.0])
    groups = np.array([0, 0, 1, 1])
    succeeded = np.array([True, False, False, True])
    found = compare(ratings, succeeded, groups)
    assert found.ordered == 0.5
    ordered = compare(np.arange(20.0), np.arange(20) >= 14, np.zeros(20, dtype=int))
    assert ordered.ordered == 1.0 and ordered.chance <= SHARED * 2 / 2000
    tied = compare(np.zeros(20), np.arange(20) >= 14, np.zeros(20, dtype=int))
    assert (tied.ordered, tied.chance) == (0.5, 1.0)
    alike = compare(ratings, np.zeros(4, dtype=bool), groups)
    assert np.isnan(alike.ordered) and alike.chance == 1.0


def test_shuffled_outcomes_of_ratings_that_nothing_was_fitted_for_are_rare_as_they_should_be():
    rng = np.random.default_rng(0)
    groups = np.arange(20) % 4
    chances = [
        compare(rng.normal(size=20), rng.random(20) < 0.35, groups).chance / SHARED
        for _ in range(100)
    ]
    assert 0 < sum(chance <= 0.1 for chance in chances) <= 18


@pytest.mark.parametrize(
    ('rollouts', 'planned', 'look'),
    [(20, 20, 1), (12, 20, 1), (30, 20, 2), (31, 20, 3), (60, 20, 5), (3, 2, 2), (5, 3, 3)],
)
def test_looks_are_counted_by_how_far_the_rollouts_were_drawn_out(rollouts, planned, look):
    assert look_at(rollouts, planned) == look
