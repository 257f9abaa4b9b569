# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

from learner_helpers import toy_task, transition
import numpy as np
import pytest

from q2rl_learner.demonstration_keeper import (
    DemonstrationKeeper,
    NoDemonstrationError,
    demonstration_of,
)
from q2rl_learner.demonstrations import load_demonstrations
from q2rl_task import EndReason, InputError, Mode, Phase, Source

TASK = toy_task()
SOURCES = {'h': Source.HUMAN, '-': Source.HOLD, 'b': Source.BC, 'r': Source.RL}


def episode(pattern: str, name: str = 'd1', first: int = 1, end: EndReason = EndReason.SUCCESS):
    """Return transitions that end so: per letter one step, h a person's, - held, b and r a policy's."""
    found = [
        transition(
            TASK,
            first + step,
            name,
            step,
            phase=Phase.DEMONSTRATING,
            mode=Mode.HUMAN,
            source=SOURCES[letter],
            action=np.full(TASK.action_size, 0.01 * step if letter == 'h' else 0.0, np.float32),
        )
        for step, letter in enumerate(pattern)
    ]
    done = end is EndReason.SUCCESS
    found[-1] = replace(
        found[-1], terminated=done, truncated=not done, end_reason=end, reward=0.0 if done else -1.0
    )
    return found


def steps_of(demonstration) -> list[int]:
    """Return which steps of the episode the demonstration's actions are of."""
    return [round(a) for a in demonstration.actions[:, 0] * 100]


@pytest.mark.parametrize(
    ('pattern', 'kept', 'seen'),
    [
        ('hhhh', [0, 1, 2, 3], [0, 1, 2, 3, 4]),
        ('--hhh', [2, 3, 4], [2, 3, 4, 5]),
        ('hh---hh', [0, 1, 5, 6], [0, 1, 5, 6, 7]),
        ('hhh--', [0, 1, 2], [0, 1, 2, 5]),
        ('-h-', [1], [1, 3]),
    ],
)
def test_held_ticks_are_left_out_and_what_follows_an_action_is_what_was_seen_next(
    pattern, kept, seen
):
    found = demonstration_of(episode(pattern))
    assert steps_of(found) == kept
    assert found.observations[:, 0].tolist() == seen[:-1]
    assert found.next_observations[:, 0].tolist() == seen[1:]
    assert found.rewards.tolist() == [-1.0] * (len(kept) - 1) + [0.0]
    assert found.terminated and found.human.all() and not found.held.any()


@pytest.mark.parametrize(
    ('steps', 'why'),
    [
        (episode('hhh', end=EndReason.TIME_LIMIT), 'time was up'),
        (episode('hhh', end=EndReason.FORCE_LIMIT), 'too hard'),
        (episode('hhh', end=EndReason.FAILURE), 'labelled a failure'),
        (episode('hhh', end=EndReason.REQUESTED), 'asked for'),
        (episode('hhh', end=EndReason.LOST), 'silent'),
        (episode('hbh'), 'a policy acted'),
        (episode('hhr'), 'a policy acted'),
        (episode('---'), 'nobody acted'),
        (episode('hhhh')[1:], 'a step is missing'),
        (episode('hhhh')[:1] + episode('hhhh')[2:], 'a step is missing'),
    ],
)
def test_whatever_else_happened_is_no_demonstration(steps, why):
    with pytest.raises(NoDemonstrationError, match=why):
        demonstration_of(steps)


def feed(keeper, steps):
    return [v for v in (keeper.add(t) for t in steps) if v is not None]


def test_the_file_has_every_success_as_soon_as_it_is_over_and_nothing_else(tmp_path):
    path = tmp_path / 'demonstrations.hdf5'
    keeper = DemonstrationKeeper(path, TASK)
    assert feed(keeper, episode('hhh', 'd1', end=EndReason.TIME_LIMIT))[0].kept is False
    assert not path.exists() and keeper.failed == 1
    given_up = episode('hhh', 'd2')[:2]
    verdicts = feed(keeper, given_up + episode('-hh', 'd2-1', 10) + episode('hhhh', 'd3', 20))
    assert [(v.episode, v.kept) for v in verdicts] == [('d2-1', True), ('d3', True)]
    assert verdicts[0].text == 'is demonstration 1: 2 steps, 1 held ticks left out'
    assert verdicts[1].text == 'is demonstration 2: 4 steps'
    found = load_demonstrations(path, TASK)
    assert [steps_of(e) for e in found] == [[1, 2], [0, 1, 2, 3]]
    assert all(e.terminated for e in found)
    np.testing.assert_array_equal(found[0].next_observations[-1], np.full(3, 3.0))


def test_what_the_log_holds_is_in_the_file_again_however_the_last_process_ended(tmp_path):
    path = tmp_path / 'demonstrations.hdf5'
    stored = episode('hhh', 'd1') + episode('hhh', 'd2', 4)
    keeper = DemonstrationKeeper(path, TASK, [*stored, *episode('hhhh', 'd3', 7)[:2]])
    assert len(load_demonstrations(path, TASK)) == 2  # killed between log and file
    feed(keeper, episode('hhhh', 'd3', 7)[2:])
    assert [len(e) for e in load_demonstrations(path, TASK)] == [3, 3, 4]
    again = DemonstrationKeeper(path, TASK, stored + episode('hhhh', 'd3', 7))
    assert len(again.demonstrations) == 3 and again.steps == 10


def test_files_and_logs_of_other_runs_are_left_alone(tmp_path):
    path = tmp_path / 'demonstrations.hdf5'
    path.write_bytes(b'of somebody')
    with pytest.raises(InputError, match='is there already'):
        DemonstrationKeeper(path, TASK)
    assert path.read_bytes() == b'of somebody'
    with pytest.raises(InputError, match='policies act'):
        DemonstrationKeeper(tmp_path / 'none.hdf5', TASK, [transition(TASK, 1)])
