# SPDX-License-Identifier: Apache-2.0
"""A force sensor that lives: no two readings of a real one are the same to the last bit for long."""

from __future__ import annotations

import numpy as np

from q2rl_task import Measurement


class WrenchWatch:
    """Tell a sensor that repeats itself: a driver that hangs, a cable that is out, a reading at the stop.

    :param frozen_after_s: time [s] without any change after which it counts as dead; None: never
    """

    def __init__(self, frozen_after_s: float | None) -> None:
        self._limit = float('inf') if frozen_after_s is None else frozen_after_s
        self._last: np.ndarray | None = None
        self._since = 0.0

    def is_frozen(self, measurement: Measurement) -> bool:
        """Take the next measurement (finite) and judge."""
        wrench, stamp = measurement.wrench, measurement.stamp
        if self._last is None or not np.array_equal(wrench, self._last) or stamp < self._since:
            self._last, self._since = np.array(wrench), stamp
        return stamp - self._since > self._limit
