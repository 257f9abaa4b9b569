# SPDX-License-Identifier: Apache-2.0
"""Q-Estimation: the value V of the BC policy, fitted on Monte Carlo returns of a few rollouts.

BC is read as a Boltzmann policy pi = exp(Q/alpha)/Z of its own value, which gives
    Q_BC(s, a) = V_BC(s) + alpha (log pi(a|s) + H[pi(.|s)])          (arXiv 2605.05172, corrected entropy, nats)
with V the plain on-policy value E[Q], so that unregularised returns are its target.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import copy
from dataclasses import dataclass
import math

import numpy as np
import torch
from torch import Tensor

from q2rl_learner.config import FitConfig, LearnerConfig
from q2rl_learner.drawing import blurred, permutation, uniform_index
from q2rl_learner.episodes import Episode
from q2rl_learner.interruption import interruptible
from q2rl_learner.remedies import OF_NODES, Remedies
from q2rl_learner.returns import monte_carlo, segments, tail_weights
from q2rl_policies.critics import CriticEnsemble, ValueNet

LEVEL = 0.2
"""Probability with which a V that says nothing is not warned of, at most: half of it spent on the first look at V, half
of what is left on each after that."""


@dataclass(frozen=True)
class ValueFit:
    """A fitted V with what the folds left out said about it.

    error: mean squared error of V on returns of episodes it was not fitted on; variance: of those returns.
    steps: gradient steps. rounds: completions of cut returns; change: mean drift of the values at the cuts in the
    last round, as a share of the attainable range (above the tolerance: not converged). returns: the completed
    returns of each episode, (T,), NaN at held ticks. critics: Q_BC, where that is what was fitted, and critic_error its
    mean squared error against its targets.
    """

    value: ValueNet
    error: float
    variance: float
    samples: int
    steps: int
    rounds: int
    change: float
    returns: list[np.ndarray]
    critics: CriticEnsemble | None = None
    critic_error: float = float('nan')


@dataclass(frozen=True)
class EstimateReport:
    """What Q-Estimation found; learning may start where it has no `problem`.

    value_error and return_variance: see ValueFit, in squared units of the learner's reward. critic_error: mean
    squared error of the warm-started critics against their target. actor_nll [nat]. ordered, chance: what rollouts left
    out say of V, see `q2rl_learner.judgement`. look: how many fits there have been, each on more rollouts.
    """

    rollouts: int
    successes: int
    samples: int
    value_error: float
    return_variance: float
    value_steps: int
    completion_rounds: int
    completion_change: float
    critic_error: float
    actor_nll: float
    seconds: float
    ordered: float = float('nan')
    chance: float = float('nan')
    look: int = 1

    def problem(self, remedies: Remedies = OF_NODES) -> str:
        """Say in one line why learning cannot start and what to do; empty if it can.

        It can if a rollout succeeded and V explains some of the returns' variance, or if nothing is asked of V.

        :param remedies: what helps, in the words of the command that runs
        """
        if math.isinf(self.return_variance):  # see `without_value`
            return ''
        more = f'run more rollouts ({remedies.more.format(2 * self.rollouts)})'
        other = f'or take a method that needs no V ({remedies.other})'
        if self.successes == 0:
            return (
                f'none of {self.rollouts} BC rollouts succeeded, so V says nothing: {more}, improve BC (more '
                f'demonstrations), {other}'
            )
        if not self.value_error < self.return_variance:
            return (
                f'V explains no more than the mean return (error {self.value_error:.3g} on held-out rollouts, variance '
                f'{self.return_variance:.3g}): {more}, {other}'
            )
        return ''

    def warning(self) -> str:
        """Say in one line that V may tell nothing, where the rollouts left out do not rule that out; else empty.

        For the report alone, as it predicted nothing that was measured (docs/method.md).
        """
        if self.problem() or not self.chance > LEVEL * 0.5**self.look:
            return ''
        return (
            f'V is not shown to tell success from failure: it rates a success higher in {100 * self.ordered:.0f} % of '
            f'held-out pairs, as chance alone does with probability {self.chance:.2g} ({self.successes} of '
            f'{self.rollouts} rollouts succeeded); in measured runs this did not predict how learning went'
        )


def without_value(rollouts: Sequence[Episode]) -> EstimateReport:
    """Return the report of a method that fits nothing on the rollouts: error 0 of variance inf, which stops nothing."""
    nothing = float('nan')
    return EstimateReport(
        rollouts=len(rollouts),
        successes=sum(e.succeeded for e in rollouts),
        samples=0,
        value_error=0.0,
        return_variance=float('inf'),
        value_steps=0,
        completion_rounds=0,
        completion_change=nothing,
        critic_error=nothing,
        actor_nll=nothing,
        seconds=0.0,
    )


def assign_folds(episodes: Sequence[Episode], folds: int, generator: torch.Generator) -> list[int]:
    """Return each episode's fold: at random, but with successes and failures spread evenly."""
    drawn = permutation(len(episodes), generator).tolist()
    order = sorted(drawn, key=lambda index: episodes[index].terminated)
    fold_of = [0] * len(episodes)
    for rank, index in enumerate(order):
        fold_of[index] = rank % folds
    return fold_of


class Samples:
    """States of all acting steps with the parts of their returns, as tensors on `device`; `folds`: of each episode."""

    def __init__(
        self,
        episodes: Sequence[Episode],
        scale: float,
        bias: float,
        discount: float,
        folds: Sequence[int],
        device: torch.device,
    ) -> None:
        states, partial, weights, segment_of, fold_of, ends = [], [], [], [], [], []
        end_fold, is_cut = [], []
        for index, segment in enumerate(segments(episodes)):
            count = segment.last - segment.first
            states.append(episodes[segment.episode].observations[segment.first : segment.last])
            partial.append(monte_carlo(scale * segment.rewards + bias, discount))
            weights.append(np.zeros(count) if segment.terminated else tail_weights(count, discount))
            segment_of.append(np.full(count, index))
            fold_of.append(np.full(count, folds[segment.episode]))
            ends.append(segment.end)
            end_fold.append(folds[segment.episode])
            is_cut.append(not segment.terminated)

        def tensor(values: np.ndarray) -> Tensor:
            return torch.from_numpy(values).to(device)

        self.states = tensor(np.concatenate(states))
        self._partial = tensor(np.concatenate(partial))
        self._weights = tensor(np.concatenate(weights))
        self._segment_of = tensor(np.concatenate(segment_of))
        self.fold_of = tensor(np.concatenate(fold_of))
        self.ends = tensor(np.stack(ends))
        self.end_fold = tensor(np.array(end_fold))
        self.is_cut = tensor(np.array(is_cut))

    def constant_tail(self) -> float:
        """Value at the cuts that a value constant over all states would have: c = mean(partial) + mean(weight) c."""
        return float(self._partial.mean() / (1.0 - self._weights.mean()))

    def relaxation(self) -> float:
        """By how much more than V says the values at the cuts should drift per round.

        With u the weight of the value at the cut in the returns around it, a round turns the error e into u e, and
        a step of 1 / (1 - u) would end at once. u is known on average only: go half of that way, which is stable
        for any u in [0, 1).
        """
        weights = self._weights[self._weights > 0]
        average = float(weights.mean()) if len(weights) else 0.0
        return 0.5 * (1.0 + 1.0 / (1.0 - average))

    def returns(self, tails: Tensor) -> Tensor:
        """Return the completed returns (N,) float32 for the values (S,) at the segments' ends."""
        return (self._partial + self._weights * tails.double()[self._segment_of]).float()


def fit_value(
    episodes: Sequence[Episode],
    config: LearnerConfig,
    discount: float,
    attainable: tuple[float, float],
    make_value: Callable[[], ValueNet],
    generator: torch.Generator,
) -> ValueFit:
    """Fit V(s) on returns of BC-only rollouts, completing cut returns with V at the cut until that converges.

    The value at a cut comes from a network that has not seen that episode: a network may memorise what it was
    told about its own cuts, and would then confirm any first guess.

    :param episodes: rollouts in which BC alone acted; held ticks are left out
    :param attainable: range of possible returns, to which values at cuts are clipped
    :param make_value: builds an untrained network (B, O) -> (B,)
    :raises ValueError: no acting step, or fewer episodes than two
    """
    fit = config.fit
    folds = min(fit.folds, len(episodes))
    if folds < 2:
        raise ValueError('V needs at least two rollouts')
    fold_of = assign_folds(episodes, folds, generator)
    scale, bias = config.reward_scale, config.reward_bias
    samples = Samples(episodes, scale, bias, discount, fold_of, generator.device)
    tails = torch.zeros(len(samples.ends), device=generator.device)
    if fit.completions:
        tails = tails.fill_(samples.constant_tail()).clamp_(*attainable)
    gain, rounds, change = samples.relaxation(), 0, 0.0
    while True:
        returns = samples.returns(tails)
        networks, error, steps = _cross_fit(samples, returns, folds, fit, make_value, generator)
        if rounds == fit.completions or not bool(samples.is_cut.any()):
            break
        values = tails.clone()
        with torch.no_grad():
            for fold, network in enumerate(networks):
                mine = samples.end_fold == fold
                values[mine] = network(samples.ends[mine])
        # Each value at a cut is what V says there; only their common drift is carried further, not their noise.
        drift = float((values - tails)[samples.is_cut].mean())
        tails = (values + (gain - 1.0) * drift).clamp(*attainable)
        rounds += 1
        change = abs(gain * drift) / (attainable[1] - attainable[0])
        if change < fit.completion_tolerance:
            break
    value = make_value()
    regress([(value, samples.states, samples.returns(tails))], fit, generator, steps)
    variance = float(returns.var(correction=0))
    final = samples.returns(tails)
    completed = by_episode(episodes, final)
    return ValueFit(value, error, variance, len(final), steps, rounds, change, completed)


def by_episode(episodes: Sequence[Episode], returns: Tensor) -> list[np.ndarray]:
    """Return the returns (N,) of all acting steps as one (T,) per episode, NaN at held ticks."""
    found = [np.full(len(episode), np.nan) for episode in episodes]
    flat, start = returns.numpy(force=True), 0
    for segment in segments(episodes):
        count = segment.last - segment.first
        found[segment.episode][segment.first : segment.last] = flat[start : start + count]
        start += count
    return found


def _cross_fit(
    samples: Samples,
    returns: Tensor,
    folds: int,
    fit: FitConfig,
    make_value: Callable[[], ValueNet],
    generator: torch.Generator,
) -> tuple[list[ValueNet], float, int]:
    """Fit one network per fold on the other folds.

    All stop at the one step with the least mean squared error on what each left out; return networks, error, step.
    """
    inside = [samples.fold_of != fold for fold in range(folds)]
    networks = [make_value() for _ in inside]
    best_error, best_step, best = float('inf'), 0, networks

    def judge(step: int) -> bool:
        nonlocal best_error, best_step, best
        with torch.no_grad():
            squares = torch.cat(
                [
                    (network(samples.states[~mask]) - returns[~mask]).square()
                    for network, mask in zip(networks, inside, strict=True)
                ]
            )
        error = float(squares.mean())
        if error < best_error:
            best_error, best_step, best = error, step, copy.deepcopy(networks)
        return step - best_step >= fit.value_patience * fit.evaluate_every

    data = [
        (network, samples.states[mask], returns[mask])
        for network, mask in zip(networks, inside, strict=True)
    ]
    regress(data, fit, generator, fit.value_steps, judge)
    return best, best_error, best_step


def regress(
    problems: Sequence[tuple[ValueNet, Tensor, Tensor]],
    fit: FitConfig,
    generator: torch.Generator,
    steps: int,
    judge: Callable[[int], bool] | None = None,
) -> None:
    """Fit each network to its own (states, targets) side by side; `judge(step)` ends it.

    The output layers start at mean and spread of the targets, so that steps of Adam fit the scale of the task.
    """
    parameters = []
    for network, _, targets in problems:
        parameters += output_scaled(network, targets, fit.value_learning_rate)
    optimiser = torch.optim.AdamW(
        parameters, lr=fit.value_learning_rate, weight_decay=fit.weight_decay, fused=True
    )
    spreads = [spread_of(targets) for _, _, targets in problems]
    for step in interruptible(range(1, steps + 1), 'V'):
        optimiser.zero_grad(set_to_none=True)
        for (network, states, targets), spread in zip(problems, spreads, strict=True):
            index = uniform_index(len(states), (fit.batch,), generator)
            inputs = blurred(states[index], fit.input_noise, generator)
            (((network(inputs) - targets[index]) / spread).square().mean()).backward()
        optimiser.step()
        looked = step % fit.evaluate_every == 0 or step == steps
        if judge is not None and looked and judge(step):
            return


def spread_of(targets: Tensor) -> float:
    """Return the standard deviation of targets (N,), kept off zero so that it can be divided by."""
    return max(float(targets.std(correction=0)), 1e-3)


def output_scaled(
    network: ValueNet | CriticEnsemble, targets: Tensor, learning_rate: float
) -> list[dict]:
    """Make the output layer of an untrained network predict the mean of `targets`, at their scale.

    Returns parameter groups for AdamW in which that layer's learning rate has the scale of the targets too, and in
    which that layer does not decay.
    """
    if isinstance(network, CriticEnsemble):
        weight, bias = network.head_weight, network.head_bias
    else:
        weight, bias = network.net[-1].weight, network.net[-1].bias
    inner = [p for p in network.parameters() if p is not weight and p is not bias]
    spread = spread_of(targets)
    with torch.no_grad():
        weight.mul_(spread)
        bias.fill_(float(targets.mean()))
    return [
        {'params': inner},
        {'params': [weight, bias], 'lr': learning_rate * spread, 'weight_decay': 0.0},
    ]
