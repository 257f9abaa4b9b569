# SPDX-License-Identifier: Apache-2.0
"""What an arm is commanded, tick by tick, whatever it is doing: all of it through one guard."""

from __future__ import annotations

from collections import Counter

import numpy as np

from q2rl_control.guard import Guard, GuardedCommand
from q2rl_control.halt import Halt
from q2rl_task import Measurement, Pose, TaskSpec

CARRIED = 0.5
"""Share of the largest lead by which an arm that does not follow has been moved by others."""


class ArmCommand:
    """Execute an action, move, keep still, or come back to the arm: one of these per tick. Poses are in the base frame.

    An arm may stop following its command: the controller below cannot follow for a time (`block`), or has stopped it
    (`halt`, until `let_go`). Keeping still then brings the command back to where the arm is.

    interventions: of the guard, on the last command. codes: how often it said what.

    :raises InputError: limits with which the arm could not stop
    """

    def __init__(self, task: TaskSpec) -> None:
        self._task = task
        self.interventions: tuple[str, ...] = ()
        self.codes: Counter[str] = Counter()
        self.blocked = ''
        """Why the controller below cannot follow just now, or empty: see `block`."""
        self._halted = False
        self.start_anew()

    def start_anew(self) -> None:
        """Forget the commanded state; the next `seed` counts."""
        self.guard = Guard(self._task)
        self._halt = self._new_halt()

    def seed(self, measured: Measurement) -> None:
        """Start from the arm as it is, unless there is a commanded state already."""
        if not self.guard.seeded:
            self.guard.reset(measured.tip_pose, measured.tip_twist)

    def block(self, reason: str) -> None:
        """Hold where the arm is, whoever wants it to move, until this is called with ''."""
        begins = reason and not self.blocked
        self.blocked = reason
        if begins:
            self._halt = self._new_halt()

    def halt(self) -> None:
        """Take note that the controller below stopped the arm."""
        if not self._halted:
            self._halted = True
            self._halt = self._new_halt()

    def let_go(self) -> None:
        """Take back a `halt`."""
        self._halted = False

    def stop(self) -> None:
        """Let `come_back` bring the command to where the arm is from now on."""
        self._halt = self._new_halt()

    @property
    def drawn_back(self) -> bool:
        """Whether the command is to come back to an arm that does not follow it."""
        return bool(self.blocked) or self._halted

    def act(self, action: np.ndarray, measured: Measurement, fixture: Pose) -> GuardedCommand:
        """Execute an action (D,), see `Guard.command`."""
        return self._noted(self.guard.command(action, measured, fixture))

    def move(
        self, goal: Pose, measured: Measurement, speed_m_s: float, speed_rad_s: float
    ) -> GuardedCommand:
        """Move one tick towards a goal, see `Guard.move`."""
        return self._noted(self.guard.move(goal, measured, speed_m_s, speed_rad_s))

    def keep(self, measured: Measurement, fixture: Pose) -> GuardedCommand:
        """Decelerate to hold, or come back to an arm that does not follow."""
        if self.drawn_back:
            return self.come_back(measured)
        return self._noted(self.guard.command(None, measured, fixture))

    def come_back(self, measured: Measurement) -> GuardedCommand:
        """Bring the command back to where the arm is, see `Halt`."""
        limits = self._task.limits
        goal = self._halt.goal(measured)
        return self.move(goal, measured, limits.velocity_m_s, limits.velocity_rad_s)

    def coast(self) -> Pose | None:
        """Decelerate to hold for one tick in which nothing usable was measured; None before the first `seed`."""
        return self.guard.coast() if self.guard.seeded else None

    def _new_halt(self) -> Halt:
        if not self.drawn_back:
            return Halt()
        limits = self._task.limits
        return Halt(CARRIED * limits.lead_m, CARRIED * limits.lead_rad)

    def _noted(self, guarded: GuardedCommand) -> GuardedCommand:
        self.interventions = guarded.interventions
        self.codes.update(guarded.interventions)
        return guarded
