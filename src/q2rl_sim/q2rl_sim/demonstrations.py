# SPDX-License-Identifier: Apache-2.0
"""Demonstrations: recording them in simulation, and their HDF5 file in robomimic's layout.

Layout: `data` (attributes `total` steps, `env_args` JSON) holds `demo_0`, `demo_1`, ... (attributes `num_samples`,
`success`), each with `obs/state` and `next_obs/state` (T, O) float32, `actions` (T, D) float32, `rewards` (T,)
float32, `dones` (T,) int8 and `states` (T, S) float64: MuJoCo's integration state at each observation, with the
mocap pose of the fixture in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import json
from pathlib import Path

import h5py
import numpy as np

from q2rl_sim.arm import SimArm
from q2rl_sim.rollout import run_episode
from q2rl_sim.scene import scene_module
from q2rl_task import TaskSpec, episode_seed
from q2rl_task.atomic_file import replacing

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
    :raises RuntimeError: success is too rare
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
        raise RuntimeError(
            f'the demonstrator succeeded only {len(kept)} times in {count * MAX_ATTEMPTS_PER_DEMONSTRATION}'
        )
    return kept


def write_demonstrations(
    path: str | Path, task: TaskSpec, demonstrations: Sequence[Demonstration]
) -> None:
    """Write `path` in one go: readers see the old file or the whole new one, never half of it."""
    with replacing(path, durable=True) as partial, h5py.File(partial, 'w') as file:
        data = file.create_group('data')
        data.attrs['total'] = sum(len(d) for d in demonstrations)
        data.attrs['env_args'] = json.dumps(
            {
                'env_name': task.name,
                'type': 'q2rl',
                'env_kwargs': {'contract_hash': task.contract_hash},
            }
        )
        for number, demonstration in enumerate(demonstrations):
            group = data.create_group(f'demo_{number}')
            group.attrs['num_samples'] = len(demonstration)
            group.attrs['success'] = bool(demonstration.success)
            dones = np.zeros(len(demonstration), dtype=np.int8)
            dones[-1] = 1
            group['obs/state'] = demonstration.observations[:-1].astype(np.float32)
            group['next_obs/state'] = demonstration.observations[1:].astype(np.float32)
            group['actions'] = demonstration.actions.astype(np.float32)
            group['rewards'] = demonstration.rewards.astype(np.float32)
            group['dones'] = dones
            group['states'] = demonstration.states.astype(np.float64)
