# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
import errno
import os
from pathlib import Path
import threading
import time

from learner_helpers import Toy, demonstrations, noisy_bc, small_config, toy_task, transition
import pytest
import torch

from q2rl_learner.learner_state import load_state, save_state
from q2rl_learner.methods import load_method
from q2rl_learner.online_learner import OnlineLearner
from q2rl_learner.training_loop import UNLIMITED, LearnerView, TrainingLoop
from q2rl_task import LearnerState, Phase, Transition

TASK = toy_task()
CONFIG = small_config(allowance=10, publish_every=20, save_every=40)
WAIT_S = 60.0


class Watched:
    """A training loop and what it sent."""

    def __init__(self, folder: Path, config=CONFIG, lockstep: bool = True) -> None:
        self.state = folder / 'learner' / 'state.safetensors'
        self.learner = OnlineLearner(config, TASK, 0, demonstrations(TASK, 3, seed=1))
        if self.state.is_file():
            load_state(self.state, self.learner)
        self.weights: list[tuple[int, int, int]] = []
        self.scalars: list[tuple[int, dict[str, float]]] = []
        self.loop = TrainingLoop(
            self.learner,
            lockstep,
            self.state,
            lambda version, parent, files: self.weights.append(
                (version, parent, self.learner.gradient_steps)
            ),
            lambda step, values: self.scalars.append((step, values)),
        )

    def until(self, condition: Callable[[LearnerView], bool]) -> LearnerView:
        end = time.monotonic() + WAIT_S
        while not condition(view := self.loop.view):
            failed = view.state is LearnerState.FAILED
            assert time.monotonic() < end and not failed, view
            time.sleep(0.005)
        return self.loop.view


@pytest.fixture
def make(tmp_path) -> Iterator[Callable[..., Watched]]:
    made: list[Watched] = []

    def factory(**changes) -> Watched:
        made.append(Watched(tmp_path, **changes))
        made[-1].loop.start()
        return made[-1]

    yield factory
    for watched in made:
        watched.loop.close()


def rollouts(count: int = 12) -> tuple[Toy, list[Transition]]:
    toy = Toy(TASK, 2, noisy_bc(TASK, 2, std=0.3))
    return toy, [t for i in range(count) for t in toy.run(f'r{i}', Phase.ESTIMATING)]


def online(toy: Toy, count: int) -> list[Transition]:
    found: list[Transition] = []
    while len(found) < count:
        found += toy.run(f'o{len(found)}', Phase.ONLINE, rl=toy.bc)
    return found[:count]


def test_a_run_from_rollouts_to_the_last_step(make):
    watched = make()
    loop = watched.loop
    toy, first = rollouts()
    loop.set_phase(Phase.ESTIMATING)
    loop.offer(first)
    assert loop.view.state is LearnerState.WAITING and loop.view.credit == UNLIMITED
    loop.set_phase(Phase.FITTING)
    view = watched.until(lambda v: v.state is LearnerState.READY)
    assert (view.rollouts, view.weights_version, view.value_version) == (12, 1, 1)
    assert view.value_error < view.return_variance
    assert watched.weights == [(1, 0, 0)] and watched.state.is_file()

    loop.set_phase(Phase.ONLINE)
    arriving = online(toy, 75)
    last = arriving[-1].sequence
    loop.offer(arriving)
    view = watched.until(lambda v: v.gradient_steps == 150)
    assert (view.state, view.online_steps, view.actor_steps) == (LearnerState.TRAINING, 75, 75)
    assert view.credit == last + CONFIG.allowance
    assert view.demo_fraction == CONFIG.demo_fraction
    # Every 20 gradient steps, whatever the pace; each names the one before.
    assert watched.weights == [(n + 1, n, 20 * n) for n in range(8)]
    assert [step for step, _ in watched.scalars] == [50, 100, 150]
    assert 'critic_loss' in watched.scalars[0][1]

    watched.state.unlink()
    loop.set_phase(Phase.SETTLING)
    view = watched.until(lambda v: v.state is LearnerState.SETTLED)
    assert view.weights_version == 9 and watched.weights[-1] == (9, 8, 150)
    assert watched.state.is_file()


@pytest.mark.parametrize('lockstep', [True, False])
def test_a_learner_has_settled_only_when_all_is_learned_and_out(make, lockstep):
    watched = make(lockstep=lockstep)
    toy, first = rollouts()
    loop, update, states = watched.loop, watched.learner.update, []
    watched.learner.update = lambda drain: states.append(loop.view.state) or update(drain)
    loop.offer(first)
    loop.set_phase(Phase.FITTING)
    watched.until(lambda v: v.state is LearnerState.READY)
    loop.offer(online(toy, 35))
    loop.set_phase(Phase.SETTLING)
    view = watched.until(lambda v: v.state is LearnerState.SETTLED)
    assert (view.online_steps, view.gradient_steps) == (35, 70)
    assert watched.weights[-1] == (view.weights_version, view.weights_version - 1, 70)
    assert states and LearnerState.SETTLED not in states

    second = make(lockstep=lockstep)
    assert second.learner.gradient_steps == 70  # saved before it was said
    second.loop.offer(first)
    second.loop.set_phase(Phase.EVALUATING)
    assert second.until(lambda v: v.state is LearnerState.SETTLED).gradient_steps == 70


def test_credit_is_limited_from_the_start_of_the_online_phase(make):
    watched = make()
    _, first = rollouts()
    watched.loop.offer(first)
    watched.loop.set_phase(Phase.FITTING)
    assert watched.until(lambda v: v.state is LearnerState.READY).credit == UNLIMITED
    watched.loop.set_phase(Phase.ONLINE)
    watched.until(lambda v: v.credit == first[-1].sequence + CONFIG.allowance)
    watched.loop.set_phase(Phase.EVALUATING)
    watched.until(lambda v: v.credit == UNLIMITED)


def test_a_closed_loop_can_be_started_again(make):
    watched = make()
    watched.loop.close()
    _, first = rollouts()
    watched.loop.offer(first)
    watched.loop.set_phase(Phase.FITTING)
    watched.loop.start()
    watched.until(lambda v: v.state is LearnerState.READY)


def test_credit_waits_for_the_gradient_steps(make):
    watched = make()
    toy, first = rollouts()
    arriving = online(toy, 30)
    credits: list[tuple[int, int]] = []
    update = watched.learner.update

    def slow(drain: bool = False):
        credits.append((watched.loop.view.credit, watched.learner.trained_steps))
        return update(drain)

    watched.learner.update = slow
    watched.loop.offer(first)
    watched.loop.set_phase(Phase.FITTING)
    watched.until(lambda v: v.state is LearnerState.READY)
    watched.loop.set_phase(Phase.ONLINE)
    watched.loop.offer(arriving)
    watched.until(lambda v: v.gradient_steps == 60)
    start = arriving[0].sequence - 1
    assert [c for c, _ in credits[1:]] == [start + n + CONFIG.allowance for _, n in credits[1:]]
    assert [n for _, n in credits] == list(range(30))


def test_rollouts_that_come_while_others_are_taken_in_are_fitted_too(make):
    _, first = rollouts(12)
    half = first[-1].sequence // 2
    watched = make()
    loop, add = watched.loop, watched.learner.add

    def slow(transition: Transition) -> None:
        if transition is first[half - 1]:
            loop.offer(first[half:])
            loop.set_phase(Phase.FITTING)
        add(transition)

    watched.learner.add = slow
    loop.offer(first[:half])
    assert watched.until(lambda v: v.state is LearnerState.READY).rollouts == 12


def test_without_a_success_learning_does_not_start_nor_after_a_restart(make):
    watched = make()
    steps = [
        transition(
            TASK, 10 * e + k + 1, f'r{e}', k, phase=Phase.ESTIMATING, mode=1, truncated=k == 9
        )
        for e in range(4)
        for k in range(10)
    ]
    watched.loop.offer(steps)
    watched.loop.set_phase(Phase.FITTING)
    view = watched.until(lambda v: v.state is LearnerState.UNSURE)
    assert 'succeeded' in view.detail and 'more' in view.detail
    assert (view.rollouts, view.rollout_successes) == (4, 0) and not watched.weights
    assert view.credit == UNLIMITED
    watched.loop.close()
    again = make()
    again.loop.offer(steps)
    again.loop.set_phase(Phase.FITTING)
    assert again.until(lambda v: v.state is LearnerState.UNSURE).detail == view.detail
    assert not again.weights


def unsure(make):
    """Return a learner after its fit on twelve failures, these, and a toy for more rollouts."""
    toy, first = rollouts(12)
    failures = [replace(t, terminated=False, truncated=t.terminated or t.truncated) for t in first]
    watched = make()
    watched.loop.offer(failures)
    watched.loop.set_phase(Phase.FITTING)
    assert watched.until(lambda v: v.state is LearnerState.UNSURE).rollouts == 12
    return watched, failures, toy


def test_an_unsure_fit_is_made_anew_on_more_rollouts_after_a_restart(make):
    watched, failures, toy = unsure(make)
    watched.loop.close()
    assert not watched.state.exists()

    second = make(config=CONFIG.model_copy(update={'rollouts': CONFIG.rollouts + 12}))
    second.loop.offer(failures)
    second.loop.set_phase(Phase.ESTIMATING)
    second.loop.offer([t for i in range(12) for t in toy.run(f'more{i}', Phase.ESTIMATING)])
    second.loop.set_phase(Phase.FITTING)
    view = second.until(lambda v: v.state is LearnerState.READY)
    assert view.rollouts == 24 and view.rollout_successes > 0
    assert second.state.is_file()


def test_an_unsure_fit_waits_for_more_rollouts(make):
    watched, _, toy = unsure(make)
    watched.loop.set_phase(Phase.ESTIMATING)
    watched.until(lambda v: v.state is LearnerState.WAITING)
    watched.loop.offer([t for i in range(12) for t in toy.run(f'more{i}', Phase.ESTIMATING)])
    watched.loop.set_phase(Phase.FITTING)
    assert watched.until(lambda v: v.state is LearnerState.READY).rollouts == 24
    assert watched.weights


def test_fitting_without_rollouts_fails_in_words(make):
    watched = make()
    watched.loop.set_phase(Phase.FITTING)
    view = watched.until(lambda v: v.state is LearnerState.FAILED)
    assert 'rollouts' in view.detail


def test_a_restart_publishes_what_is_live_and_goes_on(make):
    first_life = make()
    toy, first = rollouts()
    arriving = online(toy, 40)
    first_life.loop.offer(first)
    first_life.loop.set_phase(Phase.FITTING)
    first_life.until(lambda v: v.state is LearnerState.READY)
    first_life.loop.set_phase(Phase.ONLINE)
    first_life.loop.offer(arriving[:25])
    first_life.until(lambda v: v.gradient_steps == 50)
    first_life.loop.close()
    last = first_life.weights[-1][0]

    second = make()
    assert second.learner.gradient_steps == 50
    second.loop.offer(first + arriving)
    second.loop.set_phase(Phase.ONLINE)
    view = second.until(lambda v: v.gradient_steps == 80)
    assert view.online_steps == 40 and view.rollouts == 12
    assert second.weights[0] == (last + 1, last, 50)


def test_told_to_go_back_it_does_once_publishes_and_saves_that(make):
    watched = make()
    toy, first = rollouts()
    watched.loop.offer(first)
    watched.loop.set_phase(Phase.FITTING)
    watched.until(lambda v: v.state is LearnerState.READY)
    good = {k: v.clone() for k, v in watched.learner.acting.state_dict().items()}
    watched.loop.set_phase(Phase.ONLINE)
    watched.loop.offer(online(toy, 30))
    version = watched.until(lambda v: v.gradient_steps == 60).weights_version
    for _ in range(3):  # run_state comes again and again
        watched.loop.roll_back(1, 1)
    watched.until(lambda v: v.weights_version == version + 1)
    watched.loop.close()
    assert [w[0] for w in watched.weights].count(version + 1) == 1
    restored = OnlineLearner(CONFIG, TASK, 0)
    load_state(watched.state, restored)
    assert restored.rollbacks == 1 and restored.weights_version == version + 1
    for name, tensor in restored.acting.state_dict().items():
        assert torch.equal(tensor, good[name]), name


def test_a_learner_that_lost_its_state_starts_over_from_the_log(make):
    toy, first = rollouts()
    watched = make()
    watched.loop.offer(first + online(toy, 20))
    watched.loop.set_phase(Phase.ONLINE)
    assert watched.until(lambda v: v.gradient_steps == 40).rollouts == 12


def test_real_time_takes_in_all_and_limits_nothing(make):
    watched = make(lockstep=False)
    toy, first = rollouts()
    watched.loop.offer(first)
    watched.loop.set_phase(Phase.FITTING)
    watched.until(lambda v: v.state is LearnerState.READY)
    watched.loop.set_phase(Phase.ONLINE)
    watched.loop.offer(online(toy, 30))
    view = watched.until(lambda v: v.gradient_steps == 60)
    assert view.credit == UNLIMITED


def test_a_full_disk_stops_learning_in_one_line(make, monkeypatch, capfd):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr('q2rl_learner.training_loop.save_state', full)
    watched = make()
    _, first = rollouts()
    watched.loop.offer(first)
    watched.loop.set_phase(Phase.FITTING)
    view = watched.until(lambda v: v.state is LearnerState.FAILED)
    assert view.detail.startswith(f'{watched.state}: cannot be written (No space left')
    assert watched.loop.close() and 'Traceback' not in capfd.readouterr().err


def test_a_transition_that_does_not_fit_stops_learning_in_words(make):
    watched = make()
    watched.loop.offer([transition(TASK, 1, contract='other')])
    view = watched.until(lambda v: v.state is LearnerState.FAILED)
    assert 'contract other' in view.detail


@pytest.mark.parametrize('method', ['q2rl', 'ibrl', 'rlpd', 'q2rl/rollouts-0'])
def test_a_run_that_only_evaluates_is_given_no_network_that_nobody_trained(make, method):
    watched = make(config=load_method(method).over(CONFIG))
    watched.loop.set_phase(Phase.SETTLING)
    view = watched.until(lambda v: v.state is LearnerState.FAILED)
    assert 'nothing was learned here' in view.detail
    assert not watched.weights and not watched.state.exists()


def test_a_run_that_was_turned_back_is_not_learned_anew_from_the_log(make):
    watched = make()
    _, first = rollouts()
    watched.loop.offer(first)
    watched.loop.roll_back(count=1, version=5)
    watched.loop.set_phase(Phase.ONLINE)
    view = watched.until(lambda v: v.state is LearnerState.FAILED)
    assert 'turned back once' in view.detail and not watched.weights


def test_what_an_update_left_half_done_does_not_replace_the_last_sound_state(make, monkeypatch):
    """Weights that are not finite end learning; a resumed run goes on from before they were."""
    watched = make(config=small_config(publish_every=20, save_every=10**6))
    toy, first = rollouts()
    watched.loop.offer(first)
    watched.loop.set_phase(Phase.FITTING)
    watched.until(lambda v: v.state is LearnerState.READY)
    sound = watched.state.read_bytes()

    def diverge(*_, **__):
        with torch.no_grad():
            watched.learner.actor.net[0].weight.fill_(float('nan'))
        watched.learner.gradient_steps += 20
        return {}

    monkeypatch.setattr(watched.learner, 'update', diverge)
    monkeypatch.setattr(threading, 'excepthook', lambda args: None)
    watched.loop.set_phase(Phase.ONLINE)
    watched.loop.offer(online(toy, 10))
    end = time.monotonic() + WAIT_S
    while watched.loop.view.state is not LearnerState.FAILED:
        assert time.monotonic() < end
        time.sleep(0.005)
    assert watched.loop.close()
    assert 'not finite' in watched.loop.view.detail
    assert watched.state.read_bytes() == sound


def test_a_state_that_is_not_finite_is_not_written(make):
    watched = make()
    with torch.no_grad():
        watched.learner.critics.head_bias.fill_(float('inf'))
    with pytest.raises(ValueError, match=r'critics\.head_bias holds numbers that are not'):
        save_state(watched.state, watched.learner)
    assert not watched.state.exists()
