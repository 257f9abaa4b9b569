# SPDX-License-Identifier: Apache-2.0
"""Exact per-tick limits on a commanded motion: speed, change of speed, and a convex region to stay in.

The same few lines serve translation (a box) and rotation (a cone round a nominal orientation): both
regions are geodesically convex, so a straight stop lies inside if its end point does.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from q2rl_control.rotations import angle_between, from_vector, inverse, product, to_vector

TOLERANCE = 1e-9
BISECTIONS = 24


class Region(Protocol):
    """A convex set of configurations, and how a configuration moves by a (3,) vector."""

    def advance(self, point: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Move `point` by `step` [m or rad, base axes]."""

    def step_between(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Return the (3,) step that leads from `start` to `end`."""

    def project(self, point: np.ndarray) -> np.ndarray:
        """Return the nearest allowed configuration."""

    def contains(self, point: np.ndarray) -> bool:
        """Whether `point` is allowed, to within 1e-9."""

    def admit(self, *points: np.ndarray) -> None:
        """Shrink to the nominal region, stretched just enough to hold `points`."""


class Box:
    """Allowed positions [m], base frame."""

    def __init__(self, low, high) -> None:
        self._nominal = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
        self._low, self._high = self._nominal

    def advance(self, point: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Move `point` by `step`."""
        return point + step

    def step_between(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Return the step from `start` to `end`."""
        return end - start

    def project(self, point: np.ndarray) -> np.ndarray:
        """Return the nearest allowed one."""
        return np.clip(point, *self._nominal)

    def contains(self, point: np.ndarray) -> bool:
        """Whether `point` is allowed."""
        return bool(
            np.all(point >= self._low - TOLERANCE) and np.all(point <= self._high + TOLERANCE)
        )

    def admit(self, *points: np.ndarray) -> None:
        """Stretch no further than `points` need."""
        low, high = self._nominal
        # Less the tolerance, or tolerances would add up tick by tick.
        self._low = np.minimum(low, np.min(points, axis=0) + TOLERANCE)
        self._high = np.maximum(high, np.max(points, axis=0) - TOLERANCE)


class Cone:
    """Allowed orientations (quaternions x, y, z, w): within `angle` [rad], below pi / 2, of a nominal one."""

    def __init__(self, nominal, angle: float) -> None:
        self._centre = np.asarray(nominal, dtype=np.float64)
        self._nominal_angle = self._angle = float(angle)

    def advance(self, point: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Move `point` by `step`."""
        return product(from_vector(step), point)

    def step_between(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Return the step from `start` to `end`."""
        return to_vector(product(end, inverse(start)))

    def _from_centre(self, point: np.ndarray) -> float:
        return angle_between(point, self._centre)

    def project(self, point: np.ndarray) -> np.ndarray:
        """Return the nearest allowed one."""
        angle = self._from_centre(point)
        if angle <= self._nominal_angle:
            return point
        step = self.step_between(self._centre, point)
        return self.advance(self._centre, step * (self._nominal_angle / angle))

    def contains(self, point: np.ndarray) -> bool:
        """Whether `point` is allowed."""
        return self._from_centre(point) <= self._angle + TOLERANCE

    def admit(self, *points: np.ndarray) -> None:
        """Stretch no further than `points` need."""
        widest = max(self._from_centre(p) for p in points)
        self._angle = max(self._nominal_angle, widest - TOLERANCE)


class LimitedMotion:
    """One commanded configuration and its velocity, moved tick by tick and never beyond the limits.

    Invariant: from every state a straight stop within the change-of-speed limit stays in the region,
    so braking is always possible. A start outside the region is allowed and can only be left inward.

    :param max_speed: [m/s or rad/s]
    :param max_acceleration: [m/s^2 or rad/s^2], norm of the change of velocity per tick over `period`
    :param period: nominal tick [s]
    """

    def __init__(
        self, region: Region, max_speed: float, max_acceleration: float, period: float
    ) -> None:
        self.region = region
        self.max_speed = max_speed
        self._change = max_acceleration * period
        self._period = period
        self.point = np.zeros(0)
        self.velocity = np.zeros(3)

    def reset(self, point: np.ndarray) -> None:
        """Start at rest at `point`."""
        self.point = np.array(point, dtype=np.float64)
        self.velocity = np.zeros(3)
        self.region.admit(self.point)

    def plan(self, wanted: np.ndarray, max_speed: float) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return the velocity (3,) that comes nearest to `wanted` (a configuration), and what limited it."""
        codes = []
        inside = self.region.project(wanted)
        if np.abs(inside - wanted).max() > TOLERANCE:
            codes.append('workspace')
        velocity = self.region.step_between(self.point, inside) / self._period
        velocity, limited = _shorten(velocity, min(max_speed, self.max_speed))
        if limited:
            codes.append('velocity')
        change, limited = _shorten(velocity - self.velocity, self._change)
        if limited:
            codes.append('acceleration')
            velocity = self.velocity + change
        if not self._can_stop(velocity):
            if 'workspace' not in codes:
                codes.append('workspace')
            velocity = self._towards(velocity)
        return velocity, tuple(codes)

    def braking(self) -> np.ndarray:
        """Return the velocity after one tick of the hardest allowed straight braking."""
        speed = float(np.linalg.norm(self.velocity))
        if speed <= self._change:
            return np.zeros(3)
        return self.velocity * (1.0 - self._change / speed)

    def moved(self, velocity: np.ndarray) -> np.ndarray:
        """Return the configuration after one tick at `velocity`."""
        return self.region.advance(self.point, velocity * self._period)

    def accept(self, velocity: np.ndarray) -> None:
        """Make one tick at `velocity` the new state."""
        self.point = self.moved(velocity)
        self.velocity = velocity
        self.region.admit(self.point, self._stop(self.point, velocity))

    def allows(self, velocity: np.ndarray) -> bool:
        """Whether one tick at `velocity` keeps every limit: the final check, independent of `plan`."""
        slack = 1.0 + 1e-6
        return (
            bool(np.isfinite(velocity).all())
            and float(np.linalg.norm(velocity)) <= self.max_speed * slack
            and float(np.linalg.norm(velocity - self.velocity)) <= self._change * slack + TOLERANCE
            and self.region.contains(self.moved(velocity))
        )

    def _stop(self, point: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        """Return where the hardest straight braking ends that starts after `velocity` brought us to `point`."""
        speed = float(np.linalg.norm(velocity))
        ticks = math.floor(speed / self._change)
        distance = self._period * (ticks * speed - self._change * ticks * (ticks + 1) / 2.0)
        if distance <= 0.0:
            return point
        return self.region.advance(point, velocity * (distance / speed))

    def _can_stop(self, velocity: np.ndarray) -> bool:
        return self.region.contains(self._stop(self.moved(velocity), velocity))

    def _towards(self, velocity: np.ndarray) -> np.ndarray:
        """Return the velocity nearest to `velocity`, on the line from braking to it, that can still stop."""
        brake = self.braking()
        low, high = 0.0, 1.0
        for _ in range(BISECTIONS):
            middle = 0.5 * (low + high)
            if self._can_stop(brake + middle * (velocity - brake)):
                low = middle
            else:
                high = middle
        return brake + low * (velocity - brake)


def _shorten(vector: np.ndarray, length: float) -> tuple[np.ndarray, bool]:
    """Scale `vector` down to at most `length`; also tell whether that was needed."""
    norm = float(np.linalg.norm(vector))
    if norm <= length * (1.0 + 1e-9):
        return vector, False
    return vector * (length / norm), True
