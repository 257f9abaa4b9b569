# SPDX-License-Identifier: Apache-2.0
"""Networks and densities for one state at a time, in numpy: what acting costs is torch's dispatch, not the arithmetic.

The forward passes read the memory of the torch parameters: a change in place is seen, an exchanged tensor is not.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import nn

from q2rl_policies.critics import CriticEnsemble
from q2rl_policies.distributions import HALF_LOG_2PI, EntropyKind

Vector = np.ndarray
LAYER_NORM_EPS = 1e-5


def mlp_forward(net: nn.Sequential) -> Callable[[Vector], Vector]:
    """Return the forward pass of an `mlp` for one input, (I,) float32 -> (outputs,) float32."""
    steps: list[Callable[[Vector], Vector]] = [_layer_forward(layer) for layer in net]

    def forward(x: Vector) -> Vector:
        for step in steps:
            x = step(x)
        return x

    return forward


def ensemble_forward(critics: CriticEnsemble) -> Callable[[Vector], Vector]:
    """Return the forward pass of a critic ensemble for one observation and action joined, (O + D,) -> (E,) float32."""
    layers = [
        (w.detach().numpy(), b.detach().numpy())
        for w, b in zip(critics.weights, critics.biases, strict=True)
    ]
    norms = [
        (g.detach().numpy(), o.detach().numpy())
        for g, o in zip(critics.gains, critics.offsets, strict=True)
    ]
    head_weight = critics.head_weight.detach().numpy()
    head_bias = critics.head_bias.detach().numpy()[:, 0, 0]

    def forward(joined: Vector) -> Vector:
        x = joined[None, None]
        for layer, (weight, bias) in enumerate(layers):
            x = np.matmul(x, weight)
            x += bias
            if norms:
                gain, offset = norms[layer]
                x -= x.mean(-1, keepdims=True)
                variance = np.einsum('eih,eih->ei', x, x)[..., None] / x.shape[-1]
                x /= np.sqrt(variance + LAYER_NORM_EPS)
                x *= gain
                x += offset
            np.maximum(x, 0.0, out=x)
        return np.matmul(x, head_weight)[:, 0, 0] + head_bias

    return forward


class MixtureState:
    """The mixture of K diagonal Gaussians at one state (K = 1: a Gaussian), in float64.

    The same density as `distributions.GaussianMixture`. `log_weights`: (K,), normalised; `means`, `stds`: (K, D).
    """

    def __init__(self, log_weights: Vector, means: Vector, stds: Vector) -> None:
        self._log_weights = log_weights
        self._means = means
        self._stds = stds
        self._log_stds = np.log(stds).sum(-1)
        self._precisions = 1.0 / (stds * stds)
        self._peaks = log_weights - self._log_stds - means.shape[1] * HALF_LOG_2PI

    def sample(self, rng: np.random.Generator) -> Vector:
        """Draw one action, (D,)."""
        cumulative = np.exp(self._log_weights).cumsum()
        component = min(int(np.searchsorted(cumulative, rng.random())), len(cumulative) - 1)
        noise = rng.standard_normal(self._means.shape[1])
        return self._means[component] + self._stds[component] * noise

    def mode(self) -> Vector:
        """The component mean of the highest density, (D,)."""
        return self._means[int(np.argmax(_logsumexp(self._joint(self._means))))]

    def log_prob(self, action: Vector) -> float:
        """Log-density [nat] of an action (D,)."""
        return float(_logsumexp(self._joint(action[None]))[0])

    def entropy(
        self, kind: EntropyKind, rng: np.random.Generator, samples_per_component: int = 16
    ) -> float:
        """Differential entropy [nat]; the kinds are those of `distributions.GaussianMixture.entropy`.

        Each draws as much from `rng` as 'monte_carlo' does: policies that differ in it alone sample the same actions
        from the same seed, so that methods can be compared on the same rollouts.
        """
        components, size = self._means.shape
        weights = np.exp(self._log_weights)
        drawn = (samples_per_component, components, size)
        noise = rng.standard_normal(drawn) if components > 1 else None
        if kind == 'published':
            bits = 0.5 * np.log2(2.0 * np.pi * np.e * (self._stds**2).mean(-1) + 1e-10)
            return float(weights @ (bits - self._log_weights))
        exact = self._log_stds + size * (0.5 + HALF_LOG_2PI)
        bound = float(weights @ (exact - self._log_weights))
        if kind == 'bound' or noise is None:
            return bound
        draws = self._means + self._stds * noise
        joint = self._joint(draws.reshape(-1, size))
        own = self._peaks - 0.5 * np.einsum('nkd,nkd->nk', noise, noise)
        responsibility = own - _logsumexp(joint).reshape(own.shape)
        return bound + float(weights @ responsibility.mean(0))

    def _joint(self, actions: Vector) -> Vector:
        """Log of weight times density per component, (N, K), of actions (N, D)."""
        # Squares expanded, so that all pairs are two matrix products; float64 has the digits for it.
        scaled = self._means * self._precisions
        squares = (actions * actions) @ self._precisions.T - 2.0 * (actions @ scaled.T)
        return self._peaks - 0.5 * (squares + (self._means * scaled).sum(-1))


def _layer_forward(layer: nn.Module) -> Callable[[Vector], Vector]:
    if isinstance(layer, nn.ReLU):
        return lambda x: np.maximum(x, 0.0, out=x)
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    if isinstance(layer, nn.Linear):
        return lambda x: weight @ x + bias

    def normalise(x: Vector) -> Vector:
        x = x - x.mean()
        x /= np.sqrt(x @ x / x.size + LAYER_NORM_EPS)
        x *= weight
        x += bias
        return x

    return normalise


def _logsumexp(values: Vector) -> Vector:
    """Log of the sum of exponentials over the last axis."""
    top = values.max(-1)
    return top + np.log(np.exp(values - top[..., None]).sum(-1))
