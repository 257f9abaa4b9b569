# SPDX-License-Identifier: Apache-2.0
"""A run as one object over its directory: the plan, the replay link, and what is saved of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
import secrets

from rclpy.serialization import deserialize_message, serialize_message

from q2rl_control.episode_plan import EpisodePlan
from q2rl_control.episode_tally import EpisodeRecord, EpisodeTally
from q2rl_control.replay_link import ReplayLink
from q2rl_control.run_plan import RunPlan
from q2rl_control.run_settings import RunSettings
from q2rl_control.run_store import Outbox, RunStore
from q2rl_control.transition_assembler import TransitionAssembler
from q2rl_msgs.msg import Transition as TransitionMsg
from q2rl_ros.conversions import transition_from_msg, transition_to_msg
from q2rl_ros.errors import MessageError
from q2rl_task import InputError, TaskSpec, Transition


class RunSession:
    """Begin a run, or take up one where its directory says it stood.

    The episode under way when the process ended is dropped: it is counted nowhere and runs again under
    a fresh id. Its transitions keep their numbers and still reach the learner.

    :param run_dir: empty: nothing is saved
    :param send: publishes a transition
    :raises InputError: the directory cannot be used, or is of another run
    """

    def __init__(
        self,
        task: TaskSpec,
        robot: str,
        settings: RunSettings,
        run_dir: str,
        send: Callable[[Transition], None],
    ) -> None:
        self._task = task
        self._store = RunStore(run_dir) if run_dir else None
        self._outbox = Outbox(self._store.directory / 'outbox.bin') if self._store else None
        saved = self._store.load() if self._store else None
        self.plan = RunPlan(settings, saved[0] if saved else None)
        if not saved:
            # A learner may know episodes of the same name: of another robot, or of a folder that is gone.
            self.plan.progress.life = f'{robot}.{secrets.token_hex(3)}'
        extra = saved[1] if saved else {}
        assembler = TransitionAssembler(robot, extra.get('next_sequence', 1))
        if self._outbox is not None:
            waiting = [self._decode(payload) for _, payload in self._outbox.load()]
            assembler.restore(waiting)
            assembler.next_sequence = max(assembler.next_sequence, extra.get('next_sequence', 1))
        kept = settings.needs_learner or settings.without_learner
        self.link = ReplayLink(assembler, send, self._outbox, self._encode, kept)
        self._recorded = extra.get('episodes_recorded', 0)
        if self._store is not None:
            self._store.cut_episodes(self._recorded)
        if saved:
            # Ids of the last process must not come back, however its last episode ended.
            self.plan.episode_dropped()
            self.plan.scene_used()  # by the one that may have been under way
        self.save()

    def begin(self, plan: EpisodePlan) -> None:
        """Expect the steps of an episode."""
        self.link.begin(plan.episode, plan.phase)

    def finish(self, tally: EpisodeTally) -> EpisodeRecord | None:
        """Count and save a finished episode; None where it does not count and is to be done again."""
        record = tally.record()
        counts = self.plan.episode_finished(
            tally.plan, tally.result(self.link.published_in_episode)
        )
        if counts and self._store is not None:
            self._store.append_episode(asdict(record))
            self._recorded += 1
        # Numbers given are saved before their transitions may be forgotten.
        self.save()
        self.link.compact()
        return record if counts else None

    def abandon(self) -> None:
        """Drop the episode under way: no more of its steps are taken."""
        self.plan.episode_dropped()
        self.link.begin('', self.plan.phase)

    def save(self, durable: bool = False) -> None:
        """Write the state of the run; `durable` waits for the disk."""
        if self._store is None:
            return
        assembler = self.link.assembler
        self._store.save(
            self.plan.progress,
            {
                'next_sequence': assembler.next_sequence,
                'acknowledged': assembler.acknowledged,
                'episodes_recorded': self._recorded,
                'dropped': dict(assembler.dropped),
            },
            durable,
        )

    def close(self) -> None:
        """Save and close the files."""
        self.save(durable=True)
        if self._outbox is not None:
            self._outbox.close()

    def _encode(self, transition: Transition) -> bytes:
        return serialize_message(transition_to_msg(transition, self._task.frames.fixture))

    def _decode(self, payload: bytes) -> Transition:
        try:
            return transition_from_msg(deserialize_message(payload, TransitionMsg), self._task)
        except MessageError as error:
            raise InputError(
                self._store.directory / 'outbox.bin', str(error), 'use another run directory'
            ) from None
