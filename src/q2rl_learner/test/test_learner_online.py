# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
import json

from learner_helpers import Toy, demonstrations, noisy_bc, small_config, toy_task, transition
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import save_file
import torch

from q2rl_learner.config import Decay
from q2rl_learner.estimation import without_value
from q2rl_learner.learner_state import load_state, save_state
from q2rl_learner.online_learner import OnlineLearner
from q2rl_policies.gate import GateValues, QGate
from q2rl_policies.networks_file import build_actor, build_critics, unpack
from q2rl_task import InputError, Mode, Phase, Proposal, Source, Transition

TASK = toy_task()
CONFIG = small_config()


def rollouts(seed: int, count: int = 10) -> tuple[Toy, list[Transition]]:
    toy = Toy(TASK, seed, noisy_bc(TASK, seed))
    return toy, [t for i in range(count) for t in toy.run(f'r{i}', Phase.ESTIMATING)]


def learner(config=CONFIG, seed: int = 0, demos: int = 3) -> OnlineLearner:
    return OnlineLearner(config, TASK, seed, demonstrations(TASK, demos, seed=1) if demos else ())


def online(toy: Toy, count: int, start: int = 0) -> list[Transition]:
    """Return online transitions that do not depend on what is learned."""
    rng = np.random.default_rng(5)

    def act(position: np.ndarray) -> Proposal:
        return Proposal(rng.uniform(-1, 1, TASK.action_size).astype(np.float32))

    found: list[Transition] = []
    while len(found) < count:
        found += toy.run(f'o{start + len(found)}', Phase.ONLINE, rl=act)
    return found[:count]


def weights(of: OnlineLearner) -> dict[str, torch.Tensor]:
    modules = {
        'actor': of.actor,
        'critics': of.critics,
        'target': of.updater.target,
        'value': of.value,
    }
    return {f'{k}.{n}': t.clone() for k, m in modules.items() for n, t in m.state_dict().items()}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def test_online_updates_never_reach_v():
    toy, first = rollouts(2)
    of = learner()
    for t in first:
        of.add(t)
    of.fit_estimate()
    before = weights(of)
    for t in online(toy, 60):
        of.add(t)
        of.update()
    after = weights(of)
    changed = {name.split('.')[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {'actor', 'critics', 'target'}
    assert of.value_version == 1


def test_refreshing_v_gives_it_a_new_number():
    toy, first = rollouts(2)
    of = learner(small_config(fit={'value_steps': 400}))
    for t in first:
        of.add(t)
    of.fit_estimate()
    before = of.value.state_dict()
    for i in range(3):
        for t in toy.run(f'bc{i}', Phase.ONLINE):
            of.add(t)
            of.update()
    fitted = of.refresh_value()
    assert of.value_version == 2 and len(fitted.returns) == 13
    assert any(not torch.equal(v, before[k]) for k, v in of.value.state_dict().items())


def test_gradient_steps_keep_the_ratio_whatever_the_pace():
    toy, first = rollouts(2)
    of = learner()
    for t in first:
        of.add(t)
    arriving = online(toy, 90)
    for i, t in enumerate(arriving):
        of.add(t)
        if i % 7 == 0:
            of.update()
    while of.busy:
        of.update()
    assert of.update() == {}
    assert (of.online_steps, of.trained_steps) == (90, 90)
    assert (of.gradient_steps, of.actor_steps) == (180, 90)
    assert of.replay.drawn_demonstrations / of.replay.drawn == CONFIG.demo_fraction


def test_what_is_owed_from_the_warm_up_is_paid():
    config = small_config(rollouts_in_replay=False, demo_fraction=0.0, warm_up_samples=50)
    of = learner(config, demos=0)
    toy, _ = rollouts(2, 1)
    for t in online(toy, 120):
        of.add(t)
        of.update()
        if of.trained_steps < 40:
            assert of.gradient_steps == 0
    while of.busy:
        of.update()
    assert of.gradient_steps == 240


def test_what_is_learned_depends_on_the_order_not_on_the_pace():
    toy, first = rollouts(2)
    arriving = online(toy, 50)

    def train(burst: int) -> dict[str, torch.Tensor]:
        of = learner()
        for t in first:
            of.add(t)
        of.fit_estimate()
        for i, t in enumerate(arriving):
            of.add(t)
            while i % burst == burst - 1 and of.busy:
                of.update()
        while of.busy:
            of.update()
        return weights(of)

    assert_same(train(1), train(25))


@pytest.mark.parametrize(('stop', 'actor_tau'), [(1, 1.0), (33, 1.0), (33, 0.1)])
def test_a_restored_learner_goes_on_as_if_never_stopped(tmp_path, stop, actor_tau):
    config = CONFIG.model_copy(update={'actor_tau': Decay(initial=actor_tau)})
    toy, first = rollouts(2)
    log = first + online(toy, 70)

    def train(of: OnlineLearner, until: int, losses: list) -> None:
        while of.busy and of.trained_steps < until:
            metrics = of.update()
            losses.append((of.gradient_steps, metrics['critic_loss'], metrics['actor_q']))

    whole = learner(config)
    for t in log:
        whole.add(t)
    whole.fit_estimate()
    all_losses: list = []
    train(whole, 70, all_losses)

    losses: list = []
    before = learner(config)
    for t in log[: len(first) + stop + 5]:
        before.add(t)
    before.fit_estimate()
    train(before, stop, losses)
    before.publish()
    save_state(tmp_path / 'state', before)
    after = learner(config)
    load_state(tmp_path / 'state', after)
    for t in log:
        after.add(t)
    assert after.trained_steps == stop and after.gradient_steps == 2 * stop
    assert after.report == before.report and after.weights_version == 1
    train(after, 70, losses)
    assert losses == all_losses
    assert_same(weights(after), weights(whole))


def test_the_acting_actor_follows_ever_more_slowly_where_the_settings_say_so():
    falling = Decay(initial=1 / 2, decay_steps=1e-3)  # all but gone after the first step
    of = learner(CONFIG.model_copy(update={'actor_tau': falling}))
    toy, estimating = rollouts(0)
    for t in estimating:
        of.add(t)
    of.fit_estimate()
    begun = [p.clone() for p in of.acting.parameters()]
    seen: list[list[torch.Tensor]] = []
    for t in online(toy, 2):
        of.add(t)
        of.update()
        seen.append([p.clone() for p in of.acting.parameters()])
    assert of.actor_steps == 2
    assert any(not torch.equal(a, b) for a, b in zip(begun, seen[0], strict=True))
    for first, second in zip(*seen, strict=True):
        assert torch.equal(first, second)


def saved_state(path):
    """Save a learner's state; return its tensors, its metadata, and its settings as they are written there."""
    save_state(path, learner())
    with safe_open(path, framework='pt') as file:
        tensors = {name: file.get_tensor(name) for name in list(file.keys())}
        meta = file.metadata()
    return tensors, meta, json.loads(meta['config'])


def test_a_state_is_compared_by_what_its_settings_mean(tmp_path):
    """A number alone is a Decay that stays: how it was written is no difference."""
    path = tmp_path / 'state'
    tensors, meta, config = saved_state(path)
    assert config['actor_tau']['initial'] == 1.0
    config['actor_tau'] = 1.0
    save_file(tensors, path, {**meta, 'config': json.dumps(config)})
    load_state(path, learner())


@pytest.mark.parametrize(('gone', 'readable'), [(False, True), (True, False)])
def test_a_state_with_a_setting_that_is_gone_is_read_where_it_had_no_say(tmp_path, gone, readable):
    path = tmp_path / 'state'
    tensors, meta, config = saved_state(path)
    config['q_filter'] = gone
    config['fit'] |= {'uniform_fraction': 0.0, 'actor_data': 'all'}
    save_file(tensors, path, {**meta, 'config': json.dumps(config)})
    if readable:
        load_state(path, learner())
    else:
        with pytest.raises(InputError, match='q_filter'):
            load_state(path, learner())


@pytest.mark.parametrize(('fitted', 'refused'), [(True, False), (False, True)])
def test_how_many_rollouts_were_planned_does_not_matter_once_v_is_fitted(tmp_path, fitted, refused):
    path = tmp_path / 'state'
    of = learner()
    if fitted:
        of.report = without_value([])
    save_state(path, of)
    other = learner(CONFIG.model_copy(update={'rollouts': 50, 'publish_every': 7}))
    if refused:
        with pytest.raises(InputError, match='other settings of publish_every, rollouts'):
            load_state(path, other)
    else:
        load_state(path, other)


def test_a_state_of_other_settings_or_damaged_is_refused(tmp_path):
    path = tmp_path / 'state'
    save_state(path, learner())
    with pytest.raises(InputError, match='other settings of alpha, tau'):
        load_state(path, learner(CONFIG.model_copy(update={'alpha': 0.5, 'tau': 0.1})))
    with pytest.raises(InputError, match='of contract'):
        load_state(path, OnlineLearner(CONFIG, toy_task(max_steps=31), 0))
    content = path.read_bytes()
    for damaged in (b'', content[: len(content) // 2], b'{}' * 100):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match='state'):
            load_state(path, learner())
    assert sorted(p.name for p in tmp_path.iterdir()) == ['state']


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'contract': 'x'}, 'contract'),
        ({'observation': np.zeros(5, dtype=np.float32)}, 'length'),
        ({'bc_action': np.zeros(2, dtype=np.float32)}, 'length'),
        ({'reward': float('nan')}, 'finite'),
        ({'next_observation': np.full(3, np.inf, dtype=np.float32)}, 'finite'),
    ],
)
def test_what_does_not_fit_is_not_taken(changes, said):
    of = learner()
    with pytest.raises(InputError, match=said):
        of.add(replace(transition(TASK, 1), **changes))
    assert of.online_steps == 0 and not of.busy


def test_episodes_of_other_phases_are_not_learned_from():
    of = learner(demos=0)
    for phase in (Phase.EVALUATING, Phase.PAUSED, Phase.GRADUATED):
        of.add(transition(TASK, 1, phase=phase))
    assert not of.busy and len(of.replay) == 0 and not of.rollouts()


def test_unfinished_rollouts_are_left_out():
    of = learner()
    for k in range(4):
        of.add(
            transition(
                TASK, k + 1, 'whole', k, phase=Phase.ESTIMATING, mode=Mode.BC, truncated=k == 3
            )
        )
    of.add(transition(TASK, 5, 'open', 0, phase=Phase.ESTIMATING, mode=Mode.BC))
    for k in (0, 2):
        ended = {'truncated': k == 2}
        of.add(transition(TASK, 6 + k, 'gap', k, phase=Phase.ESTIMATING, mode=Mode.BC, **ended))
    assert [e.name for e in of.rollouts()] == ['whole']


def test_the_paid_sequence_stops_at_what_waits():
    of = learner(demos=0)
    assert of.paid_sequence is None
    of.add(transition(TASK, 1, 'r', phase=Phase.ESTIMATING))
    assert of.paid_sequence == 1
    of.add(transition(TASK, 2, 'o', 0))
    of.add(transition(TASK, 3, 'o', 1))
    assert of.paid_sequence == 1
    of.update()
    assert of.paid_sequence == 2
    of.update()
    assert of.paid_sequence == 3


def test_published_weights_rebuild_the_networks():
    of = learner()
    files = of.publish()
    tensors, meta = unpack(files['actor'], 'test', 'actor', TASK.contract_hash)
    actor = build_actor(meta, tensors)
    observation = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(actor.mode(observation), of.actor.mode(observation))
    assert (meta['version'], meta['parent']) == (1, 0)
    tensors, meta = unpack(files['critic'], 'test', 'critic', TASK.contract_hash)
    critics, value, _ = build_critics(meta, tensors)
    action = actor.mode(observation)
    assert torch.equal(critics(observation, action), of.critics(observation, action))
    assert torch.equal(value(observation), of.value(observation))
    assert of.publish() and of.weights_version == 2


def test_no_estimate_of_v_uses_what_a_person_did():
    # At a person's steps rewards are absurd: whatever read one would be far off.
    _, first = rollouts(3)
    helped = []
    for t in first:
        if t.episode == 'r1' and t.step >= 3:
            t = replace(t, source=Source.HUMAN, reward=1e6)
        helped.append(t)
    of = learner(demos=0)
    for t in helped:
        of.add(t)
    report = of.fit_estimate()
    states = torch.from_numpy(np.stack([t.observation for t in first]))
    assert of.value(states).abs().max() < 100.0
    policy = [t for t in helped if t.source is not Source.HUMAN]
    assert report.samples == len(policy)
    assert report.successes == sum(t.terminated for t in first if t.episode != 'r1')
    fitted = of.refresh_value()
    assert fitted.samples == len(policy)


def success(act: Callable[[np.ndarray], Proposal], seed: int, episodes: int = 40) -> float:
    toy = Toy(TASK, seed, act)
    return float(
        np.mean([toy.run(f's{i}', Phase.EVALUATING)[-1].terminated for i in range(episodes)])
    )


def test_learning_improves_on_bc():
    config = small_config(
        bc_weight={'initial': 0.3, 'decay_steps': 300.0},
        actor_learning_rate=1e-3,
        critic_learning_rate=1e-3,
        alpha=0.05,
    )
    of = learner(config, demos=3)
    toy, first = rollouts(4, 12)
    for t in first:
        of.add(t)
    assert of.fit_estimate().successes > 0
    gate = QGate(config.alpha, TASK.action_size)
    bc = noisy_bc(TASK, 6)

    def rl(position: np.ndarray) -> Proposal:
        with torch.inference_mode():
            return Proposal(of.actor.mode(torch.from_numpy(position)).numpy())

    def gated(position: np.ndarray) -> Proposal:
        proposal, candidate = bc(position), rl(position)
        with torch.inference_mode():
            state = torch.from_numpy(position)[None]
            q = of.critics(state, torch.from_numpy(candidate.action)[None])[:, 0].numpy()
            values = GateValues(float(of.value(state)), q)
        decision = gate.decide(Mode.GATED, proposal, candidate, values)
        return candidate if decision.source is Source.RL else proposal

    number = 0
    while of.trained_steps < 1000:
        for t in toy.run(f'o{number}', Phase.ONLINE, rl=gated):
            of.add(t)
            while of.busy:
                of.update()
        number += 1
    before, after = success(noisy_bc(TASK, 7), seed=8), success(rl, seed=8)
    assert before < 0.8 and after > before + 0.15, (before, after)


def bc_only(toy: Toy, count: int) -> list[Transition]:
    """Return whole online episodes in which BC acted alone."""
    return [t for i in range(count) for t in toy.run(f'b{i}', Phase.ONLINE)]


def test_v_is_refreshed_after_so_many_bc_only_episodes_and_only_then(monkeypatch):
    toy, first = rollouts(2)
    of = learner(small_config(refresh_every=3))
    for t in first:
        of.add(t)
    of.fit_estimate()
    fitted_on = []
    monkeypatch.setattr(of, 'refresh_value', lambda: fitted_on.append(of.trained_steps))
    others, alone = online(toy, 40), bc_only(toy, 7)
    for t in others + alone:
        of.add(t)
        of.update()
    ends = [40 + i + 1 for i, t in enumerate(alone) if t.terminated or t.truncated]
    assert fitted_on == [ends[2], ends[5]]


def test_a_refresh_that_explains_nothing_is_not_taken(monkeypatch):
    _, first = rollouts(2)
    of = learner(small_config(refresh_every=1))
    for t in first:
        of.add(t)
    of.fit_estimate()
    before = of.value
    worse = replace(of.refresh_value(), error=2.0, variance=1.0)
    of.value, of.value_version = before, 1
    monkeypatch.setattr(of, '_fit_value', lambda episodes: worse)
    of.refresh_value()
    assert of.value is before and of.value_version == 1


def test_a_roll_back_restores_the_nearest_kept_weights_and_learning_goes_on():
    toy, first = rollouts(2)
    of = learner()
    for t in first:
        of.add(t)
    of.fit_estimate()
    of.publish()
    kept = weights(of)
    for t in online(toy, 60):
        of.add(t)
        of.update()
        of.publish()
    drifted = weights(of)
    assert of.roll_back(version=45, count=1) == 40
    assert of.roll_back(version=9, count=2) == 1 and of.rollbacks == 2
    back = weights(of)
    for name in kept:
        if not name.startswith('target'):
            assert torch.equal(kept[name], back[name]), name
        assert name.startswith('value') or not torch.equal(drifted[name], back[name])
    for t in online(toy, 20, start=100):
        of.add(t)
        assert of.update()['critic_loss'] >= 0


def test_a_learner_without_kept_weights_stays_as_it_is():
    of = learner()
    before = weights(of)
    assert of.roll_back(version=3, count=1) == 0
    assert_same(before, weights(of))
