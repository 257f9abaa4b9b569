# SPDX-License-Identifier: Apache-2.0
"""Demonstrations: recording them in simulation, and writing them.

Their `states` are MuJoCo's integration state at each observation, with the mocap pose of the fixture in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from q2rl_sim.arm import SimArm
from q2rl_sim.rollout import run_episode
from q2rl_sim.scene import scene_module
from q2rl_task import TaskSpec, episode_seed
from q2rl_task.demonstration_file import RecordedEpisode, write_demonstration_file
from q2rl_task.errors import GivenUp

MAX_ATTEMPTS_PER_DEMONSTRATION = 10


@dataclass(frozen=True)
class Demonstration:
    """One demonstration of T steps.

    observations: (T + 1, O) float32. actions: (T, D) float32 in [-1, 1]. rewards: (T,) float32. states: (T, S) float64.
    success: whether it ended in success (terminated); otherwise it was cut.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    states: np.ndarray
    success: bool

    def __len__(self) -> int:
        return len(self.actions)


def record_demonstrations(
    task: TaskSpec, count: int, seed: int, noise: float = 1.0
) -> list[Demonstration]:
    """Let the scripted demonstrator do the task until it has succeeded `count` times; failures are not kept.

    :param seed: of the run; episodes come from its demonstration stream, never shared with evaluation
    :param noise: how human the demonstrator is, see `Teleoperator`
    :raises GivenUp: success is too rare
    """
    arm = SimArm(task, seed)
    demonstrator = scene_module(task).Demonstrator
    kept: list[Demonstration] = []
    for number in range(count * MAX_ATTEMPTS_PER_DEMONSTRATION):
        if len(kept) == count:
            break
        placement = episode_seed(seed, 'demonstration', number)
        behaviour = demonstrator(task, np.random.default_rng([placement, 2]), noise)
        episode = run_episode(arm, behaviour, placement, sees_truth=True, keep_states=True)
        if episode.success:
            kept.append(
                Demonstration(
                    observations=np.stack(episode.observations),
                    actions=np.stack(episode.actions),
                    rewards=np.array([o.reward for o in episode.outcomes], dtype=np.float32),
                    states=np.stack([s.physics for s in episode.states[:-1]]),
                    success=True,
                )
            )
    if len(kept) < count:
        attempts = count * MAX_ATTEMPTS_PER_DEMONSTRATION
        raise GivenUp(
            f'task {task.name}: the demonstrator succeeded only {len(kept)} times in {attempts}; '
            'give it more `max_steps`, or record by hand: ./q2rl demos --teleop'
        )
    return kept


def write_demonstrations(
    path: str | Path, task: TaskSpec, demonstrations: Sequence[Demonstration]
) -> None:
    """Write them in robomimic's layout (see `q2rl_task.demonstration_file`), whole or not at all."""
    write_demonstration_file(
        path,
        task,
        (
            RecordedEpisode(
                d.observations[:-1], d.observations[1:], d.actions, d.rewards, d.success, d.states
            )
            for d in demonstrations
        ),
    )
