# SPDX-License-Identifier: Apache-2.0
"""How the last layer of a density network is read as a mixture of Gaussians: batches in torch, one state in numpy.

Means are bounded by tanh, and the action itself is not, as in robomimic's heads; standard deviations are a `Spread`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import math
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor
import torch.nn.functional as F

from q2rl_policies.single_state import MixtureState

Spread = Literal['softplus', 'exp', 'clipped_softplus', 'clipped_exp']
"""From the layer's number x to a standard deviation: softplus(x) + min_std, exp(x) + min_std, or `std_gain` times
softplus(x) (or exp(x)) kept within min_std .. max_std."""


@dataclass(frozen=True)
class Head:
    """The reading of a network's last layer; its numbers are logits (if several modes), means, spreads, in this order.

    :param min_std: floor of the standard deviations, in units of the action (before `action_scale`)
    :param action_scale, action_offset: (D,), how an action of the network becomes the task's: a * scale + offset
    :raises TypeError: a spread that is unknown, or a scale or offset that is no list of D numbers, a scale of 0
    """

    modes: int
    action_size: int
    min_std: float
    spread: Spread = 'softplus'
    std_gain: float = 1.0
    max_std: float = math.inf
    action_scale: Sequence[float] | None = None
    action_offset: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if self.spread not in get_args(Spread):
            raise TypeError(f'spread {self.spread!r} is none of {get_args(Spread)}')
        for name in ('action_scale', 'action_offset'):
            numbers = getattr(self, name)
            if numbers is not None and len(numbers) != self.action_size:
                raise TypeError(f'{name} has {len(numbers)} numbers, not {self.action_size}')
        if self.action_scale is not None and 0.0 in self.action_scale:
            raise TypeError('action_scale has a zero')

    @property
    def outputs(self) -> int:
        """Width of the layer."""
        return (self.modes if self.modes > 1 else 0) + 2 * self.modes * self.action_size

    def described(self) -> dict[str, Any]:
        """Return what differs from the defaults, for the description of the network in its file."""
        found: dict[str, Any] = {'min_std': self.min_std}
        for name in ('spread', 'std_gain', 'max_std', 'action_scale', 'action_offset'):
            value = getattr(self, name)
            if value != getattr(type(self), name):
                found[name] = (
                    list(value) if isinstance(value, Sequence) and name[0] == 'a' else value
                )
        return found

    def read(self, out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log weights (..., K), means and standard deviations (..., K, D) of outputs (..., `outputs`)."""
        size = self.modes * self.action_size
        shape = (*out.shape[:-1], self.modes, self.action_size)
        logits = out[..., : -2 * size] if self.modes > 1 else out.new_zeros((*out.shape[:-1], 1))
        means = torch.tanh(out[..., -2 * size : -size].reshape(shape))
        stds = self._std(out[..., -size:].reshape(shape))
        if self.action_scale is not None:
            scale = out.new_tensor(self.action_scale)
            means, stds = means * scale, stds * scale.abs()
        if self.action_offset is not None:
            means = means + out.new_tensor(self.action_offset)
        return F.log_softmax(logits, -1), means, stds

    def state(self, out: np.ndarray) -> MixtureState:
        """Return the density at one state, of outputs (`outputs`,), in float64."""
        out = out.astype(np.float64)
        size = self.modes * self.action_size
        shape = (self.modes, self.action_size)
        logits = out[: -2 * size] if self.modes > 1 else np.zeros(1)
        means = np.tanh(out[-2 * size : -size]).reshape(shape)
        stds = self._std_of_one(out[-size:]).reshape(shape)
        if self.action_scale is not None:
            scale = np.asarray(self.action_scale)
            means, stds = means * scale, stds * np.abs(scale)
        if self.action_offset is not None:
            means = means + np.asarray(self.action_offset)
        return mixture_of(logits, means, stds)

    def _std(self, x: Tensor) -> Tensor:
        std = F.softplus(x) if self.spread.endswith('softplus') else x.exp()
        if self.spread.startswith('clipped'):
            return (self.std_gain * std).clamp(self.min_std, self.max_std)
        return std + self.min_std

    def _std_of_one(self, x: np.ndarray) -> np.ndarray:
        std = np.logaddexp(0.0, x) if self.spread.endswith('softplus') else np.exp(x)
        if self.spread.startswith('clipped'):
            return np.clip(self.std_gain * std, self.min_std, self.max_std)
        return std + self.min_std


def mixture_of(logits: np.ndarray, means: np.ndarray, stds: np.ndarray) -> MixtureState:
    """Return the mixture with unnormalised log weights (K,), means and standard deviations (K, D)."""
    shifted = logits - logits.max()
    return MixtureState(shifted - np.log(np.exp(shifted).sum()), means, stds)
