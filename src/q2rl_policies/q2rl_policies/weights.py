# SPDX-License-Identifier: Apache-2.0
"""Weights that change while the robot works: checked off the tick, exchanged between ticks, taken back if need be."""

from __future__ import annotations

from collections import Counter, deque
import hashlib
import threading
from typing import Generic, TypeVar

import numpy as np

from q2rl_policies.live_networks import LiveActor, LiveCritic
from q2rl_task.errors import InputError

Networks = TypeVar('Networks', LiveActor, LiveCritic)


class LiveWeights(Generic[Networks]):
    """The live networks of one kind, those staged to follow them, and the last ones to go back to.

    `stage` may run in any thread; `promote` and `rollback` belong to the thread of the tick, between two ticks.
    `current` is one reference to networks that never change, so whoever read it acts on one version throughout.
    `counts` tells how many files were 'staged', 'promoted', 'refused' (bad) and 'rolled_back'.

    :param networks: `LiveActor` or `LiveCritic`
    :param contract: the task's contract hash
    :param observation_size: O
    :param keep: how many earlier versions stay at hand
    """

    def __init__(
        self,
        networks: type[Networks],
        contract: str,
        observation_size: int,
        *,
        keep: int = 3,
    ) -> None:
        self._networks = networks
        self._contract = contract
        self._observation_size = observation_size
        # Observations are scaled to about one, so these stand in until some are recorded.
        rng = np.random.default_rng(0)
        self._stand_ins = rng.standard_normal((16, observation_size)).astype(np.float32)
        self._lock = threading.Lock()
        self._staged: Networks | None = None
        self._earlier: deque[Networks] = deque(maxlen=keep)
        self._current: Networks | None = None
        self.counts: Counter[str] = Counter()

    @property
    def current(self) -> Networks | None:
        """The networks to act on; None before the first promotion."""
        return self._current

    def stage(
        self,
        data: bytes,
        where: object = 'weights',
        *,
        sha256: str | None = None,
        observations: np.ndarray | None = None,
    ) -> None:
        """Check a network file and stage it, in place of one that is staged; which one is newer, the caller knows.

        :param sha256: hex digits that the bytes must have
        :param observations: (N, O) float32, recorded ones, for the canary; without any, standard normal ones serve
        :raises InputError: wrong hash, a file that `networks_file.unpack` refuses, or a canary that fails
        """
        try:
            networks = self._check(data, where, sha256, observations)
        except InputError:
            with self._lock:
                self.counts['refused'] += 1
            raise
        with self._lock:
            self._staged = networks
            self.counts['staged'] += 1

    def promote(self) -> bool:
        """Make the staged networks live; return whether there were any."""
        with self._lock:
            staged, self._staged = self._staged, None
            if staged is None:
                return False
            if self._current is not None:
                self._earlier.append(self._current)
            self._current = staged
            self.counts['promoted'] += 1
            return True

    def rollback(self) -> bool:
        """Go back to the version before the live one and drop what is staged; return whether there is one at hand."""
        with self._lock:
            if not self._earlier:
                return False
            self._staged = None
            self._current = self._earlier.pop()
            self.counts['rolled_back'] += 1
            return True

    def _check(
        self, data: bytes, where: object, sha256: str | None, observations: np.ndarray | None
    ) -> Networks:
        if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
            raise InputError(where, 'its sha256 is not the announced one', 'send the weights again')
        networks = self._networks.from_file(data, where, self._contract)
        canary = self._stand_ins if observations is None or not len(observations) else observations
        problem = networks.check(canary)
        if problem is not None:
            raise InputError(
                where,
                f'fails the canary: {problem}',
                'keep an earlier version; look for divergence in the learner',
            )
        return networks
