# SPDX-License-Identifier: Apache-2.0
"""The last filter before the robot: every command passes it, the policies' and the resets' alike.

In this order: reject; apply the action to the last *commanded* pose; let the contact force soften the
command; keep to the workspace; clamp the lead; keep to velocity, acceleration and jerk limits; check
the command itself. Limits hold per nominal tick of the task. Outside the workspace nothing moves inward
of itself: an action or a motion to a goal has to ask for it.
This is a protection of a research tool, not a certified safety function.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
import math

import numpy as np

from q2rl_control.motion_limits import TOLERANCE, LimitedMotion, workspace_regions
from q2rl_task import (
    InputError,
    Measurement,
    ObservationRecord,
    Pose,
    TaskSpec,
    advance_command,
    clamp_lead,
)
from q2rl_task.rotations import from_vector, inverse, product, rotate, to_vector

LEAD = 'lead'
"""Intervention code of the lead clamp: part of the action's law, expected in contact, no alarm."""
ACTION_TOLERANCE = 1e-4
AT_REST_M_S = 1e-6
MOVES_M_S = 0.01
MOVES_RAD_S = 0.05
"""Above this a measured motion is taken up when the guard is seeded; below, it is noise."""
CARRIED_M = 0.05
CARRIED_RAD = 0.2
"""So far out of the workspace the command follows an arm that something else carries out, to keep its lead. No
further: one that sinks, or whose tip is measured wrongly, would be followed for ever."""
MARGIN = 0.8
"""Share of the acceleration that a motion to a goal plans to brake with."""
CREDIBLE_M = 1e2
CREDIBLE_TWIST = 1e2
CREDIBLE_WRENCH = 1e5
"""Numbers beyond these (m; m/s and rad/s; N and Nm) come from no arm, finite or not."""


@dataclass(frozen=True)
class GuardedCommand:
    """A command that keeps every limit.

    target: tip pose to command, base frame. executed: (D,) float32, what the command amounts to in
    units of the action (may leave [-1, 1] where the guard pulls back). interventions: short codes,
    empty where the action passed unchanged.
    """

    target: Pose
    executed: np.ndarray
    interventions: tuple[str, ...]


def is_limited(interventions: Iterable[str]) -> bool:
    """Whether the guard changed the command beyond the lead clamp that is part of the action's law."""
    return any(code != LEAD for code in interventions)


def action_fault(action: np.ndarray, action_size: int) -> str | None:
    """Return why an action must be rejected as a whole: 'size', 'not_finite', 'out_of_range'; else None.

    :param action: (`action_size`,), each in [-1, 1]
    """
    try:
        vector = np.asarray(action, dtype=np.float64)
    except (TypeError, ValueError):
        return 'not_finite'
    if vector.shape != (action_size,):
        return 'size'
    if not np.isfinite(vector).all():
        return 'not_finite'
    if np.abs(vector).max() > 1.0 + ACTION_TOLERANCE:
        return 'out_of_range'
    return None


def answer_fault(
    pending: ObservationRecord | None,
    episode: str,
    step: int,
    age_s: float = 0.0,
    max_age_s: float = float('inf'),
) -> str | None:
    """Return why a decision is no answer to the pending observation, or None if it is one.

    One under another contract does not come so far: `decision_from_msg` reads none.

    :param age_s: time since the observation was measured [s]
    :returns: 'episode', 'step', 'late' (answered already, or older than `max_age_s`)
    """
    if pending is None:
        return 'late'
    if episode != pending.episode:
        return 'episode'
    if step != pending.step:
        return 'step'
    if not age_s <= max_age_s:
        return 'late'
    return None


def is_usable(measured: Measurement) -> bool:
    """Whether a measurement holds finite numbers that an arm can have measured."""
    return (
        measured.is_finite()
        and float(np.abs(measured.tip_pose.position).max()) <= CREDIBLE_M
        and float(np.abs(measured.tip_twist).max()) <= CREDIBLE_TWIST
        and float(np.abs(measured.wrench).max()) <= CREDIBLE_WRENCH
    )


class Guard:
    """Turn actions and reset goals into commands within the task's limits.

    One call of `command` or `move` per control tick. `reset` seeds it from the measured pose, at
    activation and at handover.
    """

    def __init__(self, task: TaskSpec) -> None:
        self._task = task
        limits, (box, cone) = task.limits, workspace_regions(task)
        try:
            self._position = LimitedMotion(
                box,
                limits.velocity_m_s,
                limits.acceleration_m_s2,
                limits.jerk_m_s3,
                task.period_s,
            )
            self._orientation = LimitedMotion(
                cone,
                limits.velocity_rad_s,
                limits.acceleration_rad_s2,
                limits.jerk_rad_s3,
                task.period_s,
            )
        except ValueError as error:
            raise InputError(
                f'task {task.name}: field `limits`',
                str(error),
                'raise the limits on acceleration and jerk, or lower that on velocity',
            ) from None

    def reset(self, measured: Pose, twist: np.ndarray | None = None) -> None:
        """Start at the measured tip pose (base frame), with the motion that it has.

        :param twist: measured (6,), linear then angular, base axes; a slow one, or None, counts as rest
        :raises ValueError: the pose or the twist is not finite
        """
        twist = np.zeros(6) if twist is None else np.asarray(twist, dtype=np.float64)
        if not (measured.is_finite() and np.isfinite(twist).all()):
            raise ValueError('the measured pose or twist is not finite')
        moving = np.linalg.norm(twist[:3]) > MOVES_M_S or np.linalg.norm(twist[3:]) > MOVES_RAD_S
        twist = twist if moving else np.zeros(6)
        self._position.reset(measured.position, twist[:3])
        self._orientation.reset(measured.quaternion, twist[3:])

    @property
    def seeded(self) -> bool:
        """Whether `reset` has been called."""
        return self._position.point.size > 0

    @property
    def commanded(self) -> Pose:
        """The last commanded tip pose, base frame."""
        return Pose(self._position.point.copy(), self._orientation.point.copy())

    @property
    def at_rest(self) -> bool:
        """Whether the command has stopped moving."""
        return all(
            float(np.linalg.norm(m.velocity)) < AT_REST_M_S
            for m in (self._position, self._orientation)
        )

    def command(
        self, action: np.ndarray | None, measured: Measurement, fixture: Pose
    ) -> GuardedCommand:
        """Execute one action for one tick; None, or an action that is rejected, decelerates to hold.

        :param action: (D,) in [-1, 1], axes of the estimated fixture frame
        :param measured: must be usable (see `is_usable`), else the guard brakes without it
        :param fixture: estimated fixture pose, base frame
        """
        task = self._task
        codes: list[str] = []
        if action is not None:
            fault = action_fault(action, task.action_size)
            if fault is not None:
                codes.append(f'rejected:{fault}')
                action = None
        wanted_action = (
            np.zeros(task.action_size) if action is None else np.asarray(action, np.float64)
        )
        if not (is_usable(measured) and fixture.is_finite()):
            return self._stop(fixture, wanted_action, (*codes, 'rejected:measurement'))
        target = advance_command(task, self.commanded, wanted_action, measured.tip_pose, fixture)
        asked = self._as_action(target, fixture, wanted_action)
        if np.abs(asked - wanted_action).max() > 1e-6:
            codes.append(LEAD)
        return self._limited(
            target, measured, fixture, wanted_action, codes, slow=action is not None
        )

    def move(
        self, goal: Pose, measured: Measurement, speed_m_s: float, speed_rad_s: float
    ) -> GuardedCommand:
        """Move the command one tick towards `goal` (base frame), at most at the given speeds.

        The same limits hold as for actions. `executed` is zeros: a reset is no action.
        """
        nothing = np.zeros(self._task.action_size)
        if not (is_usable(measured) and goal.is_finite()):
            return self._stop(None, nothing, ('rejected:measurement',))
        limits = self._task.limits
        target, lead = clamp_lead(
            self._towards(goal, speed_m_s, speed_rad_s),
            measured.tip_pose,
            limits.lead_m,
            limits.lead_rad,
        )
        return self._limited(target, measured, None, nothing, [LEAD] if lead else [])

    def coast(self) -> Pose:
        """Decelerate to hold for one tick without any measurement; return the commanded pose."""
        return self._stop(None, np.zeros(self._task.action_size), ()).target

    def _towards(self, goal: Pose, speed_m_s: float, speed_rad_s: float) -> Pose:
        """Return the pose one tick nearer to `goal`, slow enough to stop there."""
        period, here = self._task.period_s, self.commanded
        limits = self._task.limits
        shift = goal.position - here.position
        turn = to_vector(product(goal.quaternion, inverse(here.quaternion)))
        shift = _slowed(shift, speed_m_s, limits.acceleration_m_s2, limits.jerk_m_s3, period)
        turn = _slowed(turn, speed_rad_s, limits.acceleration_rad_s2, limits.jerk_rad_s3, period)
        return Pose(here.position + shift, product(from_vector(turn), here.quaternion))

    def _soften(self, target: Pose, measured: Measurement) -> tuple[Pose, bool]:
        """Take back the part of the command that presses into the contact, the more the higher the force.

        From all of it at `force_soften_n` down to none of it at `force_stop_n`.
        """
        limits, force = self._task.limits, measured.force
        if force <= limits.force_soften_n:
            return target, False
        tip = measured.tip_pose
        outward = rotate(tip.quaternion, measured.wrench[:3] / force)
        pressing = float((tip.position - target.position) @ outward)
        if pressing <= 0.0:
            return target, False
        kept = (limits.force_stop_n - force) / (limits.force_stop_n - limits.force_soften_n)
        back = pressing * (1.0 - max(0.0, kept))
        return Pose(target.position + back * outward, target.quaternion), True

    def _within(self, target: Pose, measured: Measurement) -> tuple[Pose, tuple[str, ...]]:
        """Keep `target` to the workspace, or no further out than the command is, and then to its lead."""
        position, orientation = self._position.region, self._orientation.region
        inside = Pose(position.project(target.position), orientation.project(target.quaternion))
        codes = ('workspace',) if _differ(inside, target) else ()
        limits = self._task.limits
        near, _ = clamp_lead(inside, measured.tip_pose, limits.lead_m, limits.lead_rad)
        if not _differ(near, inside):
            return inside, codes
        near = Pose(
            position.project(near.position, CARRIED_M),
            orientation.project(near.quaternion, CARRIED_RAD),
        )
        return near, (*codes, LEAD)

    def _limited(
        self,
        target: Pose,
        measured: Measurement,
        fixture: Pose | None,
        action: np.ndarray,
        codes: list[str],
        slow: bool = False,
    ) -> GuardedCommand:
        """Soften, keep to workspace, lead and rates, check, and make the result the new commanded state.

        :param slow: outside the workspace, move at the speeds of a reset at most
        """
        target, softened = self._soften(target, measured)
        if softened:
            codes.append('force')
        limits, reset = self._task.limits, self._task.reset
        target, kept = self._within(target, measured)
        speed_m_s, speed_rad_s = limits.velocity_m_s, limits.velocity_rad_s
        if slow and self._position.region.stretched:
            speed_m_s = reset.speed_m_s
        if slow and self._orientation.region.stretched:
            speed_rad_s = reset.speed_rad_s
        linear, linear_codes = self._position.plan(target.position, speed_m_s)
        angular, angular_codes = self._orientation.plan(target.quaternion, speed_rad_s)
        found = dict.fromkeys((*codes, *kept, *linear_codes, *angular_codes))
        if 'workspace' in found:
            found.pop('braking', None)  # for its boundary
        codes = list(found)
        if not (self._position.allows(linear[0]) and self._orientation.allows(angular[0])):
            return self._stop(fixture, action, (*codes, 'final_check'))
        return self._accept(linear, angular, fixture, action, tuple(codes))

    def _stop(
        self, fixture: Pose | None, action: np.ndarray, codes: tuple[str, ...]
    ) -> GuardedCommand:
        """Brake along the present motion, which needs neither a measurement nor an action."""
        usable = fixture if fixture is not None and fixture.is_finite() else None
        return self._accept(
            self._position.braking(), self._orientation.braking(), usable, action, codes
        )

    def _accept(
        self,
        linear: np.ndarray,
        angular: np.ndarray,
        fixture: Pose | None,
        action: np.ndarray,
        codes: tuple[str, ...],
    ) -> GuardedCommand:
        before = self.commanded
        self._position.accept(linear)
        self._orientation.accept(angular)
        target = self.commanded
        if fixture is None:
            executed = np.zeros(self._task.action_size)
        elif codes:
            executed = self._as_action(target, fixture, action, before)
        else:
            executed = action
        return GuardedCommand(target, executed.astype(np.float32), codes)

    def _as_action(
        self, target: Pose, fixture: Pose, action: np.ndarray, before: Pose | None = None
    ) -> np.ndarray:
        """Express the step from `before` (default: the commanded pose) to `target` in units of the action.

        Components beyond the six of the pose (a gripper) are those of `action`.
        """
        before = before or self.commanded
        axes = inverse(fixture.quaternion)
        executed = np.array(action, dtype=np.float64)
        executed[:3] = rotate(axes, target.position - before.position)
        executed[:3] /= self._task.action.translation_m
        turn = to_vector(product(target.quaternion, inverse(before.quaternion)))
        executed[3:6] = rotate(axes, turn)
        executed[3:6] /= self._task.action.rotation_rad
        return executed


def _differ(first: Pose, second: Pose) -> bool:
    """Whether two poses are more than rounding apart."""
    position = np.abs(first.position - second.position).max()
    return max(position, np.abs(first.quaternion - second.quaternion).max()) > TOLERANCE


def _slowed(
    step: np.ndarray, speed: float, acceleration: float, jerk: float, period: float
) -> np.ndarray:
    """Shorten a remaining (3,) step to what one tick may cover, so that a stop at its end is possible.

    Far from the goal the speed is that of even braking, v^2 = 2 a d; near it falls in proportion to the
    distance, so that the acceleration fades before the goal does.
    """
    distance = float(np.linalg.norm(step))
    if 2.0 * speed <= min(acceleration * period, jerk * period**2):
        # Any such speed can be had, and stopped from, within a tick.
        allowed = speed * period
        return step if distance <= allowed else step * (allowed / distance)
    brake = min(MARGIN * acceleration, 0.51 * math.sqrt(jerk * speed))
    gain = min(1.0 / period, 0.26 * jerk / brake)
    near = brake / gain**2
    beyond = max(0.0, distance - near)
    wanted = math.sqrt((gain * min(distance, near)) ** 2 + 2.0 * brake * beyond)
    allowed = min(speed, wanted) * period
    return step if distance <= allowed * (1.0 + 1e-9) else step * (allowed / distance)
