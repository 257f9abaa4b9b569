# SPDX-License-Identifier: Apache-2.0
"""Writing demonstrations as HDF5 in robomimic's layout.

Layout: `data` (attributes `total` steps, `env_args` JSON, with hash and fields of the contract) holds `demo_0`,
`demo_1`, ... (attributes `num_samples`, `success`), each with `obs/state` and `next_obs/state` (T, O) float32,
`actions` (T, D) float32, `rewards` (T,) float32, `dones` (T,) int8 and, of a simulation, `states` (T, S) float64.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
import json
from pathlib import Path

import h5py
import numpy as np

from q2rl_task.atomic_file import write_atomically
from q2rl_task.spec import TaskSpec


@dataclass(frozen=True)
class RecordedEpisode:
    """What of an episode of T steps goes into the file, in whatever precision.

    observations, next_observations: (T, O). actions: (T, D) in [-1, 1]. rewards: (T,). success: whether it ended in
    success. states: (T, S), the simulation's state at each observation; None where there is no simulation.
    """

    observations: np.ndarray
    next_observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    success: bool
    states: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.actions)


def write_demonstration_file(
    path: str | Path, task: TaskSpec, episodes: Iterable[RecordedEpisode]
) -> None:
    """Write `path` in one go: readers see the old file or the whole new one, never half of it.

    :raises OSError: it cannot be written
    """
    write_atomically(path, _packed(task, list(episodes)), durable=True)


def _packed(task: TaskSpec, episodes: Sequence[RecordedEpisode]) -> bytes:
    """Return the content of the file.

    It is made in memory: on a full disk the HDF5 library takes the process down with it.
    """
    with h5py.File('demonstrations', 'w', driver='core', backing_store=False) as file:
        data = file.create_group('data')
        data.attrs['total'] = sum(len(episode) for episode in episodes)
        kwargs = {'contract_hash': task.contract_hash, 'contract': task.contract_fields}
        env = {'env_name': task.name, 'type': 'q2rl', 'env_kwargs': kwargs}
        data.attrs['env_args'] = json.dumps(env)
        for number, episode in enumerate(episodes):
            group = data.create_group(f'demo_{number}')
            group.attrs['num_samples'] = len(episode)
            group.attrs['success'] = episode.success
            dones = np.zeros(len(episode), dtype=np.int8)
            dones[-1] = 1
            group['obs/state'] = episode.observations.astype(np.float32)
            group['next_obs/state'] = episode.next_observations.astype(np.float32)
            group['actions'] = episode.actions.astype(np.float32)
            group['rewards'] = episode.rewards.astype(np.float32)
            group['dones'] = dones
            if episode.states is not None:
                group['states'] = episode.states.astype(np.float64)
        file.flush()
        return file.id.get_file_image()
