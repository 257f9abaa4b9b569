# SPDX-License-Identifier: Apache-2.0
"""Behaviour-cloned policies: the interface they all meet, the density networks, and the policy that samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, get_args, runtime_checkable

import numpy as np
from torch import Tensor, nn

from q2rl_policies.distributions import DiagonalGaussian, Distribution, EntropyKind, GaussianMixture
from q2rl_policies.head import Head
from q2rl_policies.mlp import mlp
from q2rl_policies.single_state import MixtureState, mlp_forward
from q2rl_task.records import Proposal


@runtime_checkable
class BCPolicy(Protocol):
    """What Q2RL asks of a BC policy: action, log-probability and entropy of one distribution, in one call.

    `recurrent`: what it proposes depends on the observations before; it must see all of an episode, in order.
    """

    contract: str
    version: int
    recurrent: bool

    def reset(self) -> None:
        """Forget everything of the episode before."""

    def act(self, observation: np.ndarray) -> Proposal:
        """Propose for one observation (O,) float32; a policy without a density leaves log_prob and entropy NaN."""


class DensityNet(nn.Module):
    """A network from observations (..., O) to a distribution over actions of `modes` Gaussians.

    `architecture`: what rebuilds it. `head`: how its last layer is read.

    :param min_std: floor of the standard deviations, in units of the action
    :param modes: components of the mixture; a subclass knows
    :param head: further fields of `Head`
    """

    kind: str

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        hidden: Sequence[int] = (256, 256),
        layer_norm: bool = False,
        min_std: float = 0.02,
        *,
        modes: int,
        **head: Any,
    ) -> None:
        super().__init__()
        self.modes = modes
        self.action_size = action_size
        self.head = Head(modes, action_size, min_std, **head)
        self.architecture = {
            'type': self.kind,
            'observation_size': observation_size,
            'action_size': action_size,
            'hidden': list(hidden),
            'layer_norm': layer_norm,
            **self.head.described(),
        }
        self.net = mlp(observation_size, hidden, self.head.outputs, layer_norm)

    def forward(self, observation: Tensor) -> Distribution:
        """Return the distribution at `observation`."""
        raise NotImplementedError


class GaussianNet(DensityNet):
    """Observation -> `DiagonalGaussian`; mean bounded by tanh (as in robomimic), std as `Head` says."""

    kind = 'gaussian'

    def __init__(self, observation_size: int, action_size: int, *shape, **options) -> None:
        super().__init__(observation_size, action_size, *shape, **options, modes=1)

    def forward(self, observation: Tensor) -> DiagonalGaussian:
        """Return the distribution at `observation` (..., O)."""
        _, means, stds = self.head.read(self.net(observation))
        return DiagonalGaussian(means.squeeze(-2), stds.squeeze(-2))


class GmmNet(DensityNet):
    """Observation -> `GaussianMixture` of `modes` components.

    As in robomimic's GMM head the component means are bounded by tanh and the action itself is not, so the density is a
    plain mixture of Gaussians; std = softplus + `min_std`, in units of the action, unless `Head` is told otherwise.
    """

    kind = 'gmm'

    def __init__(
        self, observation_size: int, action_size: int, *shape, modes: int = 5, **options
    ) -> None:
        super().__init__(observation_size, action_size, *shape, **options, modes=modes)
        self.architecture['modes'] = modes
        spread_components(self.net[-1], self.head)

    def forward(self, observation: Tensor) -> GaussianMixture:
        """Return the distribution at `observation` (..., O)."""
        return GaussianMixture(*self.head.read(self.net(observation)))


def spread_components(layer: nn.Linear, head: Head) -> None:
    """Draw the weights of a mixture's means anew: a small head would start every component at the same place."""
    first = head.outputs - 2 * head.modes * head.action_size
    rows = slice(first, first + head.modes * head.action_size)
    nn.init.orthogonal_(layer.weight[rows])
    nn.init.normal_(layer.bias[rows], std=0.3)


class MixtureSampler:
    """Make proposals of densities: the action clipped to the box, its log-probability that of the unclipped sample.

    :param seed: of the sampler's own generator; it also serves the Monte Carlo entropy
    :param entropy_kind: 'monte_carlo' (unbiased: E[log pi + H] = 0), 'bound' (closed form, biased up) or 'published'
    :param deterministic: propose the mode; log_prob + entropy then no longer has mean zero (D/2 for a Gaussian)
    """

    def __init__(
        self, seed: int, entropy_kind: EntropyKind = 'monte_carlo', deterministic: bool = False
    ) -> None:
        if entropy_kind not in get_args(EntropyKind):
            raise ValueError(f'entropy_kind {entropy_kind!r} is none of {get_args(EntropyKind)}')
        self.rng = np.random.default_rng(seed)
        self._entropy_kind = entropy_kind
        self._deterministic = deterministic

    def propose(self, density: MixtureState, version: int) -> Proposal:
        """Return a proposal of an action (D,)."""
        sample = density.mode() if self._deterministic else density.sample(self.rng)
        return Proposal(
            action=np.clip(sample, -1.0, 1.0).astype(np.float32),
            log_prob=density.log_prob(sample),
            entropy=density.entropy(self._entropy_kind, self.rng),
            version=version,
        )


class DensityPolicy:
    """What BC policies share that sample a density: contract and version of their proposals, and the sampler.

    The other parameters are those of `MixtureSampler`.

    :param contract: hash of the contract that the policy is for; '': of any
    :param version: of its weights
    """

    recurrent = False

    def __init__(
        self,
        seed: int,
        contract: str = '',
        version: int = 0,
        entropy_kind: EntropyKind = 'monte_carlo',
        deterministic: bool = False,
    ) -> None:
        self.contract = contract
        self.version = version
        self._sampler = MixtureSampler(seed, entropy_kind, deterministic)

    @property
    def rng(self) -> np.random.Generator:
        """The random stream that runs through all episodes."""
        return self._sampler.rng


class MixtureBCPolicy(DensityPolicy):
    """Sample a density network without memory.

    :param net: a `GmmNet` or `GaussianNet`; its parameters may change in place but not be exchanged
    :param given: the parameters of `DensityPolicy`
    """

    def __init__(self, net: DensityNet, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._head = net.head
        self._forward = mlp_forward(net.net)

    def reset(self) -> None:
        """Do nothing: the policy has no memory, and one random stream runs through all episodes."""

    def act(self, observation: np.ndarray) -> Proposal:
        """Propose an action (D,) for one observation (O,) float32."""
        return self._sampler.propose(self._head.state(self._forward(observation)), self.version)
