# SPDX-License-Identifier: Apache-2.0
"""Q-Estimation without a density: Q of the BC policy by temporal differences on its own rollouts (fitted Q evaluation).

    y(s, a) = R_n + b Q'(s_n, a'),  a': what BC proposed in s_n;      V(s) = mean over actions of BC of Q(s, a)
R_n and b are those of the n steps that BC itself took, so that no correction is due for them. Every critic follows its
own target; Q_BC is the mean of all. Cut episodes need no completion: BC has proposed in their last state too.

Compared with V + alpha (log pi + H) it needs neither a density nor a temperature, but it has to learn from few rollouts
how value depends on the action, and it asks one more network at every tick.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from q2rl_learner.config import LearnerConfig
from q2rl_learner.drawing import Device, uniform_index
from q2rl_learner.episodes import Episode
from q2rl_learner.estimation import (
    Samples,
    ValueFit,
    assign_folds,
    by_episode,
    output_scaled,
    regress,
    spread_of,
)
from q2rl_learner.interruption import interruptible
from q2rl_learner.returns import n_step, segments
from q2rl_policies.bc import DensityNet
from q2rl_policies.critics import CriticEnsemble, ValueNet

BC_SAMPLES = 16
"""Actions of BC that V is the mean over, in each state."""


@dataclass(frozen=True)
class Steps:
    """N steps of BC: observation (N, O), action (N, D), n-step reward (N,), state after (N, O), BC's action there
    (N, D), bootstrap factor (N,).
    """

    observation: Tensor
    action: Tensor
    reward: Tensor
    following: Tensor
    next_action: Tensor
    bootstrap: Tensor


def n_steps(
    episodes: Sequence[Episode], config: LearnerConfig, discount: float, device: Device = 'cpu'
) -> Steps:
    """Return the acting steps whose n-step target can be computed: the task ended, or BC spoke in the state after."""
    rows: list[tuple] = []
    for segment in segments(episodes):
        episode = episodes[segment.episode]
        rewards = config.reward_scale * segment.rewards + config.reward_bias
        for t in range(segment.first, segment.last):
            after = min(t + config.n_step, segment.last)
            ends = segment.terminated and after == segment.last
            window = rewards[t - segment.first : after - segment.first]
            reward, bootstrap = n_step(window, discount, ends)
            following = episode.next_observations[after - 1]
            action = episode.next_bc_actions[after - 1]
            if ends or np.isfinite(action).all():
                here = episode.observations[t], episode.actions[t]
                rows.append((*here, reward, following, np.nan_to_num(action), bootstrap))
    if not rows:
        raise ValueError('no step of BC is known together with what it does next')
    columns = (np.array(column, dtype=np.float32) for column in zip(*rows, strict=True))
    return Steps(*(torch.from_numpy(column).to(device) for column in columns))


def fit_bellman(
    episodes: Sequence[Episode],
    config: LearnerConfig,
    discount: float,
    attainable: tuple[float, float],
    make_critics: Callable[[], CriticEnsemble],
    make_value: Callable[[], ValueNet],
    bc: DensityNet | None,
    generator: torch.Generator,
) -> ValueFit:
    """Fit Q_BC and its V on BC-only rollouts; one group of them is left out of a first fit to see how good V is.

    :param bc: whose samples V is the mean over; without it V is Q of the actions that BC took
    :raises ValueError: fewer than two episodes, or no step to fit on
    """
    fit = config.fit
    folds = min(fit.folds, len(episodes))
    if folds < 2:
        raise ValueError('V needs at least two rollouts')
    fold_of = assign_folds(episodes, folds, generator)

    def fitted(chosen: Sequence[Episode]) -> tuple[CriticEnsemble, ValueNet, float]:
        steps = n_steps(chosen, config, discount, generator.device)
        critics = make_critics()
        error = _evaluate_policy(critics, steps, config, discount, attainable, generator)
        value = make_value()
        targets = _mean_over_actions(critics, steps, bc, generator)
        regress([(value, steps.observation, targets)], fit, generator, fit.value_steps)
        return critics, value, error

    _, judged, _ = fitted([e for e, fold in zip(episodes, fold_of, strict=True) if fold])
    left_out = [e for e, fold in zip(episodes, fold_of, strict=True) if not fold]
    states, returns = _completed(left_out, config, discount, judged)
    with torch.no_grad():
        value_error = float((judged(states) - returns).square().mean())
    variance = float(returns.var(correction=0))
    critics, value, critic_error = fitted(episodes)
    _, returns = _completed(episodes, config, discount, value)
    return ValueFit(
        value=value,
        error=value_error,
        variance=variance,
        samples=len(returns),
        steps=fit.bellman_steps,
        rounds=0,
        change=0.0,
        returns=by_episode(episodes, returns),
        critics=critics,
        critic_error=critic_error,
    )


def _evaluate_policy(
    critics: CriticEnsemble,
    steps: Steps,
    config: LearnerConfig,
    discount: float,
    attainable: tuple[float, float],
    generator: torch.Generator,
) -> float:
    """Fit the critics; return their mean squared error against their targets over the last tenth of the steps.

    They start as the value that is constant over all states, so that few steps need to carry values far.
    """
    fit = config.fit
    constant = steps.reward.mean() / (1.0 - steps.bootstrap.mean()).clamp(min=1.0 - discount)
    start = steps.reward + steps.bootstrap * constant.clamp(*attainable)
    optimiser = torch.optim.AdamW(
        output_scaled(critics, start, fit.learning_rate),
        lr=fit.learning_rate,
        weight_decay=fit.weight_decay,
        fused=True,
    )
    target = copy.deepcopy(critics).requires_grad_(False)
    scale = spread_of(start) ** 2
    own, followed = ([p.detach() for p in net.parameters()] for net in (critics, target))
    errors = []
    for step in interruptible(range(fit.bellman_steps), 'Q of BC'):
        index = uniform_index(len(steps.reward), (fit.batch,), generator)
        with torch.no_grad():
            after = target(steps.following[index], steps.next_action[index])
            wanted = steps.reward[index] + steps.bootstrap[index] * after
            if config.clip_targets:
                wanted = wanted.clamp(*attainable)
        loss = (critics(steps.observation[index], steps.action[index]) - wanted).square()
        loss = loss.mean(dim=1).sum()
        optimiser.zero_grad(set_to_none=True)
        (loss / scale).backward()
        optimiser.step()
        torch._foreach_lerp_(followed, own, fit.bellman_tau)
        if step >= 0.9 * fit.bellman_steps:
            errors.append(float(loss.detach()) / critics.members)
    return float(np.mean(errors))


@torch.no_grad()
def _mean_over_actions(
    critics: CriticEnsemble, steps: Steps, bc: DensityNet | None, generator: torch.Generator
) -> Tensor:
    """Return V (N,), the mean of Q_BC over actions of BC."""
    if bc is None:
        return critics(steps.observation, steps.action).mean(dim=0)
    density = bc(steps.observation)
    drawn = [density.sample(generator).clamp(-1.0, 1.0) for _ in range(BC_SAMPLES)]
    return torch.stack([critics(steps.observation, a).mean(dim=0) for a in drawn]).mean(dim=0)


@torch.no_grad()
def _completed(
    episodes: Sequence[Episode], config: LearnerConfig, discount: float, value: ValueNet
) -> tuple[Tensor, Tensor]:
    """Return states (N, O) and Monte Carlo returns (N,), cut ones completed with V at the cut."""
    scale, bias = config.reward_scale, config.reward_bias
    folds = [0] * len(episodes)
    samples = Samples(episodes, scale, bias, discount, folds, next(value.parameters()).device)
    return samples.states, samples.returns(value(samples.ends))
