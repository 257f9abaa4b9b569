# SPDX-License-Identifier: Apache-2.0
"""Whether the arm does what it is told: a controller or a robot that stopped behind our back says nothing of itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
import math

import numpy as np

from q2rl_control.arm_logic import ArmLogic
from q2rl_control.arm_state import OF_ITSELF, ArmState
from q2rl_control.guard import is_usable
from q2rl_task import Measurement, Pose, TaskSpec

FOR_S = 0.5
LEADS = 0.5
"""Share of the largest lead from which on the command counts as far ahead of the arm."""
FREE = 0.2
"""Share of stiffness times lead below which what is felt is no reason to stand still: a spring at rest is balanced."""
STILL_M = 0.0005
STILL_RAD = 0.005


class FollowWatch:
    """Tell an arm that stands still, well behind its command, with nothing in its way.

    An arm that is held back by a contact feels the contact: stiffness times lead on a compliant arm, more on a stiff
    one. One that feels next to nothing for half a second does not try. Leads and what is felt are means over that time.
    """

    def __init__(self, task: TaskSpec) -> None:
        limits = task.limits
        self._most = np.array([limits.lead_m, limits.lead_rad])
        self._stiffness = np.array([limits.stiffness_n_m, limits.stiffness_nm_rad])
        self._recent: deque[np.ndarray] = deque(maxlen=math.ceil(FOR_S / task.period_s))
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._recent.clear()
        self._start: Pose | None = None

    def note(self, commanded: Pose, measured: Measurement) -> str:
        """Take what was commanded last (tip, base frame) and what came of it; return what is wrong, or ''."""
        tip = measured.tip_pose
        if self._start is None or self._has_moved(tip):
            self.forget()
            self._start = tip
        lead = commanded.position - tip.position
        self._recent.append(
            np.concatenate([lead, tip.rotation_vector_to(commanded), measured.wrench])
        )
        if len(self._recent) < self._recent.maxlen:
            return ''
        # Of lead, turn, force and torque.
        means = np.linalg.norm(np.mean(self._recent, axis=0).reshape(4, 3), axis=1)
        leads, felt = means[:2], means[2:]
        far = leads >= LEADS * self._most
        free = felt < FREE * self._stiffness * np.where(far, leads, self._most)
        if not (far.any() and free.all()):
            return ''
        self.forget()
        return (
            f'the arm does not follow its command: still {1e3 * leads[0]:.0f} mm and {leads[1]:.2f} rad behind it '
            f'after {FOR_S:g} s, with {felt[0]:.1f} N of contact; has its controller or its program been stopped?'
        )

    def _has_moved(self, tip: Pose) -> bool:
        moved, turned = self._start.distance_to(tip)
        return not (moved <= STILL_M and turned <= STILL_RAD)


class Follower:
    """What is made of an arm that cannot, or does not, do what it is told: in real time, before each tick.

    As long as somebody says that it cannot, the command is blocked. For an arm that does not, though nobody said so,
    the hold is latched. Either way an episode under way ends without a result; a blocked one after a time. An arm that
    waits for people (`hold_at_start`) is held then too: pressing play on the pendant is no word to go on with a motion.

    :param blocked: says why the arm cannot follow just now, or ''
    :param hold: called with a reason when the arm does not follow
    :param patience_s: how long a motion may be blocked
    :param waits_for_people: whether one that was blocked longer goes on only when a person lets go of a hold
    """

    def __init__(
        self,
        logic: ArmLogic,
        blocked: Callable[[], str],
        hold: Callable[[str], None],
        patience_s: float,
        waits_for_people: bool = False,
    ) -> None:
        self._logic, self._blocked, self._hold = logic, blocked, hold
        self._patience, self._waits_for_people = patience_s, waits_for_people
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
            if self._waits_for_people and logic.state in OF_ITSELF and not logic.latch.held:
                self._hold(f'{blocked}; see to it, then let go of the hold, and the arm moves')
        if blocked or logic.latch.held or not logic.guard.seeded:
            self._watch.forget()
        elif is_usable(measured) and (problem := self._watch.note(logic.guard.commanded, measured)):
            self.left_behind(problem)

    def left_behind(self, reason: str) -> None:
        """Take note that the arm does not do what it is told."""
        if self._logic.state is ArmState.RUNNING:
            self._logic.lose(reason)
        self._hold(reason)
