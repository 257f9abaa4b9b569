# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
import math

from learner_helpers import NAN, Toy, demonstrations, noisy_bc, small_config, toy_task, transition
import numpy as np
import pytest
import torch

from q2rl_learner.bc_training import mean_nll, train_bc
from q2rl_learner.config import load_preset
from q2rl_learner.episodes import Episode
from q2rl_learner.estimation import EstimateReport, assign_folds, fit_value, output_scaled
from q2rl_learner.online_learner import OnlineLearner
from q2rl_learner.remedies import OF_BENCH, OF_LEARN, OF_NODES
from q2rl_learner.warm_start import Pairs, fit_critics, rollout_pairs
from q2rl_policies.critics import CriticEnsemble, ValueNet
from q2rl_task import InputError, Phase, Proposal, Source

TASK = toy_task()
GAMMA = TASK.reward.discount
RANGE = (-1.0 / (1.0 - GAMMA), 0.0)


def walk(number: int, steps: int, *, success: bool, held: tuple[int, ...] = ()) -> Episode:
    """Make an episode whose states tell the step and whether it will succeed."""
    episode = Episode.from_transitions(
        [
            transition(
                TASK,
                k + 1,
                f'e{number}',
                k,
                terminated=success and k == steps - 1,
                truncated=not success and k == steps - 1,
                reward=0.0 if success and k == steps - 1 else -1.0,
                source=Source.HOLD if k in held else Source.BC,
            )
            for k in range(steps)
        ]
    )
    states = np.stack(
        [np.linspace(0, 1, steps + 1), np.full(steps + 1, float(success)), np.zeros(steps + 1)],
        axis=1,
    ).astype(np.float32)
    return replace(episode, observations=states[:-1], next_observations=states[1:])


def fit(episodes: list[Episode], seed: int = 0, **changes):
    torch.manual_seed(seed)
    config = small_config(fit={'value_steps': 150, 'completions': 4, **changes})
    return fit_value(
        episodes,
        config,
        GAMMA,
        RANGE,
        lambda: ValueNet(3, (32,)),
        torch.Generator().manual_seed(seed),
    )


def test_a_fit_that_ends_before_its_first_look_is_judged_all_the_same():
    found = fit([walk(k, 6, success=k % 2 == 0) for k in range(10)], value_steps=10)
    assert math.isfinite(found.error) and found.steps == 10


def test_v_of_a_policy_that_never_succeeds_is_the_fixed_point():
    fitted = fit([walk(i, 30, success=False) for i in range(4)])
    with torch.no_grad():
        values = fitted.value(torch.tensor([[0.1, 0.0, 0.0], [0.9, 0.0, 0.0]]))
    torch.testing.assert_close(values, torch.full((2,), RANGE[0]), atol=0.2, rtol=0.0)
    np.testing.assert_allclose(np.concatenate(fitted.returns), RANGE[0], atol=0.2)


def test_without_completion_a_time_limit_looks_like_an_end():
    fitted = fit([walk(i, 30, success=False) for i in range(4)], completions=0)
    assert fitted.returns[0][-1] == pytest.approx(-1.0)


def test_v_tells_success_from_failure_and_explains_held_out_returns():
    episodes = [walk(i, 30, success=i % 2 == 0) for i in range(8)]
    fitted = fit(episodes, folds=3, completions=8, completion_tolerance=0.005)
    assert fitted.error < 0.2 * fitted.variance
    with torch.no_grad():
        good, bad = fitted.value(torch.tensor([[0.5, 1.0, 0.0], [0.5, 0.0, 0.0]]))
    assert good > bad + 3
    assert bad == pytest.approx(RANGE[0], abs=2.0)
    # Succeeded episodes are what they are: 29 steps of -1, then 0.
    assert fitted.returns[0][0] == pytest.approx(-(1 - GAMMA**29) / (1 - GAMMA), rel=1e-5)


def test_held_ticks_are_in_no_estimate():
    held = [walk(i, 20, success=True, held=(5, 6)) for i in range(4)]
    fitted = fit(held, completions=2, folds=2, value_steps=50)
    assert fitted.samples == 4 * 18
    assert all(
        np.isnan(r[5:7]).all() and np.isfinite(np.delete(r, [5, 6])).all() for r in fitted.returns
    )
    # Whatever was recorded at the held ticks changes nothing at all.
    other = []
    for episode in held:
        observations, rewards = episode.observations.copy(), episode.rewards.copy()
        observations[6] = 99.0
        rewards[5:7] = -1000.0
        other.append(replace(episode, observations=observations, rewards=rewards))
    again = fit(other, completions=2, folds=2, value_steps=50)
    for name, tensor in fitted.value.state_dict().items():
        assert torch.equal(tensor, again.value.state_dict()[name])


def test_folds_share_out_successes_and_failures_evenly():
    episodes = [walk(i, 2, success=i % 2 == 0) for i in range(12)]
    found = assign_folds(episodes, 3, torch.Generator().manual_seed(0))
    for fold in range(3):
        mine = [e.terminated for e, f in zip(episodes, found, strict=True) if f == fold]
        assert (len(mine), sum(mine)) == (4, 2)


def test_a_single_rollout_is_refused():
    with pytest.raises(ValueError, match='two'):
        fit([walk(0, 10, success=True)])


@pytest.mark.parametrize(
    'make', [lambda: ValueNet(3, (8,)), lambda: CriticEnsemble(3, 6, (8,), members=3)]
)
def test_output_layers_start_at_the_targets(make):
    torch.manual_seed(0)
    network = make()
    inputs = (
        (torch.randn(5, 3),)
        if isinstance(network, ValueNet)
        else (torch.randn(5, 3), torch.randn(5, 6))
    )
    with torch.no_grad():
        before = network(*inputs)
    targets = torch.tensor([-50.0, -10.0])
    output_scaled(network, targets, 1e-3)
    with torch.no_grad():
        torch.testing.assert_close(network(*inputs), 20.0 * before - 30.0)


@pytest.mark.parametrize(('kind', 'base'), [('value', -7.0), ('return', -3.0)])
def test_critics_start_at_q_bc(kind, base):
    config = small_config(
        alpha=0.5, fit={'critic_target': kind, 'critic_steps': 400, 'log_prob_floor': -4.0}
    )
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    n = 64
    log_prob = torch.linspace(-10.0, 2.0, n)
    actions = (log_prob / 10.0).unsqueeze(1).expand(-1, 6).contiguous()
    pairs = Pairs(
        torch.zeros(n, 3), actions, log_prob, torch.full((n,), 1.0), torch.full((n,), -3.0)
    )
    critics = CriticEnsemble(3, 6, (32, 32), members=3)
    error = fit_critics(
        critics,
        lambda observation: torch.full((len(observation),), -7.0),
        pairs,
        config,
        generator,
    )
    wanted = base + 0.5 * (log_prob.clamp(min=-4.0) + 1.0)
    with torch.no_grad():
        found = critics(pairs.observations, pairs.actions)
    assert error < 0.1
    torch.testing.assert_close(found, wanted.expand(3, -1), atol=0.5, rtol=0.0)


def test_rollout_pairs_leave_out_what_bc_did_not_say():
    episode = walk(0, 5, success=True, held=(2,))
    episode = replace(episode, bc_log_probs=np.array([1.0, NAN, 1.0, 1.0, 1.0]))
    pairs = rollout_pairs([episode], [np.arange(5.0)])
    assert pairs.returns.tolist() == [0.0, 3.0, 4.0]


def report(**changes) -> EstimateReport:
    values = {
        'rollouts': 20,
        'successes': 5,
        'samples': 900,
        'value_error': 1.0,
        'return_variance': 2.0,
        'value_steps': 10,
        'completion_rounds': 1,
        'completion_change': 0.0,
        'critic_error': 0.1,
        'actor_nll': 1.0,
        'seconds': 1.0,
    }
    return EstimateReport(**{**values, **changes})


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({}, ''),
        ({'successes': 0}, 'succeeded'),
        ({'value_error': 2.0}, 'V explains no more'),
        ({'value_error': NAN}, 'V explains no more'),
        ({'successes': 0, 'return_variance': math.inf}, ''),  # a method without V
    ],
)
def test_when_learning_may_start(changes, said):
    problem = report(**changes).problem()
    assert said in problem and bool(problem) == bool(said)


@pytest.mark.parametrize(
    ('changes', 'warned'),
    [
        ({}, False),  # not judged: a method without V, or a state from before there was a judgement
        ({'chance': 0.1, 'ordered': 0.8}, False),
        ({'chance': 0.11, 'ordered': 0.8}, True),
        ({'chance': 0.06, 'ordered': 0.8, 'look': 2}, True),
        ({'chance': 0.04, 'ordered': 0.8, 'look': 2}, False),
        ({'chance': 0.9, 'ordered': 0.4, 'value_error': 2.0}, False),  # it is refused
    ],
)
def test_a_value_that_may_say_nothing_is_warned_of(changes, warned):
    said = report(**changes).warning()
    assert bool(said) == warned
    if warned:
        assert '80 %' in said and f'{changes["chance"]:.2g}' in said and '\n' not in said


@pytest.mark.parametrize(
    ('remedies', 'named', 'not_named'),
    [
        (OF_NODES, ('--resume --rollouts 40', 'rollouts:=40', '--method ibrl'), '--methods'),
        (OF_LEARN, ('--rollouts 40, and --resume', '--method ibrl'), 'q2rl up'),
        (OF_BENCH, ('--methods q2rl/rollouts-50', '--methods ibrl,rlpd'), '--rollouts'),
    ],
)
def test_a_useless_value_names_every_way_on_in_the_words_of_the_command(remedies, named, not_named):
    said = report(value_error=2.0).problem(remedies)
    assert all(name in said for name in named) and not_named not in said and '\n' not in said
    for method in ('ibrl', 'rlpd'):
        assert not load_preset(f'laptop+{method}').needs_value


def test_q_estimation_on_the_toy():
    config = small_config()
    demos = demonstrations(TASK, 4, seed=1)
    bc, _ = train_bc(demos, config.bc, TASK, seed=1)
    learner = OnlineLearner(config, TASK, 0, demos, bc)
    toy = Toy(TASK, 2, noisy_bc(TASK, 2, std=0.3))
    for i in range(12):
        for t in toy.run(f'r{i}', Phase.ESTIMATING):
            learner.add(t)
    found = learner.fit_estimate()
    assert found.rollouts == 12 and 0 < found.successes < 12
    assert found.problem() == ''
    assert 0.0 <= found.ordered <= 1.0 and 0.0 < found.chance <= 1.0 and found.look == 2
    for target, critic in zip(
        learner.updater.target.parameters(), learner.critics.parameters(), strict=True
    ):
        assert torch.equal(target, critic)
    with pytest.raises(InputError, match='two rollouts'):
        OnlineLearner(config, TASK, 0).fit_estimate()


def test_at_alpha_0_a_bc_without_a_density_warms_the_critics_to_v_alone():
    config = small_config(alpha=0.0, fit={'critic_steps': 600})
    assert config.needs_value and not config.needs_density
    learner = OnlineLearner(config, TASK, 0, demonstrations(TASK, 4, seed=1))
    bc = noisy_bc(TASK, 2, std=0.3)
    toy = Toy(TASK, 2, lambda position: Proposal(bc(position).action))
    taken = [t for i in range(12) for t in toy.run(f'r{i}', Phase.ESTIMATING)]
    for t in taken:
        assert math.isnan(t.bc_log_prob)
        learner.add(t)
    found = learner.fit_estimate()
    assert not found.problem() and found.critic_error < 0.25 * found.return_variance
    observations = torch.from_numpy(np.stack([t.observation for t in taken]))
    actions = torch.from_numpy(np.stack([t.action for t in taken]))
    with torch.no_grad():
        difference = learner.critics(observations, actions) - learner.value(observations)
    assert float(difference.square().mean()) < 0.25 * found.return_variance


@pytest.mark.parametrize('warm_start', [True, False])
def test_where_a_density_is_needed_a_bc_without_one_is_refused_by_name(warm_start):
    learner = OnlineLearner(small_config(fit={'warm_start': warm_start}), TASK, 0)
    bc = noisy_bc(TASK, 2, std=0.3)
    toy = Toy(TASK, 2, lambda position: Proposal(bc(position).action))
    for i in range(4):
        for t in toy.run(f'r{i}', Phase.ESTIMATING):
            learner.add(t)
    with pytest.raises(InputError, match=r'density at any step of 4 rollouts.*q2rl/alpha-0'):
        learner.fit_estimate()


def test_bc_training_learns_and_checks():
    config = small_config().bc
    demos = demonstrations(TASK, 8, seed=3)
    net, found = train_bc(demos, config, TASK, seed=0)
    again, _ = train_bc(demos, config, TASK, seed=0)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    fresh = demonstrations(TASK, 4, seed=9)
    observations = torch.from_numpy(np.concatenate([d.observations for d in fresh]))
    actions = torch.from_numpy(np.concatenate([d.actions for d in fresh]))
    uniform = 6 * np.log(2.0)
    assert mean_nll(net, observations, actions) < uniform
    assert found.held_out_nll < uniform and found.steps <= found.last_step
    # However much is to be held out, something is left to learn from.
    most = config.model_copy(update={'held_out': 0.9, 'steps': 5})
    assert train_bc(demos[:2], most, TASK, seed=0)[1].samples == len(demos[0]) + len(demos[1])
    with pytest.raises(InputError, match='at least two'):
        train_bc(demos[:1], config, TASK, seed=0)
    with pytest.raises(InputError, match='sizes'):
        train_bc(
            [replace(d, observations=d.observations[:, :2]) for d in demos], config, TASK, seed=0
        )
