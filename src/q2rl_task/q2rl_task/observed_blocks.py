# SPDX-License-Identifier: Apache-2.0
"""What the numbers of an observation are, by name: for policies made elsewhere, which are shown some of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

WHOLE = 'all'
"""Name of the block that is the whole observation."""


@dataclass(frozen=True)
class ObservedBlock:
    """Numbers of an observation from `first` on; a policy made elsewhere is shown `gain * number + bias` of them.

    gain, bias: (size,). unit: the value, in units that its maker knows (SI, or the environment's), of a 1.0 that is
    shown; None where the block has no single one.
    """

    name: str
    first: int
    gain: np.ndarray
    bias: np.ndarray
    unit: float | None

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return len(self.gain)

    @staticmethod
    def as_it_is(name: str, first: int, size: int, unit: float | None) -> ObservedBlock:
        """Return a block whose numbers are shown as they are."""
        return ObservedBlock(name, first, np.ones(size), np.zeros(size), unit)
