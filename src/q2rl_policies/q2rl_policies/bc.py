# SPDX-License-Identifier: Apache-2.0
"""Behaviour-cloned policies: the interface they all meet, the density networks, and the policy that samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, get_args, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
import torch.nn.functional as F

from q2rl_policies.distributions import DiagonalGaussian, Distribution, EntropyKind, GaussianMixture
from q2rl_policies.mlp import mlp
from q2rl_policies.single_state import mixture_state, mlp_forward
from q2rl_task.records import Proposal


@runtime_checkable
class BCPolicy(Protocol):
    """What Q2RL asks of a BC policy: action, log-probability and entropy of one distribution, in one call."""

    contract: str
    version: int

    def reset(self) -> None:
        """Forget everything of the episode before."""

    def act(self, observation: np.ndarray) -> Proposal:
        """Propose for one observation (O,) float32; a policy without a density leaves log_prob and entropy NaN."""


class DensityNet(nn.Module):
    """A network from observations (..., O) to a distribution over actions of `modes` Gaussians.

    `architecture`: what rebuilds it.

    :param min_std: floor of the standard deviations, in units of the action
    :param outputs: of the last layer; a subclass knows
    """

    kind: str
    modes = 1

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        hidden: Sequence[int] = (256, 256),
        layer_norm: bool = False,
        min_std: float = 0.02,
        *,
        outputs: int,
    ) -> None:
        super().__init__()
        self.architecture = {
            'type': self.kind,
            'observation_size': observation_size,
            'action_size': action_size,
            'hidden': list(hidden),
            'layer_norm': layer_norm,
            'min_std': min_std,
        }
        self.action_size = action_size
        self.min_std = min_std
        self.net = mlp(observation_size, hidden, outputs, layer_norm)

    def forward(self, observation: Tensor) -> Distribution:
        """Return the distribution at `observation`."""
        raise NotImplementedError


class GaussianNet(DensityNet):
    """Observation -> `DiagonalGaussian`; mean bounded by tanh (as in robomimic), std = softplus + `min_std`."""

    kind = 'gaussian'

    def __init__(self, observation_size: int, action_size: int, *shape, **options) -> None:
        super().__init__(observation_size, action_size, *shape, **options, outputs=2 * action_size)

    def forward(self, observation: Tensor) -> DiagonalGaussian:
        """Return the distribution at `observation` (..., O)."""
        mean, spread = self.net(observation).chunk(2, -1)
        return DiagonalGaussian(torch.tanh(mean), F.softplus(spread) + self.min_std)


class GmmNet(DensityNet):
    """Observation -> `GaussianMixture` of `modes` components.

    As in robomimic's GMM head the component means are bounded by tanh and the action itself is not, so the density is a
    plain mixture of Gaussians; std = softplus + `min_std`, in units of the action.
    """

    kind = 'gmm'

    def __init__(
        self, observation_size: int, action_size: int, *shape, modes: int = 5, **options
    ) -> None:
        outputs = modes * (1 + 2 * action_size)
        super().__init__(observation_size, action_size, *shape, **options, outputs=outputs)
        self.modes = self.architecture['modes'] = modes
        # The head starts small: without this every component would start at the same place and stay there.
        head = self.net[-1]
        nn.init.orthogonal_(head.weight[modes : modes * (1 + action_size)])
        nn.init.normal_(head.bias[modes : modes * (1 + action_size)], std=0.3)

    def forward(self, observation: Tensor) -> GaussianMixture:
        """Return the distribution at `observation` (..., O)."""
        out = self.net(observation)
        split = self.modes * self.action_size
        logits, means, spreads = out.split((self.modes, split, split), -1)
        shape = (*out.shape[:-1], self.modes, self.action_size)
        return GaussianMixture(
            F.log_softmax(logits, -1),
            torch.tanh(means.view(shape)),
            F.softplus(spreads.view(shape)) + self.min_std,
        )


class MixtureBCPolicy:
    """Sample a density network: the action clipped to the box, its log-probability that of the unclipped sample.

    :param net: a `GmmNet` or `GaussianNet`; its parameters may change in place but not be exchanged
    :param seed: of the policy's own generator; it also serves the Monte Carlo entropy
    :param entropy_kind: 'monte_carlo' (unbiased: E[log pi + H] = 0), 'bound' (closed form, biased up) or 'published'
    :param deterministic: propose the mode; log_prob + entropy then no longer has mean zero (D/2 for a Gaussian)
    """

    def __init__(
        self,
        net: DensityNet,
        seed: int,
        contract: str = '',
        version: int = 0,
        entropy_kind: EntropyKind = 'monte_carlo',
        deterministic: bool = False,
    ) -> None:
        if entropy_kind not in get_args(EntropyKind):
            raise ValueError(f'entropy_kind {entropy_kind!r} is none of {get_args(EntropyKind)}')
        self.contract = contract
        self.version = version
        self._net = net
        self._forward = mlp_forward(net.net)
        self._entropy_kind = entropy_kind
        self._deterministic = deterministic
        self._rng = np.random.default_rng(seed)

    def reset(self) -> None:
        """Do nothing: the policy has no memory, and one random stream runs through all episodes."""

    def act(self, observation: np.ndarray) -> Proposal:
        """Propose an action (D,) for one observation (O,) float32."""
        net = self._net
        density = mixture_state(self._forward(observation), net.modes, net.action_size, net.min_std)
        sample = density.mode() if self._deterministic else density.sample(self._rng)
        return Proposal(
            action=np.clip(sample, -1.0, 1.0).astype(np.float32),
            log_prob=density.log_prob(sample),
            entropy=density.entropy(self._entropy_kind, self._rng),
            version=self.version,
        )
