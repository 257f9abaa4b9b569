# SPDX-License-Identifier: Apache-2.0
"""Policies made elsewhere: mapped as their YAML says, sampled and scored by one density, refused in one line."""

from __future__ import annotations

import math
import sys

import numpy as np
from policy_files import (
    STD,
    TASK,
    D,
    Gaussian,
    O,
    Summing,
    onnx_mixture,
    python_file,
    torchscript,
    weights,
)
import pytest
import torch

from q2rl_policies.policy_file import load_bc, load_density, pack_program, program_bc, python_bc
from q2rl_policies.policy_spec import PolicySpec, read_spec, spec_of
from q2rl_policies.python_policy import load_class, source_of
from q2rl_task import InputError
from q2rl_task.file_hash import sha256_of

GAUSSIAN = {'outputs': {'mean': 0, 'std': 1}}
MIXTURE = {
    'inputs': [{'name': 'obs'}],
    'outputs': {'means': 'mu', 'log_stds': 'log_sigma', 'logits': 'pi'},
}


def observations(n: int = 4) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((n, O)).astype(np.float32)


def scripted(tmp_path, spec: dict, network=None):
    data = torchscript(tmp_path / 'policy.pt', network).read_bytes()
    return program_bc(data, 'torchscript', spec_of(spec, 'x.yaml'), TASK, 'policy.pt')


def gaussian_log_prob(action, mean, std=STD):
    z = (action - mean) / std
    return float(-0.5 * z @ z - len(z) * (math.log(std) + 0.5 * math.log(2 * math.pi)))


def test_torchscript_is_sampled_and_scored_by_its_own_density(tmp_path):
    policy = scripted(tmp_path, GAUSSIAN).make(0, 'monte_carlo', False)
    inside = 0
    for observation in observations(50):
        proposal = policy.act(observation)
        assert proposal.entropy == pytest.approx(
            D * math.log(STD * math.sqrt(2 * math.pi * math.e))
        )
        if np.abs(proposal.action).max() < 1.0:
            inside += 1
            expected = gaussian_log_prob(proposal.action, weights() @ observation)
            assert proposal.log_prob == pytest.approx(expected, abs=1e-3)
    assert inside > 20
    assert not policy.recurrent


def test_its_mode_is_its_mean(tmp_path):
    policy = scripted(tmp_path, GAUSSIAN).make(0, 'monte_carlo', True)
    for observation in observations():
        expected = np.clip(weights() @ observation, -1.0, 1.0)
        np.testing.assert_allclose(policy.act(observation).action, expected, atol=1e-5)


def test_inputs_are_picked_rescaled_and_normalised_and_actions_mapped_back(tmp_path):
    blocks = [{'field': 'force', 'scale': 1.0}, {'field': 'tip_position', 'scale': 0.001}]
    spec = {
        **GAUSSIAN,
        'inputs': [{'blocks': blocks, 'mean': [1, 2, 3, 4, 5, 6], 'std': [2.0] * 6}],
        'actions': {
            'order': [1, 0, 2, 3, 4, 5],
            'scale': [0.5, -2, 1, 1, 1, 1],
            'offset': [0.1] * 6,
        },
    }
    loaded = scripted(tmp_path, spec, Gaussian(inputs=6))
    observation = observations(1)[0]
    raw = np.concatenate([10.0 * observation[15:18], 5.0 * observation[:3]])  # [N], [mm]
    mean = weights(inputs=6) @ ((raw - np.arange(1, 7)) / 2.0)
    scale = np.array([0.5, -2, 1, 1, 1, 1])
    expected = scale * mean[[1, 0, 2, 3, 4, 5]] + 0.1
    mode = loaded.make(0, 'bound', True).act(observation)
    np.testing.assert_allclose(mode.action, np.clip(expected, -1, 1), atol=1e-4)
    # The density is the density of the task's action: wider where it was scaled up.
    widths = np.log(np.abs(scale)).sum()
    plain = D * math.log(STD * math.sqrt(2 * math.pi * math.e))
    assert mode.entropy == pytest.approx(plain + widths)
    assert mode.log_prob + mode.entropy == pytest.approx(D / 2)


def test_a_state_is_carried_through_an_episode_and_forgotten_after_it(tmp_path):
    state = {'input': 'h', 'output': 'h', 'shape': [1, D]}
    spec = {'outputs': {'action': 'action'}, 'state': [state]}
    loaded = scripted(tmp_path, spec, Summing())
    assert loaded.recurrent and not loaded.has_density
    policy = loaded.make(0, 'monte_carlo', False)
    said = [policy.act(o) for o in observations(3)]
    np.testing.assert_allclose([p.action[0] for p in said], [0.1, 0.2, 0.3], atol=1e-6)
    assert all(np.isnan([p.log_prob, p.entropy]).all() for p in said)
    policy.reset()
    assert policy.act(observations(1)[0]).action[0] == pytest.approx(0.1)


def test_onnx_is_a_mixture_by_names(tmp_path):
    data = onnx_mixture(tmp_path / 'policy.onnx').read_bytes()
    loaded = program_bc(data, 'onnx', spec_of(MIXTURE, 'x.yaml'), TASK, 'policy.onnx')
    assert loaded.has_density and not loaded.recurrent
    policy = loaded.make(0, 'monte_carlo', False)
    observation = observations(1)[0]
    means = (weights(2 * D) @ observation).reshape(2, D)
    sums = []
    for _ in range(600):
        proposal = policy.act(observation)
        sums.append(proposal.log_prob + proposal.entropy)
        if np.abs(proposal.action).max() < 1.0:
            parts = [gaussian_log_prob(proposal.action, mean) for mean in means]
            expected = np.logaddexp(*parts) - math.log(2.0)
            assert proposal.log_prob == pytest.approx(expected, abs=1e-3)
    assert abs(np.mean(sums)) < 4.0 * np.std(sums) / np.sqrt(len(sums))


@pytest.mark.parametrize('kind', ['torchscript', 'onnx'])
def test_a_program_travels_in_one_file_that_runs_no_python(tmp_path, kind):
    make, spec = {'torchscript': (torchscript, GAUSSIAN), 'onnx': (onnx_mixture, MIXTURE)}[kind]
    data, spec = make(tmp_path / 'policy').read_bytes(), spec_of(spec, 'x.yaml')
    path = tmp_path / 'bc.safetensors'
    path.write_bytes(pack_program(data, kind, spec, TASK))
    there = load_bc(path, TASK)
    here = program_bc(data, kind, spec, TASK, 'policy')
    one, two = (
        loaded.make(3, 'monte_carlo', False).act(observations(1)[0]) for loaded in (here, there)
    )
    np.testing.assert_array_equal(one.action, two.action)
    assert (one.log_prob, one.entropy) == (two.log_prob, two.entropy)
    assert there.density is None and load_density(path, TASK) is None
    path.write_bytes(path.read_bytes()[:-1] + b'x')
    with pytest.raises(InputError, match='damaged'):
        load_bc(path, TASK)


@pytest.mark.parametrize(
    'spec, said',
    [
        ({'outputs': {'mean': 0, 'std': 2}}, 'no output 2'),
        ({'outputs': {'mean': 'mu', 'std': 1}}, "no output 'mu'"),
        ({'outputs': {'mean': 0}}, 'an answer is'),
        ({**GAUSSIAN, 'inputs': [{'blocks': [{'field': 'force'}]}]}, 'refuses inputs of shapes'),
        ({**GAUSSIAN, 'inputs': [{'blocks': [{'field': 'sound'}]}]}, 'sound'),
        ({**GAUSSIAN, 'inputs': [{'blocks': [{'field': 'force', 'nth': 2}]}]}, 'number 2'),
        ({**GAUSSIAN, 'inputs': [{'mean': [1.0]}]}, f'an input of {TASK.observation_size}'),
        ({**GAUSSIAN, 'inputs': [{'std': [0.0] * O}]}, 'a zero'),
        ({**GAUSSIAN, 'inputs': []}, 'inputs'),
        ({**GAUSSIAN, 'actions': {'scale': [1.0]}}, '1 numbers'),
        ({**GAUSSIAN, 'actions': {'order': [0, 0, 1, 2, 3, 4]}}, 'order'),
        ({**GAUSSIAN, 'answer': 1}, 'answer'),
        ({'outputs': {'logits': 0, 'means': 0, 'stds': 1}}, '`means` has shape'),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path, spec, said):
    with pytest.raises(InputError, match=said) as caught:
        scripted(tmp_path, spec)
    assert '\n' not in str(caught.value)


def test_files_that_are_no_programs_are_refused(tmp_path):
    for kind in ('torchscript', 'onnx', 'pickle'):
        with pytest.raises(InputError) as caught:
            program_bc(b'\x80\x04no program', kind, PolicySpec(), TASK, 'p')
        assert '\n' not in str(caught.value)


def test_an_answer_that_is_not_finite_proposes_nothing_to_execute(tmp_path):
    policy = scripted(tmp_path, GAUSSIAN).make(0, 'monte_carlo', False)
    proposal = policy.act(np.full(O, np.inf, dtype=np.float32))
    assert np.isnan(proposal.action).all() and np.isnan(proposal.log_prob)


@pytest.mark.filterwarnings('error')
def test_a_spread_that_turns_negative_proposes_nothing_to_execute(tmp_path):
    path = tmp_path / 'late.py'
    path.write_text(
        'import numpy as np\n\n\nclass Late:\n    def __init__(self, task):\n        self.size = task.action_size\n\n'
        '    def predict(self, o):\n        std = np.full(self.size, 0.1 - o[0])\n'
        "        return {'mean': np.zeros(self.size), 'std': std}\n"
    )
    policy = python_bc(PolicySpec(python=f'{path}:Late'), TASK).make(0, 'monte_carlo', False)
    assert np.isfinite(policy.act(np.zeros(O, dtype=np.float32)).log_prob)
    assert np.isnan(policy.act(np.ones(O, dtype=np.float32)).action).all()


def test_python_classes_of_a_file(tmp_path):
    path = python_file(tmp_path)
    loaded = python_bc(PolicySpec(python=f'{path}:Policy'), TASK)
    assert loaded.has_density and not loaded.recurrent
    observation = observations(1)[0]
    expected = np.clip(weights() @ observation, -1, 1)
    mode = loaded.make(0, 'monte_carlo', True).act(observation)
    np.testing.assert_allclose(mode.action, expected, atol=1e-5)

    uniform = python_bc(PolicySpec(python=f'{path}:Uniform'), TASK)
    proposal = uniform.make(0, 'monte_carlo', False).act(observation)
    assert uniform.has_density and proposal.log_prob == -proposal.entropy == -D * math.log(2.0)
    with pytest.raises(InputError, match='no mode'):
        uniform.make(0, 'monte_carlo', True)

    counting = python_bc(PolicySpec(python=f'{path}:Counting'), TASK)
    assert counting.recurrent and not counting.has_density
    policy = counting.make(0, 'monte_carlo', False)
    assert [policy.act(observation).action[0] for _ in range(2)] == pytest.approx([0.1, 0.2])
    policy.reset()
    assert policy.act(observation).action[0] == pytest.approx(0.1)


def test_an_adopted_class_is_the_one_that_was_adopted(tmp_path):
    path = python_file(tmp_path)
    adopted = tmp_path / 'bc.yaml'
    text = f'python: {path}:Policy\ntask: pipe_assembly\ncontract: {TASK.contract_hash}\n'
    adopted.write_text(text + f'sha256: {sha256_of(path)}\n')
    assert load_bc(adopted, TASK).what == f'Python class {path}:Policy'
    path.write_text(path.read_text() + '\n# changed\n')
    with pytest.raises(InputError, match='not the source that was adopted'):
        load_bc(adopted, TASK)
    adopted.write_text(f'python: {path}:Policy\ntask: other\ncontract: "0"\n')
    with pytest.raises(InputError, match='contract 0'):
        load_bc(adopted, TASK)


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """Two modules of a package: `home` has the class, `door` only imports it."""
    folder = tmp_path / 'gripper_pkg'
    folder.mkdir()
    (folder / '__init__.py').write_text('')
    python_file(folder).rename(folder / 'home.py')
    (folder / 'door.py').write_text('from gripper_pkg.home import Policy\n')
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.partition('.')[0] == folder.name]:
        del sys.modules[name]


@pytest.mark.parametrize('named', ['{folder}/home.py:Policy', 'gripper_pkg.home:Policy'])
def test_a_source_that_was_edited_is_refused_before_any_of_it_runs(tmp_path, packaged, named):
    source, ran = packaged / 'home.py', tmp_path / 'ran'
    named, sha256 = named.format(folder=packaged), sha256_of(source)
    source.write_text(f'{source.read_text()}\nopen({str(ran)!r}, "w").close()\n')
    with pytest.raises(InputError, match='not the source that was adopted') as caught:
        load_class(named, TASK, sha256)
    assert '\n' not in str(caught.value)
    assert not ran.exists()
    load_class(named, TASK, sha256_of(source))
    assert ran.exists()


def test_a_source_that_is_gone_is_one_line(tmp_path):
    for name in (f'{tmp_path}/gone.py:Policy', 'no.such.module:A', 'no_such_module:A'):
        with pytest.raises(InputError) as caught:
            load_class(name, TASK, '0' * 64)
        assert str(caught.value).startswith(name) and '\n' not in str(caught.value)


def test_a_class_is_adopted_where_its_source_is(packaged):
    """Its hash is that of the file which runs first, or an edited one would run before it is found."""
    home = packaged / 'home.py'
    assert source_of('gripper_pkg.home:Policy') == source_of(f'{home}:Policy') == home
    for door in ('gripper_pkg.door:Policy', f'{packaged}/door.py:Policy'):
        with pytest.raises(InputError, match=r'say gripper_pkg\.home:Policy'):
            source_of(door)
        load_class(door, TASK)
        with pytest.raises(InputError, match=r'home\.py is not the source that was adopted'):
            load_class(door, TASK, sha256_of(packaged / 'door.py'))


@pytest.mark.parametrize(
    'body, said',
    [
        ('def __init__(self): pass', 'cannot be made'),
        ('def __init__(self, task): pass', 'neither'),
        ('def __init__(self, task): raise KeyError("a\\nb")', 'cannot be made'),
        ('def predict(self, o): return 3\n    def __init__(self, task): pass', 'not a mapping'),
        ('def predict(self, o): 1 / 0\n    def __init__(self, task): pass', 'division'),
        (
            'def predict(self, o): return {"action": [1, 2]}\n    def __init__(self, task): pass',
            '`action` has shape',
        ),
        ('def sample(self, o, rng): return [0]\n    def __init__(self, task): pass', 'no action'),
        (
            'def predict(self, o): return {"mean": [0] * 6, "std": [0] * 6}\n    def __init__(self, task): pass',
            '`std` is zero',
        ),
    ],
)
def test_a_class_that_does_not_keep_the_protocol_is_one_line(tmp_path, body, said):
    path = tmp_path / 'bad.py'
    path.write_text(f'class Bad:\n    {body}\n')
    with pytest.raises(InputError, match=said) as caught:
        python_bc(PolicySpec(python=f'{path}:Bad'), TASK)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    'name', ['nothing', 'no.such.module:A', 'os:getcwd', 'absent.py:A', 'json:X']
)
def test_names_that_are_no_class(name):
    with pytest.raises(InputError) as caught:
        python_bc(PolicySpec(python=name), TASK)
    assert str(caught.value).startswith(name) and '\n' not in str(caught.value)


def test_a_yaml_is_read_or_refused(tmp_path):
    path = tmp_path / 'p.yaml'
    path.write_text('file: policy.pt\noutputs: {mean: 0, log_std: 1}\n')
    assert read_spec(path).outputs.named() == {'mean': 0, 'log_std': 1}
    with pytest.raises(InputError, match='names no Python class'):
        load_bc(path, TASK)
    for content in ('- 1', 'a: [', 'file: 3\n', '\xff'):
        path.write_text(content, encoding='latin-1')
        with pytest.raises(InputError) as caught:
            read_spec(path)
        assert '\n' not in str(caught.value)
    with pytest.raises(InputError, match='cannot be read'):
        read_spec(tmp_path / 'absent.yaml')


def test_the_networks_of_q2rl_can_score_any_pair(tmp_path):
    from q2rl_policies.bc import GmmNet
    from q2rl_policies.networks_file import save
    from q2rl_policies.recurrent import RecurrentGmmNet

    torch.manual_seed(0)
    meta = {'contract': TASK.contract_hash, 'task': TASK.name, 'version': 4, 'parent': 0}
    for net, scores in ((GmmNet(O, D, (8,)), True), (RecurrentGmmNet(O, D, rnn_size=4), False)):
        path = tmp_path / f'{net.kind}.safetensors'
        save(path, 'bc', net.state_dict(), {**meta, 'architecture': net.architecture})
        loaded = load_bc(path, TASK)
        assert (load_density(path, TASK) is not None) is scores is (not loaded.recurrent)
        assert loaded.make(0, 'bound', False).act(observations(1)[0]).version == 4
