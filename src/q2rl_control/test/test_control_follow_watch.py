# SPDX-License-Identifier: Apache-2.0
"""An arm that stopped behind our back, or cannot be commanded just now: what is noticed, and what becomes of it."""

from __future__ import annotations

from dataclasses import replace

from arm_bench import FIXTURE, TASK, Bench
from control_helpers import above, measurement
import numpy as np
import pytest

from q2rl_control.arm_state import ArmState
from q2rl_control.follow_watch import FOR_S, Follower, FollowWatch
from q2rl_control.reset_motion import height_above_rim
from q2rl_task import EndReason, Mode, Pose, Source

UP = np.array([0.0, 0.0, -0.6, 0.0, 0.0, 0.0])
TICKS = round(FOR_S / TASK.period_s)
HERE = above(TASK, 0.05)
AHEAD = Pose(HERE.position + np.array([0.0, 0.0, TASK.limits.lead_m]), HERE.quaternion)
PATIENCE_S = 1.0


class WatchedBench(Bench):
    """A bench whose arm is watched before each tick, as the node does in real time."""

    def __init__(self, waits_for_people: bool = False) -> None:
        super().__init__()
        self.reasons, self.blocked = [], ''
        self.follower = Follower(
            self.logic, lambda: self.blocked, self.hold, PATIENCE_S, waits_for_people
        )

    def hold(self, reason: str) -> None:
        self.reasons.append(reason)
        self.logic.halt(reason)

    def advance(self, *args, **kwargs):
        self.follower.check(self.measurement, self.measurement.stamp)
        return super().advance(*args, **kwargs)

    @property
    def lead(self) -> float:
        return self.logic.guard.commanded.distance_to(self.arm.pose)[0]


def test_an_arm_that_stops_behind_our_back_is_held_and_its_episode_has_no_result():
    bench = WatchedBench().running()
    bench.advance(UP)
    assert not bench.reasons
    bench.arm.jammed = True
    for _ in range(TICKS + 6):
        bench.advance(UP)
    (reason,) = bench.reasons
    assert 'does not follow' in reason and 'still 8 mm' in reason
    assert bench.logic.latch.held and bench.logic.latch.reason == reason
    assert bench.steps[-1].final and bench.steps[-1].end_reason is EndReason.LOST
    for _ in range(20):
        bench.advance(UP)
    # Somebody presses play: the command is where the arm is, and nothing moves before the hold is released.
    assert bench.lead < 1e-3 and bench.logic.state is ArmState.RETREATING
    bench.arm.jammed = False
    before = bench.arm.pose
    bench.advance()
    assert bench.arm.pose.distance_to(before)[0] < 1e-3
    assert bench.logic.latch.release()
    bench.until(ArmState.READY)
    assert len(bench.reasons) == 1


def test_a_retreat_of_an_arm_that_does_not_follow_is_held():
    bench = WatchedBench()
    bench.arm.jammed = True
    assert bench.logic.retreat()
    for _ in range(4 * TICKS):
        bench.advance()
    assert len(bench.reasons) == 1 and bench.logic.latch.held
    assert bench.logic.state is ArmState.RETREATING and bench.lead < 1e-3


def watched(commanded: Pose, changes, ticks: int = 5 * TICKS) -> list[str]:
    watch = FollowWatch(TASK)
    said = [watch.note(commanded, measurement(**changes(k))) for k in range(ticks)]
    return [reason for reason in said if reason]


def test_an_arm_that_presses_stands_still_for_a_reason():
    limits = TASK.limits
    force = limits.stiffness_n_m * limits.lead_m
    assert not watched(AHEAD, lambda k: {'pose': HERE, 'force': (0.0, 0.0, -force)})
    assert watched(AHEAD, lambda k: {'pose': HERE, 'force': (0.0, 0.0, -0.1 * force)})
    # A sensor that shakes about zero feels nothing.
    assert TICKS % 2 == 0
    assert watched(AHEAD, lambda k: {'pose': HERE, 'force': (0.0, 0.0, (-1) ** k * force)})
    torque = np.array([0.0, 0.0, 0.0, 0.0, limits.stiffness_nm_rad * limits.lead_rad, 0.0])
    assert not watched(AHEAD, lambda k: {'pose': HERE, 'wrench': torque})


@pytest.mark.parametrize(
    ('commanded', 'creep_m'), [(AHEAD, 2e-4), (HERE, 0.0), (HERE, 2e-4)], ids=['slow', 'rest', 'x']
)
def test_an_arm_that_moves_or_is_where_it_should_be_follows(commanded, creep_m):
    def creeping(k: int) -> dict:
        shift = np.array([0.0, creep_m * k, 0.0])
        return {'pose': Pose(HERE.position + shift, HERE.quaternion)}

    assert not watched(
        Pose(commanded.position, commanded.quaternion), creeping, ticks=min(40, 5 * TICKS)
    )


def test_an_arm_that_does_not_turn_does_not_follow():
    turned = HERE @ Pose.of([0.0, 0.0, 0.0], [0.0, 0.0, np.sin(0.05), np.cos(0.05)])
    assert watched(turned, lambda k: {'pose': HERE})


def test_numbers_that_are_none_are_no_sign_of_anything():
    nothing = Pose(np.full(3, np.nan), HERE.quaternion)
    assert not watched(AHEAD, lambda k: {'pose': nothing})
    assert not watched(AHEAD, lambda k: {'pose': HERE, 'wrench': np.full(6, np.nan)})


@pytest.mark.parametrize('quaternion', [np.zeros(4), np.full(4, np.nan)])
def test_a_pose_that_is_none_ends_nobodys_process_and_the_arm_holds(quaternion):
    bench = WatchedBench().running()
    bench.advance(UP)
    good, count = bench.measurement, bench.logic.counters.unusable
    bench.measurement = replace(good, tip_pose=Pose(good.tip_pose.position, quaternion))
    bench.advance(UP)
    assert bench.logic.counters.unusable == count + 1 and not bench.reasons


def test_an_arm_that_cannot_be_commanded_holds_and_its_episode_ends_after_a_while():
    bench = WatchedBench().running()
    bench.advance(UP)
    bench.blocked = 'the robot is not ready'
    bench.advance(UP)
    assert bench.steps[-1].decision.source is Source.HOLD and not bench.steps[-1].final
    while bench.logic.state is ArmState.RUNNING:
        bench.advance(UP)
    assert bench.steps[-1].end_reason is EndReason.LOST
    assert bench.steps[-1].step < TASK.max_steps // 2, 'its own time is not waited for'
    assert not bench.reasons and not bench.logic.latch.held
    bench.blocked = ''
    bench.until(ArmState.READY)


def test_a_retreat_that_was_blocked_waits_for_a_person():
    bench = WatchedBench(waits_for_people=True)
    bench.blocked = 'the robot is not ready'
    for _ in range(2 * round(PATIENCE_S / TASK.period_s)):
        bench.advance()
    assert not bench.logic.latch.held, 'nothing was under way that could go on by itself'
    assert bench.logic.retreat()
    bench.advance()
    assert bench.logic.latch.held and 'let go of the hold' in bench.logic.latch.reason
    bench.blocked, before = '', bench.arm.pose
    for _ in range(TICKS):
        bench.advance()
    assert bench.arm.pose.distance_to(before)[0] < 1e-6
    assert len(bench.reasons) == 1 and bench.logic.latch.release()
    bench.until(ArmState.READY)


def test_a_short_block_needs_no_person():
    bench = WatchedBench(waits_for_people=True)
    bench.advance()
    assert bench.logic.retreat()
    bench.blocked = 'two publishers'
    for _ in range(round(0.5 * PATIENCE_S / TASK.period_s)):
        bench.advance()
    bench.blocked = ''
    bench.until(ArmState.READY)
    assert not bench.reasons


@pytest.mark.parametrize('waits_for_people', [False, True])
def test_a_block_on_the_way_to_the_start_pose_costs_no_episode(waits_for_people):
    bench = WatchedBench(waits_for_people)
    assert bench.logic.retreat()
    bench.until(ArmState.READY)
    assert bench.logic.start_episode('e1', Mode.GATED, 1, FIXTURE)
    bench.advance()
    bench.blocked = 'the robot is not ready'
    for _ in range(2 * round(PATIENCE_S / TASK.period_s)):
        bench.advance()
    bench.blocked = ''
    assert bench.logic.state is ArmState.RESETTING and bench.logic.guard.at_rest
    assert bench.logic.latch.held is waits_for_people and bench.logic.latch.release()
    bench.until(ArmState.RUNNING)
    bench.advance()
    assert len(bench.steps) == 2 and not any(step.final for step in bench.steps)


@pytest.mark.parametrize('stopped', [False, True])
def test_an_arm_that_others_carry_off_meanwhile_is_not_pulled_back(stopped):
    bench = WatchedBench().running()
    bench.blocked = 'the robot is not ready'
    bench.arm.jammed = True
    for _ in range(10):
        bench.advance(UP)
    if stopped:
        bench.logic.emergency_stop('the button')
    bench.arm.pose = Pose(bench.arm.pose.position + np.array([0.03, 0.0, 0.0]), HERE.quaternion)
    for _ in range(20):
        bench.advance(UP)
    assert bench.lead < 1e-3
    # A little less, as an arm sags: the command stays, or both would sink for ever.
    sag = 0.3 * TASK.limits.lead_m
    bench.arm.pose = Pose(bench.arm.pose.position - np.array([0.0, 0.0, sag]), HERE.quaternion)
    for _ in range(20):
        bench.advance(UP)
    assert bench.lead == pytest.approx(sag, rel=0.05)


def on_its_way_to_the_start() -> WatchedBench:
    bench = WatchedBench()
    assert bench.logic.retreat()
    bench.until(ArmState.READY)
    assert bench.logic.start_episode('e1', Mode.BC, 7, FIXTURE)
    bench.advance()
    return bench


def carried_while_blocked(bench: WatchedBench, shift: list[float]) -> None:
    """Block the arm, let others carry it by `shift` [m], and unblock it."""
    bench.blocked, bench.arm.jammed = 'the robot is not ready', True
    for _ in range(10):
        bench.advance()
    there = bench.arm.pose
    bench.arm.pose = Pose(there.position + np.array(shift), there.quaternion)
    bench.measurement = bench.arm.measure()
    for _ in range(20):
        bench.advance()
    bench.blocked, bench.arm.jammed = '', False


def test_a_retreat_begins_anew_where_others_have_carried_the_arm_meanwhile():
    bench = WatchedBench()
    bench.arm.pose = above(TASK, -0.02)
    bench.measurement = bench.arm.measure()
    assert bench.logic.retreat()
    for _ in range(3):
        bench.advance()
    carried_while_blocked(bench, [0.06, 0.0, 0.0])
    begun = bench.arm.pose.position.copy()
    while bench.logic.state is ArmState.RETREATING:
        bench.advance()
        if height_above_rim(bench.arm.pose, FIXTURE) < TASK.reset.retreat_m:
            assert np.abs(bench.arm.pose.position - begun)[:2].max() < 3e-3, (
                'sideways below the rim'
            )


def test_an_arm_that_was_carried_off_its_way_to_the_start_retreats_first():
    bench = on_its_way_to_the_start()
    carried_while_blocked(bench, [0.04, 0.03, 0.0])
    bench.advance()
    assert bench.logic.state is ArmState.RETREATING and 'others moved' in bench.logic.detail
    bench.until(ArmState.READY)


def test_a_reset_that_was_held_and_not_moved_goes_on():
    bench = on_its_way_to_the_start()
    carried_while_blocked(bench, [0.0, 0.0, 0.0])
    while bench.logic.state is ArmState.RESETTING:
        bench.advance()
    assert bench.logic.state is ArmState.RUNNING
