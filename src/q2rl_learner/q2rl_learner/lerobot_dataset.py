# SPDX-License-Identifier: Apache-2.0
"""Demonstrations as a LeRobotDataset of codebase version v3.0, without videos.

A frame is (observation, action) and the reward of its arrival. The observation is written twice, since LeRobot's ACT
and diffusion policies want `observation.environment_state` where there are no images. LeRobot's frames do not hold
what the last action led to: files that are written here say it in `next.observation.state`, and in files without it
the last action of an episode is left out. `meta/q2rl.json` names the task and its contract.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
import json
import os
from pathlib import Path
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from q2rl_learner.demonstration_files import Read, check_demonstration
from q2rl_learner.episodes import Episode
from q2rl_task import InputError, TaskSpec
from q2rl_task.errors import one_line

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 'v3.0'
INFO = 'meta/info.json'
FILE = 'chunk-000/file-000.parquet'
STATE, ACTION, NEXT = 'observation.state', 'action', 'next.observation.state'
ENVIRONMENT = 'observation.environment_state'
REWARD, DONE, SUCCESS = 'next.reward', 'next.done', 'next.success'
QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)
ANEW = 'copy the dataset again, or record it anew'


def write_lerobot(path: Path, task: TaskSpec, episodes: Sequence[Episode]) -> None:
    """Write a dataset folder, whole or not at all; an old dataset or an empty folder at `path` is replaced.

    :raises InputError: something else is at `path`, pyarrow is not installed, or the old dataset cannot be removed
    """
    pa, pq = _arrow(path)
    if path.exists() and not is_own_folder(path):
        remedy = 'name one that is not there yet, or remove it yourself'
        raise InputError(path, f'is no LeRobotDataset (no {INFO}) and is not replaced', remedy)
    with _replacing_folder(path) as partial:
        _write(partial, task, episodes, pa, pq)


def is_own_folder(path: Path) -> bool:
    """Return whether a folder is a LeRobotDataset, or empty: one that may be replaced by a dataset."""
    try:
        return (path / INFO).is_file() or not any(path.iterdir())
    except OSError:  # what cannot be looked into may be anything
        return False


@contextmanager
def _replacing_folder(path: Path) -> Iterator[Path]:
    """Give the path of a folder beside `path` to make; it takes the place of `path` at the end of the block.

    Where that fails, the old folder is left and nothing else.
    """
    path = path.resolve()  # of a link the folder is replaced, which may be on another disk
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.{path.name}.{os.getpid()}.partial')
    shutil.rmtree(partial, ignore_errors=True)
    try:
        yield partial
        _move_in(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _move_in(new: Path, path: Path) -> None:
    """Put the folder `new` in the place of `path`; the old one goes only after that."""
    old = path.with_name(f'.{path.name}.{os.getpid()}.old')
    there = path.exists()
    if there:
        path.rename(old)
    try:
        new.rename(path)
    except BaseException:
        if there:
            old.rename(path)
        raise
    if there:
        _remove(old)


def _remove(old: Path) -> None:
    try:
        shutil.rmtree(old)
    except OSError as error:
        problem = f'is left of the dataset before, cannot be removed ({error.strerror or error})'
        raise InputError(
            old, problem, 'the new one is in its place; remove this yourself'
        ) from None


def _write(root: Path, task: TaskSpec, episodes: Sequence[Episode], pa: Any, pq: Any) -> None:
    for folder in ('data/chunk-000', 'meta/episodes/chunk-000'):
        (root / folder).mkdir(parents=True)
    frames = _frames(task, episodes)
    table = pa.table({name: _column(pa, values) for name, values in frames.items()})
    pq.write_table(table, root / 'data' / FILE)
    ends = np.cumsum([len(e) for e in episodes])
    rows = []
    for number, (episode, end) in enumerate(zip(episodes, ends.tolist(), strict=True)):
        begin = end - len(episode)
        row: dict[str, Any] = {
            'episode_index': number, 'tasks': [task.description], 'length': len(episode),
            'data/chunk_index': 0, 'data/file_index': 0, 'dataset_from_index': begin,
            'dataset_to_index': end, 'meta/episodes/chunk_index': 0, 'meta/episodes/file_index': 0,
        }  # fmt: skip
        own = {name: values[begin:end] for name, values in frames.items()}
        for name, stats in _statistics(own).items():
            row |= {f'stats/{name}/{kind}': value for kind, value in stats.items()}
        rows.append(row)
    pq.write_table(pa.Table.from_pylist(rows), root / 'meta/episodes' / FILE)
    pq.write_table(_tasks(pa, task), root / 'meta/tasks.parquet')
    rate = int(task.rate_hz) if task.rate_hz == int(task.rate_hz) else task.rate_hz
    info = {
        'codebase_version': VERSION,
        'robot_type': None,
        'total_episodes': len(episodes),
        'total_frames': len(frames['index']),
        'total_tasks': 1,
        'chunks_size': 1000,
        'data_files_size_in_mb': 100,
        'video_files_size_in_mb': 200,
        'fps': rate,
        'splits': {'train': f'0:{len(episodes)}'},
        'data_path': 'data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet',
        'video_path': None,
        'features': {name: _feature(values) for name, values in frames.items()},
    }
    content = {
        'info.json': info,
        'stats.json': _statistics(frames),
        'q2rl.json': {'task': task.name, 'contract': task.contract_hash},
    }
    for name, values in content.items():
        (root / 'meta' / name).write_text(json.dumps(values, indent=4), encoding='utf-8')


def _frames(task: TaskSpec, episodes: Sequence[Episode]) -> dict[str, np.ndarray]:
    lengths = [len(e) for e in episodes]
    steps = np.concatenate([np.arange(n) for n in lengths])
    last = np.concatenate([np.arange(n) == n - 1 for n in lengths])
    won = np.repeat([e.terminated for e in episodes], lengths)
    observations = np.concatenate([e.observations for e in episodes])
    return {
        STATE: observations,
        ENVIRONMENT: observations,
        ACTION: np.concatenate([e.actions for e in episodes]),
        NEXT: np.concatenate([e.next_observations for e in episodes]),
        REWARD: np.concatenate([e.rewards for e in episodes]).astype(np.float32),
        DONE: last,
        SUCCESS: last & won,
        'timestamp': (steps * task.period_s).astype(np.float32),
        'frame_index': steps,
        'episode_index': np.repeat(np.arange(len(episodes)), lengths),
        'index': np.arange(len(steps)),
        'task_index': np.zeros(len(steps), dtype=np.int64),
    }


def _column(pa: Any, values: np.ndarray) -> pa.Array:
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def _feature(values: np.ndarray) -> dict[str, Any]:
    shape = [values.shape[1]] if values.ndim > 1 else [1]
    return {'dtype': str(values.dtype), 'shape': shape, 'names': None}


def _statistics(frames: Mapping[str, np.ndarray]) -> dict[str, dict[str, list]]:
    found = {}
    for name, values in frames.items():
        columns = values.reshape(len(values), -1).astype(np.float64)
        quantiles = np.quantile(columns, QUANTILES, axis=0)
        found[name] = {
            'min': columns.min(0).tolist(), 'max': columns.max(0).tolist(),
            'mean': columns.mean(0).tolist(), 'std': columns.std(0).tolist(), 'count': [len(values)],
            **{f'q{round(100 * q):02d}': row.tolist() for q, row in zip(QUANTILES, quantiles, strict=True)},
        }  # fmt: skip
    return found


def _tasks(pa: Any, task: TaskSpec) -> pa.Table:
    """Return the table of tasks as pandas would write it: LeRobot looks tasks up by pandas' index."""
    table = pa.table({'task_index': [0], 'task': [task.description]})
    columns = [
        {
            'name': name,
            'field_name': name,
            'pandas_type': kind,
            'numpy_type': dtype,
            'metadata': None,
        }
        for name, kind, dtype in (('task_index', 'int64', 'int64'), ('task', 'unicode', 'object'))
    ]
    pandas = {
        'index_columns': ['task'], 'columns': columns, 'pandas_version': '2.2.0',
        'creator': {'library': 'pyarrow', 'version': pa.__version__},
        'column_indexes': [{'name': None, 'field_name': None, 'pandas_type': 'unicode',
                            'numpy_type': 'object', 'metadata': {'encoding': 'UTF-8'}}],
    }  # fmt: skip
    return table.replace_schema_metadata({'pandas': json.dumps(pandas)})


def read_lerobot(path: Path, task: TaskSpec, as_is: bool) -> Read:
    """Read a dataset folder.

    :raises InputError: pyarrow is not installed; truncated, foreign or of another contract; sizes that do not fit
    """
    pa, pq = _arrow(path)
    info = _json(path / INFO)
    version = info.get('codebase_version')
    if not str(version).startswith('v3.'):
        problem = f'is of codebase version {version}, only v3 is read'
        raise InputError(path, problem, "convert it with LeRobot's own script first")
    if info.get('fps') != task.rate_hz:
        problem = f'has {info.get("fps")} frames per second, the task {task.rate_hz:g}'
        raise InputError(path, problem, 'give a dataset recorded at the rate of the task')
    _check_contract(path, task, as_is)
    files = sorted((path / 'data').glob('*/*.parquet'))
    if not files:
        raise InputError(path / 'data', 'holds no parquet file', ANEW)
    try:
        table = pa.concat_tables([pq.read_table(file) for file in files])
    except (pa.ArrowInvalid, OSError) as error:
        problem = f'is not readable, truncated perhaps ({one_line(error, 200)})'
        raise InputError(path / 'data', problem, ANEW) from None
    numbers = _numbers(table, 'episode_index', path)
    if len(numbers) != info.get('total_frames') or not len(numbers):
        problem = f'holds {len(numbers)} frames, its info.json says {info.get("total_frames")}'
        raise InputError(path, problem, ANEW)
    columns = {
        STATE: _matrix(table, STATE, task.observation_size, path),
        ACTION: _matrix(table, ACTION, task.action_size, path),
    }
    whole = NEXT in table.column_names
    if whole:
        columns[NEXT] = _matrix(table, NEXT, task.observation_size, path)
    for name in (REWARD, SUCCESS):
        if name in table.column_names:
            columns[name] = _numbers(table, name, path)
    episodes = [
        _episode(str(number), {k: v[numbers == number] for k, v in columns.items()}, task)
        for number in np.unique(numbers)
    ]
    kept = [episode for episode in episodes if episode is not None]
    for episode in kept:
        check_demonstration(episode, path)
    if not kept:
        raise InputError(path, 'holds no episode of two frames', 'give a longer recording')
    notes = []
    if not whole:
        notes.append(
            'frames do not say what the last action led to, so it is left out of each episode'
        )
    if REWARD not in columns:
        notes.append("rewards are the task's")
    return Read(kept, tuple(notes))


def _episode(name: str, columns: Mapping[str, np.ndarray], task: TaskSpec) -> Episode | None:
    """Make an episode of its frames; None where nothing is left of it."""
    observations, actions = columns[STATE], columns[ACTION]
    success = bool(SUCCESS in columns and columns[SUCCESS].any())
    if NEXT in columns:
        observations = np.concatenate([observations, columns[NEXT][-1:]])
    else:  # then nobody knows how it ended either
        actions, success = actions[:-1], False
    if not len(actions):
        return None
    rewards = columns.get(REWARD)
    if rewards is None:
        rewards = np.full(len(actions), task.reward.per_step)
        if success:
            rewards[-1] = task.reward.success
    return Episode.demonstration(name, observations, actions, rewards[: len(actions)], success)


def _check_contract(path: Path, task: TaskSpec, as_is: bool) -> None:
    said = path / 'meta/q2rl.json'
    if said.is_file():
        contract = _json(said).get('contract')
        if contract != task.contract_hash:
            problem = f'is of contract {contract}, the task of {task.contract_hash}'
            raise InputError(path, problem, 'name the task it was recorded with')
    elif not as_is:
        raise InputError(
            path,
            'does not say what its observation and action mean',
            f'if they are those of task {task.name}, in its order and scale, say --as-is',
        )


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except OSError as error:
        problem = f'cannot be read ({error.strerror})'
        raise InputError(path, problem, 'name the folder of a LeRobotDataset') from None
    except ValueError as error:
        raise InputError(path, f'is no JSON ({one_line(error, 200)})', ANEW) from None
    if not isinstance(content, dict):
        raise InputError(path, 'is no JSON object', ANEW)
    return content


def _matrix(table: pa.Table, name: str, width: int, path: Path) -> np.ndarray:
    rows = _values(table, name, path)
    try:
        matrix = np.array(rows.to_pylist(), dtype=np.float32)
    except (TypeError, ValueError):
        matrix = np.zeros((0, 0), dtype=np.float32)
    if matrix.shape != (len(rows), width):
        problem = f'feature `{name}` is not of {width} numbers'
        raise InputError(path, problem, 'give a dataset recorded for this task')
    return matrix


def _numbers(table: pa.Table, name: str, path: Path) -> np.ndarray:
    try:
        return np.array(_values(table, name, path).to_pylist(), dtype=np.float64).reshape(-1)
    except (TypeError, ValueError):
        raise InputError(path, f'feature `{name}` is no column of numbers', ANEW) from None


def _values(table: pa.Table, name: str, path: Path) -> Any:
    if name not in table.column_names:
        known = ', '.join(table.column_names)
        raise InputError(path, f'has no feature `{name}`, only {known}', 'name another dataset')
    return table.column(name)


def _arrow(path: Path) -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        remedy = 'pip install -r requirements/formats.txt'
        raise InputError(path, 'needs pyarrow', remedy) from None
    return pyarrow, pyarrow.parquet
