# SPDX-License-Identifier: Apache-2.0
"""Learn and evaluate in one process: the modules of the nodes, without the nodes between them.

The phases, seeds, episodes, records and files are those of a run through the node graph, so that both can be compared
number by number. What differs: gradient steps are made between environment steps, not beside them, and weights are
live as soon as they are published.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import math
from pathlib import Path
import time

from q2rl_control.episode_plan import EpisodePlan
from q2rl_control.episode_tally import EpisodeRecord, EpisodeTally
from q2rl_control.run_plan import Command, LearnerReport, RunPlan
from q2rl_control.run_settings import RunSettings
from q2rl_control.transition_assembler import TransitionAssembler
from q2rl_lab.cell import Cell, Deciders, MakeCell
from q2rl_lab.evaluation import learned_deciders
from q2rl_lab.kept_run import KeptRun
from q2rl_lab.recording import EpisodeRecorder
from q2rl_learner.config import LearnerConfig
from q2rl_learner.learner_state import TURNED_BACK, try_fit
from q2rl_learner.online_learner import OnlineLearner
from q2rl_learner.remedies import OF_LEARN, Remedies
from q2rl_policies.bc import BCPolicy
from q2rl_policies.inference import Pinned
from q2rl_policies.live_networks import LiveActor, LiveCritic
from q2rl_task import Contract, InputError, LearnerState, Mode, Phase, Transition
from q2rl_task.episode import AFTER_ONLINE, LEARNING

ROBOT = 'arm'
FITTED = (*LEARNING, *AFTER_ONLINE)
"""Phases after the fit."""


@dataclass(frozen=True)
class Progress:
    """What a watcher may want to know after each episode."""

    episode: EpisodeRecord
    online_steps: int
    gradient_steps: int
    wall_s: float


class InProcessRun:
    """One run of Q2RL without ROS: estimate, fit, learn online, evaluate.

    Begins a run, or takes up one where its directory says it stood. The episode under way when it ended, if there was
    one, is counted nowhere and runs again.

    :param bc: the policy that is to be improved; it keeps its own random stream
    :param learner: fresh; its demonstrations and configuration are the caller's
    :param directory: where episodes, transitions, the run's and the learner's state go; None keeps nothing
    :param make_cell: the robot, if not the simulated arm
    :param remedies: what a run that cannot start to learn names
    :raises InputError: the directory cannot be used, or is of another run
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
        self._kept = (
            KeptRun(directory, task.contract_hash, ROBOT, learner.config.save_every)
            if directory
            else None
        )
        self._saved = self._kept.load() if self._kept else None
        self.plan = RunPlan(settings, self._saved.progress if self._saved else None)
        self.learner = learner
        self.records: list[EpisodeRecord] = []
        self.actor, self.critic = Pinned(None), Pinned(None)
        self._cell = make_cell(task, settings.seed, ROBOT)
        self._deciders = learned_deciders(
            learner.config, task, bc, self.actor, self.critic, settings.seed
        )
        self._remedies = remedies
        self._assembler = TransitionAssembler(
            ROBOT, self._saved.next_sequence if self._saved else 1
        )
        self._on_progress = on_progress
        self._published = 0
        self._began = time.monotonic() - (self._saved.wall_s if self._saved else 0.0)

    @property
    def config(self) -> LearnerConfig:
        """The learner's settings."""
        return self.learner.config

    def run(self) -> list[EpisodeRecord]:
        """Run all phases that are left; return the records of all their episodes.

        What was learned is kept however this ends.

        :raises InputError: Q-Estimation cannot be done on these rollouts, or what was kept is damaged
        """
        self._take_up()
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

    def _take_up(self) -> None:
        """Go on where the run stood: what was learned since it was last saved is learned again, from the log."""
        if self._saved is None:
            return
        self._saved.restore(self._deciders.streams())
        if self._kept.restore(self.learner):
            self._let_act({kind: self.learner.weights(kind) for kind in ('actor', 'critic')})
        elif self.plan.progress.rollbacks:
            raise InputError('the run', *TURNED_BACK)
        for transition in self._kept.replay(self._saved, self.learner):
            if transition.phase is Phase.ONLINE:
                self._fit_anew()
            self._learn_from(transition)
        if self.plan.phase in FITTED:
            self._fit_anew()
        self._turn_back()
        if self.plan.phase is Phase.STOPPED:
            self.plan.command(Command.RESUME)

    def _fit_anew(self) -> None:
        """Fit what has been fitted already, where that was not saved or is gone."""
        if self.learner.report is None:
            self.learner.fit_estimate()
            self.publish()

    def _fit(self) -> None:
        found = self.learner.report
        if found is None:
            found = try_fit(self.learner)
            if not found.problem():
                self.publish()
        if problem := found.problem(self._remedies):
            report = LearnerReport(LearnerState.UNSURE, problem, rollouts=found.rollouts)
        else:
            report = LearnerReport(LearnerState.READY, found.warning())
        self.plan.learner_reported(report)
        self._save()

    def _settle(self) -> None:
        """Evaluate what was learned last: every online step has its gradient steps already."""
        self.publish()
        version = self.learner.weights_version
        self.plan.learner_reported(LearnerReport(LearnerState.SETTLED, weights_version=version))
        self._save(learned=True)

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
            self._learn_from(transition)
        self._assembler.acknowledge(ROBOT, self._assembler.next_sequence - 1)
        self.plan.episode_finished(plan, tally.result(len(transitions)))
        turned_back = self._turn_back()
        record = tally.record()
        self.records.append(record)
        if self._kept:
            self._kept.add_episode(transitions, record)
            self._save(learned=turned_back)
        self._on_progress(
            Progress(
                record,
                self.learner.online_steps,
                self.learner.gradient_steps,
                time.monotonic() - self._began,
            )
        )

    def _turn_back(self) -> bool:
        """Let the learner go back where the run is to; return whether it was."""
        progress = self.plan.progress
        if progress.rollbacks <= self.learner.rollbacks:
            return False
        self.learner.turn_back(progress.rollback_version, progress.rollbacks)
        self.publish()
        return True

    def _learn_from(self, transition: Transition) -> None:
        self.learner.add(transition)
        if transition.phase is not Phase.ONLINE:
            return
        while self.learner.busy:
            self.learner.update()
        every = self.config.publish_every
        if self.learner.gradient_steps // every > self._published // every:
            self.publish()

    def publish(self) -> None:
        """Let what has been learned so far act."""
        self._let_act(self.learner.publish())
        if self._kept:
            self._kept.published(self.learner)

    def _let_act(self, files: dict[str, bytes]) -> None:
        contract = self._cell.task.contract_hash
        self.actor.current = LiveActor.from_file(files['actor'], 'actor weights', contract)
        self.critic.current = LiveCritic.from_file(files['critic'], 'critic weights', contract)
        self._published = self.learner.gradient_steps

    def _save(self, learned: bool = False) -> None:
        if self._kept:
            wall_s = time.monotonic() - self._began
            streams = self._deciders.streams()
            self._kept.save(self.plan.progress, self._assembler, streams, wall_s, learned)

    def _finish(self) -> None:
        if not self._kept:
            return
        replay = self.learner.replay
        self._kept.close(
            {
                'online_steps': self.learner.online_steps,
                'gradient_steps': self.learner.gradient_steps,
                'weights_version': self.learner.weights_version,
                'demo_fraction': replay.drawn_demonstrations / max(1, replay.drawn),
                'wall_s': time.monotonic() - self._began,
            }
        )


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
