# SPDX-License-Identifier: Apache-2.0
"""What an in-process run leaves in its folder, so that one that ended anywhere goes on from its last whole episode.

At the end of every episode its transitions are written, then its record, then where the run stands, and now and then
what was learned. So nothing was learned from transitions that are not in the log; and what log and records have beyond
where the run stands is of an episode that was never counted, and is cut off.

What was learned is that of the last publication of weights: those are then live again, and the gradient steps since
are made again from the log, in the same order and with the same random numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
import json
from pathlib import Path
from typing import Any

import numpy as np

from q2rl_control.episode_tally import EpisodeRecord
from q2rl_control.run_progress import RunProgress
from q2rl_control.run_store import RunStore
from q2rl_control.transition_assembler import TransitionAssembler
from q2rl_learner.learner_state import ANEW, load_state, pack_state
from q2rl_learner.online_learner import OnlineLearner
from q2rl_learner.transition_log import TransitionLog
from q2rl_task import InputError, Transition
from q2rl_task.atomic_file import write_atomically

Streams = Mapping[str, np.random.Generator]


@dataclass(frozen=True)
class Saved:
    """Where a run stood. streams: states of random streams by name; wall_s: how long it had taken."""

    progress: RunProgress
    next_sequence: int
    recorded: int
    streams: dict[str, Any]
    wall_s: float

    def restore(self, streams: Streams) -> None:
        """Let random streams go on where they stood."""
        for name, state in self.streams.items():
            if name in streams:
                streams[name].bit_generator.state = state


class KeptRun:
    """The folder of a run; made if it is not there.

    :param contract: hash of the task's contract
    :param robot: whose transitions they are
    :param save_every: critic updates between two writings of what was learned
    :raises InputError: the folder cannot be written, or is of another contract
    """

    def __init__(self, directory: Path, contract: str, robot: str, save_every: int) -> None:
        self._directory, self._robot, self._save_every = directory, robot, save_every
        self._store = RunStore(directory)
        self._log = TransitionLog(directory / 'transitions.db', contract)
        self._learned_path = directory / 'learner' / 'state.safetensors'
        self._recorded = 0
        # What was learned, and after how many critic updates: of the last publication, of the last one before the end
        # of an episode, and what is on disk.
        self._newest: tuple[int, bytes] | None = None
        self._whole: tuple[int, bytes] | None = None
        self._written: int | None = None

    def load(self) -> Saved | None:
        """Return where the run stood, and cut off what is beyond that; None for a fresh one.

        :raises InputError: a file is damaged, or transitions are missing
        """
        found = self._store.load()
        if found is None:
            return None
        progress, extra = found
        try:
            saved = Saved(
                progress,
                extra['next_sequence'],
                extra['episodes_recorded'],
                extra['streams'],
                extra['wall_s'],
            )
        except KeyError as error:
            raise InputError(
                self._directory, f'cannot be resumed (its state lacks {error})', 'start a new run'
            ) from None
        self._recorded = saved.recorded
        self._store.cut_episodes(saved.recorded)
        self._log.cut(self._robot, saved.next_sequence - 1)
        return saved

    def restore(self, learner: OnlineLearner) -> bool:
        """Restore what was learned, into a fresh learner; return whether there was anything.

        :raises InputError: damaged, or of another task or other settings
        """
        if not self._learned_path.is_file():
            return False
        load_state(self._learned_path, learner)
        self._written = learner.gradient_steps
        return True

    def replay(self, saved: Saved, learner: OnlineLearner) -> Iterator[Transition]:
        """Yield all transitions, of which `learner` is to take each before the next.

        :raises InputError: at the end, that some are damaged or missing
        """
        count = 0
        for count, transition in enumerate(self._log.replay(), 1):  # noqa: B007
            yield transition
        wanted = saved.next_sequence - 1
        if count != wanted:
            problem = f'holds {count} whole transitions of {wanted}'
            raise InputError(self._log.path, problem, 'restore a copy, or start a new run')
        if learner.online_steps < learner.trained_steps:
            problem = f'has learned from {learner.trained_steps} steps, the log has {learner.online_steps}'
            raise InputError(self._learned_path, problem, ANEW)

    def published(self, learner: OnlineLearner) -> None:
        """Take what was learned, where weights were just published."""
        self._newest = learner.gradient_steps, pack_state(learner)

    def add_episode(self, transitions: list[Transition], record: EpisodeRecord) -> None:
        """Keep a finished episode; `save` then counts it."""
        if transitions:
            self._log.append(transitions)
        self._store.append_episode(asdict(record))
        self._recorded += 1

    def save(
        self,
        progress: RunProgress,
        assembler: TransitionAssembler,
        streams: Streams,
        wall_s: float,
        learned: bool = False,
    ) -> None:
        """Write where the run stands between two episodes, and what was learned if that is due.

        :param learned: it is due
        """
        whole = self._whole if self._newest is None else self._newest
        if whole is not None:
            before = self._written
            learned |= before is None or whole[0] - before >= self._save_every
        extra = {
            'next_sequence': assembler.next_sequence,
            'acknowledged': assembler.acknowledged,
            'episodes_recorded': self._recorded,
            'dropped': dict(assembler.dropped),
            'streams': {name: rng.bit_generator.state for name, rng in streams.items()},
            'wall_s': wall_s,
        }
        self._store.save(progress, extra, durable=learned)
        # Only now: where this is interrupted above, the episode does not count, nor may `close` write what it taught.
        self._whole, self._newest = whole, None
        if learned:
            self._write_learned()

    def close(self, status: dict[str, Any]) -> None:
        """Write what is not yet on disk of the last whole episode, and the learner's last status."""
        self._log.close()
        self._write_learned()
        write_atomically(self._directory / 'timeline.jsonl', json.dumps(status) + '\n')

    def _write_learned(self) -> None:
        if self._whole is None:
            return
        made, content = self._whole
        self._learned_path.parent.mkdir(exist_ok=True)
        write_atomically(self._learned_path, content, durable=True)
        self._whole, self._written = None, made
