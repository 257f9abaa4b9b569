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
from q2rl_task import InputError, TaskSpec, episode_seed
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


def read_demonstrations(path: str | Path, task: TaskSpec) -> list[Demonstration]:
    """Read and check a file of demonstrations of `task`, in the order of their numbers.

    :raises InputError: missing, truncated or foreign file; other task or contract; a field missing, of a
        wrong shape or not finite
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            path, 'no such file', 'record demonstrations first or give the path of a file'
        )
    try:
        with h5py.File(path, 'r') as file:
            return _read(path, file, task)
    except (OSError, RuntimeError) as error:
        reason = ' '.join(str(error).split())
        raise InputError(
            path,
            f'not a readable HDF5 file, truncated perhaps ({reason})',
            'copy it again or record the demonstrations anew',
        ) from None


def _read(path: Path, file: h5py.File, task: TaskSpec) -> list[Demonstration]:
    data = file.get('data')
    if not isinstance(data, h5py.Group):
        raise InputError(f'{path}: field `data`', 'missing', 'give a file in robomimic layout')
    _check_task(path, data, task)
    names = sorted(
        (n for n in data if n.startswith('demo_') and n[5:].isdigit()), key=lambda n: int(n[5:])
    )
    if not names:
        raise InputError(f'{path}: field `data`', 'holds no demonstration', 'record at least one')
    return [_read_one(path, data, name, task) for name in names]


def _check_task(path: Path, data: h5py.Group, task: TaskSpec) -> None:
    where = f'{path}: field `data.env_args`'
    try:
        arguments = json.loads(data.attrs['env_args'])
        name, contract = arguments['env_name'], arguments['env_kwargs']['contract_hash']
    except (KeyError, TypeError, ValueError):
        raise InputError(
            where, 'does not name a task and its contract', 'give a file recorded by q2rl'
        ) from None
    if name != task.name:
        raise InputError(
            where, f'the file is of task {name}, not {task.name}', 'give a file of this task'
        )
    if contract != task.contract_hash:
        raise InputError(
            where,
            f'recorded under contract {contract}, the task has {task.contract_hash} now',
            'record the demonstrations anew or go back to the task they were recorded with',
        )


def _read_one(path: Path, data: h5py.Group, name: str, task: TaskSpec) -> Demonstration:
    group = data[name]
    steps = int(group.attrs.get('num_samples', 0))
    if steps < 1:
        raise InputError(
            f'{path}: field `data/{name}.num_samples`',
            'missing or below 1',
            'record the demonstration anew',
        )
    shapes = {
        'obs/state': (steps, task.observation_size),
        'next_obs/state': (steps, task.observation_size),
        'actions': (steps, task.action_size),
        'rewards': (steps,),
        'dones': (steps,),
        'states': (steps, None),
    }
    arrays = {field: _array(path, group, name, field, shape) for field, shape in shapes.items()}
    if np.abs(arrays['actions']).max() > 1.0:
        raise InputError(
            f'{path}: field `data/{name}/actions`',
            'exceeds [-1, 1]',
            'record the demonstration anew',
        )
    observations, following = arrays['obs/state'], arrays['next_obs/state']
    if not np.array_equal(observations[1:], following[:-1]):
        raise InputError(
            f'{path}: field `data/{name}/next_obs/state`',
            'does not continue `obs/state`',
            'record the demonstration anew',
        )
    return Demonstration(
        observations=np.concatenate([observations, following[-1:]]).astype(np.float32),
        actions=arrays['actions'].astype(np.float32),
        rewards=arrays['rewards'].astype(np.float32),
        states=arrays['states'],
        success=bool(group.attrs.get('success', False)),
    )


def _array(
    path: Path, group: h5py.Group, name: str, field: str, shape: tuple[int | None, ...]
) -> np.ndarray:
    where = f'{path}: field `data/{name}/{field}`'
    dataset = group.get(field)
    if not isinstance(dataset, h5py.Dataset):
        raise InputError(where, 'missing', 'record the demonstration anew')
    fits = len(dataset.shape) == len(shape) and all(
        b is None or a == b for a, b in zip(dataset.shape, shape, strict=True)
    )
    if not fits:
        raise InputError(
            where,
            f'has shape {dataset.shape}, expected {shape}',
            'give a file recorded for this task',
        )
    values = dataset[()]
    if not np.isfinite(values).all():
        raise InputError(
            where, 'holds numbers that are not finite', 'record the demonstration anew'
        )
    return values
