# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from learner_helpers import toy_task, transition
import numpy as np
import pytest

from q2rl_learner.episodes import Episode
from q2rl_learner.returns import (
    attainable_range,
    monte_carlo,
    n_step,
    range_of_any,
    segments,
    tail_weights,
)
from q2rl_task import Source

TASK = toy_task()


def episode(
    steps: int,
    *,
    terminated: bool = False,
    held: tuple[int, ...] = (),
    human: tuple[int, ...] = (),
) -> Episode:
    return Episode.from_transitions(
        [
            transition(
                TASK,
                k + 1,
                step=k,
                source=Source.HOLD if k in held else (Source.HUMAN if k in human else Source.BC),
                reward=-(k + 1.0),
                terminated=terminated and k == steps - 1,
                truncated=not terminated and k == steps - 1,
            )
            for k in range(steps)
        ]
    )


def test_returns_of_a_terminated_episode_by_hand():
    # G_2 = 4; G_1 = 2 + 0.5*4 = 4; G_0 = 1 + 0.5*4 = 3
    np.testing.assert_allclose(monte_carlo(np.array([1.0, 2.0, 4.0]), 0.5), [3.0, 4.0, 4.0])


def test_returns_of_a_cut_episode_by_hand():
    # The value 8 at the cut: G_1 = 2 + 0.5*8 = 6; G_0 = 1 + 0.5*6 = 4
    np.testing.assert_allclose(monte_carlo(np.array([1.0, 2.0]), 0.5, tail=8.0), [4.0, 6.0])


@given(
    st.lists(st.floats(-10, 10), min_size=1, max_size=20),
    st.floats(0.1, 0.99),
    st.floats(-100, 100),
)
def test_completion_is_linear_in_the_value_at_the_cut(rewards, discount, tail):
    rewards = np.array(rewards)
    completed = monte_carlo(rewards, discount) + tail_weights(len(rewards), discount) * tail
    np.testing.assert_allclose(completed, monte_carlo(rewards, discount, tail), atol=1e-8)


def test_never_succeeding_has_its_fixed_point():
    discount, fixed = 0.99, -100.0
    assert attainable_range(-1.0, 0.0, discount) == (pytest.approx(fixed), 0.0)
    np.testing.assert_allclose(monte_carlo(np.full(30, -1.0), discount, fixed), fixed)


def test_attainable_range_of_a_positive_reward():
    assert attainable_range(0.0, 10.0, 0.9) == (0.0, 10.0)


def test_the_range_of_rewards_in_between():
    assert range_of_any(-1.0, 10.0, 0.9) == (pytest.approx(-10.0), pytest.approx(100.0))
    assert range_of_any(1.0, 2.0, 0.5) == (1.0, 4.0), 'one step is the least'


@pytest.mark.parametrize(
    ('terminated', 'factor'),
    [(False, 0.25), (True, 0.0)],
    ids=['cut or going on', 'terminated'],
)
def test_n_step_by_hand(terminated, factor):
    assert n_step([1.0, 4.0], 0.5, terminated) == (3.0, factor)


def test_held_ticks_cut_the_episode_and_are_in_no_segment():
    parts = segments([episode(6, terminated=True, held=(0, 3))])
    assert [(p.first, p.last, p.terminated) for p in parts] == [(1, 3, False), (4, 6, True)]
    # The state in which the arm was held is where the first segment was cut.
    assert parts[0].end[0] == 3
    np.testing.assert_allclose(parts[0].rewards, [-2.0, -3.0])


def test_an_end_on_a_held_tick_terminates_no_segment():
    (part,) = segments([episode(4, terminated=True, held=(3,))])
    assert (part.last, part.terminated) == (3, False)


def test_what_a_person_did_is_in_no_segment_and_their_success_is_not_the_policys():
    whole = episode(6, terminated=True, human=(4, 5))
    (part,) = segments([whole])
    assert (part.first, part.last, part.terminated) == (0, 4, False)
    assert part.end[0] == 4 and len(part.rewards) == 4
    assert whole.terminated and not whole.succeeded
    assert episode(6, terminated=True).succeeded


def test_an_episode_with_a_missing_step_is_refused():
    with pytest.raises(ValueError, match='follow'):
        Episode.from_transitions([transition(TASK, 1, step=0), transition(TASK, 2, step=2)])
