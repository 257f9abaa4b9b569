# SPDX-License-Identifier: Apache-2.0
"""Earlier weights at hand, to go back to."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

KEEP_EVERY = 20
"""Of so many versions one is kept."""
KEPT_VERSIONS = 10

State = Mapping[str, Tensor]


class KeptWeights:
    """The first version of the weights, for good, and the last few of every `KEEP_EVERY`; in memory alone."""

    def __init__(self) -> None:
        self._states: dict[int, dict[str, State]] = {}

    def offer(self, version: int, parts: Mapping[str, nn.Module]) -> None:
        """Keep a copy of the parts' weights, if `version` is one to keep."""
        if self._states and version % KEEP_EVERY:
            return
        self._states[version] = {
            name: {key: tensor.clone() for key, tensor in part.state_dict().items()}
            for name, part in parts.items()
        }
        if len(self._states) > KEPT_VERSIONS:
            del self._states[sorted(self._states)[1]]

    def nearest(self, version: int) -> tuple[int, dict[str, State]] | None:
        """Return the newest kept version up to `version`, else the oldest, and its parts; None if none is kept."""
        if not self._states:
            return None
        found = max((v for v in self._states if v <= version), default=min(self._states))
        return found, self._states[found]
