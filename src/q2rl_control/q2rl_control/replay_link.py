# SPDX-License-Identifier: Apache-2.0
"""The sending end of the replay topic: number, store, publish, resend, forget once acknowledged."""

from __future__ import annotations

from collections.abc import Callable

from q2rl_control.run_store import Outbox
from q2rl_control.transition_assembler import TransitionAssembler
from q2rl_task import ExecutedStep, Phase, Transition

PROBE_LIMIT = 1
RESEND_LIMIT = 100
GAP_AFTER_S = 5.0
"""For so long acknowledgements must have fallen short: the last one of a learner that was killed may come late."""


class ReplayLink:
    """Transitions on their way to the learner.

    Each is stored before it is published, so no number is ever given twice. Silence of the learner stops
    the resending but for one probe at a time.

    :param publish: sends a transition
    :param outbox: keeps unacknowledged ones over a restart; None keeps them in memory only
    :param encode: a transition as bytes, for the outbox
    :param acknowledged: whether a learner or a recorder acknowledges; else what is published is forgotten at once
    """

    def __init__(
        self,
        assembler: TransitionAssembler,
        publish: Callable[[Transition], None],
        outbox: Outbox | None,
        encode: Callable[[Transition], bytes],
        acknowledged: bool = True,
    ) -> None:
        self.assembler = assembler
        self._acknowledged = acknowledged
        self._publish = publish
        self._outbox = outbox
        self._encode = encode
        self._heard = float('-inf')
        self._short_since = float('-inf')
        self._missing = range(0)
        self._episode_start = assembler.next_sequence

    def begin(self, episode: str, phase: Phase) -> None:
        """Expect the steps of `episode`."""
        self._episode_start = self.assembler.next_sequence
        self.assembler.begin(episode, phase)

    def add(self, step: ExecutedStep, now: float) -> Transition | None:
        """Take a step; store and publish the transition that it completes, if any.

        :raises OutboxFull: too many transitions wait
        """
        transition = self.assembler.add(step, now)
        if transition is not None:
            if self._outbox is not None and self._acknowledged:
                self._outbox.append(transition.sequence, self._encode(transition))
            self._publish(transition)
            if not self._acknowledged:
                self.assembler.acknowledge(self.assembler.robot, transition.sequence)
        return transition

    @property
    def published_in_episode(self) -> int:
        """Transitions published since `begin`."""
        return self.assembler.next_sequence - self._episode_start

    def heard(self, now: float) -> None:
        """Note a sign of life of the learner."""
        self._heard = now

    def acknowledge(self, robot: str, sequence: int, now: float) -> None:
        """Take an acknowledgement."""
        self.heard(now)
        before = self.assembler.next_sequence
        renumbered = self.assembler.renumbered
        self.assembler.acknowledge(robot, sequence)
        if robot == self.assembler.robot:
            if not self._missing:
                self._short_since = now
            self._missing = self.assembler.missing(sequence)
        if self.assembler.renumbered > renumbered:
            self._episode_start += self.assembler.next_sequence - before
            self.compact()

    def gap(self, now: float) -> str:
        """Return which transitions the learner waits for that nobody has any more, or an empty string.

        It hands on nothing that follows them: a file was damaged, or taken away, that both counted on.
        """
        if not self._missing or now - self._short_since < GAP_AFTER_S:
            return ''
        return f'{self._missing[0]} to {self._missing[-1]}'

    def silent(self, now: float, after: float) -> bool:
        """Whether transitions wait and the learner has given no sign of life for `after` seconds."""
        waiting = self._acknowledged and self.assembler.unacknowledged_count > 0
        return waiting and now - self._heard > after

    def resend(self, now: float, older_than: float) -> int:
        """Publish again what was sent more than `older_than` seconds ago; return how many that were."""
        limit = PROBE_LIMIT if self.silent(now, older_than) else RESEND_LIMIT
        due = self.assembler.due(now, older_than, limit)
        for transition in due:
            self._publish(transition)
        return len(due)

    def compact(self) -> None:
        """Drop acknowledged transitions from the outbox."""
        if self._outbox is not None:
            waiting = self.assembler.unacknowledged()
            self._outbox.keep([(t.sequence, self._encode(t)) for t in waiting])
