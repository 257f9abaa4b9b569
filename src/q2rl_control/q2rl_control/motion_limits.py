# SPDX-License-Identifier: Apache-2.0
"""Exact per-tick limits on a commanded motion: speed, acceleration, jerk, and a convex region to stay in.

The same few lines serve translation (a box) and rotation (a cone round a nominal orientation).
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from q2rl_control.stop_table import stop_table
from q2rl_task import TaskSpec
from q2rl_task.rotations import from_vector, inverse, product, to_vector

TOLERANCE = 1e-9
ROUNDING = 1e-12
SLACK = 1.0 + 1e-6
BISECTIONS = 12
REST = (0.0, 0.0, 0.0)


class Region(Protocol):
    """A convex set of configurations (k,), and how one moves by steps (3,) [m or rad, base axes].

    It is the nominal set, stretched to hold what has been admitted: where a motion starts outside.
    """

    def path(self, point: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Return the configurations (n, k) after each of `steps` (n, 3) [m or rad, base axes]."""

    def step_between(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Return the (3,) step that leads from `start` to `end`."""

    def project(self, point: np.ndarray, margin: float = 0.0) -> np.ndarray:
        """Return the nearest allowed configuration (k,), or one within `margin` [m or rad] of the nominal set."""

    def contains(self, points: np.ndarray) -> bool:
        """Whether all of `points` (n, k) are allowed, to within 1e-9 of the nominal set."""

    def admit(self, points: np.ndarray) -> None:
        """Shrink to the nominal region, stretched just enough to hold `points` (n, k)."""

    @property
    def stretched(self) -> bool:
        """Whether what has been admitted is outside the nominal set."""


class Box:
    """Allowed positions (3,) [m], base frame; see `Region`."""

    def __init__(self, low, high) -> None:
        self._nominal = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
        self._low, self._high = self._nominal

    def path(self, point: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Return the positions (n, 3) after each step."""
        return point + np.cumsum(steps, axis=0)

    def step_between(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Return the step from `start` to `end`."""
        return end - start

    def project(self, point: np.ndarray, margin: float = 0.0) -> np.ndarray:
        """Return the nearest allowed one."""
        low, high = self._nominal
        low, high = np.minimum(low - margin, self._low), np.maximum(high + margin, self._high)
        return np.clip(point, low, high)

    def contains(self, points: np.ndarray) -> bool:
        """Whether all are allowed."""
        # The tolerance is that of the nominal bounds only, or tolerances would add up tick by tick.
        low, high = self._nominal
        low = np.minimum(low - TOLERANCE, self._low - ROUNDING)
        high = np.maximum(high + TOLERANCE, self._high + ROUNDING)
        return bool((points >= low).all() and (points <= high).all())

    def admit(self, points: np.ndarray) -> None:
        """Stretch no further than `points` need."""
        low, high = self._nominal
        self._low = np.minimum(low, points.min(axis=0))
        self._high = np.maximum(high, points.max(axis=0))

    @property
    def stretched(self) -> bool:
        """Whether something outside was admitted."""
        low, high = self._nominal
        return bool(max((low - self._low).max(), (self._high - high).max()) > TOLERANCE)


class Cone:
    """Allowed orientations (quaternions x, y, z, w): within `angle` [rad], below pi / 2, of a nominal one.

    See `Region`; k is 4.
    """

    def __init__(self, nominal, angle: float) -> None:
        self._centre = np.asarray(nominal, dtype=np.float64)
        self._nominal_angle = self._angle = float(angle)
        # q times the inverse of the centre, vector part then scalar part, is linear in q.
        x, y, z, w = self._centre.tolist()
        self._relative = np.array([[w, -z, y, -x], [z, w, -x, -y], [-y, x, w, -z], [x, y, z, w]])

    def path(self, point: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Return the orientations (n, 4) after each step."""
        points = np.empty((len(steps), 4))
        for k, step in enumerate(steps):
            point = points[k] = product(from_vector(step), point)
        return points

    def step_between(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Return the step from `start` to `end`."""
        return to_vector(product(end, inverse(start)))

    def project(self, point: np.ndarray, margin: float = 0.0) -> np.ndarray:
        """Return the nearest allowed one."""
        angle, most = self._widest(point[None]), max(self._nominal_angle + margin, self._angle)
        if angle <= most:
            return point
        step = self.step_between(self._centre, point)
        return product(from_vector(step * (most / angle)), self._centre)

    def contains(self, points: np.ndarray) -> bool:
        """Whether all are allowed."""
        most = max(self._nominal_angle + TOLERANCE, self._angle + ROUNDING)
        return self._widest(points) <= most

    def admit(self, points: np.ndarray) -> None:
        """Stretch no further than `points` need."""
        self._angle = max(self._nominal_angle, self._widest(points))

    @property
    def stretched(self) -> bool:
        """Whether something outside was admitted."""
        return self._angle > self._nominal_angle + TOLERANCE

    def _widest(self, points: np.ndarray) -> float:
        relative = points @ self._relative.T
        sine = np.sqrt(np.einsum('ij,ij->i', relative[:, :3], relative[:, :3]))
        return float(2.0 * np.arctan2(sine, np.abs(relative[:, 3])).max())


def workspace_regions(task: TaskSpec) -> tuple[Box, Cone]:
    """Return where the tip of a task may be and how it may be turned, with nothing admitted; base frame."""
    space = task.limits.workspace
    upright = task.fixture.nominal.pose.quaternion
    return Box(space.low, space.high), Cone(upright, space.max_rotation_rad)


class LimitedMotion:
    """One commanded configuration, its velocity and the last change of that, never beyond the limits.

    Every state comes with a stop: velocities down to rest that keep all limits and stay in the region. A
    tick is accepted only with a checked stop of its own; where none is found, the last one is
    followed. So braking is always possible. A start outside the region is allowed; from there a motion may stay or
    go inward, and goes nowhere of itself.

    Velocity is the step of a tick over its nominal duration; acceleration and jerk are its first and
    second differences over the same. The limits are on their Euclidean norms.

    :param max_speed: [m/s or rad/s]
    :param max_acceleration: [m/s^2 or rad/s^2]
    :param max_jerk: [m/s^3 or rad/s^3]
    :param period: nominal tick [s]
    :raises ValueError: limits so low that a stop takes for ever
    """

    def __init__(
        self,
        region: Region,
        max_speed: float,
        max_acceleration: float,
        max_jerk: float,
        period: float,
    ) -> None:
        self.region = region
        self.max_speed = max_speed
        self._change = max_acceleration * period
        self._second = max_jerk * period**2
        self._period = period
        self._stops = stop_table(max_speed, self._change, self._second)
        self.point = np.zeros(0)
        self.velocity = np.zeros(3)
        self.last_change = np.zeros(3)
        self._stop = np.zeros((1, 3))

    def reset(self, point: np.ndarray, velocity: np.ndarray | None = None) -> None:
        """Start at `point`, at rest or with a velocity (3,) that is cut down to the limit."""
        self.point = np.array(point, dtype=np.float64)
        velocity = np.zeros(3) if velocity is None else np.asarray(velocity, dtype=np.float64)
        self.velocity = _shorten(velocity, self.max_speed)[0]
        self.last_change = np.zeros(3)
        self._stop = next(self._stops.stops(self.velocity, self.last_change))
        self._admit()

    def plan(self, wanted: np.ndarray, max_speed: float) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return the motion that comes nearest to `wanted` (a configuration), and what limited it.

        A motion is velocities (n, 3): that of the next tick, then a stop. The way to `wanted` is allowed, wherever
        that is: keep it to the region first.
        """
        codes = []
        if not self.region.contains(wanted[None]):
            self._admit(wanted)
        velocity = self.region.step_between(self.point, wanted) / self._period
        velocity, limited = _shorten(velocity, min(max_speed, self.max_speed))
        if limited:
            codes.append('velocity')
        change, limited = _shorten(velocity - self.velocity, self._change)
        if limited:
            codes.append('acceleration')
            velocity = self.velocity + change
        jump, limited = _shorten(change - self.last_change, self._second)
        if limited:
            codes.append('jerk')
            velocity = self.velocity + self.last_change + jump
        motion = self._with_stop(velocity)
        if motion is None:
            motion = self._towards(velocity)
            codes.append('braking')
        return motion, tuple(codes)

    def braking(self) -> np.ndarray:
        """Return the shortest known stop, velocities (n, 3); needs no measurement and always exists."""
        if not self.velocity.any():
            return self._stop
        for stop in self._stops.stops(self.velocity, self.last_change):
            if len(stop) < len(self._stop) and self._allows_motion(stop):
                return stop
        return self._stop

    def accept(self, motion: np.ndarray) -> None:
        """Make the first tick of `motion` (n, 3) the new state, and the rest the stop that it comes with."""
        velocity = motion[0]
        self.point = self._moved(velocity)[0]
        self.last_change = velocity - self.velocity
        self.velocity = velocity
        self._stop = motion[1:] if len(motion) > 1 else np.zeros((1, 3))
        self._admit()

    def allows(self, velocity: np.ndarray) -> bool:
        """Whether one tick at `velocity` (3,) keeps every limit: the final check, independent of `plan`."""
        change = velocity - self.velocity
        return (
            bool(np.isfinite(velocity).all())
            and _norm(velocity) <= self.max_speed * SLACK
            and _norm(change) <= self._change * SLACK + TOLERANCE
            and _norm(change - self.last_change) <= self._second * SLACK + TOLERANCE
            and self.region.contains(self._moved(velocity))
        )

    def _moved(self, velocity: np.ndarray) -> np.ndarray:
        return self.region.path(self.point, velocity[None] * self._period)

    def _path(self, motion: np.ndarray) -> np.ndarray:
        """Return the configurations on a motion (n, 3), whose last tick is at rest, without the last."""
        return self.region.path(self.point, motion[:-1] * self._period)

    def _admit(self, *others: np.ndarray) -> None:
        """Let the region hold where we are, where the stop leads, and `others`; else its nominal bounds stand."""
        points = np.stack([self.point, *others])
        if len(self._stop) > 1:
            points = np.concatenate([points, self._path(self._stop)])
        self.region.admit(points)

    def _with_stop(self, velocity: np.ndarray) -> np.ndarray | None:
        """Return one tick at `velocity` and the shortest stop after it that keeps all limits, or None."""
        speed = _norm(velocity)
        back = _norm(2.0 * velocity - self.velocity)
        if speed <= min(self._change, self._second) and back <= self._second:
            # To rest at once, the rule where the limits are wide: the same as below, only faster.
            motion = np.array([velocity, REST])
            if self._allows_motion(motion):
                return motion
        for stop in self._stops.stops(velocity, velocity - self.velocity):
            motion = np.concatenate([velocity[None], stop])
            if self._allows_motion(motion):
                return motion
        return None

    def _allows_motion(self, motion: np.ndarray) -> bool:
        """Whether a motion (n, 3) keeps every limit; its end keeps them by its making."""
        first = motion[0] - self.velocity
        if (
            _longest(motion) > self.max_speed * SLACK
            or _norm(first) > self._change * SLACK
            or _norm(first - self.last_change) > self._second * SLACK
        ):
            return False
        return self.region.contains(self._path(motion)) if len(motion) > 1 else True

    def _towards(self, velocity: np.ndarray) -> np.ndarray:
        """Return the motion nearest to one tick at `velocity`, on the line to it from the known stop.

        Limits and regions are convex and stops are linear, so what lies between two allowed motions is
        all but allowed; what is returned has been checked.
        """
        best = self.braking()
        brake, low, high = best[0], 0.0, 1.0
        for _ in range(BISECTIONS):
            middle = 0.5 * (low + high)
            motion = self._with_stop(brake + middle * (velocity - brake))
            if motion is None:
                high = middle
            else:
                low, best = middle, motion
        return best


def _norm(vector: np.ndarray) -> float:
    x, y, z = vector.tolist()
    return math.sqrt(x * x + y * y + z * z)


def _longest(vectors: np.ndarray) -> float:
    """Return the greatest norm of (n, 3) vectors."""
    if len(vectors) == 2:
        return max(_norm(vectors[0]), _norm(vectors[1]))
    return math.sqrt(np.einsum('ij,ij->i', vectors, vectors).max())


def _shorten(vector: np.ndarray, length: float) -> tuple[np.ndarray, bool]:
    """Scale `vector` down to at most `length`; also tell whether that was needed."""
    norm = _norm(vector)
    if norm <= length * (1.0 + 1e-9):
        return vector, False
    return vector * (length / norm), True
