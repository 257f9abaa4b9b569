# SPDX-License-Identifier: Apache-2.0
"""The tip's twist where no driver says it, from the poses alone."""

from __future__ import annotations

import numpy as np

from q2rl_task import Pose

LONGEST_S = 0.5
"""After a longer gap between two poses the velocity between them means nothing: it starts anew."""


class PoseDifference:
    """The difference of the last two poses over the time between them: the mean of that time, so it lags by half."""

    def __init__(self) -> None:
        self._last: tuple[float, Pose] | None = None
        self._twist = np.zeros(6)

    def add(self, stamp: float, pose: Pose) -> np.ndarray:
        """Take a pose (base frame); return the twist (6,), linear [m/s] then angular [rad/s], base axes.

        Zeros at first and after a gap; a repeated stamp gives the same again.
        """
        last = self._last
        if last is not None and stamp == last[0]:
            return self._twist
        self._last = (stamp, pose)
        if last is None or not 0.0 < stamp - last[0] <= LONGEST_S:
            self._twist = np.zeros(6)
        else:
            elapsed = stamp - last[0]
            linear = (pose.position - last[1].position) / elapsed
            self._twist = np.concatenate([linear, last[1].rotation_vector_to(pose) / elapsed])
        return self._twist
