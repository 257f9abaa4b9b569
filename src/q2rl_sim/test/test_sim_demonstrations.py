# SPDX-License-Identifier: Apache-2.0
"""The demonstration file: what is written is read back, and what is broken is named."""

import json

import h5py
import numpy as np
import pytest

from q2rl_sim import demonstrations
from q2rl_sim.demonstrations import (
    read_demonstrations,
    record_demonstrations,
    write_demonstrations,
)
from q2rl_sim.scenes import pipe_assembly
from q2rl_task import InputError, load_task

TASK = load_task('pipe_assembly')


@pytest.fixture(scope='module')
def recorded():
    return record_demonstrations(TASK, count=2, seed=3)


@pytest.fixture
def path(tmp_path, recorded):
    file = tmp_path / 'deep' / 'demonstrations.hdf5'
    write_demonstrations(file, TASK, recorded)
    return file


def edit(path, change):
    with h5py.File(path, 'r+') as file:
        change(file['data'])


def refuse(path, where, remedy=''):
    with pytest.raises(InputError) as caught:
        read_demonstrations(path, TASK)
    assert where in caught.value.where
    assert remedy in caught.value.remedy
    assert '\n' not in str(caught.value)


def test_recording_keeps_successes_in_the_contract(recorded):
    assert len(recorded) == 2
    for demonstration in recorded:
        assert demonstration.success
        assert demonstration.observations.shape == (len(demonstration) + 1, TASK.observation_size)
        assert demonstration.actions.shape == (len(demonstration), TASK.action_size)
        assert np.abs(demonstration.actions).max() <= 1.0
        assert demonstration.rewards[-1] == TASK.reward.success
        assert (demonstration.rewards[:-1] == TASK.reward.per_step).all()


def test_recording_is_reproducible(recorded):
    again = record_demonstrations(TASK, count=2, seed=3)
    other = record_demonstrations(TASK, count=1, seed=4)
    assert np.array_equal(recorded[1].observations, again[1].observations)
    assert not np.array_equal(recorded[0].observations[0], other[0].observations[0])


def test_round_trip(path, recorded):
    read = read_demonstrations(path, TASK)
    assert len(read) == len(recorded)
    for a, b in zip(recorded, read, strict=True):
        for name in ('observations', 'actions', 'rewards', 'states'):
            assert np.array_equal(getattr(a, name), getattr(b, name)), name
        assert a.success is b.success


def test_the_layout_is_robomimics(path, recorded):
    with h5py.File(path, 'r') as file:
        data = file['data']
        assert data.attrs['total'] == sum(len(d) for d in recorded)
        arguments = json.loads(data.attrs['env_args'])
        assert arguments['env_name'] == 'pipe_assembly'
        assert arguments['env_kwargs']['contract_hash'] == TASK.contract_hash
        demo = data['demo_1']
        assert demo.attrs['num_samples'] == len(recorded[1]) and demo.attrs['success']
        assert {'obs', 'next_obs', 'actions', 'rewards', 'dones', 'states'} == set(demo)
        assert demo['dones'][-1] == 1 and demo['dones'][:].sum() == 1


def test_eleven_demonstrations_come_back_in_order(tmp_path, recorded):
    many = [recorded[k % 2] for k in range(11)]
    write_demonstrations(tmp_path / 'many.hdf5', TASK, many)
    read = read_demonstrations(tmp_path / 'many.hdf5', TASK)
    assert [len(d) for d in read] == [len(d) for d in many]


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(path, recorded):
    before = path.read_bytes()
    broken = demonstrations.Demonstration(
        recorded[0].observations, recorded[0].actions, None, recorded[0].states, True
    )
    with pytest.raises(AttributeError):
        write_demonstrations(path, TASK, [recorded[0], broken])
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_missing_file_is_refused(tmp_path):
    refuse(tmp_path / 'none.hdf5', 'none.hdf5', 'record')


@pytest.mark.parametrize('keep', [0.0, 0.1, 0.5, 0.95])
def test_a_truncated_file_is_refused(path, keep):
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    refuse(path, 'demonstrations.hdf5', 'copy it again')


def test_a_foreign_file_is_refused(tmp_path):
    text = tmp_path / 'notes.hdf5'
    text.write_text('not a recording')
    refuse(text, 'notes.hdf5')
    other = tmp_path / 'other.hdf5'
    with h5py.File(other, 'w') as file:
        file['x'] = np.zeros(3)
    refuse(other, 'field `data`', 'robomimic')


def test_another_tasks_file_is_refused(path):
    arguments = {'env_name': 'lift', 'env_kwargs': {'contract_hash': TASK.contract_hash}}
    edit(path, lambda data: data.attrs.__setitem__('env_args', json.dumps(arguments)))
    refuse(path, 'env_args')


def test_another_contracts_file_is_refused(path):
    changed = TASK.model_copy(update={'version': TASK.version + 1})
    with pytest.raises(InputError, match='contract'):
        read_demonstrations(path, TaskWithHash(changed))


class TaskWithHash:
    """A task whose contract hash differs, all else equal."""

    def __init__(self, task):
        self._task = task
        self.contract_hash = '0' * 16

    def __getattr__(self, name):
        return getattr(self._task, name)


@pytest.mark.parametrize(
    ('change', 'where'),
    [
        (lambda d: d.attrs.__delitem__('env_args'), 'env_args'),
        (lambda d: d.attrs.__setitem__('env_args', '{'), 'env_args'),
        (lambda d: d['demo_0'].__delitem__('actions'), 'data/demo_0/actions'),
        (lambda d: d['demo_1/obs'].__delitem__('state'), 'data/demo_1/obs/state'),
        (lambda d: d['demo_0'].attrs.__setitem__('num_samples', 3), 'data/demo_0/'),
        (lambda d: d['demo_0'].attrs.__delitem__('num_samples'), 'num_samples'),
        (lambda d: d['demo_0/actions'].__setitem__((0, 0), np.nan), 'data/demo_0/actions'),
        (lambda d: d['demo_0/actions'].__setitem__((0, 0), 1.5), 'data/demo_0/actions'),
        (lambda d: d['demo_0/next_obs/state'].__setitem__((0, 0), 9.0), 'next_obs/state'),
        (lambda d: [d.__delitem__(n) for n in list(d)], 'field `data`'),
    ],
)
def test_a_damaged_field_is_named(path, change, where):
    edit(path, change)
    refuse(path, where)


def test_a_hopeless_demonstrator_is_reported(monkeypatch):
    class Idle:
        def __init__(self, *_):
            pass

        def act(self, *_):
            return np.zeros(TASK.action_size)

    monkeypatch.setattr(pipe_assembly, 'Demonstrator', Idle)
    monkeypatch.setattr(demonstrations, 'MAX_ATTEMPTS_PER_DEMONSTRATION', 2)
    with pytest.raises(RuntimeError, match='only 0 times'):
        record_demonstrations(TASK, count=1, seed=0)
