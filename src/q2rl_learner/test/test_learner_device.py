# SPDX-License-Identifier: Apache-2.0
"""Learning on another device than the CPU. What needs a GPU is skipped where there is none."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from learner_helpers import Toy, demonstrations, noisy_bc, small_config, toy_task
import pytest
from safetensors import safe_open
from safetensors.torch import save_file
import torch

from q2rl_learner.config import LearnerConfig
from q2rl_learner.learner_state import load_state, save_state
from q2rl_learner.methods import load_method, method_names
from q2rl_learner.online_learner import OnlineLearner
from q2rl_learner.replay import Batch
from q2rl_policies.bc import GmmNet
from q2rl_policies.networks_file import build_actor, unpack
from q2rl_policies.torch_runtime import find_device
from q2rl_task import InputError, Phase

TASK = toy_task()
GPU = pytest.param(
    'cuda', marks=pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA GPU')
)
FITTED = {'value_steps': 60, 'critic_steps': 20, 'actor_steps': 20, 'evaluate_every': 20}


def learned(device: str, method: str = 'q2rl', steps: int = 12) -> OnlineLearner:
    """Return a learner that has seen rollouts and some online steps, all of it the same on every device."""
    config = load_method(method).over(small_config(min_subset=2, fit=FITTED)).model_dump()
    config['offline'] |= {'steps': min(config['offline']['steps'], 20), 'frozen_steps': 0}
    config = LearnerConfig.model_validate(config)
    bc = GmmNet(TASK.observation_size, TASK.action_size, (16,))
    of = OnlineLearner(config, TASK, 0, demonstrations(TASK, 3, seed=1), bc, device=device)
    toy = Toy(TASK, 3, noisy_bc(TASK, 3))
    for number in range(8):
        for transition in toy.run(f'r{number}', Phase.ESTIMATING):
            of.add(transition)
    of.fit_estimate()
    online = [t for n in range(3) for t in toy.run(f'o{n}', Phase.ONLINE)][:steps]
    for transition in online:
        of.add(transition)
        of.update()
    return of


def states(of: OnlineLearner) -> dict[str, torch.Tensor]:
    modules = {'actor': of.acting, 'critics': of.critics, 'value': of.value}
    return {f'{k}.{n}': t.cpu() for k, m in modules.items() for n, t in m.state_dict().items()}


@pytest.mark.parametrize('name', ['gpu', 'cuda:99', 'meta'])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(InputError, match=f'device {name}.*cpu'):
        find_device(name)


@pytest.mark.parametrize('device', ['cpu', GPU])
def test_untrained_networks_are_the_same_on_every_device(device):
    here, there = (
        OnlineLearner(small_config(), TASK, 5, device=where) for where in ('cpu', device)
    )
    assert there.generator.device.type == device
    for name, tensor in states(here).items():
        assert torch.equal(tensor, states(there)[name]), name


@pytest.mark.parametrize('method', [*sorted({*method_names()} - {'bc'}), 'q2rl/bellman'])
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA GPU')
def test_every_method_learns_on_a_gpu_for_policies_on_the_cpu(method):
    of = learned('cuda', method)
    assert of.gradient_steps + of.offline_steps > 0
    for name, tensor in states(of).items():
        assert torch.isfinite(tensor).all(), name
    assert {p.device.type for p in of.actor.parameters()} == {'cuda'}
    weights, meta = unpack(of.weights('actor'), 'actor', 'actor', TASK.contract_hash)
    actor = build_actor(meta, weights)  # as a policy node reads it, on the CPU
    assert {p.device.type for p in actor.parameters()} == {'cpu'}


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA GPU')
def test_the_same_batch_moves_critics_alike_on_cpu_and_gpu():
    here, there = (
        OnlineLearner(
            small_config(critics=2, min_subset=2),
            TASK,
            5,
            demonstrations(TASK, 3, seed=1),
            device=d,
        )
        for d in ('cpu', 'cuda')
    )
    (batch,) = here.replay.sample(32, 1.0, torch.Generator().manual_seed(1))
    action = here.actor.mode(batch.next_observation).detach()
    moved = Batch(*(getattr(batch, f.name).cuda() for f in dataclasses.fields(Batch)))
    for _ in range(5):
        here.updater.critic_step(batch, action)
        there.updater.critic_step(moved, action.cuda())
    for mine, theirs in zip(here.critics.parameters(), there.critics.parameters(), strict=True):
        torch.testing.assert_close(theirs.cpu(), mine, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('device', ['cpu', GPU])
def test_a_state_goes_on_on_the_device_that_is_there(device, tmp_path: Path):
    """Weights, moments and counters are those of before; only the random numbers differ."""
    before = learned(device)
    save_state(tmp_path / 'state.safetensors', before)
    path = tmp_path / 'state.safetensors' if device == 'cuda' else as_if_from_a_gpu(tmp_path)
    after = OnlineLearner(before.config, TASK, 0, demonstrations(TASK, 3, seed=1))
    load_state(path, after)
    assert after.gradient_steps == before.gradient_steps
    for name, tensor in states(before).items():
        assert torch.equal(tensor, states(after)[name]), name
    fresh = torch.Generator().manual_seed(0)
    assert not torch.equal(after.generator.get_state(), fresh.get_state())
    after.updater.step(after.replay.sample(8, 1.0, after.generator, 1), 0.5)
    assert all(torch.isfinite(t).all() for t in states(after).values())


def as_if_from_a_gpu(folder: Path) -> Path:
    """Return the state file with what tells a GPU's from a CPU's: its name and the size of a generator's state."""
    with safe_open(folder / 'state.safetensors', framework='pt') as file:
        tensors = {name: file.get_tensor(name) for name in list(file.keys())}
        meta = file.metadata()
    tensors['generator'] = torch.zeros(16, dtype=torch.uint8)
    save_file(tensors, folder / 'gpu.safetensors', {**meta, 'device': 'cuda'})
    return folder / 'gpu.safetensors'
