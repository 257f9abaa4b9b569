# SPDX-License-Identifier: Apache-2.0
"""Learn and evaluate in one process: the modules of the nodes, without the nodes between them.

The phases, seeds, episodes, records and files are those of a run through the node graph, so that both can be compared
number by number. What differs: gradient steps are made between environment steps, not beside them, and weights are
live as soon as they are published.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
import json
import math
from pathlib import Path
import time

from q2rl_control.episode_plan import EpisodePlan
from q2rl_control.episode_tally import EpisodeRecord, EpisodeTally
from q2rl_control.run_plan import LearnerReport, RunPlan
from q2rl_control.run_settings import RunSettings
from q2rl_control.run_store import RunStore
from q2rl_control.transition_assembler import TransitionAssembler
from q2rl_lab.cell import Cell, Deciders, MakeCell
from q2rl_lab.evaluation import learned_deciders
from q2rl_lab.recording import EpisodeRecorder
from q2rl_learner.config import LearnerConfig
from q2rl_learner.learner_state import Snapshot, save_state
from q2rl_learner.online_learner import OnlineLearner
from q2rl_learner.remedies import OF_LEARN, Remedies
from q2rl_learner.transition_log import TransitionLog
from q2rl_policies.bc import BCPolicy
from q2rl_policies.inference import Pinned
from q2rl_policies.live_networks import LiveActor, LiveCritic
from q2rl_policies.torch_runtime import prepare_torch
from q2rl_task import Contract, LearnerState, Mode, Phase, Transition

ROBOT = 'arm'


@dataclass(frozen=True)
class Progress:
    """What a watcher may want to know after each episode."""

    episode: EpisodeRecord
    online_steps: int
    gradient_steps: int
    wall_s: float


class InProcessRun:
    """One run of Q2RL without ROS: estimate, fit, learn online, evaluate.

    :param bc: the policy that is to be improved; it keeps its own random stream
    :param learner: fresh; its demonstrations and configuration are the caller's
    :param directory: where episodes, transitions, the run's and the learner's state go; None keeps nothing
    :param make_cell: the robot, if not the simulated arm
    :param remedies: what a run that cannot start to learn names
    """

    def __init__(
        self,
        task: Contract,
        settings: RunSettings,
        bc: BCPolicy,
        learner: OnlineLearner,
        directory: Path | None = None,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        make_cell: MakeCell = Cell,
        remedies: Remedies = OF_LEARN,
    ) -> None:
        prepare_torch()
        self.plan = RunPlan(settings)
        self.learner = learner
        self.records: list[EpisodeRecord] = []
        self.actor, self.critic = Pinned(None), Pinned(None)
        self._cell = make_cell(task, settings.seed, ROBOT)
        self._deciders = learned_deciders(
            learner.config, task, bc, self.actor, self.critic, settings.seed
        )
        self._assembler = TransitionAssembler(ROBOT)
        self._remedies = remedies
        self._directory = directory
        self._store = RunStore(directory) if directory else None
        self._log = (
            TransitionLog(directory / 'transitions.db', task.contract_hash) if directory else None
        )
        self._on_progress = on_progress
        self._published = self._saved = 0
        self._began = time.monotonic()

    @property
    def config(self) -> LearnerConfig:
        """The learner's settings."""
        return self.learner.config

    def run(self) -> list[EpisodeRecord]:
        """Run all phases; return the records of all episodes.

        What was learned is kept however this ends.

        :raises InputError: Q-Estimation cannot be done on these rollouts
        """
        self.plan.start()
        try:
            while self.plan.phase not in (Phase.FINISHED, Phase.STOPPED):
                if self.plan.phase is Phase.FITTING:
                    self._fit()
                    continue
                if self.plan.phase is Phase.SETTLING:
                    self._settle()
                    continue
                self._run_episode(self.plan.next_episode())
        finally:
            self._finish()
        return self.records

    def _fit(self) -> None:
        before = Snapshot(self.learner)
        found = self.learner.fit_estimate()
        if problem := found.problem(self._remedies):
            before.restore()
            report = LearnerReport(LearnerState.UNSURE, problem, rollouts=found.rollouts)
        else:
            self.publish()
            report = LearnerReport(LearnerState.READY, found.warning())
        self.plan.learner_reported(report)

    def _settle(self) -> None:
        """Evaluate what was learned last: every online step has its gradient steps already."""
        self.publish()
        version = self.learner.weights_version
        self.plan.learner_reported(LearnerReport(LearnerState.SETTLED, weights_version=version))

    def _run_episode(self, plan: EpisodePlan) -> None:
        tally = EpisodeTally(plan, ROBOT, self._cell.time)
        self._assembler.begin(plan.episode, plan.phase)
        transitions: list[Transition] = []
        for step in self._cell.run_episode(
            plan.episode, plan.mode, plan.seed, self._deciders, plan.explore
        ):
            tally.add(step)
            transition = self._assembler.add(step, time.monotonic())
            if transition is None:
                continue
            transitions.append(transition)
            self.learner.add(transition)
            if plan.phase is Phase.ONLINE:
                self._learn()
        if transitions and self._log is not None:
            self._log.append(transitions)
        self._assembler.acknowledge(ROBOT, self._assembler.next_sequence - 1)
        self.plan.episode_finished(plan, tally.result(len(transitions)))
        progress = self.plan.progress
        if progress.rollbacks > self.learner.rollbacks:
            self.learner.turn_back(progress.rollback_version, progress.rollbacks)
            self.publish()
        self._record(tally.record())

    def _learn(self) -> None:
        while self.learner.busy:
            self.learner.update()
        every = self.config.publish_every
        if self.learner.gradient_steps // every > self._published // every:
            self.publish()

    def publish(self) -> None:
        """Let what has been learned so far act."""
        files = self.learner.publish()
        contract = self._cell.task.contract_hash
        self.actor.current = LiveActor.from_file(files['actor'], 'actor weights', contract)
        self.critic.current = LiveCritic.from_file(files['critic'], 'critic weights', contract)
        self._published = self.learner.gradient_steps

    def _record(self, record: EpisodeRecord) -> None:
        self.records.append(record)
        if self._store:
            self._store.append_episode(asdict(record))
            self._save()
            if self.learner.gradient_steps - self._saved >= self.config.save_every:
                self._save_learner()
        self._on_progress(
            Progress(
                record,
                self.learner.online_steps,
                self.learner.gradient_steps,
                time.monotonic() - self._began,
            )
        )

    def _save(self) -> None:
        extra = {
            'next_sequence': self._assembler.next_sequence,
            'acknowledged': self._assembler.acknowledged,
            'episodes_recorded': len(self.records),
            'dropped': dict(self._assembler.dropped),
        }
        self._store.save(self.plan.progress, extra)

    def _save_learner(self) -> None:
        folder = self._directory / 'learner'
        folder.mkdir(exist_ok=True)
        save_state(folder / 'state.safetensors', self.learner)
        self._saved = self.learner.gradient_steps

    def _finish(self) -> None:
        if not self._directory:
            return
        self._save()
        self._log.close()
        if self.learner.weights_version:
            self._save_learner()
        replay = self.learner.replay
        line = {
            'online_steps': self.learner.online_steps,
            'gradient_steps': self.learner.gradient_steps,
            'weights_version': self.learner.weights_version,
            'demo_fraction': replay.drawn_demonstrations / max(1, replay.drawn),
            'wall_s': time.monotonic() - self._began,
        }
        (self._directory / 'timeline.jsonl').write_text(json.dumps(line) + '\n')


@dataclass(frozen=True)
class Evaluation:
    """Fresh episodes of one policy or gate. steps: mean length; peak_force: mean of the episodes' peaks [N]."""

    outcomes: tuple[bool, ...]
    steps: float
    peak_force: float


def evaluate(
    task: Contract,
    decide: Deciders,
    mode: Mode,
    episodes: int,
    seed: int,
    on_episode: Callable[[EpisodeRecord], None] = lambda record: None,
    make_cell: MakeCell = Cell,
    recorder: EpisodeRecorder | None = None,
) -> Evaluation:
    """Run fresh episodes of the evaluation stream of `seed`; nothing learns from them.

    The same seed gives the same fixtures and start poses whatever decides, so results are paired.

    :param recorder: keeps the episodes tick by tick
    """
    if episodes < 1:
        raise ValueError('an evaluation needs at least one episode')
    settings = RunSettings(
        run_id=recorder.run_id if recorder else 'eval',
        seed=seed,
        online_steps=0,
        evaluation_episodes=episodes,
        evaluation_modes=(mode,),
    )
    plan = RunPlan(settings)
    plan.progress.phase = Phase.EVALUATING
    cell = make_cell(task, seed, ROBOT)
    records = []
    while (episode := plan.next_episode()) is not None:
        tally = EpisodeTally(episode, ROBOT, cell.time)
        if recorder:
            recorder.begin(episode)
        for step in cell.run_episode(episode.episode, episode.mode, episode.seed, decide):
            tally.add(step)
            if recorder:
                recorder.add(step)
        plan.episode_finished(episode, tally.result(0))
        records.append(tally.record())
        if recorder:
            recorder.finish(records[-1], plan.progress)
        on_episode(records[-1])
    return Evaluation(
        tuple(r.success for r in records),
        math.fsum(r.steps for r in records) / len(records),
        math.fsum(r.peak_force for r in records) / len(records),
    )
