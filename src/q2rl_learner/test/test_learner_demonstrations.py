# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
import json
from pathlib import Path

import h5py
from learner_helpers import demonstrations, toy_task
import numpy as np
import pytest

from q2rl_learner.demonstrations import load_demonstrations
from q2rl_task import InputError, TaskSpec, load_task
from q2rl_task.demonstration_file import RecordedEpisode, write_demonstration_file

TASK = toy_task()


@pytest.fixture
def path(tmp_path) -> Path:
    """Write two demonstrations in robomimic's layout."""
    path = tmp_path / 'demos.hdf5'
    with h5py.File(path, 'w') as file:
        data = file.create_group('data')
        kwargs = {'contract_hash': TASK.contract_hash}
        data.attrs['env_args'] = json.dumps({'env_name': TASK.name, 'env_kwargs': kwargs})
        for number, demo in enumerate(demonstrations(TASK, 2, seed=4)):
            group = data.create_group(f'demo_{number}')
            group.attrs['success'] = number == 0
            group['obs/state'] = demo.observations
            group['next_obs/state'] = demo.next_observations
            group['actions'] = demo.actions
            group['rewards'] = demo.rewards.astype(np.float32)
    return path


def test_demonstrations_become_episodes(path):
    found = load_demonstrations(path, TASK)
    for read, made in zip(found, demonstrations(TASK, 2, seed=4), strict=True):
        np.testing.assert_array_equal(read.observations, made.observations)
        np.testing.assert_array_equal(read.next_observations, made.next_observations)
        np.testing.assert_array_equal(read.actions, made.actions)
        np.testing.assert_array_equal(read.rewards, made.rewards)
    assert [e.terminated for e in found] == [True, False]


@pytest.mark.parametrize(
    'names', [('demo_00', 'demo_01'), ('demo_1', 'demo_01'), ('demo_9', 'demo_010')]
)
def test_numbers_may_begin_with_zeros(path, names):
    with h5py.File(path, 'r+') as file:
        for number, name in enumerate(names):
            file['data'].move(f'demo_{number}', f'made_{name}')
        for name in names:
            file['data'].move(f'made_{name}', name)
    found = {e.name: e for e in load_demonstrations(path, TASK)}
    for name, made in zip(names, demonstrations(TASK, 2, seed=4), strict=True):
        np.testing.assert_array_equal(found[name].actions, made.actions)
    assert sorted(found, key=lambda name: int(name[5:])) == list(found)


def replace(data: h5py.Group, field: str, values: np.ndarray) -> None:
    del data[field]
    data[field] = values


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (lambda d: d.attrs.update(env_args='{}'), 'contract'),
        (
            lambda d: d.attrs.update(env_args='{"env_kwargs": {"contract_hash": "0"}}'),
            'of contract 0',
        ),
        (lambda d: d.__delitem__('demo_0/actions'), 'demo_0/actions'),
        (lambda d: replace(d, 'demo_1/obs/state', np.zeros((3, 2))), 'demo_1/obs/state'),
        (lambda d: replace(d, 'demo_1/rewards', np.zeros(1)), 'demo_1/rewards'),
        (
            lambda d: d['demo_0/actions'].write_direct(np.full((1, 6), 2.0), dest_sel=np.s_[:1]),
            'exceeds',
        ),
        (
            lambda d: d['demo_0/obs/state'].write_direct(
                np.full((1, 3), np.nan), dest_sel=np.s_[:1]
            ),
            'finite',
        ),
        (
            lambda d: d['demo_1/next_obs/state'].write_direct(
                np.full((1, 3), 9.0), dest_sel=np.s_[:1]
            ),
            'does not continue',
        ),
        (lambda d: replace(d, 'demo_1/rewards', np.full(30, b'one')), 'demo_1/rewards'),
        (lambda d: replace(d, 'demo_1', np.zeros(3)), 'data/demo_1`: is no group'),
        (lambda d: [d.__delitem__(n) for n in list(d)], 'no demonstration'),
    ],
)
def test_what_is_wrong_is_named(path, change: Callable[[h5py.Group], object], said):
    with h5py.File(path, 'r+') as file:
        change(file['data'])
    with pytest.raises(InputError, match=said) as caught:
        load_demonstrations(path, TASK)
    assert '\n' not in str(caught.value)


def test_missing_truncated_and_foreign_files(path, tmp_path):
    with pytest.raises(InputError, match='no such file'):
        load_demonstrations(tmp_path / 'none.hdf5', TASK)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match='HDF5'):
        load_demonstrations(path, TASK)
    with h5py.File(path, 'w') as file:
        file['other'] = 1
    with pytest.raises(InputError, match='data'):
        load_demonstrations(path, TASK)


def changed(task: TaskSpec, **fields) -> TaskSpec:
    return TaskSpec.model_validate({**task.model_dump(), **fields})


def test_demonstrations_of_another_contract_say_what_differs(tmp_path, path):
    task, steps = load_task('pipe_assembly'), 2
    seen = np.zeros((steps, task.observation_size))
    actions = np.zeros((steps, task.action_size))
    made = tmp_path / 'made.hdf5'
    write_demonstration_file(
        made, task, [RecordedEpisode(seen, seen, actions, np.zeros(steps), True)]
    )
    assert len(load_demonstrations(made, task)) == 1
    with pytest.raises(InputError, match=r'of [0-9a-f]{16}, which differs in `name`; record'):
        load_demonstrations(made, changed(task, name='mine'))
    reward = {**task.reward.model_dump(), 'per_step': -2.0}
    with pytest.raises(InputError, match=r'differs in `max_steps`, `reward\.per_step`;'):
        load_demonstrations(made, changed(task, max_steps=7, reward=reward))
    with pytest.raises(InputError, match='the name is part of the contract'):
        load_demonstrations(path, task)  # a file of before, which keeps no fields
