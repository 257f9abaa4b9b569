# SPDX-License-Identifier: Apache-2.0
"""Read demonstrations as the learner's episodes, from HDF5 in robomimic's layout.

`data` (attribute `env_args`: JSON with the task's name and contract hash) holds `demo_0`, `demo_1`, ... (attribute
`success`), each with `obs/state` and `next_obs/state` (T, O), `actions` (T, D) and `rewards` (T,).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from q2rl_learner.episodes import Episode
from q2rl_learner.methods import flat
from q2rl_task import Contract, InputError
from q2rl_task.errors import one_line

ANEW = 'record the demonstrations anew'


def load_demonstrations(path: str | Path, task: Contract) -> list[Episode]:
    """Read and check the demonstrations of `task` in `path`, in the order of their numbers.

    :raises InputError: missing, truncated or foreign file; another contract; a field missing, ill-shaped, not finite
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            path, 'no such file', 'record demonstrations first, or give the path of a file'
        )
    try:
        with h5py.File(path, 'r') as file:
            return _read(path, file, task)
    except (OSError, RuntimeError) as error:
        reason = one_line(error)
        raise InputError(
            path,
            f'not a readable HDF5 file, truncated perhaps ({reason})',
            f'copy it again, or {ANEW}',
        ) from None


def _read(path: Path, file: h5py.File, task: Contract) -> list[Episode]:
    data = file.get('data')
    if not isinstance(data, h5py.Group):
        raise InputError(f'{path}: field `data`', 'missing', 'give a file in robomimic layout')
    try:
        said = json.loads(data.attrs['env_args'])
        contract = said['env_kwargs']['contract_hash']
    except (KeyError, TypeError, ValueError):
        raise InputError(f'{path}: field `data.env_args`', 'names no contract', ANEW) from None
    if contract != task.contract_hash:
        raise InputError(
            path,
            f'is of contract {contract}, the task of {task.contract_hash}{_difference(said, task)}',
            f'{ANEW}, or go back to the task they were recorded with',
        )
    names = [n for n in data if n.startswith('demo_') and n[5:].isdecimal()]
    if not names:
        raise InputError(f'{path}: field `data`', 'holds no demonstration', 'record at least one')
    return [_episode(path, data, n, task) for n in sorted(names, key=lambda n: int(n[5:]))]


def _difference(said: dict[str, Any], task: Contract) -> str:
    """Tell what a file's contract and a task's differ in, as far as the file says: not all keep the fields."""
    theirs = said['env_kwargs'].get('contract')
    if isinstance(theirs, dict):
        # Through JSON: a file has lists where a task has tuples.
        before, now = flat(theirs), flat(json.loads(json.dumps(task.contract_fields)))
        names = sorted(before.keys() | now.keys())
        differing = [name for name in names if before.get(name) != now.get(name)]
        return f', which differs in {", ".join(f"`{name}`" for name in differing)}'
    if (name := said.get('env_name')) != task.name:
        return f': it was recorded for a task called {name}, and the name is part of the contract'
    return ''


def _episode(path: Path, data: h5py.Group, name: str, task: Contract) -> Episode:
    group = data[name]
    if not isinstance(group, h5py.Group):
        raise InputError(f'{path}: field `data/{name}`', 'is no group of fields', ANEW)
    observations = _array(path, group, name, 'obs/state', task.observation_size)
    steps = len(observations)
    following = _array(path, group, name, 'next_obs/state', task.observation_size, steps)
    actions = _array(path, group, name, 'actions', task.action_size, steps)
    rewards = _array(path, group, name, 'rewards', None, steps)
    if np.abs(actions).max() > 1.0:
        raise InputError(f'{path}: field `data/{name}/actions`', 'exceeds [-1, 1]', ANEW)
    if not np.array_equal(observations[1:], following[:-1]):
        where = f'{path}: field `data/{name}/next_obs/state`'
        raise InputError(where, 'does not continue `obs/state`', ANEW)
    states = np.concatenate([observations, following[-1:]])
    success = bool(group.attrs.get('success', False))
    return Episode.demonstration(name, states, actions, rewards, success)


def _array(
    path: Path,
    group: h5py.Group,
    name: str,
    field: str,
    width: int | None,
    steps: int | None = None,
) -> np.ndarray:
    """Read one field, (steps, width) or (steps,) where `width` is None; any number of steps but 0 if not given."""
    where = f'{path}: field `data/{name}/{field}`'
    dataset = group.get(field)
    if not isinstance(dataset, h5py.Dataset):
        raise InputError(where, 'missing', ANEW)
    shape = dataset.shape
    expected = (steps if steps is not None else max(1, shape[0] if shape else 1),)
    expected += () if width is None else (width,)
    if shape != expected:
        raise InputError(
            where, f'has shape {shape}, expected {expected}', 'give a file recorded for this task'
        )
    if dataset.dtype.kind not in 'fiub':
        raise InputError(where, f'holds {dataset.dtype}, no numbers', ANEW)
    values = dataset[()]
    if not np.isfinite(values).all():
        raise InputError(where, 'holds numbers that are not finite', ANEW)
    return values
