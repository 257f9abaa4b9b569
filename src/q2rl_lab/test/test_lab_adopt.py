# SPDX-License-Identifier: Apache-2.0
"""`q2rl adopt` from end to end: what it finds, what it says, and that its file is a BC policy like any other."""

from __future__ import annotations

import json
from pathlib import Path
import pickle
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from q2rl_lab.adoption import Measured, judge
from q2rl_lab.checks import Finding, Level
from q2rl_lab.cli import app
from q2rl_lab.preparation import check_adopted
from q2rl_lab.run_folder import RunConfig, create_run
from q2rl_lab.statistics import Rate
from q2rl_lab.tiny_task import tiny_demonstrations, tiny_task
from q2rl_learner.config import LearnerConfig, load_preset
from q2rl_policies.policy_file import load_bc
from q2rl_task import InputError, TaskSpec

sys.path.insert(0, str(Path(__file__).parents[2] / 'q2rl_policies' / 'test'))

TASK = tiny_task()
runner = CliRunner()

CLASSES = '''
import numpy as np

def towards(o, size):
    mean = np.zeros(size)
    mean[:2] = -0.5 * o[:2] / max(np.hypot(*o[:2]), 0.08)
    mean[2] = -0.4
    return mean


class Novice:
    def __init__(self, task):
        self.size = task.action_size

    def predict(self, o):
        return {'mean': towards(o, self.size), 'std': np.full(self.size, 0.5)}


class Silent(Novice):
    """The novice without its density."""

    def __init__(self, task):
        super().__init__(task)
        self.rng = np.random.default_rng(0)

    def predict(self, o):
        return {'action': towards(o, self.size) + self.rng.normal(0.0, 0.5, self.size)}


class Liar(Novice):
    predict = None

    def sample(self, o, rng):
        action = towards(o, self.size) + rng.normal(0.0, 0.5, self.size)
        return action, 0.0, 1.0


class Lost(Novice):
    def predict(self, o):
        return {'mean': np.full(self.size, 5.0), 'std': np.full(self.size, 0.1)}


class Still(Novice):
    def predict(self, o):
        return {'action': np.zeros(self.size)}


class Broken(Novice):
    calls = 0

    def predict(self, o):
        self.calls += 1
        return {'action': np.full(self.size, np.nan if self.calls > 3 else 0.0)}


class Blind(Novice):
    def predict(self, o):
        return {'mean': np.full(self.size, np.nan), 'std': np.full(self.size, 0.1)}


class Inverted(Novice):
    def predict(self, o):
        return {'mean': towards(o, self.size), 'std': np.full(self.size, -0.5)}
'''


@pytest.fixture
def adopt(tmp_path, monkeypatch):
    """Run the command on the task `tiny` in an empty folder; returns exit code and result."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'mine.py').write_text(CLASSES)

    def run(policy: str, *options: str, episodes: int = 12):
        arguments = ['adopt', policy, '--task', 'tiny', '-n', str(episodes), '--json', *options]
        done = runner.invoke(app, arguments)
        assert done.exit_code in (0, 1), done.output + repr(done.exception)
        return done.exit_code, json.loads(done.stdout)

    return run


def test_a_class_with_a_density_is_adopted(adopt, tmp_path):
    code, said = adopt('mine.py:Novice', episodes=24)
    assert code == 0 and said['applies'] and said['file'] == 'bc.yaml'
    assert {name: check['level'] for name, check in said['checks'].items()} == {
        'contract': 'OK', 'normalisation': 'SKIP', 'actions': 'OK', 'density': 'OK',
    }  # fmt: skip
    assert said['success']['n'] == said['success_by_mode']['n'] == 24
    assert 0 < said['success']['success'] < 1
    policy = load_bc(tmp_path / 'bc.yaml', TASK).make(0, 'monte_carlo', False)
    assert np.isfinite(policy.act(np.zeros(6, dtype=np.float32)).log_prob)


def test_the_same_seed_finds_the_same(adopt):
    first = adopt('mine.py:Novice')[1]
    assert adopt('mine.py:Novice', '--force')[1] == first
    assert adopt('mine.py:Novice', '--force', '--seed', '1')[1]['checks'] != first['checks']


def test_without_a_density_it_says_so_and_a_mixture_can_be_distilled(adopt, tmp_path):
    code, said = adopt('mine.py:Silent')
    assert code == 0 and not said['applies'] and said['file'] == 'bc.yaml'
    assert said['checks']['density']['level'] == 'WARN' and '--distil' in said['next']
    assert said['success_by_mode'] is None

    from q2rl_sim.demonstrations import write_demonstrations

    write_demonstrations(tmp_path / 'd.hdf5', TASK, tiny_demonstrations(TASK, 4, 1))
    code, said = adopt('mine.py:Silent', '--distil', '--demonstrations', 'd.hdf5', episodes=24)
    assert code == 0 and said['file'] == 'bc.safetensors'
    found = said['distilled']
    # Six components of std 0.5, clipped a little: their entropy, and no fit beats it by much.
    entropy = 6 * np.log(0.5 * np.sqrt(2 * np.pi * np.e))
    assert entropy - 0.5 < found['held_out_nll'] < entropy + 1.5
    assert 0.3 < found['std'] < 0.6 and found['success']['n'] == 24
    assert said['applies'] is (found['success']['success'] > 0)
    loaded = load_bc(tmp_path / 'bc.safetensors', TASK)
    assert loaded.density is not None and loaded.what == 'network `gmm`'


@pytest.mark.parametrize('successes, said', [(2, True), (11, False)])
def test_a_mixture_that_lost_what_the_policy_could_says_so(successes, said):
    measured = Measured((), (), Rate(12, 20), distilled=Rate(successes, 20))
    verdict = judge([Finding('actions', Level.OK, '')], None, measured, '{}'.format, 'q2rl adopt')
    assert verdict.applies and ('against 12 of 20' in verdict.text) is said


@pytest.mark.parametrize(
    'name, check, said',
    [('Liar', 'density', 'likelihood is wrong'), ('Broken', 'actions', 'not finite')],
)
def test_what_is_wrong_is_not_written(adopt, tmp_path, name, check, said):
    code, result = adopt(f'mine.py:{name}', episodes=4)
    assert code == 1 and not result['applies'] and result['file'] is None
    assert result['checks'][check]['level'] == 'FAIL' and said in result['verdict']
    assert not list(tmp_path.glob('bc.*'))


def test_a_run_refuses_a_policy_without_the_density_that_its_preset_needs(adopt, tmp_path):
    adopt('mine.py:Silent', episodes=2)
    policy = tmp_path / 'bc.yaml'
    with pytest.raises(InputError, match='preset laptop rates BC by its density') as caught:
        check_adopted(policy, TASK, 'laptop')
    assert '--distil' in caught.value.remedy and '--method q2rl/alpha-0' in caught.value.remedy
    check_adopted(policy, TASK, 'laptop+ibrl')


def test_learning_asks_that_of_the_preset_that_the_task_names(adopt, tmp_path):
    adopt('mine.py:Silent', episodes=2)
    task = tmp_path / 'task.yaml'
    task.write_text(TASK.model_dump_json())  # JSON is YAML
    done = runner.invoke(app, ['learn', str(task), '--bc', 'bc.yaml'])
    assert done.exit_code == 2
    assert f'preset {TASK.learning.preset} rates BC by its density' in ' '.join(done.stderr.split())
    assert not (tmp_path / 'runs').exists()


@pytest.mark.parametrize('options, episodes', [([], 50), (['--distil'], 100), (['-n', '7'], 7)])
def test_a_mixture_is_fitted_to_more_episodes_than_a_policy_is_measured_on(
    monkeypatch, options, episodes
):
    orders = []

    def stand_in(order):
        orders.append(order)
        return {'file': 'bc.yaml'}, lambda: None

    monkeypatch.setattr('q2rl_lab.adopting.adopt_policy', stand_in)
    assert runner.invoke(app, ['adopt', 'mine.py:Novice', *options]).exit_code == 0
    assert [order.episodes for order in orders] == [episodes]


def test_a_run_whose_policy_has_changed_is_not_resumed(adopt, tmp_path, monkeypatch):
    monkeypatch.setattr('q2rl_lab.preparation.prepare', lambda *given: pytest.fail('went on'))
    adopt('mine.py:Novice', episodes=2)
    (tmp_path / 'task.yaml').write_text(TASK.model_dump_json())
    folder = create_run(tmp_path / 'runs', 'one', RunConfig('task.yaml', bc='bc.yaml'), {})
    (folder.path / 'bc.yaml').write_bytes((tmp_path / 'bc.yaml').read_bytes())
    before = sorted(folder.path.iterdir())
    (tmp_path / 'mine.py').write_text(CLASSES + '# changed\n')
    done = runner.invoke(app, ['up', 'task.yaml', '--resume', '--run', 'one'])
    assert done.exit_code == 2
    assert 'is not the source that was adopted' in ' '.join(done.stderr.split())
    assert sorted(folder.path.iterdir()) == before


@pytest.mark.parametrize(
    'name, check', [('Lost', 'actions'), ('Still', 'density')], ids=['with a density', 'without']
)
def test_a_policy_that_never_succeeds_is_told_so(adopt, name, check):
    code, said = adopt(f'mine.py:{name}', episodes=6)
    assert code == 0 and not said['applies']
    assert said['checks'][check]['level'] == 'WARN'
    assert 'no success in 6 episodes (below 39 %' in said['verdict']
    assert said['next'].startswith('clone more'), 'no method needs no success'


def test_a_mixture_of_what_never_succeeds_is_no_way_out():
    measured = Measured((), (), Rate(0, 20), distilled=Rate(0, 20))
    verdict = judge([Finding('actions', Level.OK, '')], None, measured, '{}'.format, 'q2rl adopt')
    assert not verdict.applies and verdict.next.startswith('clone more')


@pytest.mark.parametrize('kind', ['gmm', 'rnn'])
def test_robomimic_from_its_checkpoint_to_the_gate(adopt, tmp_path, kind):
    from robomimic_files import make_checkpoint

    stats = {
        'force': {'offset': [0.0, 0.0, 0.0], 'scale': [1.0, 1.0, 1.0]},
        'tip_position': {'offset': [0.0, 0.0, 0.0], 'scale': [0.01, 1.0, 1.0]},
    }
    keys = {'tip_position': 3, 'force': 3}
    make_checkpoint(tmp_path / 'm.pth', kind, keys=keys, obs_stats=stats)
    code, said = adopt('m.pth', episodes=3)
    assert code == 0 and said['kind'] == f'robomimic BC-{"RNN-" if kind == "rnn" else ""}GMM'
    assert said['recurrent'] is (kind == 'rnn')
    assert said['checks']['density']['level'] == 'OK'
    # The first number after normalisation is a hundred times too large, which somebody should hear.
    assert said['checks']['normalisation']['level'] == 'WARN'
    assert any('low_noise_eval' in note for note in said['notes'])
    loaded = load_bc(tmp_path / 'bc.safetensors', TASK)
    assert loaded.recurrent is (kind == 'rnn')
    again = adopt('bc.safetensors', '-o', 'again.safetensors', episodes=3)[1]
    assert again['kind'] == 'q2rl' and again['success'] == said['success']


def test_a_program_and_its_yaml(adopt, tmp_path):
    from policy_files import Gaussian, torchscript

    torchscript(tmp_path / 'policy.pt', Gaussian(inputs=6))
    (tmp_path / 'policy.yaml').write_text('file: policy.pt\noutputs: {mean: 0, std: 1}\n')
    one = adopt('policy.yaml', episodes=3)[1]
    (tmp_path / 'fit.yaml').write_text('outputs: {mean: 0, std: 1}\n')
    two = adopt('policy.pt', '--spec', 'fit.yaml', '-o', 'two.safetensors', episodes=3)[1]
    assert one['checks'] == two['checks'] and one['kind'] == 'torchscript'
    assert (tmp_path / 'two.safetensors').read_bytes() == (tmp_path / 'bc.safetensors').read_bytes()


def test_a_policy_whose_first_action_is_not_finite_is_not_measured(adopt, tmp_path):
    done = runner.invoke(app, ['adopt', 'mine.py:Blind', '--task', 'tiny'])
    assert done.exit_code == 2 and done.stdout == '' and not list(tmp_path.glob('bc.*'))
    assert 'mine.py:Blind: the action is not finite, from the first' in done.stderr.splitlines()[-1]


@pytest.fixture
def real_cell(tmp_path):
    """A task that nothing here simulates, with recorded demonstrations of it; returns its file."""
    from q2rl_sim.demonstrations import write_demonstrations

    task = TaskSpec.model_validate({**TASK.model_dump(), 'name': 'cell', 'scene': ''})
    (tmp_path / 'cell.yaml').write_text(task.model_dump_json())  # JSON is YAML
    write_demonstrations(tmp_path / 'd.hdf5', task, tiny_demonstrations(task, 6, 1))
    return 'cell.yaml'


def test_a_policy_is_adopted_without_anything_to_simulate(adopt, real_cell, tmp_path):
    options = ('--task', real_cell, '--demonstrations', 'd.hdf5')
    code, said = adopt('mine.py:Novice', *options, episodes=0)
    assert code == 0 and said['applies'] is None and said['file'] == 'bc.yaml'
    assert said['success']['n'] == 0 and said['success_by_mode'] is None
    assert said['checks']['density']['level'] == 'OK'
    assert 'was not measured' in said['verdict']
    assert said['next'].startswith('ros2 launch ') and 'sim:=none task:=cell.yaml' in said['next']
    assert f'bc_checkpoint:={tmp_path}/bc.yaml demos:={tmp_path}/d.hdf5' in said['next']

    code, said = adopt('mine.py:Liar', *options, '--force', episodes=0)
    assert code == 1 and said['checks']['density']['level'] == 'FAIL'


def test_a_mixture_is_distilled_from_recorded_observations_alone(adopt, poor_fit, real_cell):
    options = ('--task', real_cell, '--demonstrations', 'd.hdf5', '--distil')
    code, said = adopt('mine.py:Silent', *options, episodes=0)
    assert code == 0 and said['applies'] is None and said['file'] == 'bc.safetensors'
    assert said['distilled']['success']['n'] == 0


def test_a_cell_without_a_scene_is_told_how_to_adopt(adopt, real_cell, tmp_path):
    done = runner.invoke(app, ['adopt', 'mine.py:Novice', '--task', real_cell])
    assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1
    assert '-n 0 --demonstrations FILE' in done.stderr and not list(tmp_path.glob('bc.*'))


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize(
    'arguments, said',
    [
        (['none.pth'], 'no such file, folder or class'),
        (['evil.pth'], 'not unpickled'),
        (['mine.py'], 'name its class: mine.py:MyPolicy'),
        (
            ['mine.py:Absent'],
            'has no class Absent; name one of Novice, Silent, Liar, Lost, Still, ',
        ),
        (['mine.py:Inverted'], '`std` is negative'),
        (['text.txt'], 'is neither'),
        (['plain.pt'], 'such as `outputs: {action: 0}`'),
        (['empty.yaml'], 'names no policy'),
        (['gone.yaml'], 'is not there'),
        (['mine.py:Novice', '-o', 'bc.safetensors'], 'kept in a .yaml file'),
        (['mine.py:Novice', '-o', 'empty.yaml'], 'is there already'),
        (['mine.py:Novice', '--demonstrations', 'd.hdf5'], 'goes with --distil or -n 0 only'),
        (['mine.py:Novice', '-n', '0'], 'needs recorded observations'),
        (['mine.py:Novice', '-n', '1'], 'is too few'),
        (['mine.py:Novice', '--suite', 'pipe'], 'is not in suite pipe'),
        (['.'], 'config.json'),
        (['plain.pt', '--interpreter', 'python3'], 'is for policy folders of LeRobot'),
        (['gone.yaml', '--spec', 'empty.yaml'], '--spec: gone.yaml says itself how it fits'),
        (['bc.safetensors', '--spec', 'empty.yaml'], 'says itself how it fits'),
        (['m.pth', '--spec', 'nameless.yaml'], 'm.pth: has its inputs by name, and one of'),
        (['m.pth', '--spec', 'twice.yaml'], 'm.pth: has one input state, and `inputs` more'),
        (['folder', '--spec', 'nameless.yaml'], 'folder: has its inputs by name, and one of'),
        (['folder', '--spec', 'twice.yaml'], 'folder: has one input state, and `inputs` more'),
        (['damaged.pth'], 'damaged.pth: is a damaged zip'),
    ],
)
def test_what_cannot_be_adopted_is_one_line(adopt, tmp_path, arguments, said):
    from policy_files import Gaussian, lerobot_folder, torchscript
    from robomimic_files import make_checkpoint

    data = torchscript(tmp_path / 'plain.pt', Gaussian(inputs=6)).read_bytes()
    (tmp_path / 'damaged.pth').write_bytes(data.replace(b'PK\1\2', b'PK\1\0'))
    make_checkpoint(tmp_path / 'm.pth', keys={'state': TASK.observation_size})
    lerobot_folder(
        tmp_path / 'folder',
        outputs=TASK.action_size,
        input_features={'state': {'type': 'STATE', 'shape': [TASK.observation_size]}},
    )
    (tmp_path / 'bc.safetensors').touch()
    (tmp_path / 'nameless.yaml').write_text('inputs: [{name: state}, {std: [2, 2, 2, 2, 2, 2]}]\n')
    (tmp_path / 'twice.yaml').write_text('inputs: [{name: state}, {name: state}]\n')
    (tmp_path / 'evil.pth').write_bytes(pickle.dumps(Payload(tmp_path / 'ran')))
    (tmp_path / 'text.txt').write_text('hello')
    (tmp_path / 'empty.yaml').write_text('outputs: {action: 0}\n')
    (tmp_path / 'gone.yaml').write_text('file: gone.pt\n')
    before = sorted(tmp_path.iterdir())
    done = runner.invoke(app, ['adopt', '--task', 'tiny', '-n', '2', *arguments])
    assert done.exit_code == 2, done.output + repr(done.exception)
    assert done.stdout == '' and said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [p for p in sorted(tmp_path.iterdir()) if p.name != '__pycache__'] == before


def test_what_a_yaml_names_of_lerobot_lies_beside_it(adopt, tmp_path):
    from policy_files import lerobot_folder

    (tmp_path / 'there').mkdir()
    task = tiny_task()
    folder = lerobot_folder(
        tmp_path / 'there' / 'pretrained_model', task.observation_size, task.action_size
    )
    (tmp_path / 'there' / 'fit.yaml').write_text('lerobot: pretrained_model\ninterpreter: python\n')
    done = runner.invoke(app, ['adopt', 'there/fit.yaml', '--task', 'tiny', '-n', '2'])
    assert done.exit_code == 2 and done.stderr.startswith(f'q2rl: {folder}: ')
    assert f'{tmp_path}/there/python does not run' in done.stderr


def test_people_read_a_verdict_and_what_to_do_next(adopt):
    done = runner.invoke(app, ['adopt', 'mine.py:Silent', '--task', 'tiny', '-n', '12'])
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith('OK   contract')
    bench = './q2rl bench learning --suite tiny --tasks tiny --bc bc.yaml --methods'
    assert lines[-1].startswith(f'Next: {bench} q2rl/alpha-0, or: ')
    assert ', or: q2rl adopt mine.py:Silent --distil --task tiny, or: ' in lines[-1]
    assert lines[-1].endswith(f'{bench} ibrl')


@pytest.fixture
def poor_fit(monkeypatch):
    """Let mixtures be fitted by a few steps only, for what is said of them."""
    few = {**load_preset('tiny').model_dump(), 'bc': {'steps': 25, 'hidden': [16]}}
    config = LearnerConfig.model_validate(few)
    monkeypatch.setattr('q2rl_lab.adopting.load_preset', lambda name: config)


def test_what_comes_next_can_be_pasted(adopt, poor_fit, tmp_path):
    said = adopt('mine.py:Silent', '-o', 'silent.yaml')[1]['next']
    command = said.split(', or: ')[1].split()
    assert command[1:4] == ['adopt', 'mine.py:Silent', '--distil']
    done = runner.invoke(app, [*command[1:], '-n', '2'])
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / 'silent.safetensors').is_file()
    assert 'success of mixture' in done.stdout and 'held out nll' in done.stdout
    # What --distil gives is not asked for again.
    assert 'OK   density' in done.stdout and '-> distil' not in done.stdout


def test_a_mixture_of_what_has_a_density_is_adopted_with_a_word_on_it(adopt, poor_fit):
    found = adopt('mine.py:Novice', '--distil', episodes=2)[1]
    assert any('density of its own' in n for n in found['notes'])
