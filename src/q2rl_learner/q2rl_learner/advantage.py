# SPDX-License-Identifier: Apache-2.0
"""Learning without asking the critics about actions that nobody took: the losses of AWAC, IQL and PEX.

    V:      L = mean |expectile - 1(u < 0)| u^2,  u = Q'(s, a) - V(s)                     (IQL, arXiv 2110.06169)
    actor:  L = -mean w log pi(a|s),  w = min(exp(A(s, a) / temperature), max_weight)     (AWAC, arXiv 2006.09359)

With an expectile above 0.5, V(s) is near the best value among the actions taken in s. A(s, a) is Q'(s, a) less V(s);
without such a V, less the value of an action of the actor's own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from q2rl_policies.critics import ValueNet


def expectile_loss(difference: Tensor, expectile: float) -> Tensor:
    """Return the mean loss of the differences (B,) of target and prediction."""
    weight = torch.where(difference < 0, 1.0 - expectile, expectile)
    return (weight * difference.square()).mean()


def regression_weights(advantage: Tensor, temperature: float, most: float) -> Tensor:
    """Return how much each replayed action counts (B,), in (0, most], for its advantage (B,) [reward units]."""
    return (advantage / temperature).exp().clamp(max=most)


class ExpectileValue:
    """V(s) as an expectile of the critics' values of replayed actions, with its optimiser."""

    def __init__(self, net: ValueNet, expectile: float, learning_rate: float) -> None:
        self.net = net
        self._expectile = expectile
        self.optimiser = torch.optim.Adam(net.parameters(), lr=learning_rate, fused=True)

    @torch.no_grad()
    def __call__(self, observation: Tensor) -> Tensor:
        """Return V (B,) of observations (B, O)."""
        return self.net(observation)

    def step(self, observation: Tensor, q: Tensor) -> Tensor:
        """Make one gradient step towards the values (B,) of actions taken at observations (B, O); return the loss."""
        loss = expectile_loss(q - self.net(observation), self._expectile)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        return loss.detach()
