# SPDX-License-Identifier: Apache-2.0
"""The densities of BC policies: log-probabilities and entropies in nats, summed over the action's components.

Sample, log-probability and entropy must come from one object: Q-Gating uses log pi(a|s) + H[pi(.|s)], whose mean over
samples is zero only then (Q2RL, arXiv 2605.05172).
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
EntropyKind = Literal['monte_carlo', 'bound', 'published']
"""How an entropy is computed; 'published' is the released code's formula and no entropy (see `published_entropy`)."""


def normal_like(shown: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return standard normal numbers of the shape, precision and device of `shown`.

    :param generator: of the same device; None: torch's global one
    """
    return torch.randn(shown.shape, generator=generator, dtype=shown.dtype, device=shown.device)


class DiagonalGaussian:
    """Independent normal components. `mean`, `std`: (..., D), std > 0."""

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        self.mean = mean
        self.std = std

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw one sample per state, (..., D), from `generator` or torch's global one; not differentiable."""
        noise = normal_like(self.mean, generator)
        return torch.addcmul(self.mean, self.std, noise).detach()

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density [nat] of `value` (..., D); leading dimensions broadcast. Returns (...)."""
        return _gaussian_log_prob(value, self.mean, self.std)

    def entropy(
        self, kind: EntropyKind = 'monte_carlo', generator: torch.Generator | None = None
    ) -> Tensor:
        """Exact differential entropy [nat], (...); of a mixture's kinds only 'published' differs here."""
        return published_entropy(self.std) if kind == 'published' else _gaussian_entropy(self.std)

    def mode(self) -> Tensor:
        """The most likely action, (..., D)."""
        return self.mean


class GaussianMixture:
    """A mixture of K diagonal Gaussians. `log_weights`: (..., K), normalised; `means`, `stds`: (..., K, D)."""

    def __init__(self, log_weights: Tensor, means: Tensor, stds: Tensor) -> None:
        self.log_weights = log_weights
        self.means = means
        self.stds = stds

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw one sample per state, (..., D), from `generator` or torch's global one; not differentiable."""
        weights = self.log_weights.detach().exp()
        uniform = torch.rand(
            (*weights.shape[:-1], 1),
            generator=generator,
            dtype=weights.dtype,
            device=weights.device,
        )
        # The last component takes what rounding leaves of the cumulative sum.
        component = (
            (uniform > weights.cumsum(-1)).sum(-1, keepdim=True).clamp_max(weights.shape[-1] - 1)
        )
        index = component.unsqueeze(-1).expand(*component.shape, self.means.shape[-1])
        mean = self.means.gather(-2, index).squeeze(-2)
        std = self.stds.gather(-2, index).squeeze(-2)
        noise = normal_like(mean, generator)
        return torch.addcmul(mean, std, noise).detach()

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density [nat] of `value` (..., D); leading dimensions broadcast. Returns (...)."""
        return self._joint(value).logsumexp(-1)

    def entropy(
        self,
        kind: EntropyKind = 'monte_carlo',
        generator: torch.Generator | None = None,
        samples_per_component: int = 16,
    ) -> Tensor:
        """Differential entropy [nat], (...).

        'bound' is the closed form H(w) + sum_k w_k H_k, never below the true entropy. 'monte_carlo' adds to it an
        unbiased estimate of E[log r], the log-responsibility of the component that a sample was drawn from: the exact
        part is not sampled, so the estimate has no noise where components are far apart, and never exceeds the bound.
        'published' puts `published_entropy` in place of each H_k.
        """
        weights = self.log_weights.exp()
        if kind == 'published':
            return (weights * (published_entropy(self.stds) - self.log_weights)).sum(-1)
        bound = (weights * (_gaussian_entropy(self.stds) - self.log_weights)).sum(-1)
        if kind == 'bound':
            return bound
        if kind != 'monte_carlo':
            raise ValueError(f'entropy kind {kind!r} is none of {get_args(EntropyKind)}')
        # Stratified: every component draws the same number of samples, weighted afterwards.
        means = self.means.expand(samples_per_component, *self.means.shape)
        noise = normal_like(means, generator)
        draws = torch.addcmul(means, self.stds, noise)
        joint = self._joint(draws.movedim(-2, 0))
        own = joint.movedim(0, -2).diagonal(dim1=-2, dim2=-1)
        responsibility = own - joint.logsumexp(-1).movedim(0, -1)
        return bound + (weights * responsibility.mean(0)).sum(-1)

    def mode(self) -> Tensor:
        """The component mean of the highest density, (..., D); the exact mode of a mixture has no closed form."""
        density = self.log_prob(self.means.movedim(-2, 0))
        index = density.argmax(0)[..., None, None].expand(
            *density.shape[1:], 1, self.means.shape[-1]
        )
        return self.means.gather(-2, index).squeeze(-2)

    def _joint(self, value: Tensor) -> Tensor:
        """Log of weight times density per component, (..., K), of `value` (..., D)."""
        return self.log_weights + _gaussian_log_prob(value.unsqueeze(-2), self.means, self.stds)


def _gaussian_log_prob(value: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    squares = ((value - mean) / std).square().sum(-1)
    return -0.5 * squares - std.log().sum(-1) - std.shape[-1] * HALF_LOG_2PI


def published_entropy(std: Tensor) -> Tensor:
    """Return the released code's entropy of Gaussians with `std` (..., D): (...), half of log2(2 pi e mean variance).

    In bits, and of one dimension with the mean variance instead of the sum over dimensions: about D times too small.
    Kept for comparison (arXiv 2605.05172, code as first released).
    """
    return 0.5 * torch.log2(2.0 * math.pi * math.e * std.square().mean(-1) + 1e-10)


def _gaussian_entropy(std: Tensor) -> Tensor:
    return std.log().sum(-1) + std.shape[-1] * (0.5 + HALF_LOG_2PI)


Distribution = DiagonalGaussian | GaussianMixture
