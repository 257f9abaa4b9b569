# SPDX-License-Identifier: Apache-2.0
"""The last layer read in torch and in numpy is one density, whatever the spread and the scale of the action."""

import math

import numpy as np
import pytest
import torch

from q2rl_policies.bc import GaussianNet, GmmNet, MixtureBCPolicy
from q2rl_policies.distributions import GaussianMixture
from q2rl_policies.head import Head

CASES = [
    {},
    {'spread': 'exp'},
    {'spread': 'clipped_softplus', 'std_gain': 0.3, 'max_std': 0.5},
    {'spread': 'clipped_exp', 'max_std': 0.7},
    {'action_scale': [2.0, -0.5, 1.0], 'action_offset': [0.1, 0.0, -0.2]},
]


@pytest.mark.parametrize('modes', [1, 3])
@pytest.mark.parametrize('options', CASES)
def test_one_state_and_a_batch_agree(options, modes):
    head = Head(modes, 3, 0.05, **options)
    out = np.random.default_rng(0).normal(0.0, 2.0, head.outputs)
    batch = GaussianMixture(*head.read(torch.from_numpy(out)))
    action = np.random.default_rng(1).normal(size=3)
    expected = float(batch.log_prob(torch.from_numpy(action)))
    assert head.state(out).log_prob(action) == pytest.approx(expected, abs=1e-9)
    np.testing.assert_allclose(head.state(out).mode(), batch.mode().numpy(), atol=1e-12)


def test_spreads_have_their_formulas():
    x = torch.tensor([0.0, 0.0, -20.0, 20.0])  # means, then spreads, of two components of an action
    plain = Head(1, 2, 0.05).read(x)[2]
    torch.testing.assert_close(plain, torch.tensor([[0.05, 20.05]]))
    clipped = Head(1, 2, 0.05, spread='clipped_softplus', std_gain=0.1 / math.log(2), max_std=1.5)
    torch.testing.assert_close(clipped.read(x)[2], torch.tensor([[0.05, 1.5]]))
    middle = clipped.read(torch.zeros(4))[2]
    torch.testing.assert_close(middle, torch.tensor([[0.1, 0.1]]))


def test_a_scaled_action_is_scaled_with_its_density():
    scale, offset = np.array([2.0, -0.5]), np.array([0.1, -0.2])
    plain = Head(2, 2, 0.1)
    scaled = Head(2, 2, 0.1, action_scale=scale.tolist(), action_offset=offset.tolist())
    out = np.random.default_rng(2).normal(size=plain.outputs)
    action = np.array([0.3, -0.4])
    moved = scaled.state(out).log_prob(scale * action + offset)
    assert moved == pytest.approx(plain.state(out).log_prob(action) - np.log(np.abs(scale)).sum())


@pytest.mark.parametrize('make', [GmmNet, GaussianNet])
def test_what_a_network_is_told_is_in_its_description(make):
    net = make(4, 2, (8,), spread='exp', action_offset=(0.5, 0.0))
    assert net.architecture['spread'] == 'exp'
    assert net.architecture['action_offset'] == [0.5, 0.0]
    assert 'std_gain' not in make(4, 2, (8,)).architecture
    proposal = MixtureBCPolicy(net, 0, entropy_kind='bound').act(np.zeros(4, dtype=np.float32))
    assert np.isfinite([proposal.log_prob, proposal.entropy]).all()


@pytest.mark.parametrize(
    'options', [{'spread': 'cube'}, {'action_scale': [1.0]}, {'action_scale': [0.0, 1.0]}]
)
def test_what_is_no_head_is_refused(options):
    with pytest.raises(TypeError):
        Head(1, 2, 0.1, **options)
