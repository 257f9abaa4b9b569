# SPDX-License-Identifier: Apache-2.0
"""What to command between two ticks: a staircase of the control rate would be a jump at every tick."""

from __future__ import annotations

import numpy as np

from q2rl_task import Pose
from q2rl_task.rotations import from_vector, inverse, product, to_vector


class Interpolation:
    """Vectors (n,) between commands that come once per period, without a jump in position or velocity.

    A command is reached two periods after it was given, half of it in the first: where one comes every period, that is
    the quadratic B-spline over them. So velocity and acceleration on the way are never above those that the commands
    have from tick to tick, what lies between is within what was commanded, and it comes half a period later than on
    straight lines.
    """

    def __init__(self, period_s: float) -> None:
        self._period = period_s
        self.forget()

    def forget(self) -> None:
        """Say nothing until there is a command again."""
        self._start: np.ndarray | None = None

    def command(self, positions: np.ndarray, now: float, start: np.ndarray) -> None:
        """Take the next command (n,) at monotonic time `now` [s]; the first one begins at rest at `start` (n,)."""
        if self._start is None:
            here, velocity = np.array(start, dtype=np.float64), np.zeros(len(start))
        else:
            here, velocity = self._moved(now)
        self._start, self._velocity, self._since = here, velocity, now
        # Even acceleration to this velocity in the first period, and to rest in the second, make up the whole way.
        self._middle = (positions - here) / self._period - velocity / 2.0

    def at(self, now: float) -> np.ndarray | None:
        """Return what to command at `now`, (n,); None before the first command. The last command stays for good."""
        return None if self._start is None else self._moved(now)[0]

    def _moved(self, now: float) -> tuple[np.ndarray, np.ndarray]:
        """Return position and velocity (n,) at `now`."""
        periods = min(2.0, max(0.0, (now - self._since) / self._period))
        first, second = min(1.0, periods), max(0.0, periods - 1.0)
        velocity = self._velocity + first * (self._middle - self._velocity)
        moved = first * (self._velocity + velocity) / 2.0
        if second:
            velocity = (1.0 - second) * self._middle
            moved = moved + second * (self._middle + velocity) / 2.0
        return self._start + self._period * moved, velocity


class PoseInterpolation:
    """Poses between commands, as `Interpolation` has vectors: positions, and rotation vectors from the last command."""

    def __init__(self, period_s: float) -> None:
        self._way = Interpolation(period_s)
        self.forget()

    def forget(self) -> None:
        """Say nothing until there is a command again."""
        self._way.forget()
        self._origin: np.ndarray | None = None

    def command(self, pose: Pose, now: float, start: Pose) -> None:
        """Take the next command at monotonic time `now` [s]; the first one begins at rest at `start`."""
        if self._origin is None:
            self._origin = start.quaternion
        self._way.command(self._point(pose), now, self._point(start))

    def at(self, now: float) -> Pose | None:
        """Return what to command at `now`; None before the first command."""
        point = self._way.at(now)
        if point is None:
            return None
        return Pose(point[:3], product(from_vector(point[3:]), self._origin))

    def _point(self, pose: Pose) -> np.ndarray:
        """Return a pose as position and rotation vector from the first orientation, (6,)."""
        turn = to_vector(product(pose.quaternion, inverse(self._origin)))
        return np.concatenate([pose.position, turn])
