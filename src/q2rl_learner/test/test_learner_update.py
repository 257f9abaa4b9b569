# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy

from learner_helpers import small_config
import pytest
import torch
from torch import Tensor, nn

from q2rl_learner.replay import Batch
from q2rl_learner.update import Updater
from q2rl_policies.actor import TanhGaussianActor
from q2rl_policies.critics import CriticEnsemble

STATE, D, B = 3, 6, 4
RANGE = (-20.0, 0.0)


def make(seed: int = 0, **changes) -> Updater:
    config = small_config(**changes)
    torch.manual_seed(seed)
    critics = CriticEnsemble(STATE, D, (8,), members=config.critics)
    actor = TanhGaussianActor(STATE, D, (8,))
    return Updater(actor, critics, config, RANGE, torch.Generator().manual_seed(seed))


def batch(**changes) -> Batch:
    generator = torch.Generator().manual_seed(7)

    def draw(*shape: int) -> Tensor:
        return 2 * torch.rand(shape, generator=generator) - 1

    values = {
        'observation': draw(B, STATE),
        'action': draw(B, D),
        'reward': torch.tensor([-1.0, -2.0, -3.0, 0.0]),
        'next_observation': draw(B, STATE),
        'bootstrap': torch.tensor([0.5, 0.25, 0.0, 0.0]),
        'imitated': draw(B, D),
        'imitation': torch.tensor([1.0, 1.0, 0.0, 1.0]),
        'next_bc': draw(B, D),
        'next_bc_known': torch.tensor([1.0, 0.0, 1.0, 1.0]),
        'mc_return': torch.tensor([-4.0, -3.0, -3.0, 0.0]),
    }
    return Batch(**{**values, **changes})


def with_constant_targets(updater: Updater, values: list[float]) -> None:
    """Let target critic i say values[i] whatever it is asked."""
    with torch.no_grad():
        updater.target.head_weight.zero_()
        updater.target.head_bias.copy_(torch.tensor(values).view(-1, 1, 1))


def test_target_of_a_hand_batch():
    updater = make(min_subset=3)
    with_constant_targets(updater, [-4.0, -8.0, -6.0])
    target = updater.critic_target(batch(), torch.zeros(B, D))
    # Least of all three is -8; the last two rows ended with the task.
    torch.testing.assert_close(target, torch.tensor([-1 - 4.0, -2 - 2.0, -3.0, 0.0]))


def test_the_subset_is_random_and_its_members_distinct():
    updater = make(min_subset=2)
    with_constant_targets(updater, [-4.0, -8.0, -6.0])
    drawn = [float(updater.critic_target(batch(), torch.zeros(B, D))[0]) for _ in range(60)]
    # Least of {-4,-8}, {-4,-6}, {-8,-6}; never -4 alone, which two equal members would give.
    assert {round(value) for value in drawn} == {-5, -4}
    assert round(min(drawn)) == -5 and -1 + 0.5 * -4 not in drawn


def test_targets_stay_within_the_attainable_range():
    updater = make(min_subset=3)
    with_constant_targets(updater, [-400.0, 50.0, 50.0])
    assert updater.critic_target(batch(), torch.zeros(B, D))[0] == RANGE[0]
    updater = make(min_subset=3, clip_targets=False)
    with_constant_targets(updater, [-400.0, 50.0, 50.0])
    assert updater.critic_target(batch(), torch.zeros(B, D))[0] == -201.0


def test_max_in_bootstrap_takes_the_better_action_where_bc_spoke():
    updater = make(min_subset=3, max_in_bootstrap=True, clip_targets=False)

    class FirstAction(nn.Module):
        def forward(self, observation: Tensor, action: Tensor) -> Tensor:
            return action[:, 0].expand(3, -1)

    updater._draw_subset = FirstAction
    low, high = torch.full((B, D), -0.5), torch.full((B, D), 0.5)
    target = updater.critic_target(batch(next_bc=high), low)
    torch.testing.assert_close(target[:2], torch.tensor([-1 + 0.25, -2 - 0.125]))
    target = updater.critic_target(batch(next_bc=low), high)
    torch.testing.assert_close(target[:2], torch.tensor([-1 + 0.25, -2 + 0.125]))


def test_critic_step_descends_its_loss_and_targets_follow_by_tau():
    updater = make(tau=0.1, critic_learning_rate=1e-2)
    before = copy.deepcopy(updater.target)
    drawn = batch()
    for _ in range(3):
        old = [p.clone() for p in updater.target.parameters()]
        updater.critic_step(drawn, torch.zeros(B, D))
        for target, was, now in zip(
            updater.target.parameters(), old, updater.critics.parameters(), strict=True
        ):
            torch.testing.assert_close(target, was + 0.1 * (now - was))
    ended = batch(bootstrap=torch.zeros(B))
    first = float(updater.critic_step(ended, torch.zeros(B, D))['critic_loss'])
    for _ in range(500):
        last = float(updater.critic_step(ended, torch.zeros(B, D))['critic_loss'])
    assert last < 0.5 * first
    assert any(
        not torch.equal(a, b)
        for a, b in zip(before.parameters(), updater.target.parameters(), strict=True)
    )


def test_actor_step_moves_the_actor_alone_and_uphill():
    updater = make(bc_weight={'initial': 0.0})
    with torch.no_grad():  # a steeper landscape than the small initial heads give
        updater.critics.head_weight.mul_(100.0)
    critics = copy.deepcopy(updater.critics.state_dict())
    drawn = batch()

    def value() -> float:
        with torch.no_grad():
            return float(
                updater.critics(drawn.observation, updater.actor.mode(drawn.observation))
                .amin(0)
                .mean()
            )

    start = value()
    for _ in range(100):
        updater.actor_step(drawn, 0.0)
    assert value() > start
    for name, tensor in updater.critics.state_dict().items():
        assert torch.equal(tensor, critics[name]), name
    assert all(p.grad is None for p in updater.critics.parameters())


def test_imitation_counts_marked_actions_only():
    drawn = batch()
    updater = make()
    with torch.no_grad():
        nll = -updater.actor.log_prob(drawn.observation, drawn.imitated)
    metrics = updater.actor_step(drawn, 1.0)
    torch.testing.assert_close(metrics['imitation_nll'], nll[torch.tensor([0, 1, 3])].mean())


def test_the_actors_rate_scales_its_steps_and_no_other():
    moved = {}
    for rate in (1.0, 0.1):
        updater = make(actor_updates_per_step=1)
        before = [p.detach().clone() for p in updater.actor.parameters()]
        updater.step([batch()], 0.0, rate)
        # The first step of Adam is the learning rate, whatever the gradient.
        moved[rate] = max(
            float((p - q).detach().abs().max())
            for p, q in zip(updater.actor.parameters(), before, strict=True)
        )
        critics = updater.critic_optimiser.param_groups[0]['lr']
        assert critics == small_config().critic_learning_rate
    assert moved[0.1] == pytest.approx(0.1 * moved[1.0], rel=1e-3)


@pytest.mark.parametrize(
    ('reduce', 'q'), [('min', -8.0), ('mean', -6.0)], ids=['least critic', 'mean of critics']
)
@pytest.mark.parametrize(
    ('mixing', 'weight', 'of_q'), [('added', 0.0, 1.0), ('added', 0.3, 1.0), ('convex', 0.3, 0.7)]
)
@pytest.mark.parametrize('bonus', [0.0, 0.2])
def test_the_actors_loss_by_hand(reduce, q, mixing, weight, of_q, bonus):
    """L_pi = -Q + w NLL - bonus H, where critics that say -4, -8 and -6 of whatever they are asked make Q."""
    updater, drawn = make(actor_q=reduce, bc_mixing=mixing, entropy_bonus=bonus), batch()
    with torch.no_grad():
        updater.critics.head_weight.zero_()
        updater.critics.head_bias.copy_(torch.tensor([-4.0, -8.0, -6.0]).view(-1, 1, 1))
        same = torch.Generator().set_state(updater._generator.get_state())
        _, log_prob = updater.actor.sample(drawn.observation, same)
        nll = -updater.actor.log_prob(drawn.observation, drawn.imitated)[[0, 1, 3]].mean()
        loss, _ = updater._climb(drawn, weight)
    entropy = -log_prob.mean()
    assert abs(float(entropy)) > 0.1, 'else its sign would not show'
    torch.testing.assert_close(loss, -of_q * q + weight * nll - bonus * entropy)


def test_the_next_action_is_a_sample_or_the_mode_with_noise():
    states = batch().observation.repeat(500, 1)
    sampled, smooth, noisy = (
        make(**changes)._next_action(states).detach()
        for changes in (
            {},
            {'target_action': 'mode'},
            {'target_action': 'mode', 'target_policy_noise': 0.1},
        )
    )
    actor = make().actor
    torch.testing.assert_close(smooth, actor.mode(states).detach())
    same = torch.Generator().manual_seed(0)
    torch.testing.assert_close(sampled, actor.sample(states, same)[0].detach())
    assert float((noisy - smooth).std()) == pytest.approx(0.1, rel=0.05)
    wild = make(target_action='mode', target_policy_noise=5.0)._next_action(states)
    assert float(wild.detach().abs().max()) == 1.0


def test_strong_imitation_clones():
    drawn = batch(imitation=torch.ones(B))
    updater = make(actor_learning_rate=1e-2)
    for _ in range(300):
        updater.actor_step(drawn, 100.0)
    torch.testing.assert_close(
        updater.actor.mode(drawn.observation), drawn.imitated.clamp(-0.99, 0.99), atol=0.1, rtol=0.0
    )


def test_convex_mixing_at_weight_one_ignores_the_critics():
    drawn = batch()
    actors = []
    for scale in (1.0, 50.0):
        updater = make(bc_mixing='convex', bc_weight={'initial': 1.0})
        with torch.no_grad():
            updater.critics.head_weight.mul_(scale)
        updater.actor_step(drawn, 1.0)
        actors.append(updater.actor.state_dict())
    for name, tensor in actors[0].items():
        assert torch.equal(tensor, actors[1][name])


@pytest.mark.parametrize(('kind', 'rows'), [('last', B), ('all', 2 * B)])
def test_actor_batch(kind, rows):
    updater = make(actor_batch=kind)
    seen = []
    updater.actor_step = lambda batch, bc_weight: seen.append(len(batch.reward)) or {}
    updater.step([batch(), batch()], 0.0)
    assert seen == [rows]


def test_the_actor_in_training_acts_unless_an_average_of_it_is_asked_for():
    updater = make()
    assert updater.acting is updater.actor


def test_the_acting_actor_follows_the_one_in_training_by_its_share_per_step():
    updater = make(actor_tau=0.25)
    before = [p.detach().clone() for p in updater.acting.parameters()]
    updater.step([batch()], 0.5)
    trained = list(updater.actor.parameters())
    assert any(not torch.equal(b, t) for b, t in zip(before, trained, strict=True))
    for old, new, own in zip(before, updater.acting.parameters(), trained, strict=True):
        torch.testing.assert_close(new, old + 0.25 * (own.detach() - old))
    updater.copy_target()
    for new, own in zip(updater.acting.parameters(), trained, strict=True):
        assert torch.equal(new, own)
