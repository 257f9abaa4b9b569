# SPDX-License-Identifier: Apache-2.0
"""Who may act: a person before a hold, a hold before BC and RL (between which the gate has chosen).

Nothing here moves the command: whoever acts, the guard goes on from the last commanded state, so a
change of hands is no jump.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from q2rl_control.guard import action_fault
from q2rl_task import Decision, Mode, ObservationRecord, Source


class RightOfWay:
    """Turn the gate's decision into that of whoever has the right of way.

    A person has it while their actions keep coming. When they stop, the arm holds, and only after
    `hand_back_s` more the policies go on. Times are those of the measurements [s].

    :param fresh_s: age up to which a person's action counts: let go, and the arm holds
    :param hand_back_s: how long the arm then holds
    """

    def __init__(self, action_size: int, fresh_s: float, hand_back_s: float) -> None:
        self._size = action_size
        self._fresh = fresh_s
        self._hand_back = hand_back_s
        self._action: np.ndarray | None = None
        self._acted = float('-inf')

    def human(self, action: np.ndarray, now: float) -> str | None:
        """Take a person's action (D,) in [-1, 1]; return why it is rejected ('size', ...), or None.

        One that is rejected is no sign of a hand on the lever either.
        """
        fault = action_fault(action, self._size)
        if fault is None:
            self._action, self._acted = np.array(action, dtype=np.float32), now
        return fault

    def let_go(self) -> None:
        """Take a person's word that they act no more: the arm holds from now on, for `hand_back_s` at least."""
        self._action = None

    def human_acts(self, now: float) -> bool:
        """Whether a person has taken over, or has only just let go."""
        return 0.0 <= now - self._acted <= self._fresh + self._hand_back

    def is_at_the_lever(self, now: float) -> bool:
        """Whether a person's action counts just now."""
        return self._action is not None and 0.0 <= now - self._acted <= self._fresh

    def needs_no_gate(self, record: ObservationRecord, patient: bool) -> bool:
        """Whether `record` is answered without a decision of the gate: in Mode.HUMAN a person acts, or nobody.

        :param patient: wait for what they do about this very measurement, as a simulation in lockstep can
        """
        if record.mode is not Mode.HUMAN:
            return False
        return record.final or not patient or self._acted >= record.stamp

    def forget(self) -> None:
        """Forget the person: the clock went back, or the arm starts anew."""
        self._action, self._acted = None, float('-inf')

    def settle(self, decision: Decision | None, held: bool, now: float) -> Decision | None:
        """Return what is to be executed; None, or the source HOLD, holds.

        What the policies said stays in the record, whoever acts.

        :param decision: the gate's
        :param held: whether an operator holds the arm
        """
        if self.human_acts(now):
            base = decision or Decision.hold(self._size)
            if self.is_at_the_lever(now):
                return replace(base, source=Source.HUMAN, action=self._action)
            return as_hold(base, self._size)
        if held and decision is not None:
            return as_hold(decision, self._size)
        return decision


def as_hold(decision: Decision, action_size: int) -> Decision:
    """Return `decision` as a hold: zero action, everything BC and the critic said left as it was."""
    return replace(decision, source=Source.HOLD, action=np.zeros(action_size, dtype=np.float32))
