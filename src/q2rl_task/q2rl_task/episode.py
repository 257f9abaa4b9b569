# SPDX-License-Identifier: Apache-2.0
"""Episodes: who may act, why one ends, what a step is worth, which seed it has."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
import hashlib

import numpy as np

from q2rl_task.measurement import Measurement
from q2rl_task.spec import TaskSpec


class Source(IntEnum):
    """Whose action was executed (values of q2rl_msgs/GateDecision)."""

    HOLD = 0
    BC = 1
    RL = 2
    HUMAN = 3


class Mode(IntEnum):
    """Who may act in an episode (values of q2rl_msgs/Observation)."""

    GATED = 0
    BC = 1
    RL = 2
    HUMAN = 3


class Phase(IntEnum):
    """Where a run stands (values of q2rl_msgs/RunState)."""

    STARTING = 0
    ESTIMATING = 1
    FITTING = 2
    ONLINE = 3
    GRADUATED = 4
    SETTLING = 5
    EVALUATING = 6
    PAUSED = 7
    STOPPED = 8
    FINISHED = 9
    DEMONSTRATING = 10


LEARNING = (Phase.ONLINE, Phase.GRADUATED)
"""Phases whose episodes are learned from. They are one stream: its episodes and transitions are all of ONLINE."""
AFTER_ONLINE = (Phase.SETTLING, Phase.EVALUATING, Phase.FINISHED)
"""Phases of a run that has learned for as long as it was told."""


class LearnerState(IntEnum):
    """What the learner is doing (values of q2rl_msgs/LearnerStatus)."""

    WAITING = 0
    FITTING = 1
    READY = 2
    TRAINING = 3
    FAILED = 4
    SETTLED = 5
    UNSURE = 6


class EndReason(IntEnum):
    """Why an episode ended (values of q2rl_msgs/ExecutedStep)."""

    NONE = 0
    SUCCESS = 1
    TIME_LIMIT = 2
    FORCE_LIMIT = 3
    REQUESTED = 4
    LOST = 5
    FAILURE = 6


INTERRUPTIONS = (EndReason.REQUESTED, EndReason.LOST)
"""Ends by which nobody succeeded and nobody failed: someone asked for them, or sensing was lost."""


@dataclass(frozen=True)
class StepOutcome:
    """What arriving in a state means.

    `terminated`: the task is done, no value beyond. `truncated`: cut, the value beyond counts.
    """

    reward: float
    terminated: bool
    truncated: bool
    reason: EndReason

    @property
    def final(self) -> bool:
        """Whether the episode ends here."""
        return self.terminated or self.truncated


def judge_step(
    task: TaskSpec,
    step: int,
    measurement: Measurement,
    requested: bool = False,
    label: bool | None = None,
) -> StepOutcome:
    """Judge the state reached after `step` executed actions (step >= 1; 0 is the first
    observation).

    A person's label wins over the fixture's signal, success over limits, limits over requests,
    requests over the time limit; only success terminates.

    :param label: a person's verdict, from step 1 on: success (True), failure (False), none (None)
    """
    if label is not None and step > 0:
        if label:
            return StepOutcome(task.reward.success, True, False, EndReason.SUCCESS)
        return StepOutcome(task.reward.per_step, False, True, EndReason.FAILURE)
    if measurement.success_signal and step > 0:
        return StepOutcome(task.reward.success, True, False, EndReason.SUCCESS)
    reward = task.reward.per_step if step > 0 else 0.0
    limits = task.limits
    if measurement.force > limits.force_stop_n or measurement.torque > limits.torque_stop_nm:
        return StepOutcome(reward, False, True, EndReason.FORCE_LIMIT)
    if requested:
        return StepOutcome(reward, False, True, EndReason.REQUESTED)
    if step >= task.max_steps:
        return StepOutcome(reward, False, True, EndReason.TIME_LIMIT)
    return StepOutcome(reward, False, False, EndReason.NONE)


SEED_STREAMS = {
    'demonstration': 0,
    'estimating': 1,
    'online': 2,
    'evaluating': 3,
    'learner': 4,
    'bc': 5,
}


def episode_seed(run_seed: int, stream: str, number: int) -> int:
    """Seed of the `number`-th episode of a stream; no two streams share one."""
    sequence = np.random.SeedSequence([int(run_seed), SEED_STREAMS[stream], int(number)])
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


LIFE = '@'
"""What comes after it in an episode's id tells robots, and lives of a run's folder, from one another."""


def episode_name(episode: str) -> str:
    """Return an episode's id without the part that makes it unique: `run-o0012` of `run-o0012@arm.3fa94c`."""
    return episode.partition(LIFE)[0]


def episode_stream(seed: int, episode: str) -> int:
    """Return the seed of what a policy draws in an episode: it depends on no other episode.

    Nor does it depend on what makes the id unique: a run of the same name and seed draws the same again.
    """
    digest = hashlib.sha256(f'{seed}/{episode_name(episode)}'.encode()).digest()
    return int.from_bytes(digest[:8], 'little') >> 1
