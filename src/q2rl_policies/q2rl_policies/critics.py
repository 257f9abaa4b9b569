# SPDX-License-Identifier: Apache-2.0
"""The value networks: an ensemble of critics computed in one go, and V of the BC policy."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
import torch.nn.functional as F

from q2rl_policies.mlp import HEAD_GAIN, HIDDEN_GAIN, mlp


class CriticEnsemble(nn.Module):
    """E critics Q_i(s, a) as one network whose parameters lead with the member dimension.

    Each member is linear (-> LayerNorm) -> ReLU per hidden layer and a linear head, initialised like `mlp` and apart
    from the others. `architecture`: what rebuilds it.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        hidden: Sequence[int] = (256, 256),
        members: int = 10,
        layer_norm: bool = True,
    ) -> None:
        super().__init__()
        self.architecture = {
            'type': 'critic_ensemble',
            'observation_size': observation_size,
            'action_size': action_size,
            'hidden': list(hidden),
            'members': members,
            'layer_norm': layer_norm,
        }
        self.members = members
        self.layer_norm = layer_norm
        sizes = [observation_size + action_size, *hidden]
        pairs = list(pairwise(sizes))
        self.weights = nn.ParameterList([_weight(members, i, o, HIDDEN_GAIN) for i, o in pairs])
        self.biases = nn.ParameterList([nn.Parameter(torch.zeros(members, 1, o)) for _, o in pairs])
        norms = pairs if layer_norm else []
        self.gains = nn.ParameterList([nn.Parameter(torch.ones(members, 1, o)) for _, o in norms])
        self.offsets = nn.ParameterList(
            [nn.Parameter(torch.zeros(members, 1, o)) for _, o in norms]
        )
        self.head_weight = _weight(members, sizes[-1], 1, HEAD_GAIN)
        self.head_bias = nn.Parameter(torch.zeros(members, 1, 1))

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return Q (E, B) of observations (B, O) and actions (B, D); every member sees the same batch."""
        x = torch.cat((observation, action), -1).expand(self.members, -1, -1)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x, weight)
            if self.layer_norm:
                x = F.layer_norm(x, (x.shape[-1],))
                x = torch.addcmul(self.offsets[layer], x, self.gains[layer])
            x = F.relu_(x)
        return torch.baddbmm(self.head_bias, x, self.head_weight).squeeze(-1)


class ValueNet(nn.Module):
    """V(s) of the BC policy. `architecture`: what rebuilds it."""

    def __init__(
        self, observation_size: int, hidden: Sequence[int] = (256, 256), layer_norm: bool = True
    ) -> None:
        super().__init__()
        self.architecture = {
            'type': 'value',
            'observation_size': observation_size,
            'hidden': list(hidden),
            'layer_norm': layer_norm,
        }
        self.net = mlp(observation_size, hidden, 1, layer_norm)

    def forward(self, observation: Tensor) -> Tensor:
        """Return V (...) of observations (..., O)."""
        return self.net(observation).squeeze(-1)


def _weight(members: int, inputs: int, outputs: int, gain: float) -> nn.Parameter:
    weight = torch.empty(members, inputs, outputs)
    for member in weight:
        nn.init.orthogonal_(member, gain)
    return nn.Parameter(weight)
