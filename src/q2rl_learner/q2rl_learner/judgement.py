# SPDX-License-Identifier: Apache-2.0
"""Whether V tells anything: asked of whole rollouts that nothing was fitted on, and of nothing but how they ended.

The value error of a fit is no test: it is the least over stopping points that were chosen on the same rollouts, its
returns are completed with V itself, and steps of one rollout are not independent. Here networks of the same kind are
fitted beside it, and of every rollout they left out one number is taken: by how much it was rated above the others at
the same time into the episode. If V tells nothing, those that succeeded are not rated higher but by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from q2rl_learner.config import LearnerConfig
from q2rl_learner.drawing import Device
from q2rl_learner.episodes import Episode
from q2rl_learner.estimation import Samples, assign_folds, regress
from q2rl_learner.returns import segments
from q2rl_learner.seeded_networks import SeededNetworks
from q2rl_task import Contract

SHUFFLES = 1999
SHARED = 2.0
"""What the share of shufflings is multiplied with: the groups' networks share rollouts, so by chance they are right
together. Without it, 5 % were 9 % (docs/method.md)."""


@dataclass(frozen=True)
class Judgement:
    """What rollouts left out say of a V fitted on the others.

    ordered: of pairs of a success and a failure, the share in which V rates the success higher; NaN without any.
    chance: probability, about, that a V which tells nothing orders as many or more.
    """

    ordered: float
    chance: float


def look_at(rollouts: int, planned: int) -> int:
    """Return the how-manieth look at V it is, where half as many rollouts as planned are added between two."""
    return 1 + max(0, -(-(rollouts - planned) // max(1, planned // 2)))


def judge_value(
    episodes: Sequence[Episode],
    config: LearnerConfig,
    task: Contract,
    attainable: tuple[float, float],
    device: Device = 'cpu',
) -> Judgement:
    """Fit V on all groups of rollouts but one, in turn, and let it rate that one.

    A cut return is completed with the least attainable: as if the task never ended. No stopping point is chosen: what
    a network says of a state is its mean over the fit. Random numbers are its own, so that nothing depends on it.
    """
    generator = torch.Generator(device).manual_seed(len(episodes))
    make_value = SeededNetworks(config, task, len(episodes), generator.device).value
    fit = config.fit
    fold_of = assign_folds(episodes, min(fit.folds, len(episodes)), generator)
    scale, bias, discount = config.reward_scale, config.reward_bias, task.reward.discount
    samples = Samples(episodes, scale, bias, discount, fold_of, generator.device)
    never = torch.full((len(samples.ends),), attainable[0], device=generator.device)
    returns = samples.returns(never)
    left_out = [samples.fold_of == fold for fold in range(max(fold_of) + 1)]
    networks = [make_value() for _ in left_out]
    said: list[Tensor] = []

    @torch.no_grad()
    def listen(_step: int) -> bool:
        values = torch.empty_like(returns)
        for network, mask in zip(networks, left_out, strict=True):
            values[mask] = network(samples.states[mask])
        said.append(values)
        return False

    problems = [
        (n, samples.states[~m], returns[~m]) for n, m in zip(networks, left_out, strict=True)
    ]
    regress(problems, fit, generator, fit.value_steps, listen)
    if not said:
        listen(fit.value_steps)
    ratings = rate(episodes, torch.stack(said).mean(dim=0).numpy(force=True))
    return compare(ratings, np.array([e.succeeded for e in episodes]), np.array(fold_of))


def rate(episodes: Sequence[Episode], values: np.ndarray) -> np.ndarray:
    """Return how much every episode is rated above all that went on at the same step, (E,); 0 where nobody acted.

    :param values: of all acting steps, (N,)
    """
    parts = segments(episodes)
    episode = np.repeat([s.episode for s in parts], [s.last - s.first for s in parts])
    step = np.concatenate([np.arange(s.first, s.last) for s in parts])
    usual = np.bincount(step, values) / np.maximum(np.bincount(step), 1)
    above = np.bincount(episode, values - usual[step], len(episodes))
    return above / np.maximum(np.bincount(episode, minlength=len(episodes)), 1)


def compare(ratings: np.ndarray, succeeded: np.ndarray, groups: np.ndarray) -> Judgement:
    """Compare successes and failures of the same group, which one network rated, and the same outcomes shuffled in it.

    ratings, succeeded, groups: (E,) each.
    """
    together = groups[:, None] == groups
    higher = np.where(together, 0.5 + 0.5 * np.sign(ratings[:, None] - ratings), 0.0)
    rng = np.random.default_rng(0)
    outcomes = np.tile(succeeded, (1 + SHUFFLES, 1))
    for group in np.unique(groups):
        mine = np.flatnonzero(groups == group)
        outcomes[1:, mine] = rng.permuted(outcomes[1:, mine], axis=1)
    right = ((outcomes @ higher) * ~outcomes).sum(axis=1)
    pairs = (together & succeeded[:, None] & ~succeeded).sum()
    chance = SHARED * float((right >= right[0] - 1e-9).mean())
    return Judgement(float(right[0] / pairs) if pairs else float('nan'), min(1.0, chance))
