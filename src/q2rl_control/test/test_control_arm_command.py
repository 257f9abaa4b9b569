# SPDX-License-Identifier: Apache-2.0
"""What is commanded where the controller below does not follow, or has stopped the arm."""

from __future__ import annotations

from arm_bench import TASK, Bench
import numpy as np
import pytest

from q2rl_control.arm_state import ArmState
from q2rl_task import Source

UP = np.array([0.0, 0.0, -0.6, 0.0, 0.0, 0.0])


def test_a_halt_below_holds_until_released_and_brings_the_command_back_to_the_arm():
    bench = Bench().running()
    bench.advance(UP)
    bench.arm.jammed = True
    for _ in range(4):
        bench.advance(UP)
    logic = bench.logic
    lead = logic.guard.commanded.distance_to(bench.arm.pose)[0]
    assert lead > 0.5 * TASK.limits.lead_m
    logic.halt('MoveIt Servo stopped the arm: HALT_FOR_COLLISION')
    for _ in range(20):
        bench.advance(UP)
        assert bench.steps[-1].decision.source is Source.HOLD
    # Released, an arm that led its command would go on by itself.
    assert logic.guard.commanded.distance_to(bench.arm.pose)[0] < 1e-3
    assert logic.latch.held and 'HALT_FOR_COLLISION' in logic.latch.reason
    assert logic.latch.release()
    bench.arm.jammed = False
    bench.advance(UP)
    bench.advance(UP)
    assert bench.steps[-1].decision.source is Source.BC


def test_a_person_may_move_an_arm_that_was_halted_and_nobody_one_that_does_not_follow():
    bench = Bench().running()
    bench.advance(UP)
    logic = bench.logic
    logic.halt('stopped')
    logic.right_of_way.human(UP, bench.measurement.stamp)
    bench.advance(UP)
    assert bench.steps[-1].decision.source is Source.HUMAN
    logic.command.block('no status of MoveIt Servo')
    logic.right_of_way.human(UP, bench.measurement.stamp)
    bench.advance(UP)
    assert bench.steps[-1].decision.source is Source.HOLD
    assert not bench.steps[-1].executed_action.any()


@pytest.mark.parametrize('state', [ArmState.RETREATING, ArmState.RESETTING])
def test_an_arm_that_does_not_follow_waits_with_its_resets(state):
    bench = Bench()
    logic = bench.logic
    assert logic.retreat()
    if state is ArmState.RESETTING:
        bench.until(ArmState.READY)
        assert logic.start_episode('e', 0, 1, TASK.fixture.nominal.pose)
    bench.advance()
    logic.command.block('no status of MoveIt Servo')
    for _ in range(int(TASK.reset.timeout_s / TASK.period_s) + 20):
        bench.advance()
    assert logic.state is state
    logic.command.block('')
    bench.until(ArmState.READY if state is ArmState.RETREATING else ArmState.RUNNING)
