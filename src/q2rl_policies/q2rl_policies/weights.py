# SPDX-License-Identifier: Apache-2.0
"""Weights that change while the robot works: checked off the tick, exchanged between ticks."""

from __future__ import annotations

from collections import Counter
import threading
from typing import Generic, TypeVar

import numpy as np

from q2rl_policies.live_networks import LiveActor, LiveCritic
from q2rl_task.errors import InputError

Networks = TypeVar('Networks', LiveActor, LiveCritic)


class LiveWeights(Generic[Networks]):
    """The live networks of one kind, and those staged to follow them.

    `stage` may run in any thread; `promote` belongs to the thread of the tick, between two ticks.
    `current` is one reference to networks that never change, so whoever read it acts on one version throughout.
    `counts` tells how many files were 'staged', 'promoted' and 'refused' (bad).

    :param networks: `LiveActor` or `LiveCritic`
    :param contract: the task's contract hash
    :param observation_size: O
    """

    def __init__(self, networks: type[Networks], contract: str, observation_size: int) -> None:
        self._networks = networks
        self._contract = contract
        # Observations are scaled to about one, so these stand in until some are recorded.
        rng = np.random.default_rng(0)
        self._stand_ins = rng.standard_normal((16, observation_size)).astype(np.float32)
        self._lock = threading.Lock()
        self._staged: Networks | None = None
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
        observations: np.ndarray | None = None,
    ) -> None:
        """Check a network file and stage it, in place of one that is staged; which one is newer, the caller knows.

        :param observations: (N, O) float32, recorded ones, for the canary; without any, standard normal ones serve
        :raises InputError: a file that `networks_file.unpack` refuses, or a canary that fails
        """
        try:
            networks = self._check(data, where, observations)
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
            self._current = staged
            self.counts['promoted'] += 1
            return True

    def _check(self, data: bytes, where: object, observations: np.ndarray | None) -> Networks:
        networks = self._networks.from_file(data, where, self._contract)
        canary = self._stand_ins if observations is None or not len(observations) else observations
        problem = networks.check(canary)
        if problem is not None:
            raise InputError(
                where,
                f'fails its trial on sample observations: {problem}',
                'keep an earlier version; look for divergence in the learner',
            )
        return networks
