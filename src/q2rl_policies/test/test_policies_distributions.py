# SPDX-License-Identifier: Apache-2.0
"""The maths of Q_BC hangs on log-probability and entropy: same base, same distribution, summed over components."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import torch

from q2rl_policies.distributions import DiagonalGaussian, GaussianMixture
from q2rl_policies.single_state import MixtureState

D = 6


def gaussian(seed: int, size: int = D) -> DiagonalGaussian:
    g = torch.Generator().manual_seed(seed)
    mean = torch.randn(size, generator=g, dtype=torch.float64)
    std = torch.rand(size, generator=g, dtype=torch.float64) * 0.5 + 0.02
    return DiagonalGaussian(mean, std)


def mixture(seed: int, modes: int = 5, size: int = D, spread: float = 0.3) -> GaussianMixture:
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(modes, generator=g, dtype=torch.float64)
    means = spread * torch.randn(modes, size, generator=g, dtype=torch.float64)
    stds = torch.rand(modes, size, generator=g, dtype=torch.float64) * 0.4 + 0.1
    return GaussianMixture(logits.log_softmax(-1), means, stds)


def batch_of(distribution, n: int):
    """The same distribution at n states."""
    if isinstance(distribution, DiagonalGaussian):
        return DiagonalGaussian(distribution.mean.expand(n, -1), distribution.std.expand(n, -1))
    return GaussianMixture(
        distribution.log_weights.expand(n, -1),
        distribution.means.expand(n, -1, -1),
        distribution.stds.expand(n, -1, -1),
    )


def single(distribution: GaussianMixture) -> MixtureState:
    return MixtureState(
        distribution.log_weights.numpy(), distribution.means.numpy(), distribution.stds.numpy()
    )


@pytest.mark.parametrize('make', [gaussian, mixture])
def test_log_prob_plus_entropy_of_samples_has_mean_zero(make):
    n = 8000
    distribution = batch_of(make(1), n)
    g = torch.Generator().manual_seed(2)
    log_prob = distribution.log_prob(distribution.sample(g))
    entropy = distribution.entropy('monte_carlo', g)
    sums = log_prob + entropy
    assert abs(sums.mean()) < 4.0 * sums.std() / math.sqrt(n)
    # A factor, a base or a mean instead of a sum would be off by far more than this bound.
    assert 4.0 * sums.std() / math.sqrt(n) < 0.1


def test_the_bound_is_biased_up_where_components_overlap():
    n = 8000
    distribution = batch_of(mixture(1), n)
    g = torch.Generator().manual_seed(2)
    sums = distribution.log_prob(distribution.sample(g)) + distribution.entropy('bound')
    assert sums.mean() > 4.0 * sums.std() / math.sqrt(n)


@pytest.mark.parametrize('size', [1, 6, 28])
def test_at_the_mode_of_a_gaussian_the_sum_is_half_the_dimension(size):
    distribution = gaussian(3, size)
    total = distribution.log_prob(distribution.mode()) + distribution.entropy()
    assert float(total) == pytest.approx(size / 2, abs=1e-9)


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 7), st.floats(0.0, 3.0))
def test_monte_carlo_entropy_never_exceeds_the_bound(seed, modes, size, spread):
    distribution = mixture(seed, modes, size, spread)
    g = torch.Generator().manual_seed(seed)
    assert distribution.entropy('monte_carlo', g) <= distribution.entropy('bound') + 1e-9


def test_entropy_is_exact_without_overlap_and_with_full_overlap():
    apart = mixture(5, modes=2)
    apart = GaussianMixture(
        apart.log_weights, torch.tensor([[-100.0] * D, [100.0] * D]).double(), apart.stds
    )
    assert float(apart.entropy('monte_carlo')) == pytest.approx(
        float(apart.entropy('bound')), abs=1e-9
    )
    one = gaussian(5)
    same = GaussianMixture(
        torch.tensor([0.2, 0.8], dtype=torch.float64).log(),
        one.mean.expand(2, -1),
        one.std.expand(2, -1),
    )
    assert float(same.entropy('monte_carlo')) == pytest.approx(float(one.entropy()), abs=1e-9)


def test_log_prob_agrees_with_torch_distributions():
    ours = batch_of(mixture(7), 32)
    theirs = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(logits=ours.log_weights),
        torch.distributions.Independent(torch.distributions.Normal(ours.means, ours.stds), 1),
    )
    value = torch.randn(32, D, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    torch.testing.assert_close(ours.log_prob(value), theirs.log_prob(value))


def test_samples_have_the_weights_and_spread_of_their_components():
    weights = torch.tensor([0.1, 0.6, 0.3], dtype=torch.float64)
    means = torch.tensor([[-10.0], [0.0], [10.0]], dtype=torch.float64)
    distribution = batch_of(
        GaussianMixture(weights.log(), means, torch.full((3, 1), 0.5).double()), 30000
    )
    samples = distribution.sample(torch.Generator().manual_seed(9))[:, 0]
    component = (samples / 10.0).round().long() + 1
    shares = torch.bincount(component, minlength=3).double() / len(samples)
    assert (shares - weights).abs().max() < 4.0 * 0.5 / math.sqrt(len(samples))
    residual = samples - 10.0 * (component - 1)
    assert float(residual.std()) == pytest.approx(0.5, abs=0.02)


def test_mode_of_a_mixture_is_its_densest_component_mean_not_its_heaviest():
    distribution = GaussianMixture(
        torch.tensor([0.6, 0.4]).log(), torch.tensor([[0.5], [-0.5]]), torch.tensor([[1.0], [0.01]])
    )
    assert distribution.mode().tolist() == [-0.5]
    assert single(distribution).mode().tolist() == [-0.5]


def test_leading_dimensions_broadcast():
    distribution = batch_of(mixture(1), 4)
    assert distribution.log_prob(torch.zeros(9, 4, D, dtype=torch.float64)).shape == (9, 4)
    assert distribution.sample().shape == (4, D)
    assert distribution.mode().shape == (4, D)
    assert distribution.entropy().shape == (4,)


def test_an_unknown_entropy_kind_is_refused():
    with pytest.raises(ValueError, match='bits'):
        mixture(1).entropy('bits')


def test_the_density_of_one_state_is_that_of_the_batch():
    rng = np.random.default_rng(3)
    for seed in range(5):
        batched = mixture(seed)
        one = single(batched)
        for value in rng.normal(size=(20, D)):
            expected = float(batched.log_prob(torch.from_numpy(value)))
            assert one.log_prob(value) == pytest.approx(expected, rel=1e-9)
        assert one.entropy('bound', rng) == pytest.approx(float(batched.entropy('bound')))
        np.testing.assert_array_equal(one.mode(), batched.mode().numpy())


def test_log_prob_plus_entropy_of_one_state_has_mean_zero():
    one = single(mixture(1))
    rng = np.random.default_rng(4)
    sums = np.array(
        [one.log_prob(one.sample(rng)) + one.entropy('monte_carlo', rng) for _ in range(4000)]
    )
    assert abs(sums.mean()) < 4.0 * sums.std() / math.sqrt(len(sums))


def test_narrow_components_keep_their_digits_in_one_state():
    means, stds = np.full((2, D), 0.9), np.full((2, D), 1e-3)
    one = MixtureState(np.log([0.5, 0.5]), means, stds)
    exact = -0.5 * D * 9.0 - D * (math.log(1e-3) + 0.5 * math.log(2.0 * math.pi))
    assert one.log_prob(means[0] + 3e-3) == pytest.approx(exact, abs=1e-6)


def test_the_published_entropy_by_hand():
    """Half of log2(2 pi e mean variance) whatever the dimension, weights in nats: no entropy, kept for comparison."""
    stds = torch.tensor([[0.1, 0.3], [0.2, 0.2]], dtype=torch.float64)
    weights = torch.tensor([0.25, 0.75], dtype=torch.float64)
    made = GaussianMixture(weights.log(), torch.zeros_like(stds), stds)
    bits = [0.5 * math.log2(2 * math.pi * math.e * v) for v in (0.05, 0.04)]
    expected = 0.25 * (bits[0] - math.log(0.25)) + 0.75 * (bits[1] - math.log(0.75))
    assert float(made.entropy('published')) == pytest.approx(expected)
    assert single(made).entropy('published', np.random.default_rng(0)) == pytest.approx(expected)
    alone = DiagonalGaussian(torch.zeros(2), stds[0])
    assert float(alone.entropy('published')) == pytest.approx(bits[0])


def test_the_published_entropy_leaves_the_stream_of_samples_as_it_is():
    drawn = []
    for kind in ('monte_carlo', 'published'):
        rng = np.random.default_rng(4)
        single(mixture(1)).entropy(kind, rng)
        drawn.append(single(mixture(1)).sample(rng))
    np.testing.assert_array_equal(*drawn)
