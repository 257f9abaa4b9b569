# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

from arm_bench import FIXTURE, TASK, Bench
from control_helpers import FollowingArm, above, decision, measurement
import numpy as np
import pytest

from q2rl_control.arm_logic import ArmLogic
from q2rl_control.arm_state import ArmState
from q2rl_control.reset_motion import height_above_rim
from q2rl_task import EndReason, Mode, Pose, Reason, Source, draw_start, load_task


def test_an_episode_from_idle_to_ready():
    bench = Bench()
    logic = bench.logic
    assert logic.state is ArmState.IDLE
    assert not logic.start_episode('e1', Mode.BC, 1, FIXTURE)
    tick = bench.advance()
    assert tick.waiting and tick.observation is None
    bench.running(seed=7)
    # The first observation was made at the start pose that the seed gives.
    start = draw_start(TASK, FIXTURE, 7)
    first = bench.steps[0]
    assert first.step == 0 and first.reward == 0.0 and not first.final
    scale = TASK.observation_scale()[:3]
    tip = FIXTURE.rotation.inv().apply(start.position - FIXTURE.position)
    np.testing.assert_allclose(first.observation[:3] * scale, tip, atol=2e-3)
    assert not logic.retreat()
    bench.until(ArmState.RETREATING, limit=200)
    assert [s.step for s in bench.steps] == list(range(TASK.max_steps + 1))
    last = bench.steps[-1]
    assert last.final and last.truncated and not last.terminated
    assert last.end_reason is EndReason.TIME_LIMIT
    assert {s.episode for s in bench.steps} == {'e1'}
    assert {s.mode for s in bench.steps} == {Mode.GATED}
    assert bench.until(ArmState.READY) < 30
    assert height_above_rim(bench.arm.pose, FIXTURE) >= TASK.reset.retreat_m


def test_resets_take_few_ticks_and_start_poses_follow_the_seed():
    for seed in range(20):
        bench = Bench()
        bench.logic.retreat()
        retreat = bench.until(ArmState.READY)
        fixture = Pose(
            FIXTURE.position + np.array([0.02, -0.02, 0.0]) * (-1) ** seed, FIXTURE.quaternion
        )
        bench.logic.start_episode('e', Mode.BC, seed, fixture)
        approach = bench.until(ArmState.RUNNING)
        assert retreat + approach <= 40
        tip = bench.measurement.tip_pose
        assert np.linalg.norm(tip.position - draw_start(TASK, fixture, seed).position) < 3e-3


@pytest.mark.parametrize('explore', [True, False])
def test_every_observation_of_an_episode_says_whether_rl_may_explore(explore):
    bench = Bench()
    bench.logic.retreat()
    bench.until(ArmState.READY)
    bench.logic.start_episode('e', Mode.GATED, 1, FIXTURE, explore)
    bench.until(ArmState.RUNNING)
    assert bench.logic.tick(bench.measurement).observation.explore is explore


def test_success_ends_the_episode_and_nothing_moves_on_the_final_observation():
    bench = Bench().running()
    for _ in range(3):
        bench.advance(np.full(TASK.action_size, 0.5))
    bench.arm.success = True
    bench.measurement = bench.arm.measure()
    before = bench.logic.guard.commanded
    tick = bench.logic.tick(bench.measurement)
    assert tick.observation.final
    target, step = bench.logic.execute(
        decision(np.ones(TASK.action_size), bc_action=np.ones(6), bc_log_prob=1.5)
    )
    assert step.final and step.terminated and not step.truncated
    assert step.end_reason is EndReason.SUCCESS and step.reward == TASK.reward.success
    assert step.decision.bc_log_prob == 1.5  # policies propose at the last state as well
    assert not step.executed_action.any()
    assert before.distance_to(target)[0] < TASK.limits.lead_m
    assert bench.logic.state is ArmState.RETREATING


def test_no_episode_starts_while_the_success_signal_is_on_already():
    bench = Bench()
    bench.logic.retreat()
    bench.until(ArmState.READY)
    bench.arm.success = True
    assert bench.logic.start_episode('e1', Mode.GATED, 1, FIXTURE)
    bench.until(ArmState.RESETTING)
    bench.until(ArmState.READY, ArmState.RUNNING)
    assert bench.logic.state is ArmState.READY and bench.steps == []
    assert bench.logic.detail.startswith('the success signal is already on at the start pose')
    bench.arm.success = False
    bench.running(episode='e2')


def test_the_executed_action_and_the_decision_are_both_recorded():
    bench = Bench().running()
    push = np.array([0.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    bench.arm.jammed = True
    for _ in range(9):
        bench.advance(push)
    free, held_back = bench.steps[1], bench.steps[-1]
    assert free.interventions == () and free.executed_action[2] == 1.0
    assert held_back.interventions == ('lead',)
    assert held_back.executed_action[2] == pytest.approx(0.0, abs=1e-3)
    assert held_back.decision.action[2] == 1.0
    assert bench.logic.counters.limited == 0


def test_no_decision_and_bad_decisions_hold():
    bench = Bench().running()
    holds = bench.logic.counters.holds
    bench.advance(action=None)
    held = bench.steps[-1]
    assert held.decision.source is Source.HOLD and held.decision.reason is Reason.NOTHING
    assert not held.executed_action.any()
    bench.advance(action=np.full(TASK.action_size, np.nan), source=Source.RL)
    rejected = bench.steps[-1]
    assert rejected.interventions == ('rejected:not_finite',)
    assert rejected.decision.source is Source.HOLD
    assert np.isfinite(rejected.decision.action).all()
    assert bench.logic.counters.rejected == 1
    assert bench.logic.counters.holds == holds + 2


def test_every_observation_is_answered_exactly_once():
    bench = Bench().running()
    with pytest.raises(RuntimeError, match='no observation'):
        bench.logic.execute(None)
    assert bench.logic.tick(bench.measurement).observation is not None
    with pytest.raises(RuntimeError, match='not been executed'):
        bench.logic.tick(bench.measurement)
    assert bench.logic.pending.step == len(bench.steps)


def test_the_force_limit_ends_the_episode_and_the_peak_is_kept():
    bench = Bench().running()
    bench.advance()
    bench.logic.note_force(33.0)
    for nonsense in (float('nan'), float('inf'), 1e6, 1e300):
        bench.logic.note_force(nonsense)
    bench.advance()
    assert bench.steps[-1].force == 33.0 and not bench.steps[-1].final
    bench.advance()
    assert bench.steps[-1].force == 0.0
    bench.arm.force = np.array([0.0, 0.0, -TASK.limits.force_stop_n - 1.0])
    bench.measurement = bench.arm.measure()
    bench.advance()
    assert bench.steps[-1].end_reason is EndReason.FORCE_LIMIT and bench.steps[-1].truncated
    assert bench.logic.state is ArmState.RETREATING


def ends_after(bench: Bench, ticks: int, during) -> EndReason:
    """Let an episode run to its end, with `during` done for some ticks of it; return why it ended."""
    bench.running(episode=f'e{bench.ticks}')
    during(True)
    for _ in range(ticks):
        bench.advance()
    during(False)
    bench.until(ArmState.RETREATING, limit=200)
    return bench.steps[-1].end_reason


def test_an_episode_whose_time_ran_out_over_a_hold_is_no_result_of_the_policies():
    bench = Bench()

    def held(now: bool) -> None:
        if now:
            bench.logic.halt('a look at the tool')
        else:
            bench.logic.latch.release()

    def blocked(now: bool) -> None:
        bench.logic.command.blocked = 'not ready' if now else ''

    long, short = TASK.max_steps // 10 + 2, 3
    assert ends_after(bench, long, held) is EndReason.LOST
    assert bench.steps[-1].truncated and not bench.steps[-1].terminated
    assert ends_after(bench, long, lambda now: None) is EndReason.TIME_LIMIT, 'the next is as ever'
    assert ends_after(bench, long, blocked) is EndReason.LOST
    for what in (held, blocked):  # it cost them next to nothing
        assert ends_after(bench, short, what) is EndReason.TIME_LIMIT


def test_an_episode_that_succeeds_after_a_hold_has_succeeded():
    bench = Bench().running()
    bench.logic.halt('a look at the tool')
    bench.advance()
    bench.logic.latch.release()
    bench.arm.success = True
    bench.measurement = bench.arm.measure()
    bench.advance()
    assert bench.steps[-1].end_reason is EndReason.SUCCESS and bench.steps[-1].terminated


def test_others_may_only_request_an_end():
    bench = Bench()
    assert not bench.logic.request_end()
    bench.running()
    assert bench.logic.request_end()
    bench.advance()
    assert bench.steps[-1].end_reason is EndReason.REQUESTED and bench.steps[-1].truncated


def test_an_end_requested_during_the_reset_starts_no_episode():
    bench = Bench()
    bench.logic.retreat()
    bench.until(ArmState.READY)
    bench.logic.start_episode('e1', Mode.BC, 1, FIXTURE)
    bench.advance()
    bench.logic.request_end()
    bench.until(ArmState.READY)
    assert bench.steps == [] and 'before it started' in bench.logic.detail


def test_lost_sensing_ends_the_episode():
    bench = Bench().running()
    bench.logic.lose('sensors')
    bench.advance()
    assert bench.steps[-1].end_reason is EndReason.LOST and not bench.steps[-1].terminated


UNUSABLE = {'wrench': np.full(6, np.nan)}


def resetting() -> Bench:
    """Return a bench whose arm is in motion to its start pose."""
    bench = Bench()
    bench.logic.retreat()
    bench.until(ArmState.READY)
    bench.logic.start_episode('e1', Mode.GATED, 2, FIXTURE)
    bench.advance()
    bench.advance()
    assert bench.logic.state is ArmState.RESETTING and not bench.logic.guard.at_rest
    return bench


def blind(bench: Bench, seconds: float) -> None:
    """Let nothing usable be measured for a time."""
    for _ in range(round(seconds / TASK.period_s)):
        bench.measurement = replace(bench.measurement, **UNUSABLE)
        bench.advance()
    bench.measurement = bench.arm.measure()


@pytest.mark.parametrize('lost', ['measurements', 'sensors'])
def test_sensing_that_is_lost_on_the_way_to_the_start_pose_holds_and_costs_no_episode(lost):
    bench = resetting()
    if lost == 'measurements':
        blind(bench, 1.0)
        assert bench.logic.blind and bench.logic.guard.at_rest
    else:
        bench.logic.lose(lost)
    assert bench.logic.state is ArmState.RESETTING and not bench.steps
    bench.until(ArmState.RUNNING)
    bench.advance()
    assert [(step.step, step.final) for step in bench.steps] == [(0, False), (1, False)]


def test_sensing_that_is_still_lost_starts_no_episode_and_lost_again_ends_it():
    bench = resetting()
    # They are back for one tick at a time only, the one in which the episode starts included.
    while bench.logic.state is ArmState.RESETTING:
        blind(bench, 1.0)
        assert bench.logic.guard.at_rest and not bench.steps
        bench.advance()
    assert len(bench.steps) == 1
    blind(bench, 1.0)
    bench.advance()
    first, last = bench.steps
    assert not first.final and last.final
    assert last.end_reason is EndReason.LOST and not last.terminated


def test_unusable_measurements_hold_and_are_counted():
    bench = Bench().running()
    bench.advance(np.ones(TASK.action_size))
    bad = measurement(bench.arm.pose, 1.0, wrench=np.full(6, np.nan))
    poses = [bench.logic.tick(bad).target for _ in range(4)]
    assert bench.logic.counters.unusable == 4 and bench.logic.guard.at_rest
    assert poses[-1].distance_to(poses[-2])[0] < 1e-12
    fresh = ArmLogic(TASK)
    assert fresh.tick(bad).target is None


def test_a_jammed_pipe_is_wiggled_free():
    bench = Bench()
    bench.arm.jammed = True
    bench.logic.retreat()
    sideways = []
    for _ in range(60):
        bench.advance()
        shift = bench.logic.guard.commanded.position - bench.arm.pose.position
        sideways.append(shift[:2])
        assert np.linalg.norm(shift) <= TASK.limits.lead_m + 1e-9
    assert bench.logic.state is ArmState.RETREATING
    angles = np.unwrap(np.arctan2(*np.array(sideways[20:]).T))
    assert np.ptp(angles) > 2 * np.pi
    bench.arm.jammed = False
    bench.until(ArmState.READY)


@pytest.mark.parametrize('approach', [False, True], ids=['retreat', 'approach'])
def test_a_reset_that_takes_too_long_stops_with_a_reason_and_can_be_tried_again(approach):
    bench = Bench()
    bench.logic.retreat()
    if approach:
        bench.until(ArmState.READY)
        bench.logic.start_episode('e1', Mode.BC, 1, FIXTURE)
    bench.arm.jammed = True
    ticks = bench.until(ArmState.STOPPED)
    assert ticks == pytest.approx(TASK.reset.timeout_s * TASK.rate_hz, abs=3)
    assert f'within {TASK.reset.timeout_s:g} s' in bench.logic.detail
    for _ in range(5):
        tick = bench.advance()
    assert tick.waiting
    bench.arm.jammed = False
    assert bench.logic.retreat()
    bench.until(ArmState.READY)


def test_contact_on_the_way_to_the_start_pose_backs_off():
    bench = Bench()
    bench.logic.retreat()
    bench.until(ArmState.READY)
    bench.logic.start_episode('e1', Mode.BC, 1, FIXTURE)
    bench.advance()
    bench.arm.force = np.array([0.0, 0.0, -TASK.limits.force_stop_n - 1.0])
    bench.measurement = bench.arm.measure()
    bench.advance()
    assert bench.logic.state in (ArmState.RETREATING, ArmState.READY)
    assert 'contact' in bench.logic.detail and bench.steps == []


def test_a_ready_arm_holds_still_and_says_so():
    bench = Bench()
    bench.logic.retreat()
    bench.until(ArmState.READY)
    for _ in range(3):
        tick = bench.advance()
    assert tick.waiting
    before = bench.logic.guard.commanded
    bench.advance()
    assert before.distance_to(bench.logic.guard.commanded)[0] == 0.0


def test_activation_forgets_the_commanded_state():
    bench = Bench().running()
    bench.logic.tick(bench.measurement)
    bench.logic.activate()
    assert bench.logic.state is ArmState.IDLE and bench.logic.pending is None
    elsewhere = above(TASK, 0.1)
    bench.logic.tick(measurement(elsewhere))
    np.testing.assert_array_equal(bench.logic.guard.commanded.position, elsewhere.position)


KITTING = load_task('kitting')
PART = KITTING.part.nominal.pose


class Gripping(FollowingArm):
    """A `FollowingArm` whose fingers take eight ticks from closed to open."""

    def __init__(self, pose: Pose) -> None:
        super().__init__(KITTING, pose)
        self.opening = 0.0

    def measure(self):
        return replace(super().measure(), gripper=self.opening)

    def follow(self, target: Pose | None, opening: float):
        self.opening += float(np.clip(opening - self.opening, -0.125, 0.125))
        return self.step(target)


def test_a_gripper_opens_before_the_retreat_and_follows_the_actions_after_it():
    logic = ArmLogic(KITTING)
    arm = Gripping(above(KITTING, 0.02))
    held = arm.pose
    now = arm.measure()
    logic.tick(now)
    assert logic.retreat()
    for _ in range(5):
        now = arm.follow(logic.tick(now).target, logic.gripper)
    assert logic.gripper == 1.0 and 0.5 < now.gripper < 0.8
    assert now.tip_pose.distance_to(held)[0] < 1e-6
    for _ in range(100):
        now = arm.follow(logic.tick(now).target, logic.gripper)
        if logic.state is ArmState.READY:
            break
    assert logic.state is ArmState.READY and now.gripper > 0.8
    assert not logic.start_episode('e1', Mode.BC, 1, FIXTURE)  # where is the part?
    fixture = KITTING.fixture.nominal.pose
    assert logic.start_episode('e1', Mode.BC, 1, fixture, part=PART)
    opened = []
    for _ in range(200):
        answer = logic.tick(now)
        target = answer.target
        if answer.observation is not None:
            if not opened:
                start = draw_start(KITTING, fixture, 1, PART)
                assert now.tip_pose.distance_to(start)[0] < 3e-3
            # close, leave it, open, and an action that is rejected as a whole
            wish = [-1.0, 0.2, 1.0, -1.0][len(opened)]
            action = np.append(np.full(6, 3.0 if len(opened) == 3 else 0.0), wish)
            target, _ = logic.execute(decision(action))
            opened.append(logic.gripper)
            if len(opened) == 4:
                break
        now = arm.follow(target, logic.gripper)
    assert opened == [0.0, 0.0, 1.0, 1.0]
