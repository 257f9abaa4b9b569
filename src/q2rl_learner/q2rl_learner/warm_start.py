# SPDX-License-Identifier: Apache-2.0
"""Warm starts of critics and actor from what Q-Estimation found: Q_RL begins as Q_BC, the RL policy as BC.

The critics' target is Q_BC(s, a) = V_BC(s) + alpha (log pi(a|s) + H[pi(.|s)])  (arXiv 2605.05172).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import dataclasses
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from q2rl_learner.config import LearnerConfig
from q2rl_learner.drawing import Device, blurred, uniform_index
from q2rl_learner.episodes import Episode, acting_steps
from q2rl_learner.estimation import ValueFit, output_scaled, spread_of
from q2rl_learner.interruption import interruptible
from q2rl_policies.actor import TanhGaussianActor
from q2rl_policies.bc import DensityNet
from q2rl_policies.critics import CriticEnsemble, ValueNet
from q2rl_task import InputError

Score = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""BC's (log_prob (B,), entropy (B,)) in nats of actions (B, D) at observations (B, O)."""


@dataclass(frozen=True)
class Pairs:
    """Observation-action pairs with what BC says of them: (N, O), (N, D), log_prob and entropy (N,) in nats.

    returns: (N,) completed Monte Carlo returns, NaN where there are none (demonstrations).
    """

    observations: Tensor
    actions: Tensor
    log_prob: Tensor
    entropy: Tensor
    returns: Tensor


def warm_start(
    actor: TanhGaussianActor,
    critics: CriticEnsemble,
    episodes: Sequence[Episode],
    fitted: ValueFit,
    demonstrations: Sequence[Episode],
    bc: DensityNet | None,
    config: LearnerConfig,
    generator: torch.Generator,
) -> tuple[float, float]:
    """Warm-start both on rollouts, and on demonstrations where the settings say so.

    Critics that were fitted together with V are taken as they are.

    :param episodes: the rollouts that V was `fitted` on
    :param bc: scores demonstrations; without it they do not warm the critics
    :return: mean squared error of the critics, mean NLL of the actor [nat]
    """
    device = generator.device
    shown = demonstrations if config.fit.use_demonstrations else ()
    if fitted.critics is not None:
        critics.load_state_dict(fitted.critics.state_dict())
        error = fitted.critic_error
    else:
        pairs = rollout_pairs(episodes, fitted.returns, device, config.needs_density)
        if shown and bc is not None:
            score = partial(_score, bc, config, generator)
            pairs = join_pairs(pairs, demonstration_pairs(shown, score, device))
        error = fit_critics(critics, fitted.value, pairs, config, generator)
    nll = fit_actor(
        actor,
        acting_steps(episodes, device),
        acting_steps(shown, device) if shown else None,
        config,
        generator,
    )
    return error, nll


def _score(
    bc: DensityNet,
    config: LearnerConfig,
    generator: torch.Generator,
    observations: Tensor,
    actions: Tensor,
) -> tuple[Tensor, Tensor]:
    distribution = bc(observations)
    return distribution.log_prob(actions), distribution.entropy(config.entropy, generator)


def require_density(episodes: Sequence[Episode]) -> None:
    """See that BC said of some action how likely it was.

    :raises InputError: there are rollouts, and it did so in none
    """
    if episodes and not any(np.isfinite(e.bc_log_probs).any() for e in episodes):
        raise InputError(
            'BC',
            f'gave no density at any step of {len(episodes)} rollouts, and the preset rates it by that',
            'go on with another preset, which these rollouts serve as well: PRESET+q2rl/alpha-0 rates BC by its value '
            'alone, PRESET+ibrl by the critics; or adopt it with --distil',
        )


def rollout_pairs(
    episodes: Sequence[Episode],
    returns: Sequence[np.ndarray],
    device: Device = 'cpu',
    scored_only: bool = True,
) -> Pairs:
    """Return the rollouts' steps at which BC acted, with the density it stated and the completed returns (T,).

    :param scored_only: leave out steps at which it stated none
    """
    parts = []
    for episode, completed in zip(episodes, returns, strict=True):
        scored = episode.by_policy
        if scored_only:
            stated = np.isfinite(episode.bc_log_probs) & np.isfinite(episode.bc_entropies)
            scored = scored & stated
        fields = (
            episode.observations,
            episode.actions,
            episode.bc_log_probs,
            episode.bc_entropies,
            completed,
        )
        parts.append([field[scored] for field in fields])
    return Pairs(*(_tensor(field).to(device) for field in zip(*parts, strict=True)))


def demonstration_pairs(episodes: Sequence[Episode], score: Score, device: Device = 'cpu') -> Pairs:
    """Return the steps of demonstrations, scored by BC."""
    observations, actions = acting_steps(episodes, device)
    with torch.no_grad():
        log_prob, entropy = score(observations, actions)
    return Pairs(observations, actions, log_prob, entropy, torch.full_like(log_prob, float('nan')))


def join_pairs(first: Pairs, second: Pairs) -> Pairs:
    """Return the pairs of both."""
    names = [f.name for f in dataclasses.fields(Pairs)]
    return Pairs(*(torch.cat([getattr(first, n), getattr(second, n)]) for n in names))


def _tensor(arrays: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.concatenate(arrays).astype(np.float32))


def fit_critics(
    critics: CriticEnsemble,
    value: ValueNet,
    pairs: Pairs,
    config: LearnerConfig,
    generator: torch.Generator,
) -> float:
    """Warm-start critics to Q_BC on `pairs`; return the mean squared error over the last tenth of the steps.

    Target: V(s) + alpha (max(log pi, floor) + H), or the pair's own return in place of V(s).
    """
    fit = config.fit
    with torch.no_grad():
        base = value(pairs.observations)
    if fit.critic_target == 'return':
        base = torch.where(pairs.returns.isfinite(), pairs.returns, base)
    targets = base + _advantage(config, pairs.log_prob, pairs.entropy)
    optimiser = torch.optim.AdamW(
        output_scaled(critics, targets, fit.learning_rate),
        lr=fit.learning_rate,
        weight_decay=fit.weight_decay,
        fused=True,
    )
    spread = spread_of(targets)
    errors = []
    for step in interruptible(range(fit.critic_steps), 'critics'):
        index = uniform_index(len(targets), (fit.batch,), generator)
        said = critics(pairs.observations[index], pairs.actions[index])
        loss = (said - targets[index]).square().mean(dim=1).sum()
        optimiser.zero_grad(set_to_none=True)
        (loss / spread**2).backward()
        optimiser.step()
        if step >= 0.9 * fit.critic_steps:
            errors.append(float(loss.detach()) / config.critics)
    return float(np.mean(errors)) if errors else float('nan')


def _advantage(config: LearnerConfig, log_prob: Tensor, entropy: Tensor) -> Tensor:
    if config.alpha == 0.0:  # of a BC without a density they are not numbers
        return torch.zeros_like(log_prob)
    return config.alpha * (log_prob.clamp(min=config.fit.log_prob_floor) + entropy)


def fit_actor(
    actor: TanhGaussianActor,
    rollouts: tuple[Tensor, Tensor],
    demonstrations: tuple[Tensor, Tensor] | None,
    config: LearnerConfig,
    generator: torch.Generator,
) -> float:
    """Warm-start the actor by NLL of (observations, actions); return the mean NLL [nat] of the last tenth.

    Demonstrations, if any, make up `demo_fraction` of each batch.
    """
    fit = config.fit
    optimiser = torch.optim.AdamW(
        actor.parameters(), lr=fit.learning_rate, weight_decay=fit.weight_decay, fused=True
    )
    sources = [(rollouts, fit.batch)]
    if demonstrations is not None:
        share = round(config.demo_fraction * fit.batch)
        sources = [(demonstrations, share), (rollouts, fit.batch - share)]
    losses = []
    for step in interruptible(range(fit.actor_steps), 'actor'):
        drawn = []
        for (observations, actions), count in sources:
            index = uniform_index(len(observations), (count,), generator)
            drawn.append((observations[index], actions[index]))
        observations, actions = (torch.cat(parts) for parts in zip(*drawn, strict=True))
        seen = blurred(observations, fit.input_noise, generator)
        loss = -actor.log_prob(seen, actions).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if step >= 0.9 * fit.actor_steps:
            losses.append(float(loss.detach()))
    return float(np.mean(losses)) if losses else float('nan')
