# SPDX-License-Identifier: Apache-2.0
"""A person's verdict on an episode: what it makes of it, and which episode it is about."""

from __future__ import annotations

from arm_bench import FIXTURE, STILL, TASK, Bench
from control_helpers import decision
import numpy as np
import pytest

from q2rl_control.arm_state import ArmState
from q2rl_task import EndReason, Mode


@pytest.mark.parametrize('signal', [False, True])
def test_a_labelled_success_terminates_and_a_labelled_failure_is_truncated(signal):
    """Whatever the fixture's own signal says."""
    for success in (True, False):
        bench = Bench().running()
        bench.advance(np.full(TASK.action_size, 0.1))
        assert bench.logic.label(success) == ''
        bench.arm.success = signal
        bench.measurement = bench.arm.measure()
        bench.until(ArmState.RETREATING)
        last = bench.steps[-1]
        assert last.final and last.step == 2
        assert (last.terminated, last.truncated) == (success, not success)
        assert last.end_reason is (EndReason.SUCCESS if success else EndReason.FAILURE)
        assert last.reward == (TASK.reward.success if success else TASK.reward.per_step)


def test_a_label_is_about_one_running_episode_and_the_first_one_stands():
    bench = Bench()
    assert 'IDLE' in bench.logic.label(True)
    bench.running(episode='e2')
    assert 'is over' in bench.logic.label(True, episode='e1')
    assert bench.logic.label(False, episode='e2') == ''
    assert bench.logic.label(False) == ''
    assert 'other label' in bench.logic.label(True)
    bench.until(ArmState.READY)
    assert 'READY' in bench.logic.label(True)
    # The next episode knows nothing of it.
    assert bench.logic.start_episode('e3', Mode.BC, 2, FIXTURE)
    bench.until(ArmState.RUNNING)
    before = len(bench.steps)
    for _ in range(3):
        bench.advance(np.full(TASK.action_size, 0.1))
    assert not any(s.final for s in bench.steps[before:])


def test_a_label_given_before_the_first_action_counts_after_it():
    bench = Bench()
    bench.logic.retreat()
    bench.until(ArmState.READY)
    bench.logic.start_episode('e1', Mode.BC, 1, FIXTURE)
    while bench.logic.state is not ArmState.RUNNING:
        tick = bench.logic.tick(bench.measurement)
        if tick.observation is None:
            bench.measurement = bench.arm.step(tick.target)
    assert bench.logic.label(True) == '' and not bench.logic.pending.final
    target, step = bench.logic.execute(decision(STILL))
    bench.measurement = bench.arm.step(target)
    assert step.step == 0 and not step.terminated and step.reward == 0.0
    bench.advance()
    assert bench.steps[-1].terminated and bench.steps[-1].step == 1
