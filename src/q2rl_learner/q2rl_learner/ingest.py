# SPDX-License-Identifier: Apache-2.0
"""From arriving transitions to the learner's order: on disk first, then each robot's without gaps and in sequence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from q2rl_learner.transition_log import TransitionLog
from q2rl_task import Transition


class Ingest:
    """Store transitions and hand them on in an order that depends on what is stored alone.

    A transition is handed on when all before it from its robot are; what a kill interrupts comes out the same when the
    log is replayed. Use from one thread.
    """

    def __init__(self, log: TransitionLog) -> None:
        self.log = log
        self.handed: dict[str, int] = {}
        self._early: dict[str, dict[int, Transition]] = {}

    def replay(self) -> list[Transition]:
        """Return what the log holds, in the learner's order; damaged rows are left out (see `log.damaged`)."""
        stored = list(self.log.replay())
        ready = self._order(stored)
        # What is damaged never comes again: it was acknowledged.
        for robot, sequence in sorted(self.log.damaged_keys):
            self._early.setdefault(robot, {})
            if sequence == self.handed.get(robot, 0) + 1:
                self.handed[robot] = sequence
                ready += self._release(robot)
        return ready

    def store(self, transitions: Sequence[Transition]) -> list[Transition]:
        """Commit transitions to disk and return those that are due to the learner now; repetitions vanish.

        :raises InputError: the log cannot be written
        """
        return self._order(self.log.append(transitions))

    def acknowledged(self, robot: str) -> int:
        """Return the sequence up to which everything of `robot` is on disk."""
        return self.log.contiguous(robot)

    def _order(self, transitions: Iterable[Transition]) -> list[Transition]:
        ready: list[Transition] = []
        for transition in transitions:
            self._early.setdefault(transition.robot, {})[transition.sequence] = transition
            ready += self._release(transition.robot)
        return ready

    def _release(self, robot: str) -> list[Transition]:
        early, ready = self._early[robot], []
        while (following := early.pop(self.handed.get(robot, 0) + 1, None)) is not None:
            self.handed[robot] = following.sequence
            ready.append(following)
        return ready
