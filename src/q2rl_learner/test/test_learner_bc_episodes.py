# SPDX-License-Identifier: Apache-2.0
"""The episodes in which BC acted alone: which of them count, and since when it fails."""

from __future__ import annotations

from learner_helpers import toy_task, transition
import pytest

from q2rl_learner.bc_episodes import LEAST_FAILURES, BCEpisodes
from q2rl_task import EndReason, Mode

TASK = toy_task()
ENDS = {
    'S': {'terminated': True, 'end_reason': EndReason.SUCCESS},
    'F': {'truncated': True, 'end_reason': EndReason.TIME_LIMIT},
    'R': {'truncated': True, 'end_reason': EndReason.REQUESTED},
    'L': {'truncated': True, 'end_reason': EndReason.LOST},
}


def episodes(outcomes: str) -> BCEpisodes:
    """Return BC-only episodes of one step that end as the letters say, in order."""
    of = BCEpisodes()
    for number, outcome in enumerate(outcomes):
        step = {'mode': Mode.BC, **ENDS[outcome]}
        of.add_online(transition(TASK, number + 1, f'e{number}', **step), forgotten=0)
    return of


@pytest.mark.parametrize(
    ('outcomes', 'count'),
    [
        ('SSFFF', 4),  # its success may be luck, the one before is not
        ('SFFFFFSF', 7),  # the lucky one does not hide what lies before it
        ('FFFFSFF', 7),
        ('SF' + 'F' * LEAST_FAILURES, LEAST_FAILURES + 1),  # so many leave no room for luck
        ('S', 1),
        ('', 0),
    ],
)
def test_since_when_bc_fails(outcomes, count):
    found = episodes(outcomes).since_it_failed()
    assert [e.name for e in found] == [f'e{i}' for i in range(len(outcomes))][
        len(outcomes) - count :
    ]


def test_an_episode_that_was_interrupted_is_neither_a_success_nor_a_failure():
    of = episodes('SFRLF')
    assert [e.name for e in of.online()] == ['e0', 'e1', 'e4'] and of.ended == 3
    rollouts = BCEpisodes()
    for number, outcome in enumerate('SRF'):
        rollouts.add_rollout(transition(TASK, number + 1, f'r{number}', **ENDS[outcome]))
    assert [e.name for e in rollouts.rollouts()] == ['r0', 'r2']
