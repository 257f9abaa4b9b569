# SPDX-License-Identifier: Apache-2.0
"""From tip poses to tip twists, for a controller that takes velocities."""

from __future__ import annotations

import math

import numpy as np

from q2rl_task import Pose, TaskSpec
from q2rl_task.rotations import inverse, product, to_vector


class TwistTracking:
    """The velocity of the target, plus a share of the way from the measured tip to it per second.

    Both parts are what the guard has let through: its velocity limits hold for the sum too (as norms).

    :param gain_per_s: share of the remaining way per second [1/s]
    """

    def __init__(self, task: TaskSpec, gain_per_s: float) -> None:
        self._limits = task.limits
        self._period = task.period_s
        self._gain = gain_per_s
        self._last: Pose | None = None

    def forget(self) -> None:
        """Take the next target for one that stands still."""
        self._last = None

    def follow(self, target: Pose, measured: Pose | None) -> np.ndarray:
        """Return the twist (6,), linear [m/s] then angular [rad/s], of the tip in base axes; both poses in base.

        :param measured: None: not known, so only the target's own motion counts
        """
        last = self._last or target
        self._last = target
        moved, turned = _difference(last, target)
        away, off = _difference(measured or target, target)
        linear = moved / self._period + self._gain * away
        angular = turned / self._period + self._gain * off
        return np.concatenate(
            [
                _limited(linear, self._limits.velocity_m_s),
                _limited(angular, self._limits.velocity_rad_s),
            ]
        )


def _difference(first: Pose, second: Pose) -> tuple[np.ndarray, np.ndarray]:
    """Return shift (3,) [m] and rotation vector (3,) [rad] from the first pose to the second, parent axes."""
    turn = to_vector(product(second.quaternion, inverse(first.quaternion)))
    return second.position - first.position, turn


def _limited(vector: np.ndarray, most: float) -> np.ndarray:
    size = math.sqrt(vector @ vector)
    return vector if size <= most else vector * (most / size)
