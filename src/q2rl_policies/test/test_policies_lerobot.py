# SPDX-License-Identifier: Apache-2.0
"""LeRobot's policy folders: what their configuration tells, and how a LeRobot (a stand-in) is used."""

from __future__ import annotations

import json
import sys

import numpy as np
from policy_files import lerobot_folder as folder
import pytest

from q2rl_policies.lerobot_policy import folder_hash
from q2rl_policies.policy_file import lerobot_bc, load_bc
from q2rl_policies.policy_spec import Block, Input, PolicySpec
from q2rl_task import InputError, load_task

TASK = load_task('pipe_assembly')
O, D = TASK.observation_size, TASK.action_size  # noqa: E741
POLICIES = """
import json, pathlib

class PreTrainedConfig:
    device = 'cuda'

    @staticmethod
    def from_pretrained(path):
        config = PreTrainedConfig()
        config.type = json.loads((pathlib.Path(path) / 'config.json').read_text())['type']
        return config
"""
FACTORY = """
import sys

class Policy:
    # Acts in chunks of two: the first number of the observation, then the same again.
    def __init__(self):
        self.queue = []

    @classmethod
    def from_pretrained(cls, path, config):
        assert config.device == 'cpu'
        return cls()

    def reset(self):
        self.queue.clear()

    def eval(self):
        return self

    def select_action(self, batch):
        print('libraries talk')
        state = batch['observation.state']
        if state[0, 0] > 0.4:
            sys.exit('out of memory')
        if not self.queue:
            self.queue = 2 * [state[:, :1].expand(1, SIZE)]
        return self.queue.pop(0)

def get_policy_class(kind):
    if kind == 'diffusion':
        raise ValueError('no such policy')
    return Policy

def make_pre_post_processors(config, path, preprocessor_overrides, postprocessor_overrides):
    assert preprocessor_overrides == postprocessor_overrides == {'device_processor': {'device': 'cpu'}}
    return (lambda batch: {k: v / 2.0 for k, v in batch.items()}), (lambda a: 10.0 * a)
""".replace('SIZE', str(D))


@pytest.fixture
def lerobot(tmp_path):
    """The Python of an environment with a LeRobot that has the few functions that are used."""
    packages = tmp_path / 'lerobot_environment'
    for name, content in {
        'lerobot/__init__.py': '',
        'lerobot/configs/__init__.py': '',
        'lerobot/configs/policies.py': POLICIES,
        'lerobot/policies/__init__.py': '',
        'lerobot/policies/factory.py': FACTORY,
    }.items():
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).write_text(content)
    python = packages / 'python'
    python.write_text(f'#!/bin/sh\nPYTHONPATH={packages} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return str(python)


def state(value: float) -> np.ndarray:
    return np.full(O, value, dtype=np.float32)


def test_without_lerobot_it_says_what_the_policy_is_and_what_to_do(tmp_path):
    for kind, said in (('act', 'no density'), ('diffusion', 'no cheap density'), ('new', 'new')):
        path = folder(tmp_path / kind, type=kind)
        with pytest.raises(InputError, match=said) as caught:
            lerobot_bc(PolicySpec(lerobot=str(path)), TASK)
        assert f'not installed for {sys.executable}' in caught.value.problem
        assert '--interpreter' in caught.value.remedy


@pytest.mark.parametrize(
    'python, said',
    [
        ('no/such/python', 'no/such/python does not run .No such file'),
        ('/bin/false', 'does not start'),
    ],
)
def test_an_interpreter_that_is_none_is_one_line(tmp_path, python, said):
    path = folder(tmp_path / 'p')
    with pytest.raises(InputError, match=said) as caught:
        lerobot_bc(PolicySpec(lerobot=str(path), interpreter=python), TASK)
    assert '\n' not in str(caught.value)


def test_a_policy_that_lerobot_cannot_load_is_one_line(tmp_path, lerobot):
    path = folder(tmp_path / 'p', type='diffusion')
    with pytest.raises(InputError, match=r'cannot load it .ValueError: no such policy'):
        lerobot_bc(PolicySpec(lerobot=str(path), interpreter=lerobot), TASK)


def test_with_it_the_policy_acts_in_its_chunks_until_the_episode_ends(tmp_path, lerobot):
    path = folder(tmp_path / 'p')
    loaded = lerobot_bc(PolicySpec(lerobot=str(path), interpreter=lerobot), TASK)
    assert loaded.recurrent and not loaded.has_density and 'act' in loaded.what
    policy = loaded.make(0, 'monte_carlo', False)
    said = []
    for value in (0.02, 0.04, 0.06):
        proposal = policy.act(state(value))
        assert np.isnan([proposal.log_prob, proposal.entropy]).all()
        said.append(proposal.action[0])
    assert said == pytest.approx([0.1, 0.1, 0.3])
    policy.reset()
    assert policy.act(state(0.04)).action[0] == pytest.approx(0.2)


def test_a_lerobot_that_dies_says_so(tmp_path, lerobot):
    path = folder(tmp_path / 'p')
    policy = lerobot_bc(PolicySpec(lerobot=str(path), interpreter=lerobot), TASK).make(
        0, 'monte_carlo', False
    )
    with pytest.raises(RuntimeError, match=r'its process ended: .*out of memory'):
        policy.act(state(0.9))


def test_an_adopted_folder_is_a_yaml(tmp_path, lerobot):
    path = folder(
        tmp_path / 'p', input_features={'observation.state': {'type': 'STATE', 'shape': [3]}}
    )
    with pytest.raises(
        InputError, match=f'has 3 numbers, what it is shown {TASK.observation_size}'
    ):
        lerobot_bc(PolicySpec(lerobot=str(path), interpreter=lerobot), TASK)
    block = Block(field='force', scale=1.0)
    inputs = (Input(name='observation.state', blocks=(block,)),)
    spec = PolicySpec(lerobot=str(path), interpreter=lerobot, inputs=inputs)
    adopted = tmp_path / 'bc.yaml'
    adopted.write_text(json.dumps(spec.model_dump(mode='json', exclude_defaults=True)))
    policy = load_bc(adopted, TASK).make(0, 'monte_carlo', False)
    observation = np.zeros(O, dtype=np.float32)
    observation[15] = 0.01  # 0.1 N
    assert policy.act(observation).action[0] == pytest.approx(0.5)


def test_a_folder_that_was_trained_on_since_it_was_adopted_is_refused(tmp_path, lerobot):
    path = folder(tmp_path / 'p')
    spec = PolicySpec(lerobot=str(path), interpreter=lerobot, sha256=folder_hash(path))
    assert lerobot_bc(spec, TASK)
    (path / 'model.safetensors').write_bytes(b'trained on')
    with pytest.raises(InputError, match='is not the policy that was adopted'):
        lerobot_bc(spec, TASK)


@pytest.mark.parametrize(
    'changes, said',
    [
        (
            {'input_features': {'observation.images.top': {'type': 'VISUAL', 'shape': [3, 8, 8]}}},
            'sees',
        ),
        ({'output_features': {'action': {'type': 'ACTION', 'shape': [7]}}}, 'actions of shape'),
        ({'output_features': {}}, "no configuration of a LeRobot policy .'action'"),
        ({'input_features': 3}, 'no configuration'),
    ],
)
def test_what_cannot_fit_is_one_line(tmp_path, changes, said):
    with pytest.raises(InputError, match=said) as caught:
        lerobot_bc(PolicySpec(lerobot=str(folder(tmp_path / 'p', **changes))), TASK)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    'content, said',
    [
        (
            {'steps': [{'registry_name': 'device_processor'}, {'class': 'subprocess.Popen'}]},
            'names a class that LeRobot would import and call: subprocess.Popen',
        ),
        ({'steps': [{}]}, 'names a class'),
        ({'steps': 3}, 'is no file of processors'),
        ([], 'is no file of processors'),
    ],
)
def test_processors_that_would_run_any_class_are_refused(tmp_path, lerobot, content, said):
    path = folder(tmp_path / 'p')
    (path / 'policy_postprocessor.json').write_text(json.dumps(content))
    with pytest.raises(InputError, match=said):
        lerobot_bc(PolicySpec(lerobot=str(path), interpreter=lerobot), TASK)


def test_registered_processors_are_taken(tmp_path, lerobot):
    path = folder(tmp_path / 'p')
    steps = {'steps': [{'registry_name': 'normalizer_processor', 'config': {}}]}
    (path / 'policy_preprocessor.json').write_text(json.dumps(steps))
    lerobot_bc(PolicySpec(lerobot=str(path), interpreter=lerobot), TASK)


def test_parts_that_are_missing(tmp_path, lerobot):
    with pytest.raises(InputError, match='cannot be read'):
        lerobot_bc(PolicySpec(lerobot=str(tmp_path)), TASK)
    path = folder(tmp_path / 'p')
    (path / 'policy_preprocessor.json').unlink()
    with pytest.raises(InputError, match='normalisation is unknown'):
        lerobot_bc(PolicySpec(lerobot=str(path)), TASK)
    (path / 'model.safetensors').unlink()
    with pytest.raises(InputError, match='is not there'):
        lerobot_bc(PolicySpec(lerobot=str(path)), TASK)
