# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from q2rl_policies.bc import BCPolicy, GaussianNet, GmmNet, MixtureBCPolicy
from q2rl_policies.distributions import GaussianMixture

O, D = 21, 6  # noqa: E741


def net_of(kind: str, seed: int = 0, **options):
    torch.manual_seed(seed)
    return (GmmNet if kind == 'gmm' else GaussianNet)(O, D, (32, 32), **options)


def observations(n: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((n, O)).astype(np.float32)


@pytest.mark.parametrize('kind', ['gmm', 'gaussian'])
@pytest.mark.parametrize('layer_norm', [False, True])
def test_acting_uses_the_density_of_the_network(kind, layer_norm):
    net = net_of(kind, layer_norm=layer_norm, min_std=0.1)
    with torch.no_grad():
        net.net[-1].bias[-D * net.modes :] = -1.0
    policy = MixtureBCPolicy(net, seed=3, version=9, entropy_kind='bound')
    inside = 0
    for observation in observations(200):
        proposal = policy.act(observation)
        assert proposal.action.shape == (D,) and proposal.action.dtype == np.float32
        assert np.abs(proposal.action).max() <= 1.0 and proposal.version == 9
        with torch.no_grad():
            distribution = net(torch.from_numpy(observation))
            log_prob = float(distribution.log_prob(torch.from_numpy(proposal.action)))
            entropy = float(distribution.entropy('bound'))
        assert proposal.entropy == pytest.approx(entropy, abs=1e-4)
        if np.abs(proposal.action).max() < 1.0:  # otherwise the action is not what was scored
            inside += 1
            assert proposal.log_prob == pytest.approx(log_prob, abs=1e-3)
    assert inside > 50


def test_log_prob_is_that_of_the_unclipped_sample():
    net = net_of('gaussian')
    with torch.no_grad():
        net.net[-1].bias[:D] = (
            5.0  # mean just below 1, so that about half of the components leave the box
        )
        net.net[-1].bias[D:] = 1.0
    policy = MixtureBCPolicy(net, seed=0)
    observation = observations(1)[0]
    with torch.no_grad():
        distribution = net(torch.from_numpy(observation))
    proposals = [policy.act(observation) for _ in range(2000)]
    sums = np.array([p.log_prob + p.entropy for p in proposals])
    assert abs(sums.mean()) < 4.0 * sums.std() / np.sqrt(len(sums))
    clipped = torch.from_numpy(np.stack([p.action for p in proposals]))
    biased = distribution.log_prob(clipped).numpy() + float(distribution.entropy())
    assert biased.mean() > 0.5  # what scoring the clipped action would have said


def test_the_mode_of_a_gaussian_says_half_the_dimension():
    policy = MixtureBCPolicy(net_of('gaussian'), seed=0, deterministic=True)
    first, second = (policy.act(observations(1)[0]) for _ in range(2))
    np.testing.assert_array_equal(first.action, second.action)
    assert first.log_prob + first.entropy == pytest.approx(D / 2, abs=1e-6)


@pytest.mark.parametrize('kind', ['gmm', 'gaussian'])
def test_the_deterministic_policy_acts_by_the_mode(kind):
    net = net_of(kind)
    policy = MixtureBCPolicy(net, seed=0, deterministic=True)
    for observation in observations(20):
        with torch.no_grad():
            mode = net(torch.from_numpy(observation)).mode().numpy()
        np.testing.assert_allclose(policy.act(observation).action, mode, atol=1e-5)


def test_a_seed_is_a_stream_of_its_own():
    net = net_of('gmm')

    def actions(seed):
        policy = MixtureBCPolicy(net, seed)
        return np.stack([policy.act(o).action for o in observations(5)])

    np.testing.assert_array_equal(actions(1), actions(1))
    assert not np.array_equal(actions(1), actions(2))


def test_acting_leaves_the_global_generator_alone():
    policy = MixtureBCPolicy(net_of('gmm'), seed=0)
    state = torch.get_rng_state()
    policy.act(observations(1)[0])
    assert torch.equal(state, torch.get_rng_state())


def test_components_start_apart_and_means_stay_in_the_box():
    net = net_of('gmm')
    with torch.no_grad():
        distribution = net(torch.from_numpy(observations(64) * 100.0))
    assert isinstance(distribution, GaussianMixture)
    assert distribution.means.abs().max() <= 1.0
    assert distribution.stds.min() >= net.head.min_std
    assert distribution.means.std(-2).mean() > 0.1
    torch.testing.assert_close(distribution.log_weights.exp().sum(-1), torch.ones(64))


def test_a_mixture_can_be_fitted_to_two_modes():
    torch.manual_seed(0)
    net = GmmNet(1, 1, (32,), modes=2)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    g = torch.Generator().manual_seed(1)
    observation = torch.zeros(256, 1)
    for _ in range(300):
        side = torch.randint(0, 2, (256, 1), generator=g) * 2.0 - 1.0
        target = 0.5 * side + 0.05 * torch.randn(256, 1, generator=g)
        loss = -net(observation).log_prob(target).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    true_entropy = np.log(2.0) + 0.5 * np.log(2.0 * np.pi * np.e * 0.05**2)
    assert loss.item() == pytest.approx(true_entropy, abs=0.1)


def test_the_policy_meets_the_interface():
    assert isinstance(MixtureBCPolicy(net_of('gmm'), 0), BCPolicy)
    with pytest.raises(ValueError, match='entropy_kind'):
        MixtureBCPolicy(net_of('gmm'), 0, entropy_kind='bits')
