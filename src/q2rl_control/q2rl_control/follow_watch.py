# SPDX-License-Identifier: Apache-2.0
"""Whether the arm does what it is told: a controller or a robot that stopped behind our back says nothing of itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from q2rl_control.arm_logic import ArmLogic
from q2rl_task import Measurement, Pose, TaskSpec

FOR_S = 0.5
LEADS = 0.8
"""Share of the largest lead from which on the command counts as far ahead of the arm."""
FREE = 0.25
"""Share of stiffness times largest lead below which the contact is no reason to stand still."""
STILL_M = 0.0005
STILL_RAD = 0.005


class FollowWatch:
    """Tell an arm that stands still, far behind its command, with nothing in its way.

    An arm that is held back by a contact feels the contact: stiffness times lead on a compliant arm, more on a stiff
    one. One that feels next to nothing for half a second does not try. What is felt is the mean over that time.
    """

    def __init__(self, task: TaskSpec) -> None:
        limits = self._limits = task.limits
        self._ticks = FOR_S / task.period_s
        self._force = FREE * limits.stiffness_n_m * limits.lead_m
        self._torque = FREE * limits.stiffness_nm_rad * limits.lead_rad
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._start: Pose | None = None

    def note(self, commanded: Pose, measured: Measurement) -> str:
        """Take what was commanded last (tip, base frame) and what came of it; return what is wrong, or ''."""
        tip, limits = measured.tip_pose, self._limits
        lead, angle = tip.distance_to(commanded)
        if not (lead >= LEADS * limits.lead_m or angle >= LEADS * limits.lead_rad):
            self.forget()
            return ''
        if self._start is None or self._has_moved(tip):
            self._start, self._felt, self._count = tip, np.zeros(6), 0
        self._felt += measured.wrench
        self._count += 1
        if self._count < self._ticks:
            return ''
        mean = self._felt / self._count
        self.forget()
        force, torque = float(np.linalg.norm(mean[:3])), float(np.linalg.norm(mean[3:]))
        if not (force < self._force and torque < self._torque):
            return ''
        return (
            f'the arm does not follow its command: still {1e3 * lead:.0f} mm and {angle:.2f} rad away from it after '
            f'{FOR_S:g} s, with {force:.1f} N of contact; has its controller or its program been stopped?'
        )

    def _has_moved(self, tip: Pose) -> bool:
        moved, turned = self._start.distance_to(tip)
        return not (moved <= STILL_M and turned <= STILL_RAD)


class Follower:
    """What is made of an arm that cannot, or does not, do what it is told: in real time, before each tick.

    As long as somebody says that it cannot, the command is blocked. An arm that does not, though nobody said so, is
    handed on. Either way an episode under way ends without a result; a blocked one after a time.

    :param blocked: says why the arm cannot follow just now, or ''
    :param stopped: called with a reason when the arm does not follow
    :param patience_s: how long an episode may be blocked
    """

    def __init__(
        self,
        logic: ArmLogic,
        blocked: Callable[[], str],
        stopped: Callable[[str], None],
        patience_s: float,
    ) -> None:
        self._logic, self._blocked, self._stopped = logic, blocked, stopped
        self._patience = patience_s
        self._watch = FollowWatch(logic.task)
        self._free = float('-inf')

    def check(self, measured: Measurement, now: float) -> None:
        """Take the measurement of a tick, before the logic does, at the monotonic time `now` [s]."""
        logic, blocked = self._logic, self._blocked()
        logic.command.block(blocked)
        if not blocked:
            self._free = now
        elif now - self._free > self._patience:
            logic.lose(blocked)
        if blocked or logic.latch.held or not logic.guard.seeded:
            self._watch.forget()
        elif problem := self._watch.note(logic.guard.commanded, measured):
            self._stopped(problem)
