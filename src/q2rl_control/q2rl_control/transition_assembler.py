# SPDX-License-Identifier: Apache-2.0
"""From executed steps to numbered transitions, kept until the learner has acknowledged them."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

from q2rl_task import ExecutedStep, Phase, Transition, pair_steps


class OutboxFull(RuntimeError):
    """More transitions wait for acknowledgement than the assembler may keep."""


@dataclass
class _Waiting:
    transition: Transition
    sent: float


class TransitionAssembler:
    """Join the executed steps of one robot on (episode, step), in order, into transitions.

    Steps that are late, repeated, out of order or of another episode or robot are dropped and counted
    in `dropped`. Sequence numbers are contiguous over episodes and restarts.

    :param first_sequence: number of the next transition
    :param capacity: transitions kept at most; callers stop starting episodes well before
    """

    def __init__(self, robot: str, first_sequence: int = 1, capacity: int = 20000) -> None:
        self.robot = robot
        self.next_sequence = first_sequence
        self.acknowledged = first_sequence - 1
        self.dropped: Counter[str] = Counter()
        self.renumbered = 0
        self._capacity = capacity
        self._waiting: deque[_Waiting] = deque()
        self._episode = ''
        self._phase = Phase.STARTING
        self._last: ExecutedStep | None = None

    @property
    def unacknowledged_count(self) -> int:
        """How many transitions wait for acknowledgement."""
        return len(self._waiting)

    def begin(self, episode: str, phase: Phase) -> None:
        """Expect the steps of `episode` from now on; an unfinished one before it gets no more transitions."""
        self._episode, self._phase, self._last = episode, phase, None

    def add(self, step: ExecutedStep, now: float) -> Transition | None:
        """Take a step; return the transition it completes, if any.

        :param now: seconds on the caller's clock, for `due`
        :raises OutboxFull: the transition does not fit; the step is not taken and may come again
        """
        fault = self._fault(step)
        if fault is not None:
            self.dropped[fault] += 1
            return None
        last = self._last
        if last is None:
            self._last = step
            return None
        if len(self._waiting) >= self._capacity:
            raise OutboxFull(
                f'{len(self._waiting)} transitions wait for the learner to acknowledge them'
            )
        transition = pair_steps(last, step, self.next_sequence, self._phase)
        self.next_sequence += 1
        self._last = step
        self._waiting.append(_Waiting(transition, now))
        return transition

    def restore(self, transitions: Iterable[Transition]) -> None:
        """Take over transitions of an earlier process that may not have been acknowledged; they are due at once.

        :raises ValueError: their numbers do not follow one another
        """
        for transition in transitions:
            if self._waiting and transition.sequence != self.next_sequence:
                raise ValueError(
                    f'transition {transition.sequence} follows {self.next_sequence - 1}'
                )
            if not self._waiting:
                self.acknowledged = transition.sequence - 1
            self.next_sequence = transition.sequence + 1
            self._waiting.append(_Waiting(transition, float('-inf')))

    def acknowledge(self, robot: str, sequence: int) -> int:
        """Take an acknowledgement of everything up to `sequence`; return how many transitions that released.

        A number that was never given means that the learner knows this robot from a life whose records
        are gone: what waits is numbered anew behind it, since the learner took it for repetitions.
        """
        if robot != self.robot:
            return 0
        if sequence >= self.next_sequence:
            self._renumber(sequence + 1)
            return 0
        released = 0
        while self._waiting and self._waiting[0].transition.sequence <= sequence:
            self._waiting.popleft()
            released += 1
        self.acknowledged = max(self.acknowledged, sequence)
        return released

    def missing(self, sequence: int) -> range:
        """Return the numbers that were given, are not kept any more, and lie above an acknowledged `sequence`."""
        first = self._waiting[0].transition.sequence if self._waiting else self.next_sequence
        return range(sequence + 1, first)

    def due(self, now: float, older_than: float, limit: int = 200) -> list[Transition]:
        """Return unacknowledged transitions last sent more than `older_than` seconds ago, as sent again now.

        The oldest come first, at most `limit` of them.
        """
        due = []
        for waiting in self._waiting:
            if len(due) == limit:
                break
            if now - waiting.sent > older_than:
                waiting.sent = now
                due.append(waiting.transition)
        return due

    def unacknowledged(self) -> list[Transition]:
        """Return all transitions that wait for acknowledgement, oldest first."""
        return [w.transition for w in self._waiting]

    def _renumber(self, first: int) -> None:
        numbered = enumerate((w.transition for w in self._waiting), start=first)
        self._waiting = deque(
            _Waiting(replace(transition, sequence=number), float('-inf'))
            for number, transition in numbered
        )
        self.next_sequence = first + len(self._waiting)
        self.acknowledged = first - 1
        self.renumbered += 1

    def _fault(self, step: ExecutedStep) -> str | None:
        if step.robot != self.robot:
            return 'foreign_robot'
        if step.episode != self._episode:
            return 'foreign_episode'
        expected = 0 if self._last is None else self._last.step + 1
        if step.step < expected:
            return 'repeated'
        if step.step > expected:
            return 'out_of_order'
        if self._last is not None and self._last.final:
            return 'after_final'
        return None
