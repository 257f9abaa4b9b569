# SPDX-License-Identifier: Apache-2.0
"""Random numbers for learning, made on the device of the generator that they are drawn by."""

from __future__ import annotations

import torch
from torch import Tensor

Device = torch.device | str
"""Where to compute; what `torch.device` takes."""


def uniform_index(count: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return indices in [0, count), int64 of `shape`: with replacement, all alike."""
    return torch.randint(count, shape, generator=generator, device=generator.device)


def uniform_actions(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return actions in [-1, 1), float32 of `shape`."""
    return 2.0 * torch.rand(shape, generator=generator, device=generator.device) - 1.0
