# SPDX-License-Identifier: Apache-2.0
"""Runs in one process that end somewhere, and go on as if they had not: on the task in numpy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
import json
import multiprocessing
import os
from pathlib import Path
import shutil
import signal

import pytest
from safetensors.torch import load_file
import torch

from q2rl_control.run_settings import RunSettings
from q2rl_lab.in_process import InProcessRun, Progress
from q2rl_lab.learn_run import fresh_run
from q2rl_lab.preparation import clone
from q2rl_lab.tiny_task import TinyCell, tiny_demonstrations, tiny_task
from q2rl_learner.config import LearnerConfig, load_preset
from q2rl_learner.interruption import watched_by
from q2rl_learner.transition_log import TransitionLog
from q2rl_sim.demonstrations import write_demonstrations
from q2rl_task import InputError, Phase

TASK, SEED = tiny_task(), 2
SETTINGS = RunSettings(
    run_id='t', seed=SEED, rollouts=8, online_steps=150, bc_only_every=2, evaluation_episodes=1
)
WAIT_S = 300.0
FIT = {'value_steps': 30, 'critic_steps': 20, 'actor_steps': 20, 'completions': 0}
pytestmark = pytest.mark.timeout(900)  # seconds on a quiet core: a few


def config(**changes) -> LearnerConfig:
    """Return settings by which V is refreshed now and then, and what was learned is saved every few episodes."""
    preset = load_preset('tiny').model_dump()
    small = {'rollouts': 8, 'publish_every': 10, 'save_every': 40, 'refresh_every': 2, 'critics': 2}
    return LearnerConfig.model_validate(
        {**preset, 'fit': {**preset['fit'], **FIT}, **small, **changes}
    )


@pytest.fixture(scope='module')
def start(tmp_path_factory) -> Path:
    """Return a folder with demonstrations and a clone of them."""
    folder = tmp_path_factory.mktemp('start')
    write_demonstrations(folder / 'd.hdf5', TASK, tiny_demonstrations(TASK, 10, SEED))
    clone(TASK, folder / 'd.hdf5', 'tiny', SEED, folder / 'bc.safetensors')
    return folder


def run(
    start: Path,
    folder: Path,
    on_progress: Callable[[Progress], None] = lambda _: None,
    settings: RunSettings = SETTINGS,
    **changes,
) -> InProcessRun:
    """Begin a run in `folder`, or take it up."""
    return fresh_run(
        TASK, settings, config(**changes), start / 'd.hdf5', start / 'bc.safetensors',
        directory=folder, on_progress=on_progress, make_cell=TinyCell,
    )  # fmt: skip


@pytest.fixture(scope='module')
def whole(start, tmp_path_factory) -> Path:
    """Return the folder of a run that nobody interrupted."""
    folder = tmp_path_factory.mktemp('whole')
    run(start, folder).run()
    return folder


def test_networks_begin_the_same_whatever_torch_had_for_threads(start, tmp_path):
    before, first = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            made = run(start, tmp_path / str(threads)).learner
            first.append([p.clone() for p in made.critics.parameters()])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*first, strict=True))


def assert_same_run(folder: Path, whole: Path) -> None:
    """Compare all that is in the folders of two runs but for times."""
    for one, other in zip(*(episodes(f) for f in (folder, whole)), strict=True):
        assert one == other
    states = [load_file(f / 'learner' / 'state.safetensors') for f in (folder, whole)]
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name
    logs = [
        list(TransitionLog(f / 'transitions.db', read_only=True).replay()) for f in (folder, whole)
    ]
    for one, other in zip(*logs, strict=True):
        assert (one.sequence, one.episode, one.step) == (other.sequence, other.episode, other.step)
        assert (one.action == other.action).all()
    plans = [json.loads((f / 'run_state.json').read_text())['progress'] for f in (folder, whole)]
    for plan in plans:
        for counts in plan['counts'].values():
            del counts['robot_time_s']  # of another clock, which began anew
    assert plans[0] == plans[1]


def episodes(folder: Path) -> list[dict]:
    """Return the records of all episodes, without how long they took (rounding depends on the clock)."""
    rows = [json.loads(line) for line in (folder / 'episodes.jsonl').read_text().splitlines()]
    return [{**row, 'duration': round(row['duration'], 6)} for row in rows]


class AtStep:
    """Interrupts an episode of the online phase in its middle, by what decides in it."""

    def __init__(self, decide, episode: str, step: int) -> None:
        self._decide, self._at = decide, (episode, step)
        self.streams = decide.streams

    def __call__(self, record):
        if (record.episode, record.step) == self._at:
            raise KeyboardInterrupt
        return self._decide(record)


@pytest.mark.parametrize('episode', ['t-e0005', 't-o0001', 't-o0006', 't-v0003'])
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(start, whole, tmp_path, episode):
    first = run(start, tmp_path)
    first._deciders = AtStep(first._deciders, episode, 3)
    with pytest.raises(KeyboardInterrupt):
        first.run()
    again = run(start, tmp_path)
    again.run()
    assert again.plan.phase is Phase.FINISHED
    assert_same_run(tmp_path, whole)


def test_a_finished_run_learns_on_where_it_is_given_more_steps(start, whole, tmp_path):
    one, other = tmp_path / 'one', tmp_path / 'other'
    longer = replace(SETTINGS, online_steps=220)
    for folder in (one, other):
        shutil.copytree(whole, folder)
    again = run(start, one, settings=longer)
    again.run()
    assert again.plan.phase is Phase.FINISHED
    learner = again.learner
    assert learner.online_steps >= 220
    assert learner.gradient_steps == learner.config.critic_updates_per_step * learner.online_steps
    before, rows = episodes(whole), episodes(one)
    assert rows[: len(before)] == before
    more = [row for row in rows[len(before) :] if row['phase'] == 'ONLINE']
    assert more and rows[len(before) :][-3:] == [r for r in rows if r['phase'] == 'EVALUATING'][3:]
    assert len({row['episode'] for row in rows}) == len(rows)
    first = run(start, other, settings=longer)
    first._deciders = AtStep(first._deciders, more[-1]['episode'], 3)
    with pytest.raises(KeyboardInterrupt):
        first.run()
    run(start, other, settings=longer).run()
    assert_same_run(other, one)


def test_a_fit_that_was_interrupted_is_made_anew(start, whole, tmp_path):
    def told(what: str, made: int, planned: int) -> None:
        if (what, made) == ('critics', 10):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), watched_by(told):
        run(start, tmp_path).run()
    assert len(episodes(tmp_path)) == SETTINGS.rollouts
    assert not (tmp_path / 'learner' / 'state.safetensors').exists()
    run(start, tmp_path).run()
    assert_same_run(tmp_path, whole)


def learn_till_killed(start: Path, folder: Path, told) -> None:
    """Tell of every online episode; a process of its own."""
    torch.set_num_threads(1)

    def tell(progress: Progress) -> None:
        if progress.episode.phase == 'ONLINE':
            told.send(progress.episode.number)

    run(start, folder, tell).run()


def test_a_killed_run_loses_at_most_the_episode_under_way(start, whole, tmp_path):
    context = multiprocessing.get_context('spawn')
    heard, told = context.Pipe(duplex=False)
    process = context.Process(target=learn_till_killed, args=(start, tmp_path, told))
    process.start()
    number = 0
    while number < 5:
        assert heard.poll(WAIT_S), 'it made no episode'
        number = heard.recv()
    os.kill(process.pid, signal.SIGKILL)
    process.join(WAIT_S)
    assert process.exitcode == -signal.SIGKILL
    kept = json.loads((tmp_path / 'run_state.json').read_text())['progress']['counts']
    assert kept['ONLINE']['episodes'] >= number
    run(start, tmp_path).run()
    assert_same_run(tmp_path, whole)


def test_files_that_are_ahead_of_where_the_run_stood_are_cut_back(start, whole, tmp_path):
    """Killed between the writing of an episode and that of where the run stands; what was learned is older still."""
    held: dict[str, bytes] = {}
    files = ('run_state.json', 'learner/state.safetensors')

    def hold(progress: Progress) -> None:
        if progress.episode.episode == 't-o0006':
            held.update({name: (tmp_path / name).read_bytes() for name in files})
        elif progress.episode.episode == 't-o0007':
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(start, tmp_path, hold).run()
    for name, content in held.items():
        (tmp_path / name).write_bytes(content)
    with (tmp_path / 'episodes.jsonl').open('a') as file:
        file.write('{"torn')
    run(start, tmp_path).run()
    assert_same_run(tmp_path, whole)


@pytest.mark.parametrize('when', ['before', 'after'])
def test_a_run_that_is_interrupted_while_it_is_saved_goes_on_all_the_same(
    start, whole, tmp_path, when
):
    first = run(start, tmp_path)
    store, saved = first._kept._store, first._kept._store.save

    def interrupted(progress, *rest, durable):
        if when == 'after':
            saved(progress, *rest, durable=durable)
        if progress.of(Phase.ONLINE).episodes == 6:
            raise KeyboardInterrupt
        if when == 'before':
            saved(progress, *rest, durable=durable)

    store.save = interrupted
    with pytest.raises(KeyboardInterrupt):
        first.run()
    run(start, tmp_path).run()
    assert_same_run(tmp_path, whole)


def test_a_learner_whose_state_is_gone_learns_anew_from_the_log(start, whole, tmp_path):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / 'learner')
    again = run(start, tmp_path)
    assert again.run() == []
    assert again.learner.gradient_steps == again.learner.online_steps >= SETTINGS.online_steps


def test_a_run_that_was_turned_back_is_not_learned_anew_from_the_log(start, whole, tmp_path):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / 'learner')
    again = run(start, tmp_path)
    again.plan.progress.rollbacks = 1
    with pytest.raises(InputError, match='turned back once'):
        again.run()


def test_what_does_not_belong_together_is_refused_in_one_line(start, whole, tmp_path):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    other = RunSettings(run_id='t', seed=SEED + 1)
    for changed, said in (
        ({'settings': other}, 'are those of another run than the saved t with seed 2'),
        ({'alpha': 0.5}, 'was made with other settings of alpha'),
    ):
        with pytest.raises(InputError, match=said) as refused:
            run(start, tmp_path, **changed).run()
        assert '\n' not in str(refused.value)
    log = TransitionLog(tmp_path / 'transitions.db', TASK.contract_hash)
    log.cut('arm', 100)
    log.close()
    with pytest.raises(InputError, match='holds 100 whole transitions of'):
        run(start, tmp_path).run()
