# SPDX-License-Identifier: Apache-2.0
"""Actor, critics and V: what they compute, batched and for one state."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from q2rl_policies.actor import TanhGaussianActor
from q2rl_policies.critics import CriticEnsemble, ValueNet
from q2rl_policies.inference import GateCritic, Pinned, RLPolicy
from q2rl_policies.live_networks import LiveActor, LiveCritic

O, D, B = 21, 6, 32  # noqa: E741


def batch(n: int = B) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(5)
    return torch.randn(n, O, generator=g), torch.rand(n, D, generator=g) * 2.0 - 1.0


def stir(module: nn.Module) -> None:
    """Move every parameter off its initial value, so that none of them can be left out unnoticed."""
    g = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=g)


def plain_member(critics: CriticEnsemble, i: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for layer, weight in enumerate(critics.weights):
        linear = nn.Linear(weight.shape[1], weight.shape[2])
        linear.load_state_dict({'weight': weight[i].T, 'bias': critics.biases[layer][i, 0]})
        layers.append(linear)
        if critics.layer_norm:
            norm = nn.LayerNorm(weight.shape[2])
            norm.load_state_dict(
                {'weight': critics.gains[layer][i, 0], 'bias': critics.offsets[layer][i, 0]}
            )
            layers.append(norm)
        layers.append(nn.ReLU())
    head = nn.Linear(critics.head_weight.shape[1], 1)
    head.load_state_dict({'weight': critics.head_weight[i].T, 'bias': critics.head_bias[i, 0]})
    return nn.Sequential(*layers, head)


@pytest.mark.parametrize('layer_norm', [True, False])
@pytest.mark.parametrize('hidden', [(16,), (32, 16), (16, 16, 16)])
def test_a_member_of_the_ensemble_is_a_plain_network(layer_norm, hidden):
    torch.manual_seed(0)
    critics = CriticEnsemble(O, D, hidden, 4, layer_norm)
    stir(critics)
    observation, action = batch()
    q = critics(observation, action)
    assert q.shape == (4, B)
    for i in range(4):
        member = plain_member(critics, i)
        expected = member(torch.cat((observation, action), -1)).squeeze(-1)
        torch.testing.assert_close(q[i], expected, rtol=1e-4, atol=1e-5)
        # The gradients too: they are what is learned with.
        for loss, parameter in ((q[i], critics.weights[0]), (expected, member[0].weight)):
            parameter.grad = None
            loss.square().mean().backward(retain_graph=True)
        torch.testing.assert_close(
            critics.weights[0].grad[i].T, member[0].weight.grad, rtol=1e-4, atol=1e-5
        )
        others = torch.arange(4) != i
        assert critics.weights[0].grad[others].abs().max() == 0.0


def test_members_start_apart_and_small():
    torch.manual_seed(0)
    q = CriticEnsemble(O, D, (64, 64), 5)(*batch())
    assert q.std(0).min() > 1e-5
    assert q.abs().max() < 0.5


def test_the_actor_samples_inside_the_box_with_the_right_density():
    torch.manual_seed(0)
    actor = TanhGaussianActor(O, D, (32, 32))
    stir(actor)
    observation, _ = batch()
    action, log_prob = actor.sample(observation, torch.Generator().manual_seed(1))
    assert action.shape == (B, D) and log_prob.shape == (B,) and action.abs().max() <= 1.0
    mean, log_std = actor(observation)
    theirs = torch.distributions.TransformedDistribution(
        torch.distributions.Normal(mean.double(), log_std.double().exp()),
        torch.distributions.transforms.TanhTransform(cache_size=0),
    )
    inside = action.abs().amax(-1) < 0.98
    assert inside.sum() >= 5
    expected = theirs.log_prob(action.double()).sum(-1)
    torch.testing.assert_close(log_prob[inside].double(), expected[inside], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(
        actor.log_prob(observation, action)[inside].double(), expected[inside], rtol=1e-3, atol=1e-3
    )


def test_the_density_of_the_actor_integrates_to_one():
    torch.manual_seed(0)
    actor = TanhGaussianActor(1, 1, (8,))
    stir(actor)
    grid = torch.linspace(-0.99, 0.99, 20001)[:, None]
    mass = actor.log_prob(torch.zeros(len(grid), 1), grid).exp().mean() * 1.98
    mean, log_std = actor(torch.zeros(1, 1))
    normal = torch.distributions.Normal(mean, log_std.exp())
    expected = normal.cdf(torch.atanh(torch.tensor(0.99))) - normal.cdf(
        torch.atanh(torch.tensor(-0.99))
    )
    assert mass.item() == pytest.approx(expected.item(), abs=2e-3)


@pytest.mark.parametrize('target', [-1.0, 1.0, 1.7])
def test_nll_of_targets_at_the_edge_is_finite_and_has_finite_gradients(target):
    torch.manual_seed(0)
    actor = TanhGaussianActor(O, D, (16,))
    with torch.no_grad():
        actor.net[-1].bias[D:] = -50.0  # as narrow as it gets
    observation, _ = batch()
    loss = -actor.log_prob(observation, torch.full((B, D), target)).mean()
    loss.backward()
    assert math.isfinite(loss.item())
    assert all(torch.isfinite(p.grad).all() for p in actor.parameters())


def test_log_prob_of_saturated_samples_is_finite():
    torch.manual_seed(0)
    actor = TanhGaussianActor(O, D, (16,))
    with torch.no_grad():
        actor.net[-1].bias[:D] = 60.0
    action, log_prob = actor.sample(batch()[0])
    assert torch.isfinite(log_prob).all() and (action == 1.0).all()


def test_log_std_stays_in_its_bounds():
    torch.manual_seed(0)
    actor = TanhGaussianActor(O, D, (16,), log_std_min=-3.0, log_std_max=1.0)
    for bias, bound in ((-40.0, -3.0), (40.0, 1.0)):
        with torch.no_grad():
            actor.net[-1].bias[D:] = bias
        assert (actor(batch()[0])[1] == bound).all()


def test_mode_is_tanh_of_the_mean():
    torch.manual_seed(0)
    actor = TanhGaussianActor(O, D, (16,))
    stir(actor)
    observation, _ = batch()
    torch.testing.assert_close(actor.mode(observation), torch.tanh(actor(observation)[0]))


@pytest.mark.parametrize('layer_norm', [True, False])
def test_one_state_gets_what_the_batch_gets(layer_norm):
    torch.manual_seed(0)
    actor = TanhGaussianActor(O, D, (32, 32), layer_norm)
    critics = CriticEnsemble(O, D, (32, 32), 5, layer_norm)
    value = ValueNet(O, (32, 32), layer_norm)
    for module in (actor, critics, value):
        stir(module)
    policy = RLPolicy(Pinned(LiveActor(actor, 7)))
    critic = GateCritic(Pinned(LiveCritic(critics, value, 8, 2)))
    observation, action = batch()
    with torch.no_grad():
        modes, q, v = actor.mode(observation), critics(observation, action), value(observation)
    for k in range(B):
        proposal = policy.act(observation[k].numpy())
        np.testing.assert_allclose(proposal.action, modes[k].numpy(), atol=1e-5)
        assert proposal.version == 7 and math.isnan(proposal.log_prob)
        values = critic.values(observation[k].numpy(), action[k].numpy())
        np.testing.assert_allclose(values.q_rl_members, q[:, k].numpy(), rtol=1e-4, atol=1e-5)
        assert values.v == pytest.approx(float(v[k]), rel=1e-4, abs=1e-5)
        assert (values.critic_version, values.value_version) == (8, 2)


@pytest.mark.parametrize('bc_value', ['density', 'critic', 'fitted'])
def test_what_the_gate_hears_of_the_action_of_bc(bc_value):
    torch.manual_seed(0)
    critics, of_bc = CriticEnsemble(O, D, (8,), 3), CriticEnsemble(O, D, (8,), 2)
    for module in (critics, of_bc):
        stir(module)
    critic = GateCritic(Pinned(LiveCritic(critics, ValueNet(O, (8,)), bc_critics=of_bc)), bc_value)
    observation, action = (t[0].numpy() for t in batch())
    said = critic.values(observation, None, action).q_bc_members
    asked = {'density': None, 'critic': critics, 'fitted': of_bc}[bc_value]
    expected = np.empty(0)
    if asked is not None:
        with torch.no_grad():
            expected = asked(*(torch.from_numpy(v)[None] for v in (observation, action)))[:, 0]
    np.testing.assert_allclose(said, expected, rtol=1e-4, atol=1e-5)
    assert len(critic.values(observation, action, None).q_bc_members) == 0
    without = GateCritic(Pinned(LiveCritic(critics, ValueNet(O, (8,)))), 'fitted')
    assert len(without.values(observation, None, action).q_bc_members) == 0


def test_acting_sees_what_a_learner_changes_in_place():
    torch.manual_seed(0)
    actor = TanhGaussianActor(O, D, (16,))
    policy = RLPolicy(Pinned(LiveActor(actor)))
    observation, action = batch()
    before = policy.act(observation[0].numpy()).action
    optimiser = torch.optim.Adam(actor.parameters(), lr=0.05)
    (-actor.log_prob(observation, action).mean()).backward()
    optimiser.step()
    after = policy.act(observation[0].numpy()).action
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(after, actor.mode(observation)[0].detach().numpy(), atol=1e-5)


def test_acting_changes_no_input():
    torch.manual_seed(0)
    policy = RLPolicy(Pinned(LiveActor(TanhGaussianActor(O, D, (16,)))))
    observation = batch()[0][0].numpy()
    kept = observation.copy()
    policy.act(observation)
    np.testing.assert_array_equal(observation, kept)


def test_where_it_may_explore_the_policy_samples_from_the_actor():
    torch.manual_seed(0)
    actor = TanhGaussianActor(O, D, (16,))
    policy = RLPolicy(Pinned(LiveActor(actor)), samples=True, seed=1)
    observation = batch()[0][:1]
    actions = np.stack([policy.act(observation[0].numpy(), True).action for _ in range(4000)])
    mean, log_std = (t.detach().numpy()[0] for t in actor(observation))
    unsquashed = np.arctanh(actions.astype(np.float64))
    assert np.abs(unsquashed.mean(0) - mean).max() < 4.0 * np.exp(log_std).max() / math.sqrt(4000)
    np.testing.assert_allclose(unsquashed.std(0), np.exp(log_std), rtol=0.06)


def test_correlated_samples_keep_the_distribution_of_each():
    torch.manual_seed(0)
    actor = TanhGaussianActor(O, D, (16,))
    policy = RLPolicy(Pinned(LiveActor(actor)), samples=True, correlation=0.6, seed=1)
    observation = batch()[0][:1]
    mean, log_std = (t.detach().numpy()[0] for t in actor(observation))
    episodes = []
    for seed in range(800):
        policy.reseed(seed)
        actions = [policy.act(observation[0].numpy(), True).action for _ in range(6)]
        episodes.append((np.arctanh(np.float64(actions)) - mean) / np.exp(log_std))
    noise = np.stack(episodes)  # (episode, tick, D)
    for tick in (0, 5):
        assert np.abs(noise[:, tick].mean(0)).max() < 4.0 / math.sqrt(800)
        np.testing.assert_allclose(noise[:, tick].std(0), 1.0, rtol=0.12)
    for lag in (1, 3):
        product = (noise[:, :-lag] * noise[:, lag:]).mean()
        assert product == pytest.approx(0.6**lag, abs=0.04)
    first = noise[:, 0]
    assert abs((first[:-1] * first[1:]).mean()) < 0.06  # episodes are independent


def test_components_that_are_not_explored_are_the_modes_own():
    torch.manual_seed(0)
    actor = TanhGaussianActor(O, D, (16,))
    observation = batch()[0][0]
    mode = actor.mode(observation).detach().numpy()
    made = {'samples': True, 'noise': 0.1, 'correlation': 0.5}
    free, held = (RLPolicy(Pinned(LiveActor(actor)), **made, explored=n) for n in (None, D - 1))
    for _ in range(5):
        one, other = (policy.act(observation.numpy(), True).action for policy in (free, held))
        np.testing.assert_array_equal(one[:-1], other[:-1])
        assert abs(other[-1] - mode[-1]) < 1e-6 < abs(one[-1] - mode[-1])


@pytest.mark.parametrize(
    'made, explore', [({'samples': True, 'noise': 0.1}, False), ({}, True), ({}, False)]
)
def test_the_policy_acts_by_its_mode_unless_it_may_explore_and_is_to(made, explore):
    torch.manual_seed(0)
    actor = TanhGaussianActor(O, D, (16,))
    observation = batch()[0][0]
    action = RLPolicy(Pinned(LiveActor(actor)), **made).act(observation.numpy(), explore).action
    np.testing.assert_allclose(action, actor.mode(observation).detach().numpy(), atol=1e-6)


def test_without_weights_or_an_action_there_is_nothing_to_say():
    observation = np.zeros(O, dtype=np.float32)
    assert RLPolicy(Pinned(None)).act(observation) is None
    assert GateCritic(Pinned(None)).values(observation, None) is None
    critic = GateCritic(Pinned(LiveCritic(CriticEnsemble(O, D, (8,), 2), ValueNet(O, (8,)))))
    values = critic.values(observation, None)
    assert len(values.q_rl_members) == 0 and math.isfinite(values.v)
