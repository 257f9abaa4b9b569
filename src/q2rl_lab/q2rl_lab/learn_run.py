# SPDX-License-Identifier: Apache-2.0
"""A run in one process, from the files that it starts from."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
import time
from typing import Any

from q2rl_control.run_plan import RunPlan
from q2rl_control.run_settings import RunSettings
from q2rl_lab.cell import Cell
from q2rl_lab.evaluation import bc_from_file
from q2rl_lab.in_process import InProcessRun, Progress
from q2rl_lab.run_folder import RunConfig, RunFolder
from q2rl_lab.run_view import clock_text
from q2rl_learner.config import LearnerConfig, load_preset
from q2rl_learner.demonstrations import load_demonstrations
from q2rl_learner.interruption import watched_by
from q2rl_learner.online_learner import OnlineLearner
from q2rl_policies.policy_file import load_density
from q2rl_policies.torch_runtime import find_device, prepare_torch
from q2rl_task import Contract, episode_seed, load_task

TELL_PERIOD_S = 10.0
WINDOW = 50


def learn_in_process(folder: RunFolder, config: RunConfig, tell: Callable[[str], None]) -> RunPlan:
    """Run all phases, or those that are left of a run that ended before; returns the plan as it ended.

    :param tell: called with a line now and then
    :raises InputError: of `InProcessRun`
    """
    task = load_task(config.task)
    preset = load_preset(config.preset)
    preset = LearnerConfig.model_validate({**preset.model_dump(), 'rollouts': config.rollouts})
    settings = RunSettings(
        run_id=folder.id,
        seed=config.seed,
        rollouts=config.rollouts,
        online_steps=config.steps,
        goal=config.goal,
        drop_bc=config.drop_bc,
        evaluation_episodes=config.eval_episodes,
    )
    teller = _Teller(tell)
    if folder.state.is_file():
        tell(
            'going on where the run stood; what it learned since that was last saved is learned again'
        )
    run = fresh_run(
        task,
        settings,
        preset,
        folder.demonstrations,
        folder.bc,
        device=config.device,
        directory=folder.path,
        on_progress=teller,
        make_cell=partial(Cell, trace=folder.trace),
    )
    with watched_by(teller.fit):
        run.run()
    return run.plan


def fresh_run(
    task: Contract,
    settings: RunSettings,
    config: LearnerConfig,
    demonstrations: Path | None,
    policy: Path,
    *,
    device: str = 'cpu',
    directory: Path | None = None,
    **more: Any,
) -> InProcessRun:
    """Return a run whose learner has seen nothing yet, from the files of demonstrations and BC policy.

    :param device: where it learns, see `find_device`
    :param directory, more: of `InProcessRun`
    :raises InputError: a file is missing, damaged, or of another task; no such device
    """
    prepare_torch()  # what a network begins with depends on the number of threads
    learner = OnlineLearner(
        config,
        task,
        episode_seed(settings.seed, 'learner', 0),
        load_demonstrations(demonstrations, task) if demonstrations else (),
        load_density(policy, task),
        directory / 'learner' / 'kept' if directory else None,
        find_device(device),
    )
    bc = bc_from_file(policy, task, settings.seed, config.entropy)
    return InProcessRun(task, settings, bc, learner, directory, **more)


class _Teller:
    """One line at every change of phase, else one in ten seconds."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._phase, self._next = '', 0.0
        self._outcomes: list[bool] = []

    def fit(self, what: str, made: int, planned: int) -> None:
        """Take a step of a fit."""
        if (now := time.monotonic()) >= self._next:
            self._next = now + TELL_PERIOD_S
            self._tell(f'fitting {what}, step {made} of at most {planned}')

    def __call__(self, progress: Progress) -> None:
        episode = progress.episode
        if episode.phase != self._phase:
            self._outcomes.clear()
        if episode.mode == 'GATED' or episode.phase == 'ESTIMATING':
            self._outcomes.append(episode.success)
        now = time.monotonic()
        if episode.phase == self._phase and now < self._next:
            return
        self._phase, self._next = episode.phase, now + TELL_PERIOD_S
        recent = self._outcomes[-WINDOW:]
        share = (
            f', success {100 * sum(recent) / len(recent):.0f} % of last {len(recent)}'
            if recent
            else ''
        )
        self._tell(
            f'[{clock_text(progress.wall_s)}] {episode.phase.lower()} episode {episode.number}, '
            f'{progress.online_steps} online steps, {progress.gradient_steps} gradient steps{share}'
        )
