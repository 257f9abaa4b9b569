# SPDX-License-Identifier: Apache-2.0
"""Keep evaluated episodes tick by tick in the folder of a run, in the files that every run has."""

from __future__ import annotations

from dataclasses import asdict
import time

from q2rl_control.episode_plan import EpisodePlan
from q2rl_control.episode_tally import EpisodeRecord
from q2rl_control.run_progress import RunProgress
from q2rl_control.run_store import RunStore
from q2rl_control.transition_assembler import TransitionAssembler
from q2rl_lab.run_folder import RunFolder
from q2rl_learner.transition_log import TransitionLog
from q2rl_task import ExecutedStep, TaskSpec, Transition


class EpisodeRecorder:
    """Write `transitions.db`, `episodes.jsonl` and `run_state.json` of a folder. Use as a context, which closes them.

    :param robot: whose steps are recorded
    """

    def __init__(self, folder: RunFolder, task: TaskSpec, robot: str) -> None:
        self.run_id = folder.id
        self._robot = robot
        self._store = RunStore(folder.path)
        self._log = TransitionLog(folder.transitions, task.contract_hash)
        self._assembler = TransitionAssembler(robot)
        self._transitions: list[Transition] = []
        self._episodes = 0

    def __enter__(self) -> EpisodeRecorder:
        return self

    def __exit__(self, *_: object) -> None:
        self._log.close()

    def begin(self, plan: EpisodePlan) -> None:
        """Expect the steps of an episode."""
        self._assembler.begin(plan.episode, plan.phase)
        self._transitions.clear()

    def add(self, step: ExecutedStep) -> None:
        """Take the next step."""
        transition = self._assembler.add(step, time.monotonic())
        if transition is not None:
            self._transitions.append(transition)

    def finish(self, record: EpisodeRecord, progress: RunProgress) -> None:
        """Write the finished episode, and where the run stands after it."""
        self._log.append(self._transitions)
        last = self._assembler.next_sequence - 1
        self._assembler.acknowledge(self._robot, last)
        self._store.append_episode(asdict(record))
        self._episodes += 1
        extra = {
            'next_sequence': last + 1,
            'acknowledged': last,
            'episodes_recorded': self._episodes,
            'dropped': dict(self._assembler.dropped),
        }
        self._store.save(progress, extra)
