# SPDX-License-Identifier: Apache-2.0
"""Other people's environments: what becomes of their actions, observations, ends, failures and files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
import shutil

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner
import yaml

from q2rl_lab.bench_report import build_bench_result, table_rows
from q2rl_lab.bench_run import Given, Job, run_job, shared_start
from q2rl_lab.bench_suites import find_suite
from q2rl_lab.cli import app
from q2rl_lab.gym_cell import GymCell
from q2rl_lab.gym_demonstrations import record_gym_demonstrations
from q2rl_lab.gym_task import GymTask
from q2rl_lab.suite_file import shipped_suites
from q2rl_learner.demonstrations import load_demonstrations
from q2rl_policies.policy_spec import Block, Input, input_map
from q2rl_policies.torch_runtime import prepare_torch
from q2rl_task import Decision, EndReason, InputError, Mode, Reason, Source
from q2rl_task.errors import GivenUp

ENVIRONMENT = Path(__file__).with_name('buoy_task.py')
TASK = {
    'name': 'buoy',
    'id': 'buoy_task:Buoy-v0',
    'max_steps': 8,
    'demonstrations': {'policy': 'buoy_task:Sailor', 'count': 6, 'noise': 0.2},
}
SUITE = {
    'description': 'A boat.',
    'preset': 'tiny',
    'rollouts': 6,
    'online_steps': 30,
    'evaluate_every': 15,
    'probe_episodes': 2,
    'evaluation_episodes': 6,
    'tasks': [TASK],
}


@pytest.fixture
def suite_of(tmp_path):
    """Write a suite beside the environment; returns it as the bench reads it."""
    shutil.copy(ENVIRONMENT, tmp_path)

    def make(task=(), **changes):
        path = tmp_path / 'boats.yaml'
        tasks = [{**TASK, **dict(task)}]
        path.write_text(yaml.safe_dump({**SUITE, 'tasks': tasks, **changes}))
        return find_suite(str(path))

    return make


def recorded(suite, count=3, seed=0):
    return record_gym_demonstrations(suite.gym.host, suite.gym.tasks[0], count, seed)


def steps_of(suite, act, seed=1, count=3):
    task, _ = recorded(suite, count)
    cell = GymCell(suite.gym.host, task, 0, 'arm')

    def decide(record):
        return Decision(Source.BC, Reason.MODE, np.asarray(act(record), dtype=np.float32))

    return list(cell.run_episode('e', Mode.BC, seed, decide))


def to_buoy(task):
    """What the sailor would do, from what a policy sees."""

    def act(record):
        x, y = (record.observation * np.array(task.scale) + np.array(task.mean))[2:] / 100.0
        return [(np.clip(x, -0.5, 0.5) + 0.5) / 0.75 - 1.0, np.clip(y, -0.5, 0.5)]

    return act


def test_actions_are_scaled_to_the_bounds_of_the_environment(suite_of):
    suite = suite_of()
    task = suite.gym.tasks[0]
    process = suite.gym.host.start(task)
    start = process.reset(5)
    after, _ = process.step(np.array([1.0, -1.0]))
    np.testing.assert_allclose(after[:2] - start[:2], [1.0, -1.0])
    middle, _ = process.step(np.zeros(2))
    np.testing.assert_allclose(middle[:2] - after[:2], [0.25, 0.0])
    np.testing.assert_allclose(process.to_unit(np.array([-0.5, 0.5])), [-1.0, 0.5])
    np.testing.assert_array_equal(process.reset(5), start)
    assert not np.array_equal(process.reset(6), start)


def test_observations_are_scaled_once_and_for_all_by_the_demonstrations(suite_of):
    suite = suite_of()
    task, demonstrations = recorded(suite)
    seen = np.concatenate([d.observations for d in demonstrations])
    np.testing.assert_allclose(seen.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(seen.std(axis=0), 1.0, atol=1e-5)
    assert abs(task.observe(np.full(4, 1e9))).max() == task.observation.limit
    again, same = recorded(suite)
    assert again.contract_hash == task.contract_hash
    np.testing.assert_array_equal(same[0].actions, demonstrations[0].actions)
    other, _ = recorded(suite, seed=1)
    assert other.contract_hash != task.contract_hash, 'each seed makes its own'
    assert type(task).model_validate_json(task.model_dump_json()) == task


def test_a_constant_component_is_not_blown_up():
    task = GymTask.model_validate(TASK)
    fixed = task.fixed([np.array([[3.0, 1.0], [3.0, 2.0]])], 2)
    assert fixed.scale[0] == task.observation.least_scale
    assert list(fixed.observe(np.array([3.0, 1.5]))) == [0.0, 0.0]


def test_success_terminates_and_the_time_limit_cuts(suite_of):
    suite = suite_of()
    # Straight to the buoy, in units of the actions' bounds: half a metre per step at most.
    there = steps_of(suite, to_buoy(recorded(suite)[0]))
    idle = steps_of(suite, lambda record: [-1 / 3, 0.0])
    assert idle[-1].step == suite.gym.tasks[0].max_steps > 3, 'its own limit of 3 does not count'
    assert (idle[-1].truncated, idle[-1].terminated) == (True, False)
    assert idle[-1].end_reason is EndReason.TIME_LIMIT
    assert [s.reward for s in idle] == [0.0] + [-1.0] * 8
    assert (there[-1].terminated, there[-1].truncated) == (True, False)
    assert there[-1].reward == 0.0 and there[-1].end_reason is EndReason.SUCCESS
    assert not any(s.final for s in there[:-1]) and np.isnan(there[-1].force)


def test_demonstrations_succeed_and_pay_as_the_task_does(suite_of):
    _, demonstrations = recorded(suite_of())
    for demonstration in demonstrations:
        assert demonstration.success and demonstration.rewards[-1] == 0.0
        assert set(demonstration.rewards[:-1]) == {-1.0}
        assert len(demonstration.observations) == len(demonstration) + 1
        assert abs(demonstration.actions).max() <= 1.0


def test_an_environment_that_ends_an_episode_without_success_only_cuts_it(suite_of):
    suite = suite_of(
        {'arguments': {'capsizes': 1.9}, 'demonstrations': {**TASK['demonstrations'], 'noise': 0.0}}
    )
    steps = steps_of(suite, lambda record: [1.0, 1.0] if record.step % 2 else [1.0, -1.0])
    assert (steps[-1].terminated, steps[-1].truncated) == (False, True)
    assert steps[-1].end_reason is EndReason.FAILURE and steps[-1].reward == -1.0


def test_rewards_may_be_those_of_the_environment(suite_of):
    suite = suite_of({'reward': {'source': 'environment', 'range': [-20.0, 0.0]}})
    steps = steps_of(suite, lambda record: [-1 / 3, 0.0])
    assert steps[1].reward == pytest.approx(-2.0) and steps[-1].truncated
    assert suite.gym.tasks[0].reward.step_range == (-20.0, 0.0)


def test_observations_by_name_and_another_success_key(suite_of):
    suite = suite_of(
        {'id': 'buoy_task:Named-v0', 'arguments': {'key': 'is_success'}, 'success': 'is_success'}
    )
    task, demonstrations = recorded(suite)
    assert task.observation_size == 4 and demonstrations[0].success


@pytest.mark.parametrize(
    ('task', 'said'),
    [
        ({'id': 'buoy_task:Raft-v0'}, "environment `Raft` doesn't exist|NameNotFound"),
        ({'id': 'no_such_module:Buoy-v0'}, 'no_such_module'),
        ({'id': 'CartPole-v1'}, 'Discrete, not a Box'),
        ({'attributes': {'melted': True}}, 'no attribute melted'),
        ({'demonstrations': {'policy': 'buoy_task:Pirate', 'count': 2}}, 'Pirate'),
        ({'attributes': {'frozen': True}}, 'starts alike whatever the seed'),
        ({'demonstrations': {'file': 'none.hdf5', 'count': 2}}, 'cannot be used'),
    ],
)
def test_what_cannot_be_made_is_said_in_one_line(suite_of, task, said):
    with pytest.raises(InputError, match=said) as raised:
        recorded(suite_of(task))
    assert '\n' not in str(raised.value)


@pytest.mark.parametrize(
    ('task', 'kind', 'said'),
    [
        ({'id': 'buoy_task:Dying-v0'}, RuntimeError, 'process ended: the mast broke'),
        ({'success': 'is_success'}, RuntimeError, 'info has no entry is_success; it has success'),
        (
            {'demonstrations': {'policy': 'buoy_task:drifter', 'count': 2}},
            GivenUp,
            '0 demonstrations of 3',
        ),
    ],
)
def test_what_fails_later_names_the_task(suite_of, task, kind, said):
    with pytest.raises(kind, match=f'task buoy: .*{said}'):
        recorded(suite_of(task))


def write_minari(path, episodes):
    with h5py.File(path, 'w') as file:
        for k, (observations, actions, success) in enumerate(episodes):
            group = file.create_group(f'episode_{k}')
            group['observations'], group['actions'] = observations, actions
            group['rewards'] = np.zeros(len(actions))
            group['infos/success'] = np.array([False, *success])


def write_robomimic(path, episodes):
    with h5py.File(path, 'w') as file:
        for k, (observations, actions, success) in enumerate(episodes):
            group = file.create_group(f'data/demo_{k}')
            for name, part in (('obs', observations[:-1]), ('next_obs', observations[1:])):
                group[f'{name}/place'], group[f'{name}/way'] = part[:, :2], part[:, 2:]
            group['actions'], group['rewards'] = actions, np.array(success, dtype=float)


@pytest.mark.parametrize('write', [write_minari, write_robomimic])
def test_demonstrations_from_a_file_end_with_their_first_success(suite_of, tmp_path, write):
    rng = np.random.default_rng(0)
    outcomes = ([0, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 1])
    episodes = [(rng.normal(size=(5, 4)), np.full((4, 2), 0.25), success) for success in outcomes]
    write(tmp_path / 'boats.hdf5', episodes)
    suite = suite_of(
        {'demonstrations': {'file': 'boats.hdf5', 'keys': ['place', 'way'], 'count': 2}}
    )
    task, demonstrations = recorded(suite, count=0)
    assert sorted(map(len, demonstrations)) == [2, 3]
    longest = max(demonstrations, key=len)
    np.testing.assert_allclose(longest.observations, task.observe(episodes[0][0][:4]))
    np.testing.assert_allclose(longest.actions, np.tile([0.0, 0.25], (3, 1)), atol=1e-6)
    assert list(longest.rewards) == [-1.0, -1.0, 0.0]
    write(tmp_path / 'boats.hdf5', [(rng.normal(size=(5, 4)), np.zeros((4, 3)), [0, 0, 0, 1])])
    with pytest.raises(InputError, match='actions of 2'):
        recorded(suite, count=0)


def test_a_method_learns_on_it_through_the_bench(suite_of, tmp_path):
    prepare_torch()
    suite = suite_of()
    lines = []
    job = Job(suite, 'buoy', 'rlpd', 0, tmp_path / 'starts')
    run_job(job, lines.append)
    final = lines[-1]
    assert final['final'] and final['suite'] == 'boats' and final['n'] == 6
    assert final['gradient_steps'] == final['online_steps'] >= 30 and final['stopped'] == ''
    assert final['force_soften_n'] is None
    result = build_bench_result([{'format': 1, **line} for line in lines], None)
    assert table_rows(result)[0][8] == '-', 'no force is measured'
    again = []
    run_job(dataclasses.replace(job, method='bc'), again.append)
    assert again[-1]['success'] == final['bc']['success'], 'the start is read, not made again'


def test_a_suite_says_what_is_wrong_with_it(suite_of, tmp_path):
    with pytest.raises(InputError, match='evaluation_episodes'):
        suite_of(probe_episodes=7)
    with pytest.raises(InputError, match='either `policy` or `file`'):
        suite_of({'demonstrations': {'count': 3}})
    with pytest.raises(InputError, match=r'`range: \[least, greatest\]` go together'):
        suite_of({'reward': {'source': 'environment'}})
    suite_of(python={'venv': 'nowhere', 'requirements': 'requirements/extra/boats.txt'})
    result = CliRunner().invoke(app, ['bench', 'learning', '--suite', str(tmp_path / 'boats.yaml')])
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1
    assert 'nowhere/bin/pip install -r requirements/extra/boats.txt' in result.stderr


def test_the_shipped_suites_can_be_read_and_name_their_requirements():
    root = next(p for p in Path(__file__).resolve().parents if (p / 'requirements').is_dir())
    assert 'metaworld' in shipped_suites()
    for name in shipped_suites():
        suite = find_suite(name)
        environment = suite.gym.host.environment
        assert (root / environment.requirements).is_file()
        assert len({task.contract_hash for task in suite.gym.tasks}) == len(suite.tasks)


def _task_of(suite_name, name):
    """Return the host of a suite's environments, and one of its tasks."""
    suite = find_suite(suite_name)
    (task,) = (task for task in suite.gym.tasks if task.name == name)
    return suite.gym.host, task


def _repeats(process, size):
    """See that a seed is a scene, whatever came between."""
    start = process.reset(7)
    after, answer = process.step(np.full(size, 0.5))
    assert not answer['success'] and not answer['terminated'] and not answer['truncated']
    other = process.reset(8)
    process.step(np.ones(size))
    assert not np.array_equal(start, other)
    np.testing.assert_array_equal(process.reset(7), start)
    np.testing.assert_array_equal(process.step(np.full(size, 0.5))[0], after)
    return start


def _demonstrates_and_repeats(suite_name, name, observed, actions):
    """See that a scripted expert demonstrates on scenes that differ and repeat; return the first observation of one."""
    host, task = _task_of(suite_name, name)
    fixed, (first, second) = record_gym_demonstrations(host, task, 2, 0)
    assert fixed.observation_size == observed and first.actions.shape[1] == actions
    assert not np.array_equal(first.observations[0], second.observations[0])
    return _repeats(host.start(task), actions)


@pytest.mark.skipif(
    not (Path.cwd() / '.venv-metaworld').is_dir(), reason='needs Meta-World (docs/benchmarks.md)'
)
@pytest.mark.parametrize('name', find_suite('metaworld').tasks)
def test_metaworld_demonstrates_and_repeats_its_scenes(name):
    _demonstrates_and_repeats('metaworld', name, 39, 4)


@pytest.mark.skipif(
    not (Path.cwd() / '.venv-robosuite').is_dir(), reason='needs robosuite (docs/benchmarks.md)'
)
@pytest.mark.parametrize(('name', 'observed'), [('robosuite_lift', 19), ('robosuite_square', 23)])
def test_robosuite_demonstrates_and_repeats_its_scenes(name, observed):
    start = _demonstrates_and_repeats('robosuite', name, observed, 7)
    assert np.abs(start[16:19]).max() > 0.01, 'where the object is to the hand is known at once'


@pytest.mark.skipif(
    not (Path.cwd() / '.venv-adroit').is_dir(),
    reason='needs Gymnasium-Robotics (docs/benchmarks.md)',
)
@pytest.mark.parametrize(
    ('name', 'observed', 'actions'), [('adroit_door', 39, 28), ('adroit_pen', 45, 24)]
)
def test_adroit_repeats_its_scenes(name, observed, actions):
    host, task = _task_of('adroit', name)
    assert len(_repeats(host.start(task), actions)) == observed


NAMED = {'id': 'buoy_task:Named-v0', 'observation': {'blocks': {'place': 2, 'way': 2}}}
OWN_POLICY = """
import numpy as np


class Sailor:
    def __init__(self, task):
        self.task = task

    def predict(self, observation):
        way = np.clip(self.task.raw(observation)[2:] / 100.0, -0.5, 0.5)
        return {'mean': [(way[0] + 0.5) / 0.75 - 1.0, way[1]], 'std': np.full(2, 0.3)}
"""


def test_a_policy_made_elsewhere_is_shown_the_environments_own_numbers_by_name(suite_of):
    suite = suite_of(NAMED)
    task, _ = recorded(suite)
    observed = np.array([0.1, 0.2, 150.0, -40.0])
    for field, expected in (('way', observed[2:]), ('all', observed)):
        shown = input_map(Input(blocks=(Block(field=field),)), task, 'test')
        np.testing.assert_allclose(shown(task.observe(observed)), expected, rtol=1e-5)
    in_metres = input_map(Input(blocks=(Block(field='way', scale=100.0),)), task, 'test')
    np.testing.assert_allclose(in_metres(task.observe(observed)), [1.5, -0.4], rtol=1e-5)
    with pytest.raises(InputError, match='name `all` or one of place, way'):
        input_map(Input(blocks=(Block(field='sail'),)), task, 'test')
    nameless = suite_of({'id': NAMED['id']}).gym.tasks[0]
    assert nameless.contract_hash == suite.gym.tasks[0].contract_hash, 'names change nothing'
    with pytest.raises(InputError, match='has 3 numbers, the environment 4'):
        recorded(suite_of({'observation': {'blocks': {'place': 3}}}))


def test_ones_own_policy_is_adopted_and_takes_the_place_of_the_clones(
    suite_of, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    suite = suite_of(NAMED, evaluation_episodes=4)
    (tmp_path / 'mine.py').write_text(OWN_POLICY)
    words = ['adopt', 'mine.py:Sailor', '--suite', 'boats.yaml', '-n', '4', '--json', '--task']
    done = CliRunner().invoke(app, [*words, 'buoy'])
    assert done.exit_code == 0, done.output + repr(done.exception)
    said = json.loads(done.stdout)
    bench = './q2rl bench learning --suite boats.yaml --tasks buoy --bc bc.yaml --methods q2rl'
    assert said['next'] == bench and said['success']['success'] > 0
    kept = json.loads(Path('bc.task.json').read_text())

    given = Given(Path('bc.yaml').absolute())
    given.check(suite.gym.bench_task('buoy'), ['tiny+q2rl'])
    jobs = [Job(suite, 'buoy', 'bc', seed, tmp_path / 'starts', given=given) for seed in (0, 1)]
    starts = [shared_start(job) for job in jobs]
    for start in starts:
        assert list(start.task.mean) == kept['mean'], 'one scaling, whatever the seed'
        assert start.policy.read_bytes() == Path('bc.yaml').read_bytes()
        assert start.bc['adopted'] == 'bc.yaml'
        assert load_demonstrations(start.demonstrations, start.task)
    assert starts[0].demonstrations.read_bytes() != starts[1].demonstrations.read_bytes()
    mixed = dataclasses.replace(given, demonstrations=str(starts[0].demonstrations))
    given_both, without = (
        dataclasses.replace(jobs[0], given=one) for one in (mixed, Given(given.policy, 'none'))
    )
    copied = shared_start(given_both).demonstrations
    assert copied.read_bytes() == starts[0].demonstrations.read_bytes()
    assert shared_start(without).demonstrations is None
    clones = dataclasses.replace(jobs[0], given=None)
    assert len({job.settings() for job in (*jobs, clones, given_both, without)}) == 4
    lines = []
    run_job(without, lines.append)
    assert lines[-1]['final'] and lines[-1]['bc'] == shared_start(without).bc

    other = {**kept, 'max_steps': 9}
    Path('other.json').write_text(json.dumps(other))
    done = CliRunner().invoke(app, [*words, 'other.json', '--force'])
    assert done.exit_code == 2 and 'it differs in `max_steps`' in done.stderr
    Path('bc.task.json').unlink()
    done = CliRunner().invoke(
        app, ['bench', 'learning', '--suite', 'boats.yaml', '--bc', 'bc.yaml']
    )
    assert done.exit_code == 2 and 'has no bc.task.json beside it' in done.stderr


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (['--suite', 'metaworld', '--bc', 'bc.yaml'], 'is for one task only'),
        (['--demonstrations', 'd.hdf5'], 'goes with --bc only'),
        (['--bc', 'none.yaml'], 'no such file'),
    ],
)
def test_the_bench_says_what_policy_it_cannot_take(options, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ['bench', 'learning', *options])
    assert done.exit_code == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
