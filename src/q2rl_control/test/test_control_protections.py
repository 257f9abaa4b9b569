# SPDX-License-Identifier: Apache-2.0
"""Who may act, and what stops the arm: the protections of `ArmLogic` beyond those of the guard's numbers."""

from __future__ import annotations

from arm_bench import FIXTURE, TASK
from arm_bench import Bench as ArmBench
from control_helpers import above, decision, measurement
import numpy as np
import pytest

from q2rl_control.arm_logic import HAND_BACK_S, PERSON_PERIODS
from q2rl_control.arm_state import ArmState
from q2rl_control.guard import Guard
from q2rl_control.right_of_way import RightOfWay
from q2rl_control.safety_latch import SafetyLatch
from q2rl_control.sensor_watch import WrenchWatch
from q2rl_task import EndReason, InputError, Mode, Pose, Source

SIZE = TASK.action_size
UP = np.array([0.0, 0.0, -1.0, 0.0, 0.0, 0.0], dtype=np.float32)
SIDE = np.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.0], dtype=np.float32)


def with_limits(**changes):
    return TASK.model_copy(update={'limits': TASK.limits.model_copy(update=changes)})


class Bench(ArmBench):
    """Brought to the first observation of an episode, in which RL acts."""

    def __init__(self, task=TASK, latch=None, run: bool = True) -> None:
        super().__init__(above(task, 0.04), task=task, latch=latch)
        if run:
            self.running()

    def advance(self, action=UP, source=Source.RL):
        return super().advance(action, source)


def test_a_person_goes_before_a_hold_and_a_hold_before_the_policies():
    bench = Bench()
    way, latch = bench.logic.right_of_way, bench.logic.latch
    bench.advance()
    assert bench.steps[-1].decision.source is Source.RL
    latch.hold('test')
    bench.advance()
    held = bench.steps[-1]
    assert held.decision.source is Source.HOLD and not held.executed_action.any()
    assert way.human(SIDE, bench.measurement.stamp) is None
    bench.advance()
    human = bench.steps[-1]
    assert human.decision.source is Source.HUMAN
    np.testing.assert_array_equal(human.decision.action, SIDE)
    np.testing.assert_allclose(human.executed_action, SIDE, atol=1e-6)
    way.forget()
    latch.release()
    bench.advance(source=Source.BC)
    assert bench.steps[-1].decision.source is Source.BC


def test_a_person_who_lets_go_leaves_a_hold_and_then_the_policies():
    fresh = PERSON_PERIODS * TASK.period_s
    way = RightOfWay(SIZE, fresh, HAND_BACK_S)
    proposed = decision(UP, Source.RL, bc_action=SIDE, bc_log_prob=-1.0)
    assert way.settle(proposed, False, 5.0) is proposed
    assert way.settle(None, False, 5.0) is None
    way.human(SIDE, 10.0)
    for proposal in (proposed, None):
        assert way.settle(proposal, False, 10.0 + 0.9 * fresh).source is Source.HUMAN
        assert way.settle(proposal, False, 10.0 + 1.1 * fresh).source is Source.HOLD
    taken = way.settle(proposed, False, 10.0)
    assert taken.bc_log_prob == -1.0 and (taken.bc_action == SIDE).all()
    assert way.settle(proposed, False, 10.1 + fresh + HAND_BACK_S) is proposed
    assert way.settle(proposed, False, 9.0) is proposed  # the clock went back


def test_a_person_who_says_that_they_let_go_moves_nothing_any_more():
    bench = Bench()
    way = bench.logic.right_of_way
    way.human(SIDE, bench.measurement.stamp)
    bench.advance()
    assert bench.steps[-1].decision.source is Source.HUMAN
    way.let_go()
    for _ in range(round(HAND_BACK_S * TASK.rate_hz)):
        bench.advance()
        assert bench.steps[-1].decision.source is Source.HOLD
        assert not bench.steps[-1].executed_action.any()
    way.human(SIDE, bench.measurement.stamp)
    bench.advance()
    assert bench.steps[-1].decision.source is Source.HUMAN


def test_a_persons_last_action_is_executed_for_two_periods_at_most():
    bench = Bench()
    bench.logic.right_of_way.human(SIDE, bench.measurement.stamp)
    for _ in range(6):
        bench.advance()
    by = [step.decision.source for step in bench.steps[-6:]]
    assert by == [Source.HUMAN] * 3 + [Source.HOLD] * 3


@pytest.mark.parametrize('bad', [np.full(SIZE, np.nan), np.zeros(SIZE - 1), np.full(SIZE, 2.0)])
def test_a_persons_action_is_checked_like_any_other_and_a_bad_one_is_no_deadman(bad):
    way = RightOfWay(SIZE, 0.2, HAND_BACK_S)
    assert way.human(bad, 1.0) is not None
    assert not way.human_acts(1.0)


@pytest.mark.parametrize('jerk', [250.0, 8.0])
def test_a_change_of_hands_at_every_tick_is_no_jump(jerk):
    bench = Bench(with_limits(jerk_m_s3=jerk))
    logic, period = bench.logic, TASK.period_s
    hands = ('rl', 'human', 'hold', 'bc', 'nobody')
    path = []
    for k in range(60):
        hand = hands[k % len(hands)]
        logic.right_of_way.forget()
        (logic.latch.hold if hand == 'hold' else lambda reason: logic.latch.release())('test')
        if hand == 'human':
            logic.right_of_way.human(SIDE if k % 2 else -SIDE, bench.measurement.stamp)
        action = {'nobody': None, 'bc': -UP}.get(hand, UP)
        bench.advance(action, Source.BC if hand == 'bc' else Source.RL)
        path.append(logic.guard.commanded.position)
    assert {s.decision.source for s in bench.steps} == set(Source)
    velocity = np.diff(path, axis=0) / period
    acceleration, jerks = (
        np.diff(velocity, axis=0) / period,
        np.diff(velocity, 2, axis=0) / period**2,
    )
    limits = bench.task.limits
    assert np.linalg.norm(velocity, axis=1).max() <= limits.velocity_m_s
    assert np.linalg.norm(acceleration, axis=1).max() <= limits.acceleration_m_s2
    assert np.linalg.norm(jerks, axis=1).max() <= jerk * (1 + 1e-5)


@pytest.mark.parametrize('state', list(ArmState), ids=lambda s: s.name)
def test_an_emergency_stop_holds_in_every_state_until_reset_and_released(state, tmp_path):
    path = tmp_path / 'stop.json'
    bench = Bench(latch=SafetyLatch(path), run=False)
    logic = bench.logic
    bench.advance()
    if state is ArmState.STOPPED:
        logic.stop('a fault')
    elif state is not ArmState.IDLE:
        logic.retreat()
        if state is not ArmState.RETREATING:
            bench.until(ArmState.READY)
        if state in (ArmState.RESETTING, ArmState.RUNNING):
            logic.start_episode('e1', Mode.GATED, 1, FIXTURE)
            bench.until(state)
            bench.advance()
    assert logic.state is state
    if state is ArmState.RUNNING:
        assert logic.tick(bench.measurement).observation is not None
    steps = len(bench.steps)
    logic.emergency_stop('the button')
    assert logic.state is ArmState.STOPPED and logic.pending is None
    for _ in range(15):
        tick = bench.advance()
    resting = logic.guard.commanded
    assert logic.guard.at_rest and tick.waiting and len(bench.steps) == steps
    assert not logic.retreat() and not logic.start_episode('e2', Mode.GATED, 1, FIXTURE)
    logic.activate()
    assert logic.state is ArmState.STOPPED
    bench.advance()
    # As after a restart of the node, with the arm where it is.
    logic.latch.settle()
    again = Bench(latch=SafetyLatch(path), run=False)
    assert again.logic.state is ArmState.STOPPED and not again.logic.retreat()
    assert 'the button' in again.logic.detail
    assert again.logic.reset_emergency_stop() == 'no usable measurement'
    again.advance()
    assert again.logic.reset_emergency_stop() == '' == again.logic.reset_emergency_stop()
    still = again.logic.guard.commanded
    assert again.logic.retreat()
    for _ in range(250):
        again.advance()
    assert again.logic.state is ArmState.RETREATING  # held, and its time limit with it
    assert still.distance_to(again.logic.guard.commanded)[0] < 1e-9
    assert again.logic.latch.release()
    again.until(ArmState.READY)
    assert resting.is_finite()


def test_an_emergency_stop_brings_the_command_back_to_an_arm_that_trails_it():
    bench = Bench()
    bench.arm.share = 0.2
    for _ in range(6):
        bench.advance()
    lead = bench.logic.guard.commanded.distance_to(bench.arm.pose)[0]
    bench.logic.emergency_stop('the button')
    where = bench.arm.pose
    for _ in range(15):
        bench.advance()
    assert lead > 0.007
    assert where.distance_to(bench.arm.pose)[0] < 0.35 * lead
    # And there it stays, whoever pushes.
    there = bench.logic.guard.commanded
    assert there.distance_to(bench.arm.pose)[0] < 1e-3
    shoved = Pose(there.position + np.array([0.01, 0.0, 0.0]), there.quaternion)
    for _ in range(20):
        moving = np.array([0.05, 0.0, 0.0, 0.0, 0.0, 0.0])
        bench.measurement = measurement(
            shoved, bench.arm.stamp, wrench=bench.arm.measure().wrench, tip_twist=moving
        )
        bench.advance()
    assert there.distance_to(bench.logic.guard.commanded)[0] < 1e-4


def test_a_stop_is_not_reset_while_its_cause_lasts():
    bench = Bench()
    bench.logic.emergency_stop('crash')
    bench.arm.force = np.array([0.0, 0.0, -TASK.limits.force_stop_n - 5.0])
    bench.measurement = bench.arm.measure()
    bench.advance()
    assert 'free the arm' in bench.logic.reset_emergency_stop()
    bench.arm.force = np.zeros(3)
    bench.measurement = measurement(bench.arm.pose, 1.0, wrench=np.full(6, np.nan))
    bench.advance()
    assert 'measurement' in bench.logic.reset_emergency_stop()
    bench.advance()
    assert bench.logic.reset_emergency_stop() == '' and bench.logic.latch.held


def test_a_dead_force_sensor_holds_and_ends_the_episode():
    bench = Bench(with_limits(wrench_frozen_s=0.3))
    bench.advance()
    frozen = np.array([1.0, 2.0, 3.0, 0.0, 0.0, 0.0])
    for _ in range(6):
        before = len(bench.steps)
        bench.measurement = measurement(bench.arm.pose, bench.arm.stamp, wrench=frozen)
        bench.advance()
    assert len(bench.steps) == before + 1 and not bench.logic.blind
    for _ in range(6):
        bench.measurement = measurement(bench.arm.pose, bench.arm.stamp, wrench=frozen)
        tick = bench.advance()
        assert tick.observation is None or not bench.logic.blind
    assert bench.logic.blind and bench.logic.guard.at_rest
    bench.measurement = bench.arm.measure()
    bench.advance()
    assert bench.steps[-1].end_reason is EndReason.LOST
    trusting = WrenchWatch(None)
    assert not any(trusting.is_frozen(measurement(above(TASK, 0.1), t)) for t in (0.0, 1e6))


@pytest.mark.parametrize(
    'values',
    [
        {'wrench': np.full(6, 1e300)},
        {'tip_twist': np.full(6, -1e12)},
        {'wrench': np.full(6, np.inf)},
    ],
)
def test_numbers_that_no_arm_measures_are_not_used(values):
    bench = Bench()
    bench.measurement = measurement(bench.arm.pose, bench.arm.stamp, **values)
    tick = bench.advance()
    assert tick.observation is None and bench.logic.counters.unusable == 1


def test_a_blow_between_two_ticks_ends_the_episode():
    bench = Bench()
    bench.advance()
    bench.logic.note_force(TASK.limits.force_stop_n + 1.0)
    bench.advance()
    assert bench.steps[-1].end_reason is EndReason.FORCE_LIMIT


def test_an_arm_that_moves_when_the_guard_is_seeded_is_braked_and_not_jerked():
    guard = Guard(with_limits(acceleration_m_s2=1.0))
    twist = np.array([0.12, 0.0, 0.0, 0.0, 0.0, 0.0])
    start = above(TASK, 0.05)
    guard.reset(start, twist)
    steps = []
    for _ in range(5):
        before = guard.commanded
        target = guard.command(None, measurement(before, tip_twist=twist), FIXTURE).target
        steps.append((target.position - before.position)[0] / TASK.period_s)
    np.testing.assert_allclose(steps, [0.07, 0.02, 0.0, 0.0, 0.0], atol=1e-6)
    guard.reset(start, 0.01 * twist)
    assert guard.at_rest
    with pytest.raises(ValueError, match='finite'):
        guard.reset(start, np.full(6, np.nan))


def test_limits_with_which_the_arm_could_not_stop_are_refused_in_one_line():
    with pytest.raises(InputError, match='field `limits`: a stop from full speed takes more'):
        Guard(with_limits(jerk_m_s3=1e-4))
