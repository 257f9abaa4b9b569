# SPDX-License-Identifier: Apache-2.0
"""The losses of the rivals against calculations by hand, and their offline phases."""

from __future__ import annotations

from dataclasses import replace
import math

from learner_helpers import Toy, demonstrations, noisy_bc, small_config, toy_task, transition
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from q2rl_learner.advantage import ExpectileValue, expectile_loss, regression_weights
from q2rl_learner.config import LearnerConfig
from q2rl_learner.conservative import conservative_term, soft_maximum
from q2rl_learner.learner_state import load_state, save_state
from q2rl_learner.methods import load_method
from q2rl_learner.online_learner import OnlineLearner
from q2rl_learner.replay import Batch, Replay
from q2rl_learner.update import Updater
from q2rl_policies.actor import TanhGaussianActor
from q2rl_policies.critics import CriticEnsemble, ValueNet
from q2rl_task import InputError, Phase

TASK = toy_task()
STATE, D, B = 3, 6, 4
OFFLINE = ('awac', 'iql', 'cal-ql', 'wsrl', 'pex')
SHORT = {'steps': 21}


def config_of(method: str, **changes) -> LearnerConfig:
    """Return a method's settings on a small preset, with a short offline phase."""
    config = load_method(method).over(small_config(min_subset=2)).model_dump()
    config['offline'] |= {**SHORT, **changes}
    config['offline']['frozen_steps'] = min(config['offline']['frozen_steps'], 12)
    return LearnerConfig.model_validate(config)


def updater_of(method: str) -> Updater:
    config = config_of(method)
    torch.manual_seed(0)
    critics = CriticEnsemble(STATE, D, (8,), members=config.critics)
    actor = TanhGaussianActor(STATE, D, (8,))
    value = ValueNet(STATE, (8,)) if config.loss.bootstrap == 'expectile' else None
    generator = torch.Generator().manual_seed(0)
    return Updater(actor, critics, config, (-20.0, 0.0), generator, value)


def batch() -> Batch:
    generator = torch.Generator().manual_seed(7)

    def draw(width: int) -> Tensor:
        return 2 * torch.rand((B, width), generator=generator) - 1

    return Batch(
        observation=draw(STATE),
        action=draw(D),
        reward=torch.tensor([-1.0, -2.0, -3.0, 0.0]),
        next_observation=draw(STATE),
        bootstrap=torch.tensor([0.5, 0.25, 0.0, 0.0]),
        imitated=draw(D),
        imitation=torch.zeros(B),
        next_bc=draw(D),
        next_bc_known=torch.ones(B),
        mc_return=torch.tensor([-4.0, -3.0, -math.inf, 0.0]),
    )


def constant_value(net: ValueNet, value: float) -> None:
    with torch.no_grad():
        net.net[-1].weight.zero_()
        net.net[-1].bias.fill_(value)


class FirstComponent(nn.Module):
    """Q_i(s, a) = 10 a_0 for both members."""

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        return (10.0 * action[:, 0]).expand(2, -1)


def test_the_expectile_loss_by_hand():
    # Above by 2 counts 0.8, below by 1 counts 0.2: (0.8 * 4 + 0.2 * 1) / 2.
    assert float(expectile_loss(torch.tensor([2.0, -1.0]), 0.8)) == pytest.approx(1.7)
    u = torch.tensor([3.0, -3.0])
    assert float(expectile_loss(u, 0.5)) == pytest.approx(0.5 * float(u.square().mean()))


def test_an_expectile_value_lands_where_the_weighted_errors_balance():
    torch.manual_seed(0)
    value = ExpectileValue(ValueNet(STATE, (8,)), 0.75, 0.05)
    where, q = torch.zeros(2, STATE), torch.tensor([0.0, 4.0])
    for _ in range(400):
        value.step(where, q)
    # 0.75 (4 - v) = 0.25 v
    torch.testing.assert_close(value(where), torch.full((2,), 3.0), atol=0.05, rtol=0.0)


def test_regression_weights_are_exponential_and_capped():
    found = regression_weights(torch.tensor([-2.0, 0.0, 2.0, 1000.0]), 2.0, 100.0)
    expected = torch.tensor([math.exp(-1), 1.0, math.exp(1), 100.0])
    torch.testing.assert_close(found, expected)


def test_with_an_expectile_value_the_target_asks_no_next_action():
    updater = updater_of('iql')
    constant_value(updater.expectile_value.net, -6.0)
    updater._draw_subset = None  # not even a critic is asked
    target = updater.critic_target(batch(), torch.full((B, D), float('nan')))
    torch.testing.assert_close(target, torch.tensor([-1 - 3.0, -2 - 1.5, -3.0, 0.0]))


@pytest.mark.parametrize('method', ['iql', 'pex'])
def test_a_critic_step_moves_the_v_by_expectile_towards_the_critics(method):
    updater, drawn = updater_of(method), batch()
    updater._draw_subset = FirstComponent
    q = 10.0 * drawn.action[:, 0]

    def loss() -> float:
        return float(expectile_loss(q - updater.expectile_value(drawn.observation), 0.8))

    first = loss()
    for _ in range(50):
        metrics = updater.critic_step(drawn, torch.zeros(B, D))
    assert loss() < first and 'value_loss' in metrics


def test_iql_weighs_by_the_advantage_over_v():
    updater, drawn = updater_of('iql'), batch()
    constant_value(updater.expectile_value.net, -1.0)
    updater._draw_subset = FirstComponent
    with torch.no_grad():
        nll = -updater.actor.log_prob(drawn.observation, drawn.action)
        loss, metrics = updater._regress(drawn)
    weights = (10.0 * drawn.action[:, 0] + 1.0).exp().clamp(max=100.0)
    torch.testing.assert_close(loss, (weights * nll).mean())
    torch.testing.assert_close(metrics['regression_weight'], weights.mean())


def test_awac_weighs_by_the_advantage_over_an_action_of_its_own():
    updater, drawn = updater_of('awac'), batch()
    updater._draw_subset = FirstComponent
    own = torch.full((B, D), -0.25)
    updater.actor.sample = lambda observation, generator: (own, torch.zeros(B))
    with torch.no_grad():
        nll = -updater.actor.log_prob(drawn.observation, drawn.action)
        loss, _ = updater._regress(drawn)
    weights = (10.0 * drawn.action[:, 0] + 2.5).exp().clamp(max=100.0)
    torch.testing.assert_close(loss, (weights * nll).mean())


def test_regression_prefers_what_is_better_and_climbs_nothing():
    updater, drawn = updater_of('iql'), batch()
    constant_value(updater.expectile_value.net, 0.0)
    updater._draw_subset = FirstComponent
    best = int(drawn.action[:, 0].argmax())
    updater.actor_optimiser.param_groups[0]['lr'] = 1e-2
    for _ in range(300):
        updater.actor_step(drawn, 0.0)
    with torch.no_grad():
        found = updater.actor.mode(drawn.observation)[best]
    torch.testing.assert_close(found, drawn.action[best].clamp(-0.99, 0.99), atol=0.15, rtol=0.0)


def test_the_soft_maximum_is_the_log_of_the_integral():
    # Q = 0 on [-1, 1]: log of the integral of 1 is log 2, whatever density the actions are drawn from.
    uniform = torch.full((5, 1), -math.log(2.0))
    found = soft_maximum(torch.zeros(1, 5, 1), uniform)
    assert float(found) == pytest.approx(math.log(2.0))
    # Two actions worth 1 and 3, drawn with densities 1 and e: log((e^1 + e^2) / 2).
    values, density = torch.tensor([[[1.0], [3.0]]]), torch.tensor([[0.0], [1.0]])
    expected = math.log((math.e + math.e**2) / 2.0)
    assert float(soft_maximum(values, density)) == pytest.approx(expected)


class Constant(nn.Module):
    """Q_i(s, a) = level for both members."""

    def __init__(self, level: float) -> None:
        super().__init__()
        self.level = level

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        return torch.full((2, len(action)), self.level)


class Uniform(nn.Module):
    """An actor that draws uniformly from the box, so that every density is the same."""

    def sample(self, observation: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        drawn = 2.0 * torch.rand((len(observation), D), generator=generator) - 1.0
        return drawn, torch.full((len(observation),), -D * math.log(2.0))


@pytest.mark.parametrize('calibrated', [True, False])
def test_the_conservative_term_by_hand(calibrated):
    drawn, level = batch(), -3.5
    q = torch.full((2, B), level)
    found = conservative_term(
        Constant(level), Uniform(), drawn, q, 2, calibrated, torch.Generator().manual_seed(0)
    )
    # Of six actions per state two are uniform; the actor's four count as no less than the return, where it is known.
    volume, terms = D * math.log(2.0), []
    for known in drawn.mc_return.tolist():
        own = max(level, known) if calibrated else level
        terms.append(math.log((2 * math.exp(level) + 4 * math.exp(own)) / 6) + volume - level)
    torch.testing.assert_close(found, torch.full((2,), sum(terms) / B))


def test_conservatism_lowers_what_is_off_the_data_but_not_below_the_returns():
    drawn = batch()
    levels = {}
    for method, weight in (('rlpd', 0.0), ('cal-ql', 1.0), ('cql', 1.0)):
        updater = updater_of('cal-ql')
        if method == 'cql':
            loss = updater._config.loss.model_copy(update={'calibrated': False})
            updater._config = updater._config.model_copy(update={'loss': loss})
        ended = Batch(**{**vars(drawn), 'bootstrap': torch.zeros(B), 'mc_return': drawn.reward})
        updater.critic_optimiser.param_groups[0]['lr'] = 1e-2
        for _ in range(150):
            updater.critic_step(ended, torch.zeros(B, D), weight)
        with torch.no_grad():
            own = updater.actor.mode(drawn.observation)
            levels[method] = float(updater.critics(drawn.observation, own).mean())
    assert levels['cql'] < levels['cal-ql'] < levels['rlpd']


def returns_of(buffer: Replay) -> dict[float, float]:
    """Return first state -> Monte Carlo return of all that can be drawn."""
    drawn = buffer.sample(50 * len(buffer), None, torch.Generator().manual_seed(0))[0]
    return dict(zip(drawn.observation[:, 0].tolist(), drawn.mc_return.tolist(), strict=True))


@pytest.mark.parametrize('steps', [1, 3])
@pytest.mark.parametrize(('end', 'tail'), [('terminated', 0.0), ('truncated', -8.0)])
def test_returns_are_known_once_an_episode_is_over(steps, end, tail):
    buffer = Replay(STATE, D, 100, steps, 0.5, cut_value=-8.0)
    for k in range(4):  # two robots take turns; the second's episode is not over
        mark = {end: True} if k == 3 else {}
        buffer.add(transition(TASK, k + 1, 'ea', k, robot='a', **mark), -1.0)
        buffer.add(transition(TASK, k + 1, 'eb', 50 + k, robot='b'), -1.0)
    found = returns_of(buffer)
    expected, running = {}, tail
    for k in reversed(range(4)):
        running = -1.0 + 0.5 * running
        expected[float(k)] = running
    assert {k: g for k, g in found.items() if k < 50} == expected
    assert {g for k, g in found.items() if k >= 50} == {-math.inf}


def test_a_return_stops_at_a_missing_step_and_spares_what_was_overwritten():
    buffer = Replay(STATE, D, 3, 1, 0.5, cut_value=-8.0)
    for k in (0, 1, 2, 3, 5):
        buffer.add(transition(TASK, k + 1, 'e', k), -1.0)
    found = returns_of(buffer)
    # Step 4 never came: the return of 3 goes on with the value of a cut; 5 is under way.
    assert found == {3.0: -5.0, 2.0: -3.5, 5.0: -math.inf}


def with_rollouts(config: LearnerConfig, seed: int = 0) -> tuple[OnlineLearner, Toy]:
    of = OnlineLearner(config, TASK, seed, demonstrations(TASK, 3, seed=1))
    toy = Toy(TASK, 2, noisy_bc(TASK, 2))
    for k in range(4):
        for t in toy.run(f'r{k}', Phase.ESTIMATING):
            of.add(t)
    return of, toy


@pytest.mark.parametrize('method', OFFLINE)
def test_the_offline_phase_is_as_long_as_it_says_and_owes_nothing(method):
    of, toy = with_rollouts(config_of(method))
    counted = {'critic': 0, 'actor': 0}
    for name in counted:
        step = getattr(of.updater, f'{name}_step')

        def count(*given, name=name, step=step):
            counted[name] += 1
            return step(*given)

        setattr(of.updater, f'{name}_step', count)
    before = {k: v.clone() for k, v in of.actor.state_dict().items()}
    of.fit_estimate()
    actor_steps = 0 if method == 'pex' else 21 * of.config.actor_updates_per_step
    assert counted == {'critic': 21, 'actor': actor_steps} and of.offline_steps == 21
    changed = any(not torch.equal(v, before[k]) for k, v in of.actor.state_dict().items())
    assert changed == (method != 'pex'), 'the new policy of PEX begins online'
    assert of.gradient_steps == 0 and of.owed == 0
    frozen = of.config.offline.frozen_steps
    assert frozen == (12 if method == 'wsrl' else 0)
    acting = {k: v.clone() for k, v in of.acting.state_dict().items()}
    arriving = []
    while len(arriving) < 60:
        arriving += toy.run(f'o{len(arriving)}', Phase.ONLINE)
    for number, t in enumerate(arriving, 1):
        of.add(t)
        of.update()
        if number <= frozen:
            assert all(torch.equal(v, acting[k]) for k, v in of.acting.state_dict().items())
    while of.busy:
        of.update()
    assert of.gradient_steps == 2 * (len(arriving) - frozen)


def test_wsrl_goes_on_without_the_offline_data():
    of, toy = with_rollouts(config_of('wsrl'))
    assert of.replay.demonstrations > 0 and of.replay.online > 0
    of.fit_estimate()
    assert len(of.replay) == 0
    for t in toy.run('o', Phase.ONLINE):
        of.add(t)
        of.update()
    assert of.replay.demonstrations == 0 and of.replay.online == of.online_steps
    kept, _ = with_rollouts(config_of('cal-ql'))
    kept.fit_estimate()
    assert kept.replay.demonstrations > 0 and kept.replay.online > 0


def test_no_offline_phase_where_learning_cannot_start():
    """It would take the rollouts out of the replay that the next fit, on more of them, is to learn from."""
    config = config_of('wsrl').model_dump()
    config = LearnerConfig.model_validate({**config, 'fit': {**config['fit'], 'warm_start': True}})
    of = OnlineLearner(config, TASK, 0, demonstrations(TASK, 3, seed=1))
    toy = Toy(TASK, 2, noisy_bc(TASK, 2))
    for k in range(4):
        for t in toy.run(f'r{k}', Phase.ESTIMATING):
            over = t.terminated or t.truncated
            of.add(replace(t, terminated=False, truncated=over))
    there = len(of.replay)
    assert of.fit_estimate().problem()
    assert of.offline_steps == 0 and len(of.replay) == there > 0


@pytest.mark.parametrize('method', ['wsrl', 'iql'])
def test_a_restored_rival_goes_on_as_if_it_had_never_stopped(method, tmp_path):
    first, toy = with_rollouts(config_of(method))
    first.fit_estimate()
    online = []
    while len(online) < 60:
        online += toy.run(f'o{len(online)}', Phase.ONLINE)
    for t in online[:40]:
        first.add(t)
        first.update()
    save_state(tmp_path / 's', first)
    again = OnlineLearner(config_of(method), TASK, 0, demonstrations(TASK, 3, seed=1))
    load_state(tmp_path / 's', again)
    log = Toy(TASK, 2, noisy_bc(TASK, 2))
    rollouts = [t for k in range(4) for t in log.run(f'r{k}', Phase.ESTIMATING)]
    for t in rollouts + online[:40]:
        again.add(t)
    assert again.offline_steps == 21
    for of in (first, again):
        for t in online[40:]:
            of.add(t)
            of.update()
    for name, tensor in first.critics.state_dict().items():
        assert torch.equal(tensor, again.critics.state_dict()[name]), name
    assert np.isfinite([float(p.detach().abs().max()) for p in first.actor.parameters()]).all()


def test_an_offline_phase_without_data_is_refused():
    of = OnlineLearner(config_of('iql'), TASK, 0)
    with pytest.raises(InputError, match='neither demonstrations nor rollouts'):
        of.fit_estimate()


def test_imitation_beside_regression_is_refused():
    with pytest.raises(ValueError, match='no imitation'):
        small_config(loss={'actor': 'advantage'})
