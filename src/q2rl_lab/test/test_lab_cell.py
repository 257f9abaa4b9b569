# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from q2rl_control.episode_flow import REFUSALS
from q2rl_lab.cell import Cell
from q2rl_lab.tiny_task import tiny_demonstrations, tiny_task
from q2rl_task import Decision, ExecutedStep, Mode, load_task
from q2rl_task.errors import GivenUp

TASK = load_task('pipe_assembly')


def refused(cell: Cell, times: int) -> list[str]:
    """Let the arm refuse to start episodes for some times; return the list of those asked for."""
    asked, start = [], cell.logic.start_episode

    def start_episode(episode: str, *rest) -> bool:
        asked.append(episode)
        if len(asked) > times:
            return start(episode, *rest)
        cell.logic.stop('stuck')
        return False

    cell.logic.start_episode = start_episode
    return asked


def run(cell: Cell) -> list[ExecutedStep]:
    def hold(record) -> Decision:
        return Decision.hold(TASK.action_size)

    return list(cell.run_episode('e1', Mode.BC, 1, hold))


def test_an_episode_that_the_arm_did_not_come_to_is_tried_again():
    cell = Cell(TASK, 0)
    asked = refused(cell, 2)
    steps = run(cell)
    assert asked == ['e1'] * 3 and steps[-1].final
    assert [step.step for step in steps] == list(range(TASK.max_steps + 1))


def test_an_arm_that_never_comes_to_its_start_is_given_up():
    cell = Cell(TASK, 0)
    asked = refused(cell, REFUSALS)
    with pytest.raises(GivenUp, match=f'e1: {REFUSALS} times in a row .*: stuck'):
        run(cell)
    assert len(asked) == REFUSALS


def test_a_novice_who_never_finds_the_slot_is_given_up():
    hurried = tiny_task().model_copy(update={'max_steps': 1})
    with pytest.raises(GivenUp, match='task tiny: the novice succeeded only 0 times'):
        tiny_demonstrations(hurried, 1, 0)
