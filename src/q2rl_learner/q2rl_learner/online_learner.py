# SPDX-License-Identifier: Apache-2.0
"""`OnlineLearner`: all of learning behind one object, the same in the in-process trainer and in the learner node."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
import time

import torch

from q2rl_learner.bc_episodes import BCEpisodes
from q2rl_learner.config import LearnerConfig
from q2rl_learner.drawing import Device
from q2rl_learner.episodes import Episode
from q2rl_learner.estimation import EstimateReport, ValueFit, fit_value, without_value
from q2rl_learner.fitted_q import fit_bellman
from q2rl_learner.interruption import Interrupted
from q2rl_learner.judgement import judge_value, look_at
from q2rl_learner.kept_weights import KeptWeights
from q2rl_learner.offline import learn_offline
from q2rl_learner.replay import Replay
from q2rl_learner.returns import attainable_range, range_of_any
from q2rl_learner.seeded_networks import SeededNetworks
from q2rl_learner.transition_check import check_transition
from q2rl_learner.update import Updater
from q2rl_learner.warm_start import require_density, warm_start
from q2rl_learner.weights_files import weights_file
from q2rl_policies.actor import TanhGaussianActor
from q2rl_policies.bc import DensityNet
from q2rl_policies.critics import CriticEnsemble
from q2rl_task import Contract, InputError, Mode, Phase, Transition


class OnlineLearner:
    """Learn one task from transitions: `add` all of them in order, `fit_estimate` once, then `update` at leisure.

    Transitions of the estimating phase are rollouts; those of the online phase owe gradient steps; all others are
    ignored. An online transition can be drawn only from the `update` that pays for it on, so that what is learned
    depends on the order of transitions alone, not on how fast they came. Use from one thread.

    :param seed: of all randomness in here
    :param demonstrations: whole episodes with the task's rewards
    :param bc: the BC density, to score demonstrations; without it they do not warm the critics
    :param device: where networks and replay are, `bc` too from now on; weights and state files are of no device
    :param kept: folder of the weights that may be gone back to; None: they are in memory alone
    """

    def __init__(
        self,
        config: LearnerConfig,
        task: Contract,
        seed: int,
        demonstrations: Sequence[Episode] = (),
        bc: DensityNet | None = None,
        kept: Path | None = None,
        device: Device = 'cpu',
    ) -> None:
        self.config, self.task = config, task
        self.demonstrations = tuple(demonstrations)
        self._bc = bc if bc is None else bc.to(device)
        self.generator = torch.Generator(device).manual_seed(seed)
        reward = task.reward
        if reward.step_range is None:
            self.attainable = attainable_range(
                config.scaled(reward.per_step), config.scaled(reward.success), reward.discount
            )
        else:
            self.attainable = range_of_any(*map(config.scaled, reward.step_range), reward.discount)
        self._networks = SeededNetworks(config, task, seed, self.generator.device)
        self.value = self._networks.value()
        actor, critics, value = self._networks.to_train()
        self.updater = Updater(actor, critics, config, self.attainable, self.generator, value)
        self.replay = Replay(
            task.observation_size,
            task.action_size,
            config.replay_capacity,
            config.n_step,
            reward.discount,
            config.imitation,
            config.episode_ends == 'swapped',
            self.attainable[0],
            self.generator.device,
        )
        if config.demo_fraction > 0 or config.demo_mixing == 'pooled':
            self.replay.set_demonstrations(
                self.demonstrations, config.reward_scale, config.reward_bias
            )
        bellman = config.fit.estimator == 'bellman'
        self.bc_critics = self._networks.critics() if bellman else None
        self._bc_only = BCEpisodes()
        self._kept = KeptWeights(kept)
        self._pending: deque[Transition] = deque()
        self._newest: dict[str, int] = {}
        # Online transitions still to come that gradient steps were made for before a restart.
        self._skip = 0
        self.online_steps = 0
        self.trained_steps = 0
        self.gradient_steps = 0
        self.offline_steps = 0
        self.actor_steps = 0
        self.weights_version = 0
        self._parent: int | None = None
        self._went_back_to: int | None = None
        self.value_version = 0
        self.refreshes = 0
        self.rollbacks = 0
        self.forgotten = 0
        self.report: EstimateReport | None = None

    @property
    def networks_made(self) -> int:
        """How often networks were made: part of the learner's state, see `SeededNetworks`."""
        return self._networks.made

    @networks_made.setter
    def networks_made(self, count: int) -> None:
        self._networks.made = count

    @property
    def actor(self) -> TanhGaussianActor:
        """The RL policy under training."""
        return self.updater.actor

    @property
    def acting(self) -> TanhGaussianActor:
        """The RL policy that is published: the one under training, or its moving average."""
        return self.updater.acting

    @property
    def critics(self) -> CriticEnsemble:
        """The critics under training."""
        return self.updater.critics

    def add(self, transition: Transition) -> None:
        """Take the next transition of a robot.

        :raises InputError: of another contract, of wrong sizes or not finite; it is then not taken
        """
        check_transition(transition, self.task)
        self._newest[transition.robot] = transition.sequence
        if transition.phase == Phase.ESTIMATING:
            if transition.mode == Mode.BC and not self.forgotten:
                self._bc_only.add_rollout(transition)
            if self.config.rollouts_in_replay and not self._left_offline_data:
                self._store(transition, forgotten=self.forgotten > 0)
        elif transition.phase == Phase.ONLINE:
            self.online_steps += 1
            if self._skip > 0:
                self._skip -= 1
                self._take_in(transition)
            else:
                self._pending.append(transition)

    def _take_in(self, transition: Transition) -> None:
        counts = self._bc_only.add_online(transition, self.forgotten)
        self._store(transition, forgotten=not counts)

    def _store(self, transition: Transition, forgotten: bool) -> None:
        self.replay.add(transition, self.config.scaled(transition.reward), forgotten)

    def rollouts(self) -> list[Episode]:
        """Return the finished BC-only rollouts of the estimating phase."""
        return self._bc_only.rollouts()

    def fit_estimate(self) -> EstimateReport:
        """Run Q-Estimation on the rollouts added so far: fit V, warm-start critics and actor.

        A method that asks V nothing leaves it as it is; its report says so and keeps no run from starting. The offline
        phase of a method that has one comes after, unless learning cannot start: it may take its data out of the
        replay, and the next fit, on more rollouts, needs them.

        :raises InputError: fewer than two finished rollouts, none in which BC stated a density where it is needed, or
            nothing to learn from offline
        """
        self.report = self._estimate()
        if not self.report.problem():
            self.offline_steps = learn_offline(
                self.updater, self.replay, self.config, self.generator
            )
        return self.report

    def _estimate(self) -> EstimateReport:
        began = time.monotonic()
        episodes = self.rollouts()
        if not self.config.needs_value:
            self.updater.copy_target()
            return without_value(episodes)
        if self.config.needs_density:
            require_density(episodes)
        fitted = self._fit_value(episodes)
        self._take(fitted)
        critic_error = actor_nll = float('nan')
        if self.config.fit.warm_start:
            critic_error, actor_nll = warm_start(
                self.actor,
                self.critics,
                episodes,
                fitted,
                self.demonstrations,
                self._bc,
                self.config,
                self.generator,
            )
        self.updater.copy_target()
        judged = judge_value(
            episodes, self.config, self.task, self.attainable, self.generator.device
        )
        return EstimateReport(
            rollouts=len(episodes),
            successes=sum(e.succeeded for e in episodes),
            samples=fitted.samples,
            value_error=fitted.error,
            return_variance=fitted.variance,
            value_steps=fitted.steps,
            completion_rounds=fitted.rounds,
            completion_change=fitted.change,
            critic_error=critic_error,
            actor_nll=actor_nll,
            seconds=time.monotonic() - began,
            ordered=judged.ordered,
            chance=judged.chance,
            look=look_at(len(episodes), self.config.rollouts),
        )

    def refresh_value(self) -> ValueFit:
        """Fit V anew on all BC-only episodes, those of the online phase included.

        It takes over, under a new number, if it explains any of the returns that it did not see.
        """
        fitted = self._fit_value(self.rollouts() + self._bc_only.online())
        if fitted.error < fitted.variance:
            self._take(fitted)
        return fitted

    def _fit_value(self, episodes: Sequence[Episode]) -> ValueFit:
        """Fit V, and Q_BC where that is how it is estimated; a fit that is given up leaves nothing behind."""
        given = (episodes, self.config, self.task.reward.discount, self.attainable)
        before = self.generator.get_state(), self.networks_made
        try:
            if self.bc_critics is not None:
                make = (self._networks.critics, self._networks.value)
                return fit_bellman(*given, *make, self._bc, self.generator)
            return fit_value(*given, self._networks.value, self.generator)
        except ValueError as error:
            raise InputError('rollouts', str(error), 'run more BC rollouts') from None
        except Interrupted:
            self.generator.set_state(before[0])
            self.networks_made = before[1]
            raise

    def _take(self, fitted: ValueFit) -> None:
        """Take what was fitted as a new version."""
        if self.bc_critics is not None:
            self.bc_critics = fitted.critics.requires_grad_(False)
        self.value, self.value_version = fitted.value, self.value_version + 1

    @property
    def owed(self) -> int:
        """Critic updates that online steps have paid for and that can be made now."""
        if len(self.replay) < self.config.warm_up_samples:
            return 0
        paying = max(0, self.trained_steps - self.config.offline.frozen_steps)
        return paying * self.config.critic_updates_per_step - self.gradient_steps

    @property
    def paid_sequence(self) -> int | None:
        """Sequence up to which nothing waits for its gradient steps, the least over robots; None before any came."""
        paid = dict(self._newest)
        for transition in reversed(self._pending):
            paid[transition.robot] = transition.sequence - 1
        return min(paid.values(), default=None)

    @property
    def busy(self) -> bool:
        """Whether `update` has something to do."""
        return bool(self._pending) or self.owed > 0 or self._refreshes_due > self.refreshes

    def update(self, drain: bool = False) -> dict[str, float]:
        """Take in one online transition and make the gradient steps of one environment step; return their scalars.

        Gradient steps owed from before (from when the replay held fewer than `warm_up_samples`) are paid at one extra
        environment step's worth per call. Does nothing and returns {} if nothing is owed.

        :param drain: take in all waiting transitions, not one (real time: learn from the newest while paying)
        :raises Interrupted: a refresh of V was given up; the next call begins with it, and all comes out the same
        """
        # What a refresh that was given up was due for is taken in already.
        waiting = len(self._pending) if drain else min(1, len(self._pending))
        for _ in range(0 if self._refresh() and not drain else waiting):
            self._take_in(self._pending.popleft())
            self.trained_steps += 1
            self._refresh()
        metrics: dict[str, float] = {}
        repeats = self.config.critic_updates_per_step
        for _ in range(min(2, self.owed // repeats) if repeats else 0):
            metrics = self.learn_once()
        return metrics

    @property
    def _refreshes_due(self) -> int:
        every = self.config.refresh_every
        return self._bc_only.ended // every if every else 0

    def _refresh(self) -> bool:
        """Refresh V if that is due; return whether it was."""
        if self._refreshes_due <= self.refreshes:
            return False
        self.refresh_value()
        self.refreshes = self._refreshes_due
        return True

    def learn_once(self) -> dict[str, float]:
        """Make the gradient steps of one environment step on what the replay has, owed or not; return their scalars."""
        config = self.config
        repeats = config.critic_updates_per_step
        share = config.demo_fraction if config.demo_mixing == 'share' else None
        batches = self.replay.sample(config.batch, share, self.generator, repeats)
        steps = self.gradient_steps // repeats
        weight = config.bc_weight.at(steps)
        metrics = self.updater.step(
            batches, weight, config.actor_rate.at(steps), config.actor_tau.at(steps)
        )
        self.gradient_steps += repeats
        self.actor_steps += config.actor_updates_per_step
        # All in one go: each number fetched from a GPU waits for all that it was given to do.
        values = torch.stack(list(metrics.values())).tolist()
        return dict(zip(metrics, values, strict=True)) | {'bc_weight': weight}

    def weights(self, kind: str) -> bytes:
        """Return the networks file of the `actor` or the `critic`; its version is `weights_version`, which `publish`
        raises.
        """
        return weights_file(self, kind)

    def replay_until(self, trained_steps: int) -> None:
        """Take the first `trained_steps` online transitions to come as ones whose gradient steps are made already."""
        self.trained_steps = self._skip = trained_steps
        if self._left_offline_data:
            self.replay.clear()

    @property
    def _left_offline_data(self) -> bool:
        return self.report is not None and not self.config.offline.keep_data

    @property
    def parent(self) -> int:
        """Version that `weights_version` was learned from: the one before, or the one that was gone back to."""
        return max(0, self.weights_version - 1) if self._parent is None else self._parent

    def publish(self) -> dict[str, bytes]:
        """Number a new version of the weights; return the files of both kinds."""
        self._parent, self._went_back_to = self._went_back_to, None
        self.weights_version += 1
        parts = {'actor': self.acting, 'critics': self.critics}
        if self.updater.expectile_value is not None:
            parts['expectile_value'] = self.updater.expectile_value.net
        self._kept.offer(self.weights_version, parts)
        return {kind: self.weights(kind) for kind in ('actor', 'critic')}

    def turn_back(self, version: int, count: int) -> None:
        """Go back to weights `version`; 0: there are none to go back to, since BC itself fares worse.

        :param count: how often the run has been turned back, this time included
        """
        if version:
            self.roll_back(version, count)
        else:
            self.start_afresh(count)

    def roll_back(self, version: int, count: int) -> int:
        """Go on learning from the newest kept weights up to `version`, else the oldest; returns their version.

        Optimisers start anew; V and the replay stay. Without any kept weights nothing changes.

        :param count: how often the run has been rolled back, this time included
        """
        self.rollbacks = count
        kept = self._kept.nearest(version)
        if kept is None:
            return self.weights_version
        found, parts = kept
        self.updater.restore(**parts)
        self._kept.forget_after(found)
        self._went_back_to = found
        return found

    def start_afresh(self, count: int) -> None:
        """Forget what was learned from before BC itself began to fail, and fit V to how BC fares since.

        That is since its last success, more or less (`BCEpisodes.since_it_failed`). Networks stay: what they know of
        the task is the best guess there is. With fewer than two episodes since then nothing changes.

        :param count: how often the run has been rolled back, this time included
        :raises Interrupted: the fit was given up; nothing is forgotten yet
        """
        failed = self._bc_only.since_it_failed()
        if len(failed) >= 2:
            if self.config.needs_value:
                self._take(self._fit_value(failed))
            self.forgotten = self._bc_only.began(failed[0])
            self._bc_only.forget(self.forgotten)
            # The newest steps of episodes under way are no samples yet: their windows are not full.
            newest = self._bc_only.taken - self.forgotten - self.replay.waiting
            self.replay.keep_newest(max(0, newest))
        self.rollbacks = count
