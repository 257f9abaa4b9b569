# SPDX-License-Identifier: Apache-2.0
"""The multi-layer perceptron that BC, actor and V share, and its initialisation."""

from __future__ import annotations

from collections.abc import Sequence
import math

from torch import nn

HIDDEN_GAIN = math.sqrt(2.0)
HEAD_GAIN = 1e-2


def mlp(inputs: int, hidden: Sequence[int], outputs: int, layer_norm: bool) -> nn.Sequential:
    """Build linear (-> LayerNorm) -> ReLU per hidden layer, then a linear head.

    Weights are orthogonal (gain sqrt(2)), those of the head small (gain 0.01), biases zero; drawn from torch's
    global generator.
    """
    layers: list[nn.Module] = []
    width = inputs
    for size in hidden:
        layers.append(_linear(width, size, HIDDEN_GAIN))
        if layer_norm:
            layers.append(nn.LayerNorm(size))
        layers.append(nn.ReLU(inplace=True))
        width = size
    layers.append(_linear(width, outputs, HEAD_GAIN))
    return nn.Sequential(*layers)


def _linear(inputs: int, outputs: int, gain: float) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer
