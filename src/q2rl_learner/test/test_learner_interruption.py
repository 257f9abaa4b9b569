# SPDX-License-Identifier: Apache-2.0
"""A learner that is told to stop while it fits: at once, with one thread at a time, and nothing half done kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import threading
import time

from learner_helpers import Toy, demonstrations, noisy_bc, small_config, toy_task
import pytest
import torch

from q2rl_learner.config import LearnerConfig
from q2rl_learner.interruption import Interrupted, given_up_when, interruptible, watched_by
from q2rl_learner.learner_state import Snapshot, load_state, save_state
from q2rl_learner.online_learner import OnlineLearner
from q2rl_learner.training_loop import TrainingLoop
from q2rl_task import LearnerState, Phase, Transition

TASK = toy_task()
WAIT_S = 60.0
ENDLESS = {'value_steps': 10**9, 'value_patience': 10**9}


def rollouts() -> list[Transition]:
    toy = Toy(TASK, 2, noisy_bc(TASK, 2, std=0.3))
    return [t for i in range(8) for t in toy.run(f'r{i}', Phase.ESTIMATING)]


def learner(config: LearnerConfig) -> OnlineLearner:
    made = OnlineLearner(config, TASK, 0, demonstrations(TASK, 2, seed=1))
    for t in rollouts():
        made.add(t)
    return made


def everything(of: OnlineLearner) -> dict[str, torch.Tensor]:
    return {**Snapshot(of)._tensors, 'made': torch.tensor(of.networks_made)}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def after_steps(count: int) -> Callable[[], bool]:
    """Return what asks for an end after so many steps."""
    left = iter(range(count))
    return lambda: next(left, None) is None


def test_only_the_thread_that_is_told_gives_up():
    assert list(interruptible(range(3), 'V')) == [0, 1, 2]
    elsewhere: list[int] = []
    with given_up_when(after_steps(2)):
        thread = threading.Thread(target=lambda: elsewhere.extend(interruptible(range(5), 'V')))
        thread.start()
        thread.join()
        with pytest.raises(Interrupted):
            list(interruptible(range(5), 'V'))
    assert elsewhere == [0, 1, 2, 3, 4] == list(interruptible(range(5), 'V'))


def test_a_fit_tells_what_it_is_at():
    told: list[tuple[str, int, int]] = []
    of = learner(small_config(offline={'steps': 3}))
    with watched_by(lambda *step: told.append(step)):
        of.fit_estimate()
    assert list(dict.fromkeys(what for what, _, _ in told)) == ['V', 'critics', 'actor', 'offline']
    assert told[-3:] == [('offline', 0, 3), ('offline', 1, 3), ('offline', 2, 3)]


@pytest.mark.parametrize(
    ('fit', 'offline'),
    [
        (ENDLESS, {}),
        ({'critic_steps': 10**9}, {}),
        ({'actor_steps': 10**9}, {}),
        ({'estimator': 'bellman', 'bellman_steps': 10**9}, {}),
        ({}, {'steps': 10**9}),
    ],
    ids=['value', 'critics', 'actor', 'bellman', 'offline'],
)
def test_every_kind_of_fit_can_be_given_up_and_leaves_nothing_behind(fit, offline):
    of = learner(small_config(fit=fit, offline=offline))
    before, snapshot = everything(of), Snapshot(of)
    with pytest.raises(Interrupted), given_up_when(after_steps(400)):
        of.fit_estimate()
    snapshot.restore()
    assert of.report is None and of.value_version == 0
    assert_same(everything(of), before)


def test_a_fit_that_was_given_up_comes_out_the_same_the_next_time():
    config = small_config(offline={'steps': 40})
    whole, interrupted = learner(config), learner(config)
    snapshot = Snapshot(interrupted)
    with pytest.raises(Interrupted), given_up_when(after_steps(250)):
        interrupted.fit_estimate()
    snapshot.restore()
    for of in (whole, interrupted):
        of.fit_estimate()
    assert whole.report.value_error == interrupted.report.value_error
    assert_same(everything(whole), everything(interrupted))


def loop_of(of: OnlineLearner, folder: Path) -> TrainingLoop:
    loop = TrainingLoop(of, True, folder / 'state', lambda *_: None, lambda *_: None)
    loop.set_phase(Phase.FITTING)
    return loop


def test_closing_ends_a_long_fit_and_a_start_begins_it_anew(tmp_path):
    loop = loop_of(learner(small_config(fit=ENDLESS)), tmp_path)
    for _ in range(2):
        loop.start()
        until(lambda: loop.view.state is LearnerState.FITTING)
        assert loop.close(WAIT_S)
        assert loop.view.state is LearnerState.WAITING and not loop.fitted
    assert not (tmp_path / 'state').exists()


def test_two_threads_never_run_one_learner(tmp_path):
    """One that cannot end yet is told of, and the next one waits for it."""
    of = learner(small_config())
    fit, inside, release, threads = of.fit_estimate, threading.Event(), threading.Event(), []

    def stuck():
        threads.append(threading.current_thread())
        inside.set()
        assert release.wait(WAIT_S)
        raise Interrupted

    of.fit_estimate = stuck
    loop = loop_of(of, tmp_path)
    loop.start()
    assert inside.wait(WAIT_S)
    assert not loop.close(0.0)
    loop.start()
    of.fit_estimate = lambda: (threads.append(threading.current_thread()), fit())[1]
    release.set()
    until(lambda: loop.view.state is LearnerState.READY)
    assert len(threads) == 2 and not threads[0].is_alive()
    assert loop.close(WAIT_S)


def refreshing(folder: Path | None = None) -> tuple[OnlineLearner, list[Transition]]:
    """Return a learner that fits V anew after every second BC-only online episode, and such episodes.

    :param folder: where its state and log are read from; None: it has just been fitted
    """
    toy = Toy(TASK, 3, noisy_bc(TASK, 2, std=0.3))
    alone = [t for i in range(3) for t in toy.run(f'b{i}', Phase.ONLINE)]
    made = OnlineLearner(small_config(refresh_every=2), TASK, 0, demonstrations(TASK, 2, seed=1))
    if folder is not None:
        load_state(folder / 'state', made)
    for t in rollouts():
        made.add(t)
    if folder is None:
        made.fit_estimate()
    return made, alone


@pytest.mark.parametrize('restarted', [False, True])
def test_a_refresh_that_was_given_up_comes_out_the_same_the_next_time(tmp_path, restarted):
    whole, transitions = refreshing()
    interrupted, _ = refreshing()
    for of in (whole, interrupted):
        for t in transitions:
            of.add(t)
    with pytest.raises(Interrupted), given_up_when(after_steps(30)):
        while interrupted.busy:
            interrupted.update()
    assert interrupted.refreshes == 0 and interrupted.value_version == 1
    per_step = interrupted.config.critic_updates_per_step
    assert 0 < interrupted.gradient_steps == per_step * (interrupted.trained_steps - 1)
    if restarted:
        save_state(tmp_path / 'state', interrupted)
        interrupted, _ = refreshing(tmp_path)
        for t in transitions:
            interrupted.add(t)
    for of in (whole, interrupted):
        while of.busy:
            of.update()
        assert of.refreshes == 1 and of.trained_steps == len(transitions)
    assert_same(everything(whole), everything(interrupted))


def test_forgetting_that_was_given_up_has_forgotten_nothing():
    of, transitions = refreshing()
    for t in transitions:
        of.add(t)
    while of.busy:
        of.update()
    of._bc_only.since_it_failed = of._bc_only.online
    before, version, kept = everything(of), of.value_version, len(of.replay)
    with pytest.raises(Interrupted), given_up_when(after_steps(30)):
        of.start_afresh(1)
    assert of.rollbacks == of.forgotten == 0 and len(of.replay) == kept
    assert_same(everything(of), before)
    of.start_afresh(1)
    assert of.rollbacks == 1 and of.value_version == version + 1


def test_closing_ends_a_refresh_and_a_start_begins_it_anew(tmp_path):
    of, transitions = refreshing()
    loop = TrainingLoop(of, True, tmp_path / 'state', lambda *_: None, lambda *_: None)
    loop.set_phase(Phase.ONLINE)
    at_it, fit = threading.Event(), of._fit_value

    def endless(episodes):
        at_it.set()
        of.config = of.config.model_copy(update={'fit': of.config.fit.model_copy(update=ENDLESS)})
        return fit(episodes)

    of._fit_value = endless
    loop.offer(transitions)
    for _ in range(2):
        at_it.clear()
        loop.start()
        assert at_it.wait(WAIT_S)
        assert loop.close(WAIT_S)
        assert of.value_version == 1 and of.refreshes == 0
    assert loop.view.state is not LearnerState.FAILED
