# SPDX-License-Identifier: Apache-2.0
"""LeRobot's policy folders: what their configuration tells, and how a LeRobot (a stand-in) is used."""

from __future__ import annotations

import json
from pathlib import Path
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from q2rl_policies.policy_file import lerobot_bc, load_bc
from q2rl_policies.policy_spec import Block, Input, PolicySpec
from q2rl_task import InputError, load_task

TASK = load_task('pipe_assembly')
O, D = TASK.observation_size, TASK.action_size  # noqa: E741
CONFIG = {
    'type': 'act',
    'n_obs_steps': 1,
    'chunk_size': 4,
    'n_action_steps': 4,
    'input_features': {'observation.state': {'type': 'STATE', 'shape': [O]}},
    'output_features': {'action': {'type': 'ACTION', 'shape': [D]}},
}


def folder(path: Path, **changes) -> Path:
    path.mkdir()
    (path / 'config.json').write_text(json.dumps({**CONFIG, **changes}))
    for name in ('model.safetensors', 'policy_preprocessor.json', 'policy_postprocessor.json'):
        (path / name).write_text('{}')
    return path


class StandIn:
    """Acts in chunks of two: the first number of the observation, then the same again."""

    def __init__(self) -> None:
        self.queue = []

    def reset(self) -> None:
        self.queue.clear()

    def eval(self):
        return self

    def select_action(self, batch):
        if not self.queue:
            self.queue = 2 * [batch['observation.state'][:, :1].expand(1, D)]
        return self.queue.pop(0)


@pytest.fixture
def lerobot(monkeypatch):
    """A LeRobot that has the few functions that are used."""
    made = SimpleNamespace(loaded=[], devices=[])

    class PolicyClass:
        @staticmethod
        def from_pretrained(path, config):
            made.loaded.append((path, config.device))
            return StandIn()

    def processors(config, path, preprocessor_overrides, postprocessor_overrides):
        made.devices += [preprocessor_overrides, postprocessor_overrides]
        return (lambda batch: {k: v / 2.0 for k, v in batch.items()}), (lambda a: 10.0 * a)

    modules = {
        'lerobot': {'__spec__': SimpleNamespace(), '__path__': []},
        'lerobot.configs': {'__path__': []},
        'lerobot.policies': {'__path__': []},
        'lerobot.configs.policies': {
            'PreTrainedConfig': SimpleNamespace(
                from_pretrained=lambda path: SimpleNamespace(device='cuda')
            )
        },
        'lerobot.policies.factory': {
            'get_policy_class': lambda kind: PolicyClass,
            'make_pre_post_processors': processors,
        },
    }
    for name, content in modules.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return made


def test_without_lerobot_it_says_what_the_policy_is_and_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'lerobot', None)
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    for kind, said in (('act', 'no density'), ('diffusion', 'no cheap density'), ('new', 'new')):
        path = folder(tmp_path / kind, type=kind)
        with pytest.raises(InputError, match=said) as caught:
            lerobot_bc(PolicySpec(lerobot=str(path)), TASK)
        assert 'not installed' in caught.value.problem and 'TorchScript' in caught.value.remedy


def test_with_it_the_policy_acts_in_its_chunks_until_the_episode_ends(tmp_path, lerobot):
    path = folder(tmp_path / 'p')
    loaded = lerobot_bc(PolicySpec(lerobot=str(path)), TASK)
    assert loaded.recurrent and not loaded.has_density and 'act' in loaded.what
    assert lerobot.loaded == [(path, 'cpu')]
    assert lerobot.devices == 2 * [{'device_processor': {'device': 'cpu'}}]
    policy = loaded.make(0, 'monte_carlo', False)
    said = []
    for value in (0.02, 0.04, 0.06):
        proposal = policy.act(np.full(O, value, dtype=np.float32))
        assert np.isnan([proposal.log_prob, proposal.entropy]).all()
        said.append(proposal.action[0])
    assert said == pytest.approx([0.1, 0.1, 0.3])
    policy.reset()
    assert policy.act(np.full(O, 0.04, dtype=np.float32)).action[0] == pytest.approx(0.2)


def test_an_adopted_folder_is_a_yaml(tmp_path, lerobot):
    path = folder(
        tmp_path / 'p', input_features={'observation.state': {'type': 'STATE', 'shape': [3]}}
    )
    with pytest.raises(
        InputError, match=f'has 3 numbers, what it is shown {TASK.observation_size}'
    ):
        lerobot_bc(PolicySpec(lerobot=str(path)), TASK)
    block = Block(field='force', scale=1.0)
    spec = PolicySpec(lerobot=str(path), inputs=(Input(name='observation.state', blocks=(block,)),))
    adopted = tmp_path / 'bc.yaml'
    adopted.write_text(json.dumps(spec.model_dump(mode='json', exclude_defaults=True)))
    policy = load_bc(adopted, TASK).make(0, 'monte_carlo', False)
    observation = np.zeros(O, dtype=np.float32)
    observation[15] = 0.01  # 0.1 N
    assert policy.act(observation).action[0] == pytest.approx(0.5)


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
