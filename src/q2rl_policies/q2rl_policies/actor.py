# SPDX-License-Identifier: Apache-2.0
"""The RL policy: a Gaussian with state-dependent std, squashed by tanh."""

from __future__ import annotations

from collections.abc import Sequence
import math

import torch
from torch import Tensor, nn
import torch.nn.functional as F

from q2rl_policies.distributions import HALF_LOG_2PI, normal_like
from q2rl_policies.mlp import mlp

LOG_2 = math.log(2.0)
TARGET_LIMIT = 0.99


class TanhGaussianActor(nn.Module):
    """a = tanh(u), u ~ N(mean(s), exp(log_std(s))), actions in (-1, 1)^D.

    `architecture`: what rebuilds it. The critic's target and the actor's loss take samples (Q2RL, arXiv 2605.05172);
    what is executed, the mode or a sample, is for the settings to say.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        hidden: Sequence[int] = (256, 256),
        layer_norm: bool = True,
        log_std_min: float = -5.0,
        log_std_max: float = 2.0,
    ) -> None:
        super().__init__()
        self.architecture = {
            'type': 'tanh_gaussian',
            'observation_size': observation_size,
            'action_size': action_size,
            'hidden': list(hidden),
            'layer_norm': layer_norm,
            'log_std_min': log_std_min,
            'log_std_max': log_std_max,
        }
        self.action_size = action_size
        self.log_std_min = log_std_min
        self.log_std_max = log_std_max
        self.net = mlp(observation_size, hidden, 2 * action_size, layer_norm)

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log_std, each (..., D), of the Gaussian before tanh."""
        mean, log_std = self.net(observation).chunk(2, -1)
        return mean, log_std.clamp(self.log_std_min, self.log_std_max)

    def mode(self, observation: Tensor) -> Tensor:
        """The action of the Gaussian's mean, tanh(mean), (..., D)."""
        return torch.tanh(self.net(observation)[..., : self.action_size])

    def sample(
        self, observation: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw actions (..., D) by reparametrisation, with their log-probabilities (...) [nat]."""
        mean, log_std = self(observation)
        noise = normal_like(mean, generator)
        unsquashed = torch.addcmul(mean, log_std.exp(), noise)
        return torch.tanh(unsquashed), _log_prob(noise, log_std, unsquashed)

    def log_prob(self, observation: Tensor, action: Tensor) -> Tensor:
        """Log-probability (...) [nat] of `action` (..., D) clipped to +-0.99, where tanh can still be undone."""
        mean, log_std = self(observation)
        unsquashed = torch.atanh(action.clamp(-TARGET_LIMIT, TARGET_LIMIT))
        return _log_prob((unsquashed - mean) * torch.exp(-log_std), log_std, unsquashed)


def _log_prob(noise: Tensor, log_std: Tensor, unsquashed: Tensor) -> Tensor:
    # log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2u)), exact where 1 - tanh^2 has long underflowed.
    log_slope = 2.0 * (LOG_2 - unsquashed - F.softplus(-2.0 * unsquashed))
    return -(0.5 * noise.square() + log_std + HALF_LOG_2PI + log_slope).sum(-1)
