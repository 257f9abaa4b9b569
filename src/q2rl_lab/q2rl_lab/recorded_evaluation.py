# SPDX-License-Identifier: Apache-2.0
"""An evaluation that leaves a run behind: its episodes can be opened by `q2rl why`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from q2rl_control.episode_tally import EpisodeRecord
from q2rl_lab.cell import Cell, Deciders
from q2rl_lab.in_process import ROBOT, Evaluation, evaluate
from q2rl_lab.recording import EpisodeRecorder
from q2rl_lab.run_folder import RunFolder
from q2rl_task import Mode, TaskSpec


def record_episodes(
    folder: RunFolder,
    task: TaskSpec,
    decide: Deciders,
    mode: Mode,
    episodes: int,
    seed: int,
    on_episode: Callable[[EpisodeRecord], None] = lambda record: None,
) -> Evaluation:
    """Run fresh episodes as `evaluate` does, and keep ticks, episodes and the trace of the simulation in `folder`."""
    with EpisodeRecorder(folder, task, ROBOT) as recorder:
        cell = partial(Cell, trace=folder.trace)
        return evaluate(task, decide, mode, episodes, seed, on_episode, cell, recorder)
