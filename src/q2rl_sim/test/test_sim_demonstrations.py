# SPDX-License-Identifier: Apache-2.0
"""Recording demonstrations, and their file."""

import json

import h5py
import numpy as np
import pytest

from q2rl_sim import demonstrations
from q2rl_sim.demonstrations import record_demonstrations, write_demonstrations
from q2rl_sim.scenes import pipe_assembly
from q2rl_task import load_task
from q2rl_task.errors import GivenUp

TASK = load_task('pipe_assembly')


@pytest.fixture(scope='module')
def recorded():
    return record_demonstrations(TASK, count=2, seed=3)


@pytest.fixture
def path(tmp_path, recorded):
    file = tmp_path / 'deep' / 'demonstrations.hdf5'
    write_demonstrations(file, TASK, recorded)
    return file


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
        one = recorded[1]
        for field, values in (
            ('obs/state', one.observations[:-1]),
            ('next_obs/state', one.observations[1:]),
            ('actions', one.actions),
            ('rewards', one.rewards),
            ('states', one.states),
        ):
            assert np.array_equal(demo[field], values), field


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(path, recorded):
    before = path.read_bytes()
    broken = demonstrations.Demonstration(
        recorded[0].observations, recorded[0].actions, None, recorded[0].states, True
    )
    with pytest.raises(AttributeError):
        write_demonstrations(path, TASK, [recorded[0], broken])
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_hopeless_demonstrator_is_reported(monkeypatch):
    class Idle:
        def __init__(self, *_):
            pass

        def act(self, *_):
            return np.zeros(TASK.action_size)

    monkeypatch.setattr(pipe_assembly, 'Demonstrator', Idle)
    monkeypatch.setattr(demonstrations, 'MAX_ATTEMPTS_PER_DEMONSTRATION', 2)
    with pytest.raises(GivenUp, match=r'task pipe_assembly: .* only 0 times in 2; give it'):
        record_demonstrations(TASK, count=1, seed=0)
