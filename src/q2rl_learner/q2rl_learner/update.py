# SPDX-License-Identifier: Apache-2.0
"""The update of Q2RL: what the critics are pulled towards and what the actor maximises. V is no part of it.

Critics (each of E, batch of B n-step samples):
    y   = R_n + b * min over a random subset of the target critics of Q'(s_n, a'),   a' ~ pi(.|s_n)
    L_Q = sum over members of mean (Q_i(s, a) - y)^2
with b = gamma^n, or 0 where the task ended within the n steps; a cut keeps its bootstrap.
Actor:
    L_pi = -mean over s of min_i Q_i(s, a~pi)  +  w(t) * mean NLL_pi(imitated action)  -  entropy_bonus * H
After every critic step the target critics move: Q' <- Q' + tau (Q - Q'). The actor that acts may be such an average of
the one in training too (`actor_tau`): success then wanders less from one version of the weights to the next.
Source: arXiv 2605.05172 (Q-Gating, online phase); the switches of LearnerConfig give its published and rival forms.
Where `loss` asks for it, rivals bootstrap from V(s_n) and regress to replayed actions instead (`advantage`), and push
the critics down where there are no data (`conservative`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import copy
import dataclasses

import torch
from torch import Tensor

from q2rl_learner.advantage import ExpectileValue, regression_weights
from q2rl_learner.config import LearnerConfig
from q2rl_learner.conservative import conservative_term
from q2rl_learner.drawing import permutation
from q2rl_learner.replay import Batch
from q2rl_policies.actor import TanhGaussianActor
from q2rl_policies.critics import CriticEnsemble, ValueNet
from q2rl_policies.distributions import normal_like


class Updater:
    """Actor, critics and target critics with their optimisers.

    :param attainable: range of possible returns, for `clip_targets`
    :param generator: the only source of randomness; networks and batches are on its device
    :param value: untrained, for `loss.bootstrap: expectile`
    """

    def __init__(
        self,
        actor: TanhGaussianActor,
        critics: CriticEnsemble,
        config: LearnerConfig,
        attainable: tuple[float, float],
        generator: torch.Generator,
        value: ValueNet | None = None,
    ) -> None:
        self.actor, self.critics = actor, critics
        self.target = copy.deepcopy(critics).requires_grad_(False)
        self._config, self._attainable, self._generator = config, attainable, generator
        sizes = {k: v for k, v in critics.architecture.items() if k not in ('type', 'members')}
        self._subset = CriticEnsemble(members=config.min_subset, **sizes).requires_grad_(False)
        self._subset.to(generator.device)
        self._subset_parameters = list(self._subset.parameters())
        self._actor_parameters = list(actor.parameters())
        averaged = config.actor_tau.initial < 1
        self.acting = copy.deepcopy(actor).requires_grad_(False) if averaged else actor
        self._acting_parameters = list(self.acting.parameters()) if averaged else []
        self._critic_parameters = list(critics.parameters())
        self._target_parameters = list(self.target.parameters())
        self.actor_optimiser = torch.optim.Adam(
            self._actor_parameters, lr=config.actor_learning_rate, fused=True
        )
        self.critic_optimiser = torch.optim.Adam(
            self._critic_parameters,
            lr=config.critic_learning_rate,
            fused=True,
            weight_decay=config.weight_decay,
            decoupled_weight_decay=True,
        )
        loss = config.loss
        self.expectile_value = (
            None
            if value is None
            else ExpectileValue(value, loss.expectile, config.critic_learning_rate)
        )

    def copy_target(self) -> None:
        """Make the target critics and the acting actor equal to those in training (after a warm start)."""
        torch._foreach_copy_(self._target_parameters, [p.detach() for p in self._critic_parameters])
        if self._acting_parameters:
            own = [p.detach() for p in self._actor_parameters]
            torch._foreach_copy_(self._acting_parameters, own)

    def restore(
        self,
        actor: Mapping[str, Tensor],
        critics: Mapping[str, Tensor],
        expectile_value: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Set all networks to these weights, and forget the optimisers' moments, which belong to others."""
        self.actor.load_state_dict(actor)
        self.critics.load_state_dict(critics)
        self.copy_target()
        if self.expectile_value is not None and expectile_value is not None:
            self.expectile_value.net.load_state_dict(expectile_value)
            self.expectile_value.optimiser.state.clear()
        self.actor_optimiser.state.clear()
        self.critic_optimiser.state.clear()

    def step(
        self,
        batches: Sequence[Batch],
        bc_weight: float,
        actor_rate: float = 1.0,
        actor_tau: float | None = None,
    ) -> dict[str, Tensor]:
        """Make one critic step per batch, then the actor's steps; return scalars of the last of each.

        :param bc_weight: w(t)
        :param actor_rate: factor of the actor's learning rate
        :param actor_tau: share by which the acting actor follows; None: the initial one
        """
        config = self._config
        for group in self.actor_optimiser.param_groups:
            group['lr'] = actor_rate * config.actor_learning_rate
        metrics = self._critic_steps(batches, config.loss.conservatism)
        return metrics | self._actor_steps(batches, bc_weight, actor_tau)

    def offline_step(self, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Make one critic step per batch, then the actor's steps, as the settings of the offline phase have it."""
        offline = self._config.offline
        metrics = self._critic_steps(batches, offline.conservatism)
        return metrics | (self._actor_steps(batches, bc_weight=0.0) if offline.actor else {})

    def _critic_steps(self, batches: Sequence[Batch], conservatism: float) -> dict[str, Tensor]:
        with torch.no_grad():
            # The actor stands still during the critic steps: one pass serves them all.
            following = torch.cat([b.next_observation for b in batches])
            next_actions = self._next_action(following).split([len(b.reward) for b in batches])
        for batch, next_action in zip(batches, next_actions, strict=True):
            metrics = self.critic_step(batch, next_action, conservatism)
        return metrics

    def _actor_steps(
        self, batches: Sequence[Batch], bc_weight: float, actor_tau: float | None = None
    ) -> dict[str, Tensor]:
        tau = self._config.actor_tau.initial if actor_tau is None else actor_tau
        batch = batches[-1] if self._config.actor_batch == 'last' else _joined(batches)
        metrics: dict[str, Tensor] = {}
        for _ in range(self._config.actor_updates_per_step):
            metrics = self.actor_step(batch, bc_weight)
            if self._acting_parameters:
                own = [p.detach() for p in self._actor_parameters]
                torch._foreach_lerp_(self._acting_parameters, own, tau)
        return metrics

    def critic_step(
        self, batch: Batch, next_action: Tensor, conservatism: float = 0.0
    ) -> dict[str, Tensor]:
        """Make one gradient step of all critics and one Polyak step of their targets; return scalars of it.

        :param next_action: (B, D), the actor's in the batch's next observations
        """
        settings, metrics = self._config.loss, {}
        if self.expectile_value is not None:
            taken = self._target_value(batch.observation, batch.action)
            metrics['value_loss'] = self.expectile_value.step(batch.observation, taken)
        target = self.critic_target(batch, next_action)
        q = self.critics(batch.observation, batch.action)
        loss = (q - target).square().mean(dim=1).sum()
        metrics['critic_loss'] = loss.detach() / len(q)
        if conservatism > 0:
            term = conservative_term(
                self.critics,
                self.actor,
                batch,
                q,
                settings.conservative_actions,
                settings.calibrated,
                self._generator,
            )
            loss = loss + conservatism * term.sum()
            metrics['conservative_term'] = term.detach().mean()
        _assign(self._critic_parameters, torch.autograd.grad(loss, self._critic_parameters))
        self.critic_optimiser.step()
        torch._foreach_lerp_(
            self._target_parameters, [p.detach() for p in self._critic_parameters], self._config.tau
        )
        return metrics | {
            'q_mean': q.detach().mean(),
            'q_spread': q.detach().std(dim=0, correction=0).mean(),
            'target_mean': target.mean(),
        }

    @torch.no_grad()
    def critic_target(self, batch: Batch, next_action: Tensor) -> Tensor:
        """Return y, (B,), for the actor's actions (B, D) in the states after."""
        if self.expectile_value is not None:
            following = self.expectile_value(batch.next_observation)
        else:
            subset = self._draw_subset()
            following = subset(batch.next_observation, next_action).amin(dim=0)
            if self._config.max_in_bootstrap:
                imitated = subset(batch.next_observation, batch.next_bc).amin(dim=0)
                better = (batch.next_bc_known > 0) & (imitated > following)
                following = torch.where(better, imitated, following)
        target = batch.reward + batch.bootstrap * following
        return target.clamp_(*self._attainable) if self._config.clip_targets else target

    @torch.no_grad()
    def _target_value(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return Q' (B,), the minimum of a random subset of the target critics."""
        return self._draw_subset()(observation, action).amin(dim=0)

    def _draw_subset(self) -> CriticEnsemble:
        """Return `min_subset` distinct target critics as an ensemble of their own: the others are not computed."""
        members = permutation(self._config.critics, self._generator)[: self._config.min_subset]
        for drawn, target in zip(self._subset_parameters, self._target_parameters, strict=True):
            torch.index_select(target, 0, members, out=drawn)
        return self._subset

    def _next_action(self, observation: Tensor) -> Tensor:
        config = self._config
        if config.target_action == 'sample':
            action, _ = self.actor.sample(observation, self._generator)
        else:
            action = self.actor.mode(observation)
        if config.target_policy_noise > 0:
            noise = normal_like(action, self._generator)
            action = (action + config.target_policy_noise * noise).clamp(-1.0, 1.0)
        return action

    def actor_step(self, batch: Batch, bc_weight: float) -> dict[str, Tensor]:
        """Make one gradient step of the actor; return scalars of it.

        :param bc_weight: w(t)
        """
        if self._config.loss.actor == 'climb':
            loss, metrics = self._climb(batch, bc_weight)
        else:
            loss, metrics = self._regress(batch)
        # Gradients of the actor alone: none is computed for the critics' weights.
        _assign(self._actor_parameters, torch.autograd.grad(loss, self._actor_parameters))
        self.actor_optimiser.step()
        return metrics

    def _climb(self, batch: Batch, bc_weight: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Return -Q + w NLL - entropy_bonus H; the batch's `imitation` (B,) marks the actions to imitate."""
        config, observation, imitation = self._config, batch.observation, batch.imitation
        action, log_prob = self.actor.sample(observation, self._generator)
        q = self._reduce(self.critics(observation, action))
        q_weight = 1.0 - bc_weight if config.bc_mixing == 'convex' else 1.0
        loss = -q_weight * q.mean() + config.entropy_bonus * log_prob.mean()
        metrics = {'actor_q': q.detach().mean(), 'actor_entropy': -log_prob.detach().mean()}
        if bc_weight > 0:
            nll = -self.actor.log_prob(observation, batch.imitated)
            imitation_loss = (nll * imitation).sum() / imitation.sum().clamp(min=1.0)
            loss = loss + bc_weight * imitation_loss
            metrics['imitation_nll'] = imitation_loss.detach()
        return loss, metrics

    def _regress(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the NLL of replayed actions, weighted by their advantage over V or over an action of the actor."""
        settings, observation = self._config.loss, batch.observation
        with torch.no_grad():
            if self.expectile_value is not None:
                baseline = self.expectile_value(observation)
                advantage = self._target_value(observation, batch.action) - baseline
            else:
                own, _ = self.actor.sample(observation, self._generator)
                both = torch.cat([batch.action, own])
                taken, baseline = self._target_value(observation.repeat(2, 1), both).chunk(2)
                advantage = taken - baseline
            weights = regression_weights(advantage, settings.temperature, settings.max_weight)
        nll = -self.actor.log_prob(observation, batch.action)
        metrics = {'advantage': advantage.mean(), 'regression_weight': weights.mean()}
        return (weights * nll).mean(), metrics

    def _reduce(self, q: Tensor) -> Tensor:
        return q.amin(dim=0) if self._config.actor_q == 'min' else q.mean(dim=0)


def _joined(batches: Sequence[Batch]) -> Batch:
    names = [f.name for f in dataclasses.fields(Batch)]
    return Batch(*(torch.cat([getattr(b, name) for b in batches]) for name in names))


def _assign(parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
