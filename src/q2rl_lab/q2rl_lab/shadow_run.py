# SPDX-License-Identifier: Apache-2.0
"""Episodes on BC with a learned RL policy in the shadow: in this process, or through the nodes."""

from __future__ import annotations

from collections.abc import Callable
import contextlib
from dataclasses import dataclass
from pathlib import Path
import shutil
import sqlite3
import time
from typing import Any

from q2rl_bringup.run_preparation import policy_in
from q2rl_control.episode_tally import EpisodeRecord
from q2rl_control.run_store import RunStore
from q2rl_lab.evaluation import learned_from
from q2rl_lab.preparation import keep_policy
from q2rl_lab.recorded_evaluation import record_episodes
from q2rl_lab.run_folder import RunConfig, RunFolder, create_run, open_run
from q2rl_lab.workspace import versions
from q2rl_learner.learned_weights import holds_weights, settings_of
from q2rl_task import InputError, Mode, Phase, TaskSpec, load_task


@dataclass(frozen=True)
class Learned:
    """What is put in the shadow. learner: folder of its weights or state; run: where it comes from, if from one."""

    name: str
    learner: Path
    bc: Path
    task: str
    preset: str
    seed: int
    run: RunFolder | None = None


def find_learned(
    runs_dir: Path, target: str | None, bc: Path | None, task: str, preset: str | None
) -> Learned:
    """Return what `target` names: a run (None: the latest), or a folder with an actor's and a critic's weights.

    :param bc: BC policy, if not the one of the run or in the folder
    :param task: of a folder of weights
    :param preset: that a folder of weights was learned with; None: its settings, or where it has none the task's
    :raises InputError: no such run or folder
    """
    folder = Path(target) if target is not None else None
    if folder is not None and holds_weights(folder):
        cloned = bc or policy_in(folder)
        preset = preset or settings_of(folder, load_task(task).learning.preset)
        return Learned(folder.resolve().name, folder, cloned, task, preset, 0)
    run = open_run(runs_dir, target)
    config = run.read_config()
    return Learned(
        run.id, run.learner, bc or run.policy, config.task, config.preset, config.seed, run
    )


def make_folder(
    what: Learned, runs_dir: Path, name: str | None, episodes: int, seed: int, in_process: bool
) -> RunFolder:
    """Make the folder of the shadow's run; `latest` stays where it is.

    :param name: of the run; by default that of what is learned, with -shadow and a free number behind it
    """
    asked: dict[str, Any] = {'task': what.task, 'preset': what.preset}
    if what.run is not None:
        config = what.run.read_config()
        asked |= {'rollouts': config.rollouts, 'realtime': config.realtime}
    config = RunConfig(
        **asked, seed=seed, steps=0, eval_episodes=episodes, in_process=in_process, shadow=True
    )
    if name is None:
        name, number = f'{what.name}-shadow', 1
        while (runs_dir / name).exists():
            number += 1
            name = f'{what.name}-shadow-{number}'
    return create_run(runs_dir, name, config, versions())


def run_in_process(
    what: Learned,
    folder: RunFolder,
    task: TaskSpec,
    on_episode: Callable[[EpisodeRecord], None] = lambda record: None,
) -> None:
    """Run the episodes of `folder` in this process.

    :raises InputError: weights that are missing, damaged or of another task
    """
    config = folder.read_config()
    decide = learned_from(what.learner, what.bc, task, what.preset, config.seed, chooser='shadow')
    record_episodes(folder, task, decide, Mode.BC, config.eval_episodes, config.seed, on_episode)


def run_by_nodes(what: Learned, folder: RunFolder, task: TaskSpec) -> None:
    """Run the episodes of `folder` through the node graph, as a run that has come to its evaluation.

    :raises InputError: the run has no learner's state
    :raises RuntimeError: it did not come to its end; the text says how
    """
    from q2rl_lab.display import open_display
    from q2rl_lab.up_run import End, node_processes, run_graph

    config = folder.read_config()
    take_over(what, folder, config.seed)
    specs = node_processes(folder, config, resume=False)
    display = open_display(f'q2rl shadow {what.name}, run {folder.id}')
    ending = run_graph(folder, config, task, specs, display, time.monotonic())
    if ending.end is not End.FINISHED:
        raise RuntimeError(ending.text or 'stopped')


def can_run_by_nodes(what: Learned) -> bool:
    """Whether there is a learner's state to start the nodes from: weights alone are nothing they would publish."""
    return what.run is not None and (what.learner / 'state.safetensors').is_file()


def take_over(what: Learned, folder: RunFolder, seed: int) -> None:
    """Copy what was learned into a fresh folder and put it at the beginning of its evaluation."""
    run = what.run
    if run is None or not can_run_by_nodes(what):
        raise InputError(
            '--nodes',
            'there is no saved state of a learner',
            'name a run of q2rl up, or leave it out',
        )
    saved = RunStore(run.path).load()
    if saved is None:
        raise InputError(run.state, 'is not there', 'name a run that has come to its evaluation')
    for path in (run.demonstrations, run.transitions):
        if not path.is_file():
            raise InputError(path, 'is not there, and the nodes need it', 'leave --nodes out')
    shutil.copytree(run.learner, folder.learner)
    keep_policy(what.bc, folder.path)
    shutil.copy(run.demonstrations, folder.demonstrations)
    with (
        contextlib.closing(sqlite3.connect(run.transitions)) as source,
        contextlib.closing(sqlite3.connect(folder.transitions)) as copy,
    ):
        source.backup(copy)
    progress, extra = saved
    progress.run_id, progress.seed = folder.id, seed
    progress.phase, progress.attempts, progress.detail = Phase.EVALUATING, 0, ''
    progress.counts.pop(Phase.EVALUATING.name, None)
    progress.superseded = []
    RunStore(folder.path).save(progress, {**extra, 'episodes_recorded': 0})
