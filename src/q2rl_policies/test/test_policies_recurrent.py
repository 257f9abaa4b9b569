# SPDX-License-Identifier: Apache-2.0
"""A recurrent policy: its state is that of the episode, and sample and density are of one state."""

import numpy as np
import pytest
import torch

from q2rl_policies.bc import BCPolicy
from q2rl_policies.networks_file import build_bc, pack, unpack
from q2rl_policies.recurrent import RecurrentBCPolicy, RecurrentGmmNet
from q2rl_task.errors import InputError

O, D = 5, 3  # noqa: E741


def net_of(cell='LSTM', **options) -> RecurrentGmmNet:
    torch.manual_seed(3)
    shape = {'rnn_size': 8, 'rnn_layers': 2, 'horizon': 4, 'hidden': (6,), 'modes': 2}
    return RecurrentGmmNet(O, D, cell, **{**shape, **options})


def observations(n: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((n, O)).astype(np.float32)


@pytest.mark.parametrize('cell', ['LSTM', 'GRU'])
def test_step_by_step_is_the_sequence(cell):
    net, seen = net_of(cell, horizon=100), observations(7)
    with torch.no_grad():
        density, _ = net(torch.from_numpy(seen)[None])
    policy = RecurrentBCPolicy(net, seed=2, entropy_kind='bound')
    inside = 0
    for step, observation in enumerate(seen):
        proposal = policy.act(observation)
        with torch.no_grad():
            expected = density.log_prob(torch.from_numpy(proposal.action))[0, step]
            entropy = density.entropy('bound')[0, step]
        assert proposal.entropy == pytest.approx(float(entropy), abs=1e-4)
        if np.abs(proposal.action).max() < 1.0:
            inside += 1
            assert proposal.log_prob == pytest.approx(float(expected), abs=1e-3)
    assert inside >= 2


def test_the_state_is_forgotten_between_episodes_and_after_the_horizon():
    net, seen = net_of(), observations(6)
    policy = RecurrentBCPolicy(net, 0, deterministic=True)
    first = [policy.act(o).action for o in seen]
    without_reset = policy.act(seen[0]).action
    policy.reset()
    np.testing.assert_array_equal([policy.act(o).action for o in seen], first)
    assert not np.array_equal(without_reset, first[0])
    # Step 4 begins with zeros again, as the sequences of the training did.
    policy.reset()
    np.testing.assert_array_equal([policy.act(o).action for o in seen[4:]], first[4:])
    assert not np.array_equal(first[3], first[0])


def test_memory_matters():
    policy = RecurrentBCPolicy(net_of(horizon=100), 0, deterministic=True)
    seen = observations(2)
    policy.act(seen[0])
    after = policy.act(seen[1]).action
    policy.reset()
    assert not np.array_equal(policy.act(seen[1]).action, after)


def test_log_prob_and_entropy_are_of_the_same_state():
    net, seen = net_of(), observations(3)
    policy = RecurrentBCPolicy(net, seed=0)
    sums = []
    for _ in range(400):
        policy.reset()
        sums += [p.log_prob + p.entropy for p in map(policy.act, seen)]
    assert abs(np.mean(sums)) < 4.0 * np.std(sums) / np.sqrt(len(sums))


@pytest.mark.parametrize('cell', ['LSTM', 'GRU'])
def test_it_comes_back_from_its_file(cell):
    net = net_of(cell, hidden=(), action_scale=[1.0, 2.0, -0.5], spread='exp')
    meta = {'contract': 'c', 'task': 't', 'version': 1, 'parent': 0}
    data = pack('bc', net.state_dict(), {**meta, 'architecture': net.architecture})
    tensors, meta = unpack(data, 'memory', 'bc', 'c')
    again = build_bc(meta, tensors)
    assert isinstance(again, RecurrentGmmNet)
    policies = [RecurrentBCPolicy(n, 5) for n in (net, again)]
    for observation in observations(6):
        one, two = (policy.act(observation) for policy in policies)
        np.testing.assert_array_equal(one.action, two.action)
        assert (one.log_prob, one.entropy) == (two.log_prob, two.entropy)
    assert isinstance(policies[0], BCPolicy) and policies[0].recurrent


@pytest.mark.parametrize(
    'change, said',
    [
        ({'cell': 'RNN'}, 'no network that q2rl knows'),
        ({'cell': 3}, 'no word'),
        ({'spread': 'square'}, 'no network that q2rl knows'),
        ({'action_scale': [1.0]}, 'no network that q2rl knows'),
        ({'action_scale': [1.0, 0.0, 1.0]}, 'no network that q2rl knows'),
        ({'action_scale': [1.0, 'x', 1.0]}, 'no list of finite numbers'),
        ({'rnn_layers': 100}, 'rnn_layers'),
        ({'rnn_size': 1 << 30}, 'rnn_size'),
    ],
)
def test_an_architecture_that_is_not_one_is_refused(change, said):
    net = net_of()
    meta = {'architecture': {**net.architecture, **change}}
    with pytest.raises(InputError, match=said):
        build_bc(meta, net.state_dict(), 'some file')
