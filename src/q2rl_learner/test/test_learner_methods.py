# SPDX-License-Identifier: Apache-2.0
"""Methods as overlays: what each sets, and the critic target that follows from it on a batch by hand."""

from __future__ import annotations

from typing import get_args

from learner_helpers import Toy, demonstrations, noisy_bc, small_config, toy_task
import pytest
import torch
from torch import Tensor, nn

from q2rl_learner import update
from q2rl_learner.config import LearnerConfig, load_preset
from q2rl_learner.methods import flat, load_method, method_names, variant_names
from q2rl_learner.online_learner import OnlineLearner
from q2rl_learner.replay import Batch
from q2rl_learner.update import Updater
from q2rl_policies.actor import TanhGaussianActor
from q2rl_policies.critics import CriticEnsemble
from q2rl_policies.distributions import EntropyKind
from q2rl_task import InputError, Phase

TASK = toy_task()
LAPTOP = load_preset('laptop')
METHODS = ('q2rl', 'q2rl-legacy', 'bc', 'ibrl', 'rlpd', 'sac-from-demos')


def small(method: str) -> LearnerConfig:
    return load_method(method).over(small_config(min_subset=2))


def test_the_shipped_methods_by_name():
    assert set(METHODS) <= set(method_names()) and method_names()[0] == 'q2rl'


@pytest.mark.parametrize('method', method_names())
@pytest.mark.parametrize('preset', ['laptop', 'paper'])
def test_every_method_can_be_laid_over_every_preset(method, preset):
    config = load_preset(f'{preset}+{method}')
    assert config.bc == load_preset(preset).bc, 'methods start from one clone'
    assert config.rollouts == load_preset(preset).rollouts
    if not load_method(method).settings.get('reward_scale'):
        assert config.scaled(-1.0) == load_preset(preset).scaled(-1.0)


def test_a_variant_departs_from_its_source_as_its_method_does():
    assert load_method('rlpd/mode').departs == load_method('rlpd').departs != ''
    assert load_method('q2rl/rollouts-0').departs.startswith('Without rollouts')


CHANGED_BY = {
    'no-gate': {'acting.chooser'},
    'no-warm-start': {'fit.warm_start'},
    'no-bc-term': {'bc_weight.initial'},
    'alpha': {'alpha'},
    'rollouts': {'rollouts'},
    'rollouts-0': {'acting.bc_value', 'rollouts_in_replay', 'fit.warm_start'},
    'critics': {'critics'},
    'refresh': {'refresh_every'},
    'bellman': {'acting.bc_value', 'fit.estimator'},
    'self-imitation': {'imitation', 'bc_weight.decay_steps', 'bc_weight.floor'},
    'mode': {'acting.rl_action'},
    'updates': {'critic_updates_per_step'},
    'no-noise': {'acting.rl_noise'},
}


def differences(a, b):
    """Return what two configurations set differently: dotted name -> (value of a, value of b)."""
    first, second = flat(a.model_dump()), flat(b.model_dump())
    return {name: (first[name], second[name]) for name in first if first[name] != second[name]}


@pytest.mark.parametrize('name', variant_names())
def test_a_variant_changes_what_it_is_named_after_and_is_not_listed(name):
    method, _, variant = name.partition('/')
    changed = CHANGED_BY.get(variant) or CHANGED_BY[variant.rpartition('-')[0]]
    assert method in method_names() and load_method(name).name == name
    found = differences(load_preset(f'laptop+{method}'), load_preset(f'laptop+{name}'))
    assert set(found) == changed
    if len(found) == 1 and variant[-1].isdigit():
        assert float(variant.rpartition('-')[2]) == found[changed.copy().pop()][1]
    assert name not in method_names()


def test_q2rl_is_the_preset():
    assert load_preset('laptop+q2rl') == LAPTOP


def test_settings_are_merged_into_sections():
    config = load_method('ibrl').over(LAPTOP)
    assert config.bc_weight.at(0) == config.bc_weight.at(10**6) == 0.0
    assert not config.fit.warm_start and config.fit.folds == LAPTOP.fit.folds


def test_the_difference_of_two_methods_is_short_and_names_what_differs():
    found = differences(LAPTOP, load_preset('laptop+ibrl'))
    assert found['acting.bc_value'] == ('density', 'critic')
    assert found['max_in_bootstrap'] == (False, True)
    assert len(found) < 20
    assert differences(LAPTOP, LAPTOP) == {}


@pytest.mark.parametrize(
    ('name', 'said'),
    [
        ('laptop+nothing', 'no such method'),
        ('laptop+q2rl/alpha-9', 'no such variant; name one of q2rl/alpha-0,'),
        ('nothing+ibrl', 'no such preset'),
        ('laptop+METHOD', 'settings'),
        ('laptop+OVER', 'fit.foldz'),
    ],
)
def test_what_is_wrong_is_one_line(name, said, tmp_path):
    (tmp_path / 'm.yaml').write_text('summary: a\nsource: b\nsettings: 3\n')
    (tmp_path / 'o.yaml').write_text('summary: a\nsource: b\nsettings: {fit: {foldz: 3}}\n')
    name = name.replace('METHOD', str(tmp_path / 'm.yaml')).replace(
        'OVER', str(tmp_path / 'o.yaml')
    )
    with pytest.raises(InputError, match=said) as caught:
        load_preset(name)
    assert '\n' not in str(caught.value)


def test_a_path_with_a_plus_in_it_is_a_path(tmp_path):
    path = tmp_path / 'a+b.yaml'
    path.write_text('critics: 7\n')
    assert load_preset(path).critics == 7
    assert load_preset(f'{path}+rlpd').critics == 7


def test_the_kinds_of_entropy_are_those_of_the_policies():
    assert get_args(LearnerConfig.model_fields['entropy'].annotation) == get_args(EntropyKind)


class TwoCritics(nn.Module):
    """Q_i(s, a) = 10 a_0 - i: the second always says less."""

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        return torch.stack([10.0 * action[:, 0], 10.0 * action[:, 0] - 1.0])


class TwoActions(nn.Module):
    """An actor whose mode is worth -5 by the first critic, and whose sample -3."""

    def mode(self, observation: Tensor) -> Tensor:
        return torch.full((len(observation), 6), -0.5)

    def sample(self, observation: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return torch.full((len(observation), 6), -0.3), torch.zeros(len(observation))


def target_of(config: LearnerConfig) -> list[float]:
    """Return the targets of four samples, of states whose next action by BC is worth -2 and whose V by expectile is -7.

    After the first the task goes on; after the second it ended; after the third nobody knows BC's action; the reward of
    the last, -4, with what follows is less than -6, the least that is attainable.
    """
    torch.manual_seed(0)
    critics = CriticEnsemble(3, 6, (8,), members=config.critics, layer_norm=config.layer_norm)
    updater = Updater(
        TanhGaussianActor(3, 6, (8,)), critics, config, (-6.0, 0.0), torch.Generator()
    )
    updater.actor, updater._draw_subset = TwoActions(), TwoCritics
    if config.loss.bootstrap == 'expectile':
        updater.expectile_value = lambda observation: torch.full((len(observation),), -7.0)
    nothing = torch.zeros(4, 6)
    batch = Batch(
        observation=torch.zeros(4, 3),
        action=nothing,
        reward=torch.tensor([-1.0, -1.0, -1.0, -4.0]),
        next_observation=torch.zeros(4, 3),
        bootstrap=torch.tensor([0.5, 0.0, 0.5, 1.0]),
        imitated=nothing,
        imitation=torch.zeros(4),
        next_bc=torch.full((4, 6), -0.2),
        next_bc_known=torch.tensor([1.0, 1.0, 0.0, 0.0]),
        mc_return=-torch.ones(4),
    )
    return updater.critic_target(batch, updater._next_action(batch.next_observation)).tolist()


@pytest.mark.parametrize(
    ('method', 'expected'),
    [
        # The actor's sample by the lower of two critics: -4.
        ('q2rl', [-3.0, -1.0, -3.0, -6.0]),
        ('q2rl/self-imitation', [-3.0, -1.0, -3.0, -6.0]),
        ('rlpd', [-3.0, -1.0, -3.0, -6.0]),
        ('sac-from-demos', [-3.0, -1.0, -3.0, -6.0]),
        ('awac', [-3.0, -1.0, -3.0, -6.0]),
        ('cal-ql', [-3.0, -1.0, -3.0, -6.0]),
        ('wsrl', [-3.0, -1.0, -3.0, -6.0]),
        ('q2rl-legacy', [-3.0, -1.0, -3.0, -8.0]),  # no bound
        # The actor's mode with a noise of 0.1, here upwards: -5; where BC's action is known, that: -3.
        ('ibrl', [-2.5, -1.0, -3.5, -6.0]),
        # No next action at all.
        ('iql', [-4.5, -1.0, -4.5, -6.0]),
        ('pex', [-4.5, -1.0, -4.5, -6.0]),
    ],
)
def test_the_critic_target_of_each_method_by_hand(method, expected, monkeypatch):
    monkeypatch.setattr(update, 'normal_like', lambda like, generator: torch.ones_like(like))
    assert target_of(small(method)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ('method', 'offline', 'online'),
    [
        ('q2rl', 0.0, 0.0), ('ibrl', 0.0, 0.0), ('rlpd', 0.0, 0.0), ('awac', 0.0, 0.0), ('iql', 0.0, 0.0),
        ('cal-ql', 5.0, 5.0), ('wsrl', 5.0, 0.0),
    ],
)  # fmt: skip
def test_how_conservative_a_method_is_before_and_while_it_acts(
    method, offline, online, monkeypatch
):
    monkeypatch.setattr(update, 'conservative_term', lambda *given: torch.full((3,), 7.0))
    of = with_rollouts(method)
    batches = of.replay.sample(8, 0.5, of.generator, 1)
    for metrics, weight in (
        (of.updater.offline_step(batches), offline),
        (of.updater.step(batches, 0.0), online),
    ):
        assert ('conservative_term' in metrics) == (weight > 0)
    weights = []
    monkeypatch.setattr(of.updater, 'critic_step', lambda *given: weights.append(given[2]) or {})
    of.updater.offline_step(batches)
    of.updater.step(batches, 0.0)
    assert weights == [offline, online]


def with_rollouts(method: str) -> OnlineLearner:
    of = OnlineLearner(small(method), TASK, 0, demonstrations(TASK, 3, seed=1))
    toy = Toy(TASK, 2, noisy_bc(TASK, 2))
    for k in range(10):
        for t in toy.run(f'r{k}', Phase.ESTIMATING):
            of.add(t)
    return of


@pytest.mark.parametrize('method', METHODS)
def test_a_method_fits_v_only_where_something_asks_it(method):
    of = with_rollouts(method)
    before = {k: v.clone() for k, v in of.critics.state_dict().items()}
    report = of.fit_estimate()
    asks = method.startswith('q2rl')
    assert of.config.needs_value == asks == (of.value_version == 1)
    changed = any(not torch.equal(v, before[k]) for k, v in of.critics.state_dict().items())
    assert changed == asks
    if not asks:
        assert report.rollouts == 10 and report.problem() == ''
    for name, tensor in of.critics.state_dict().items():
        assert torch.equal(tensor, of.updater.target.state_dict()[name])


@pytest.mark.parametrize('method', METHODS)
def test_every_method_but_the_clone_learns_at_the_ratio_of_its_preset(method):
    of = with_rollouts(method)
    of.fit_estimate()
    toy = Toy(TASK, 5, noisy_bc(TASK, 5))
    for t in toy.run('o', Phase.ONLINE):
        of.add(t)
    while of.busy:
        of.update()
    ratio = 0 if method == 'bc' else 2
    assert of.online_steps > 0 and of.gradient_steps == ratio * of.online_steps
    assert of.paid_sequence == toy.sequence


def test_the_published_arithmetic_takes_ends_and_returns_as_it_found_them():
    legacy = load_preset('paper+q2rl-legacy')
    assert (legacy.entropy, legacy.episode_ends) == ('published', 'swapped')
    assert (legacy.fit.critic_target, legacy.fit.completions) == ('return', 0)
    assert legacy.clip_targets is False
