# SPDX-License-Identifier: Apache-2.0
"""Earlier weights: which are kept, over a restart too, and what a learner does with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from learner_helpers import Toy, demonstrations, noisy_bc, small_config, toy_task
import pytest
import torch
from torch import nn

from q2rl_learner.kept_weights import KEPT_VERSIONS, KeptWeights
from q2rl_learner.learner_state import load_state, save_state
from q2rl_learner.online_learner import OnlineLearner
from q2rl_task import Phase, Source, Transition

TASK = toy_task()
CONFIG = small_config()


def part(value: float) -> dict[str, nn.Module]:
    layer = nn.Linear(1, 1)
    with torch.no_grad():
        layer.weight.fill_(value)
    return {'actor': layer}


def value_of(kept: KeptWeights, version: int) -> tuple[int, float]:
    found, parts = kept.nearest(version)
    return found, float(parts['actor']['weight'])


@pytest.mark.parametrize('where', ['memory', 'folder'])
def test_first_and_newest_are_kept_and_ever_fewer_between(where, tmp_path):
    kept = KeptWeights(tmp_path / 'kept' if where == 'folder' else None)
    for version in range(1, 801):
        kept.offer(version, part(version))
    assert value_of(kept, 9) == (1, 1.0) and value_of(kept, 10**6) == (800, 800.0)
    found = sorted({value_of(kept, version)[0] for version in range(1, 801)})
    assert len(found) == KEPT_VERSIONS
    for wanted in range(60, 801, 10):  # however old, one of no less than half its age
        assert value_of(kept, wanted)[0] >= min(wanted, 800 - 2 * (800 - wanted)) - 10
    if where == 'folder':
        assert len(list((tmp_path / 'kept').iterdir())) == KEPT_VERSIONS


def test_a_restart_finds_what_was_kept_and_passes_over_what_is_damaged(tmp_path):
    kept = KeptWeights(tmp_path)
    for version in range(1, 31):
        kept.offer(version, part(version))
    again = KeptWeights(tmp_path)
    assert value_of(again, 25) == (20, 20.0)
    (tmp_path / '20.safetensors').write_bytes(b'no')
    assert value_of(again, 25) == (10, 10.0)
    assert KeptWeights(tmp_path / 'none').nearest(3) is None


def fitted(folder) -> tuple[OnlineLearner, Toy, list[Transition]]:
    of = OnlineLearner(CONFIG, TASK, 0, demonstrations(TASK, 3, seed=1), kept=folder)
    toy = Toy(TASK, 2, noisy_bc(TASK, 2))
    first = [t for i in range(10) for t in toy.run(f'r{i}', Phase.ESTIMATING)]
    for t in first:
        of.add(t)
    of.fit_estimate()
    return of, toy, first


def learn(of: OnlineLearner, transitions: list[Transition]) -> None:
    for t in transitions:
        of.add(t)
        of.update()


def test_a_learner_that_was_restarted_goes_back_to_weights_of_its_former_life(tmp_path):
    of, toy, first = fitted(tmp_path / 'kept')
    of.publish()
    good = {k: v.clone() for k, v in of.acting.state_dict().items()}
    steps = toy.run('o', Phase.ONLINE, rl=toy.bc)
    learn(of, steps)
    of.publish()
    save_state(tmp_path / 'state', of)
    second = OnlineLearner(CONFIG, TASK, 0, demonstrations(TASK, 3, seed=1), kept=tmp_path / 'kept')
    load_state(tmp_path / 'state', second)
    learn(second, first + steps)
    assert not torch.equal(second.acting.net[0].weight, good['net.0.weight'])
    assert second.roll_back(version=5, count=1) == 1 and second.rollbacks == 1
    for name, tensor in second.acting.state_dict().items():
        assert torch.equal(tensor, good[name]), name


def restarted(of: OnlineLearner, folder: Path) -> OnlineLearner:
    """Return a learner with the state of another, before it has seen any transition."""
    save_state(folder / 'state', of)
    second = OnlineLearner(CONFIG, TASK, 0, demonstrations(TASK, 3, seed=1))
    load_state(folder / 'state', second)
    return second


def assert_same_critics(of: OnlineLearner, second: OnlineLearner) -> None:
    for name, tensor in of.critics.state_dict().items():
        assert torch.equal(tensor, second.critics.state_dict()[name]), name


def failing(toy: Toy, count: int) -> list[Transition]:
    """Return BC-only episodes in a world where BC does nothing useful."""
    bc, toy.bc = toy.bc, lambda position: toy_still(bc(position))
    found = [t for i in range(count) for t in toy.run(f'f{toy.sequence}{i}', Phase.ONLINE)]
    toy.bc = bc
    return found


def toy_still(proposal):
    return type(proposal)(0.0 * proposal.action, proposal.log_prob, proposal.entropy)


def test_starting_afresh_fits_v_to_what_bc_has_come_to_and_forgets_what_was_before(tmp_path):
    of, toy, first = fitted(None)
    before = toy.run('o', Phase.ONLINE, rl=toy.bc)
    changed = failing(toy, 4)
    learn(of, before + changed)
    states = torch.from_numpy(changed[0].observation)[None]
    hopeful = float(of.value(states).detach())
    assert of.replay.added == len(first + before + changed)
    of.start_afresh(count=1)
    assert of.rollbacks == 1 and of.value_version == 2
    assert of.forgotten == len(before) and of.replay.added == len(changed)
    worst = of.attainable[0]
    assert float(of.value(states).detach()) < 0.5 * (hopeful + worst)
    second = restarted(of, tmp_path)
    after = toy.run('o2', Phase.ONLINE, rl=toy.bc)
    learn(of, after)
    learn(second, first + before + changed + after)
    assert second.replay.added == of.replay.added
    assert_same_critics(of, second)


def test_starting_afresh_within_an_episode_keeps_none_of_the_samples_from_before(tmp_path):
    """Of the episode under way the last steps are no samples yet: a restored learner has the very same replay."""
    of, toy, first = fitted(None)
    before = toy.run('o', Phase.ONLINE, rl=toy.bc)
    changed = failing(toy, 4)
    under_way = toy.run('o2', Phase.ONLINE, rl=toy.bc)
    cut = len(under_way) // 2
    assert cut > CONFIG.n_step
    learn(of, before + changed + under_way[:cut])
    of.start_afresh(count=1)
    assert of.replay.waiting == CONFIG.n_step - 1
    second = restarted(of, tmp_path)
    learn(of, under_way[cut:])
    learn(second, first + before + changed + under_way)
    assert second.replay.added == of.replay.added == len(changed + under_way)
    assert_same_critics(of, second)


def test_what_a_person_did_before_outlives_starting_afresh_and_a_restart(tmp_path):
    def helped(steps: list[Transition]) -> list[Transition]:
        return [replace(t, source=Source.HUMAN) if 2 <= t.step < 6 else t for t in steps]

    of, toy, first = fitted(None)
    rollout = helped(toy.run('r10', Phase.ESTIMATING))
    before, changed = helped(toy.run('o', Phase.ONLINE, rl=toy.bc)), failing(toy, 4)
    learn(of, rollout + before + changed)
    helps = of.replay.interventions
    assert helps == sum(t.source == Source.HUMAN for t in rollout + before) > 0
    of.start_afresh(count=1)
    assert of.replay.interventions == helps and of.replay.added == len(changed)
    second = restarted(of, tmp_path)
    after = toy.run('o2', Phase.ONLINE, rl=toy.bc)
    learn(of, after)
    learn(second, first + rollout + before + changed + after)
    assert second.replay.interventions == helps and second.replay.added == of.replay.added
    assert_same_critics(of, second)


def test_one_failure_of_bc_is_too_little_to_start_afresh():
    of, toy, _ = fitted(None)
    learn(of, failing(toy, 1))
    added = of.replay.added
    of.start_afresh(count=3)
    assert of.rollbacks == 3 and of.value_version == 1
    assert of.forgotten == 0 and of.replay.added == added


def test_weights_that_were_turned_away_from_are_none_to_go_back_to(tmp_path):
    of, toy, _ = fitted(tmp_path / 'kept')
    learn(of, toy.run('o', Phase.ONLINE, rl=toy.bc))
    while of.weights_version < 25:
        of.publish()
    assert of.roll_back(version=14, count=1) == 10
    of.publish()
    assert of.roll_back(version=26, count=2) == 10, '20 was spoilt'
    assert sorted(path.stem for path in (tmp_path / 'kept').iterdir()) == ['1', '10']
