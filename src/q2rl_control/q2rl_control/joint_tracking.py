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
"""Share of the way to the posture per tick, as far as the tip is not moved."""
TURNED_RAD = 0.02
"""A joint that has gone this far from where it rested, by what does not move the tip, was turned by others, where the
tip is within `PLACED_M` and `PLACED_RAD` of a target at rest. An arm that merely sags must not be gone after."""
PLACED_M = 0.01
PLACED_RAD = 0.1
LEAD_RAD = 0.2
"""A command that gets further than this from the measured joints is given up, and comes back to them."""
CAUGHT_UP_RAD = 0.05
NEAR_SINGULAR, SINGULAR = 17.0, 30.0
"""Condition numbers of the Jacobian (metres, radians) between which the way towards a singularity slows down to
nothing: those of MoveIt Servo's defaults."""
SEEDED, SLOWED, SOFTENED = 'seeded', 'joint_velocity', 'joint_acceleration'
NEARLY_SINGULAR, BOUND, UNFOLLOWED, BEHIND = 'singularity', 'joint_limit', 'unfollowed', 'lag'
"""What `JointTracking.codes` may hold: started from the measured joints; slowed down to a velocity limit, or to one of
acceleration; slowed down or held before a singularity; a joint would have left its limits, and the others did without
it; the tip of the command is not where the target is; the arm has not followed, and the command comes back to it."""


class JointTracking:
    """Damped differential inverse kinematics from the last commanded joint positions.

    The first command starts from the measured joints. From then on every command is near the one before, whatever is
    asked and measured. Per tick no joint moves by more than its share of its velocity limit allows (all of them are
    slowed alike, so that the tip keeps its direction), none changes that by more than the acceleration, and none goes
    beyond its limits; a joint that starts outside may only come back. Before a limit of a joint, and before the end of
    a way that was not followed at once, they brake in time. An arm that does not follow is not waited for: the command
    brakes, comes back to the measured joints and goes on from there; who is to let go of it is the caller's to decide.
    Where others turn the elbow of an arm whose tip is to rest and does, the command takes over its posture.

    codes: of the last command. behind: how far which joint was left behind, while the command comes back; else empty.

    :param period_s: time from one command to the next [s]
    :param speed: share of the velocity limits of the joints
    :param acceleration: of each joint [rad/s^2 or m/s^2]
    :raises InputError: a joint has no velocity limit
    """

    def __init__(
        self,
        kinematics: ArmKinematics,
        period_s: float,
        speed: float = 0.5,
        acceleration: float = 20.0,
    ) -> None:
        if not (np.isfinite(kinematics.speed).all() and (kinematics.speed > 0).all()):
            raise InputError(
                WHERE, 'a joint has no velocity limit', 'give each joint a <limit velocity>'
            )
        self._kinematics = kinematics
        self._reach = speed * kinematics.speed * period_s
        self._gain = acceleration * period_s**2
        self._bound = False
        self.codes: tuple[str, ...] = ()
        self.forget()

    @property
    def size(self) -> int:
        """Number of joints n."""
        return len(self._reach)

    @property
    def commanded(self) -> np.ndarray | None:
        """The last commanded joint positions (n,); None before the first."""
        return self._commanded

    def forget(self) -> None:
        """Start from the measured joints again."""
        self._commanded: np.ndarray | None = None
        self._target: Pose | None = None
        self._sag: np.ndarray | None = None
        self.behind = ''

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
        codes: list[str] = []
        if self._commanded is None:
            codes.append(SEEDED)
            self._commanded, self._change = measured.copy(), np.zeros(len(measured))
            self._start_over(measured)
        before = self._commanded
        low = np.minimum(self._kinematics.lower, before)
        high = np.maximum(self._kinematics.upper, before)
        self._look_after(measured)
        self._note_posture(target, measured)
        wanted = measured if self.behind else self._solve(target, before, low, high)
        self._change = self._limited(self._way(wanted), low, high, codes)
        self._commanded = np.clip(before + self._change, low, high)
        if self.behind:
            codes.append(BEHIND)
        elif self._bound:
            codes.append(BOUND)
        distance, angle = self._kinematics.tip_pose(self._commanded).distance_to(target)
        if distance > FOLLOWED_M or angle > FOLLOWED_RAD:
            codes.append(UNFOLLOWED)
        self.codes = tuple(codes)
        return self._commanded.copy()

    def _start_over(self, measured: np.ndarray) -> None:
        """Take the next wanted positions for a target that stands still, and the measured joints for the posture."""
        self._wanted: np.ndarray | None = None
        self._posture = measured

    def _look_after(self, measured: np.ndarray) -> None:
        """Give the target up for an arm that was left behind, and take it up when the command is back at the arm."""
        lag = np.abs(self._commanded - measured)
        if self.behind and lag.max() < CAUGHT_UP_RAD:
            self.behind = ''
            self._start_over(measured)
        elif not self.behind and lag.max() > LEAD_RAD:
            worst = int(lag.argmax())
            self.behind = (
                f'{self._kinematics.joints[worst]} is {lag[worst]:.2f} rad from its command'
            )
            self._start_over(measured)

    def _note_posture(self, target: Pose, measured: np.ndarray) -> None:
        """Take the measured joints for the posture where others turned them while the tip is to rest, and does."""
        last, self._target = self._target, target
        if last is None or max(last.distance_to(target)) > REACHED:
            self._sag = None
            return
        distance, angle = self._kinematics.tip_pose(measured).distance_to(target)
        if distance < PLACED_M and angle < PLACED_RAD:
            jacobian = self._kinematics.jacobian(self._commanded)
            lag = measured - self._commanded
            elbow = lag - damped_step(jacobian, jacobian @ lag, DAMPING)
            if self._sag is None:  # as it came to rest: nobody's doing
                self._sag = elbow
            if np.abs(elbow - self._sag).max() > TURNED_RAD:
                self._posture = measured - self._sag

    def _way(self, wanted: np.ndarray) -> np.ndarray:
        """Return the change (n,) that follows `wanted`, and makes up for what is left so that it can brake in time."""
        last = wanted if self._wanted is None else self._wanted
        self._wanted = wanted
        left = last - self._commanded
        return wanted - last + np.clip(left, -self._stoppable(left), self._stoppable(left))

    def _limited(
        self, change: np.ndarray, low: np.ndarray, high: np.ndarray, codes: list[str]
    ) -> np.ndarray:
        """Return the change of the commanded positions (n,), within velocities, accelerations and positions."""
        excess = float((np.abs(change) / self._reach).max())
        if excess > 1.0:
            change = change / excess
            codes.append(SLOWED)
        share = self._share_before_singularity(change)
        if share < 1.0:
            change = share * change
            codes.append(NEARLY_SINGULAR)
        before = self._commanded
        inside = np.clip(change, -self._stoppable(before - low), self._stoppable(high - before))
        even = np.clip(inside, self._change - self._gain, self._change + self._gain)
        if np.abs(even - inside).max() > REACHED:
            codes.append(SOFTENED)
        return even

    def _stoppable(self, way: np.ndarray) -> np.ndarray:
        """Return the largest change per tick (n,) after which a joint can brake within what is left of a way (n,)."""
        ticks = np.sqrt(0.25 + 2.0 * np.abs(way) / self._gain) - 0.5
        return self._gain * ticks

    def _share_before_singularity(self, change: np.ndarray) -> float:
        """Return the share of a change (n,) that is let through: all, unless it leads into a singularity."""
        there = self._condition(self._commanded + change)
        if there <= NEAR_SINGULAR or there <= self._condition(self._commanded):
            return 1.0
        return max(0.0, (SINGULAR - there) / (SINGULAR - NEAR_SINGULAR))

    def _condition(self, positions: np.ndarray) -> float:
        values = np.linalg.svd(self._kinematics.jacobian(positions), compute_uv=False)
        return float(values[0] / max(values[-1], 1e-12))

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
