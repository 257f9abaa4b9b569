# SPDX-License-Identifier: Apache-2.0
"""Sensors that live: no two readings of a real one are the same to the last bit for long."""

from __future__ import annotations

import numpy as np

from q2rl_task import Measurement


class RepeatWatch:
    """Tell a stream that says the same over and over, whatever its stamps say.

    :param frozen_after_s: time [s] without any change after which it counts as dead; None: never
    """

    def __init__(self, frozen_after_s: float | None) -> None:
        self._limit = float('inf') if frozen_after_s is None else frozen_after_s
        self._last: np.ndarray | None = None
        self._since = 0.0

    def repeats(self, values: np.ndarray, stamp: float) -> bool:
        """Take the next reading (n,), of `stamp` [s], and judge."""
        if self._last is None or not np.array_equal(values, self._last) or stamp < self._since:
            self._last, self._since = np.array(values), stamp
        return stamp - self._since > self._limit


class WrenchWatch(RepeatWatch):
    """Tell a force sensor that repeats itself: a driver that hangs, a cable that is out, a reading at the stop."""

    def is_frozen(self, measurement: Measurement) -> bool:
        """Take the next measurement (finite) and judge."""
        return self.repeats(measurement.wrench, measurement.stamp)
