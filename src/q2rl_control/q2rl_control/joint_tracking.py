# SPDX-License-Identifier: Apache-2.0
"""From tip poses to joint positions, tick by tick, within the limits of the joints and never by a jump."""

from __future__ import annotations

import numpy as np

from q2rl_control.kinematics import WHERE, ArmKinematics, damped_step
from q2rl_task import InputError, Pose

DAMPING = 0.02
"""Of the least squares: below singular values of this size joints no longer race after the tip."""
ITERATIONS = 12
REACHED = 1e-5
"""Largest component of the remaining error [m, rad] that counts as none."""
FOLLOWED_M = 1e-3
FOLLOWED_RAD = 5e-3
"""Beyond these a target counts as not followed."""
POSTURE = 0.05
"""Share of the way back to the posture of the seed per tick, as far as the tip is not moved."""
LEAD_RAD = 0.2
"""A command that is further than this from the measured joints is given up and seeded anew."""
SEEDED, SLOWED, BOUND, UNFOLLOWED = 'seeded', 'joint_velocity', 'joint_limit', 'unfollowed'
"""What `JointTracking.codes` may hold: started from the measured joints; slowed down to a velocity limit; a joint would
have left its limits, and the others did without it; the tip of the command is not where the target is."""


class JointTracking:
    """Damped differential inverse kinematics from the last commanded joint positions.

    The first command starts from the measured joints, and so does one after the arm has been moved by something
    else. Per tick no joint moves by more than its velocity limit allows (all of them are slowed alike, so that the
    tip keeps its direction), and none beyond its limits; a joint that starts outside may only come back.

    :param period_s: time from one command to the next [s]
    :raises InputError: a joint has no velocity limit
    """

    def __init__(self, kinematics: ArmKinematics, period_s: float) -> None:
        if not (np.isfinite(kinematics.speed).all() and (kinematics.speed > 0).all()):
            raise InputError(
                WHERE, 'a joint has no velocity limit', 'give each joint a <limit velocity>'
            )
        self._kinematics = kinematics
        self._reach = kinematics.speed * period_s
        self._commanded: np.ndarray | None = None
        self._posture: np.ndarray | None = None
        self._bound = False
        self.codes: tuple[str, ...] = ()

    @property
    def commanded(self) -> np.ndarray | None:
        """The last commanded joint positions (n,); None before the first."""
        return self._commanded

    def forget(self) -> None:
        """Start from the measured joints again."""
        self._commanded = self._posture = None

    def follow(self, target: Pose, measured: np.ndarray) -> np.ndarray:
        """Return the next joint positions (n,).

        :param target: of the tip, base frame
        :param measured: joint positions (n,)
        :raises ValueError: `measured` or `target` is not finite, or has another size
        """
        measured = np.asarray(measured, dtype=np.float64)
        if measured.shape != self._reach.shape or not np.isfinite(measured).all():
            raise ValueError(f'not {len(self._reach)} finite joint positions')
        if not target.is_finite():
            raise ValueError('the target is not finite')
        codes = []
        before = self._commanded
        if before is None or np.abs(before - measured).max() > LEAD_RAD:
            codes.append(SEEDED)
            before = measured
            self._posture = measured
        low = np.minimum(self._kinematics.lower, before)
        high = np.maximum(self._kinematics.upper, before)
        wanted = self._solve(target, before, low, high)
        change = wanted - before
        excess = float((np.abs(change) / self._reach).max())
        if excess > 1.0:
            change = change / excess
            codes.append(SLOWED)
        self._commanded = np.clip(before + change, low, high)
        if self._bound:
            codes.append(BOUND)
        distance, angle = self._kinematics.tip_pose(self._commanded).distance_to(target)
        if distance > FOLLOWED_M or angle > FOLLOWED_RAD:
            codes.append(UNFOLLOWED)
        self.codes = tuple(codes)
        return self._commanded.copy()

    def _solve(
        self, target: Pose, start: np.ndarray, low: np.ndarray, high: np.ndarray
    ) -> np.ndarray:
        """Return joint positions near `start` that bring the tip as near to `target` as the limits allow."""
        positions = start.copy()
        for iteration in range(ITERATIONS):
            error = self._kinematics.error(positions, target)
            if iteration and np.abs(error).max() < REACHED:
                break
            jacobian = self._kinematics.jacobian(positions)
            free = np.ones(len(positions), dtype=bool)
            self._bound = False
            posture = POSTURE * (self._posture - positions) if iteration == 0 else 0.0 * positions
            # A joint that would leave its limits is taken out, and the others have to do without it.
            for _ in range(len(positions)):
                step = _step(jacobian, error, posture, free)
                leaves = free & ((positions + step < low) | (positions + step > high))
                if not leaves.any():
                    break
                free &= ~leaves
                self._bound = True
            positions = np.clip(positions + step, low, high)
        return positions


def _step(
    jacobian: np.ndarray, error: np.ndarray, posture: np.ndarray, free: np.ndarray
) -> np.ndarray:
    """Return the step (n,) of the free joints for the error (6,), with a wish (n,) that must not move the tip."""
    part = jacobian[:, free]
    wish = posture[free]
    step = np.zeros(len(free))
    step[free] = wish + damped_step(part, error - part @ wish, DAMPING)
    return step


class Interpolation:
    """Joint positions between two commands, for a controller that takes what it is told at once.

    A command is reached one period after it was given, in equal steps: a staircase of the control rate would be a
    jump for a stiff arm at every tick.
    """

    def __init__(self, period_s: float) -> None:
        self._period = period_s
        self._from: np.ndarray | None = None
        self._to: np.ndarray | None = None
        self._since = 0.0

    def forget(self) -> None:
        """Say nothing until there is a command again."""
        self._from = self._to = None

    def command(self, positions: np.ndarray, now: float, start: np.ndarray) -> None:
        """Take the next command (n,) at monotonic time `now` [s]; the first one begins at `start` (n,)."""
        here = self.at(now)
        self._from = np.array(start if here is None else here)
        self._to, self._since = np.array(positions), now

    def at(self, now: float) -> np.ndarray | None:
        """Return what to command at `now`, (n,); None before the first command. The last command stays for good."""
        if self._to is None:
            return None
        share = min(1.0, max(0.0, (now - self._since) / self._period))
        return self._from + share * (self._to - self._from)
