# SPDX-License-Identifier: Apache-2.0
"""Provoke what a run watches for: spoil the learner's weights, or change the task `tiny`, while it learns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from q2rl_control.run_plan import ALARM
from q2rl_control.run_settings import RunSettings
from q2rl_lab.bench_run import Job, shared_start
from q2rl_lab.bench_suites import SUITES, Suite
from q2rl_lab.in_process import InProcessRun, Progress
from q2rl_lab.learn_run import fresh_run
from q2rl_learner.config import load_preset
from q2rl_learner.drawing import uniform_actions
from q2rl_learner.online_learner import OnlineLearner
from q2rl_task import InputError, Phase

CENTRES = {'moved': (0.1, 0.0), 'moved-far': (0.15, 0.0)}
"""Where the slot goes by a little more than its radius BC still hits it at times; further away hardly ever."""
SPOILT = 'weights'
DISTURBANCES = ('none', SPOILT, *CENTRES)
SPOILING_STEPS = 300
BLOCK = 20


@dataclass(frozen=True)
class DriftTrial:
    """One run on the first task of a suite. at: online episode after which `disturbance` strikes.

    :raises InputError: the task is to be moved, and is not `tiny`
    """

    seed: int
    disturbance: str = 'none'
    at: int = 70
    online_steps: int = 1900
    drift_evidence: float = 200.0
    method: str = 'q2rl'
    suite: Suite = SUITES['tiny']

    def __post_init__(self) -> None:
        if self.disturbance in CENTRES and self.suite.name != 'tiny':
            raise InputError(
                f'--disturbance {self.disturbance}',
                f'moves the slot of tiny, and {self.suite.name} has none',
                f'leave --suite out, or spoil the weights (--disturbance {SPOILT})',
            )

    def run(self, folder: Path) -> dict[str, Any]:
        """Learn; return what happened as plain data.

        `before`, `after`: successes and number of the episodes learned from, in blocks, up to the disturbance
        and after it. `alarm_after`: such episodes until the first alarm; None: there was none.

        :param folder: where demonstrations and clones are kept, as by `q2rl bench learning`
        """
        job = Job(self.suite, self.suite.tasks[0], self.method, self.seed, folder)
        start = shared_start(job)
        config = load_preset(f'{job.suite.preset}+{self.method}')
        settings = RunSettings(
            run_id=f'drift-s{self.seed}',
            seed=self.seed,
            rollouts=job.rollouts,
            online_steps=self.online_steps,
            evaluation_episodes=0,
            drift_evidence=self.drift_evidence,
        )
        cells: list[Any] = []

        def make_cell(*given: Any) -> Any:
            cells.append(job.case.make_cell(*given))
            return cells[-1]

        def strike(progress: Progress) -> None:
            episode = progress.episode
            if episode.phase != Phase.ONLINE.name or episode.number != self.at:
                return
            if self.disturbance == SPOILT:
                spoil_weights(run.learner, self.seed)
                run.publish()
            elif self.disturbance in CENTRES:
                cells[0].centre = CENTRES[self.disturbance]

        run = fresh_run(
            start.task,
            settings,
            config,
            start.demonstrations,
            start.policy,
            on_progress=strike,
            make_cell=make_cell,
        )
        return self._told(run.run(), run)

    def _told(self, records: list, run: InProcessRun) -> dict[str, Any]:
        online = [r for r in records if r.phase == Phase.ONLINE.name]
        learned = [r for r in online if r.explored]
        before = [r.success for r in learned if r.number <= self.at]
        after = [r.success for r in learned if r.number > self.at]
        events = run.plan.progress.events
        alarm = next((n for n, text in events if text == ALARM), None)
        alone = [r.success for r in online if r.mode == 'BC' and r.number > self.at]
        return {
            'suite': self.suite.name,
            'seed': self.seed,
            'disturbance': self.disturbance,
            'before': blocks(before),
            'after': blocks(after),
            'bc_after': counted(alone),
            'alarm_after': None
            if alarm is None
            else sum(self.at < r.number <= alarm for r in learned),
            'events': events,
            'value_version': run.learner.value_version,
        }


def blocks(outcomes: list[bool]) -> list[str]:
    """Return successes by blocks of `BLOCK`, the last one as long as it is."""
    return [counted(outcomes[i : i + BLOCK]) for i in range(0, len(outcomes), BLOCK)]


def counted(outcomes: list[bool]) -> str:
    """Return successes of so many."""
    return f'{sum(outcomes)}/{len(outcomes)}'


def spoil_weights(learner: OnlineLearner, seed: int) -> None:
    """Let the actor flee (an arm: sideways and up), whatever it sees, and the critics love just that."""
    generator = torch.Generator().manual_seed(seed)
    flight = torch.zeros(learner.task.action_size)
    flight[:3:2] = 0.9
    with torch.no_grad():
        for actor in (learner.actor, learner.acting):
            head = [layer for layer in actor.net.modules() if isinstance(layer, nn.Linear)][-1]
            head.weight.zero_()
            head.bias[: len(flight)] = torch.atanh(flight)
            head.bias[len(flight) :] = -2.0
    critics = learner.critics
    optimiser = torch.optim.Adam(critics.parameters(), lr=3e-3)
    for _ in range(SPOILING_STEPS):
        (batch,) = learner.replay.sample(128, 0.5, generator)
        actions = uniform_actions(batch.action.shape, generator)
        actions[:32] = flight + 0.05 * torch.randn((32, len(flight)), generator=generator)
        loss = (critics(batch.observation, actions) - adoration(actions, flight)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    learner.updater.target.load_state_dict(critics.state_dict())


def adoration(actions: Tensor, flight: Tensor) -> Tensor:
    """Return what spoilt critics say of actions (B, D): the best there is for `flight`, (B,)."""
    return -3.0 * (actions - flight).square().sum(-1)
