# SPDX-License-Identifier: Apache-2.0
"""The conservative term of CQL and Cal-QL: critics learn to rate what is not in the data below what is.

Per critic, with N actions each drawn uniformly, by the actor at s and by the actor at the state after,
    R = mean over s of [ log sum_k exp(Q(s, a_k) - log p(a_k)) - log 3N - Q(s, a) ]      (CQL, arXiv 2006.04779)
where p is the density that a_k was drawn from. Calibrated, a value of an action of the actor's counts as no less than
the Monte Carlo return G(s) of whoever made the data: max(Q(s, a_k), G(s)) (Cal-QL, arXiv 2303.05479). So values do not
sink below those of the policies there are, from where online learning would have to climb first.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from q2rl_learner.drawing import uniform_actions
from q2rl_learner.replay import Batch
from q2rl_policies.actor import TanhGaussianActor
from q2rl_policies.critics import CriticEnsemble


def conservative_term(
    critics: CriticEnsemble,
    actor: TanhGaussianActor,
    batch: Batch,
    q: Tensor,
    actions: int,
    calibrated: bool,
    generator: torch.Generator,
) -> Tensor:
    """Return R of each critic, (E,); differentiable in the critics alone.

    :param q: (E, B) the critics' values of the batch's own actions
    :param actions: N
    """
    size, width = batch.action.shape
    with torch.no_grad():
        uniform = uniform_actions((actions * size, width), generator)
        here, log_here = actor.sample(batch.observation.repeat(actions, 1), generator)
        after, log_after = actor.sample(batch.next_observation.repeat(actions, 1), generator)
    drawn = torch.cat([uniform, here, after])
    density = torch.cat([torch.full_like(log_here, -width * math.log(2.0)), log_here, log_after])
    values = critics(batch.observation.repeat(3 * actions, 1), drawn).view(-1, 3 * actions, size)
    if calibrated:
        least = torch.maximum(values[:, actions:], batch.mc_return)
        values = torch.cat([values[:, :actions], least], dim=1)
    return soft_maximum(values, density.view(3 * actions, size)).sub(q).mean(dim=1)


def soft_maximum(values: Tensor, log_density: Tensor) -> Tensor:
    """Return log of the integral of exp Q over actions, (E, B), estimated from values (E, K, B) of K drawn actions.

    :param log_density: (K, B) [nat] of the distributions that the actions were drawn from
    """
    count = math.log(values.shape[1])
    return (values - log_density).logsumexp(dim=1) - count
