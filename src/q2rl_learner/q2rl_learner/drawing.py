# SPDX-License-Identifier: Apache-2.0
"""Random numbers for learning, made on the device of the generator that they are drawn by."""

from __future__ import annotations

import torch
from torch import Tensor

from q2rl_policies.distributions import normal_like

Device = torch.device | str
"""Where to compute; what `torch.device` takes."""


def uniform_index(count: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return indices in [0, count), int64 of `shape`: with replacement, all alike."""
    return torch.randint(count, shape, generator=generator, device=generator.device)


def uniform_actions(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return actions in [-1, 1), float32 of `shape`."""
    return 2.0 * torch.rand(shape, generator=generator, device=generator.device) - 1.0


def permutation(count: int, generator: torch.Generator) -> Tensor:
    """Return the indices [0, count) in random order, int64."""
    return torch.randperm(count, generator=generator, device=generator.device)


def blurred(observations: Tensor, std: float, generator: torch.Generator) -> Tensor:
    """Return observations with normal noise on them; at `std` 0 as they are, and nothing is drawn."""
    return observations + std * normal_like(observations, generator) if std else observations
