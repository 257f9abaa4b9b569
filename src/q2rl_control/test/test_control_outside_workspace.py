# SPDX-License-Identifier: Apache-2.0
"""A tip outside its box or its cone: nothing brings it back but a motion that somebody asked for, and slowly."""

from __future__ import annotations

from itertools import pairwise

from arm_bench import FIXTURE, TASK, Bench
from control_helpers import above, measurement
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from q2rl_control.arm_state import ArmState
from q2rl_control.guard import Guard
from q2rl_task import Pose

LIMITS, SIZE = TASK.limits, TASK.action_size
HIGH = LIMITS.workspace.high[0]
INWARD = np.array([-1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
"""Along -x of the base: the fixture's x axis is the base's."""


def beside(metres: float = 0.0, radians: float = 0.0) -> Pose:
    """A pose that is so far outside the box, along x, and so far outside the cone, about x."""
    nominal = above(TASK, 0.05)
    position = nominal.position.copy()
    if metres:
        position[0] = HIGH + metres
    angle = LIMITS.workspace.max_rotation_rad + radians if radians else 0.0
    return Pose.from_rotation(position, Rotation.from_rotvec([angle, 0.0, 0.0]) * FIXTURE.rotation)


OUTSIDE = {
    'far beside the box': beside(metres=0.3),
    'just beside the box': beside(metres=0.01),
    'tilted out of the cone': beside(radians=0.44),
    'both': beside(0.06, 0.3),
}


def beyond(pose: Pose) -> tuple[float, float]:
    """How far a pose is outside the box [m] and the cone [rad]."""
    space = LIMITS.workspace
    position = np.maximum(np.array(space.low) - pose.position, pose.position - np.array(space.high))
    return (
        max(0.0, float(position.max())),
        max(0.0, pose.distance_to(FIXTURE)[1] - space.max_rotation_rad),
    )


def idle(logic) -> None:
    assert logic.state is ArmState.IDLE


def held(logic) -> None:
    logic.latch.hold('test')
    logic.retreat()


def stopped(logic) -> None:
    logic.emergency_stop('the button')


def gave_up(logic) -> None:
    logic.stop('the retreat took too long')


@pytest.mark.parametrize('jammed', [False, True], ids=['follows', 'blocked'])
@pytest.mark.parametrize('what', [idle, held, stopped, gave_up], ids=lambda f: f.__name__)
@pytest.mark.parametrize('pose', OUTSIDE.values(), ids=OUTSIDE)
def test_outside_the_workspace_an_arm_that_nobody_moves_stays(pose, what, jammed):
    bench = Bench(pose)
    bench.arm.jammed = jammed
    what(bench.logic)
    for _ in range(40):
        bench.advance()
        distance, angle = bench.logic.guard.commanded.distance_to(pose)
        assert distance < 1e-9 and angle < 1e-7
    assert bench.logic.command.interventions == () and bench.logic.guard.at_rest


@pytest.mark.parametrize('pose', OUTSIDE.values(), ids=OUTSIDE)
def test_a_hold_within_an_episode_stays_outside_too(pose):
    guard = Guard(TASK)
    guard.reset(pose)
    for action in (None, np.full(SIZE, np.nan), np.zeros(SIZE)):
        for _ in range(10):
            guard.command(action, measurement(pose), FIXTURE)
    guard.coast()
    distance, angle = guard.commanded.distance_to(pose)
    assert distance < 1e-9 and angle < 1e-7


@pytest.mark.parametrize('pose', OUTSIDE.values(), ids=OUTSIDE)
def test_a_retreat_brings_the_arm_back_up_first_and_at_the_speed_of_resets(pose):
    bench = Bench(Pose(pose.position - np.array([0.0, 0.0, 0.09]), pose.quaternion))
    started = bench.arm.pose
    assert bench.logic.retreat()
    path = [started]
    while bench.logic.state is not ArmState.READY:
        assert bench.ticks < 300
        bench.advance()
        path.append(bench.logic.guard.commanded)
    reset, period = TASK.reset, TASK.period_s
    for before, after in pairwise(path):
        distance, angle = before.distance_to(after)
        assert distance <= reset.speed_m_s * period + 1e-9
        assert angle <= reset.speed_rad_s * period + 1e-9
        assert beyond(after)[0] <= beyond(before)[0] + 1e-9
        assert beyond(after)[1] <= beyond(before)[1] + 1e-7
    rising = [p.position[0] for p in path if p.position[2] < started.position[2] + 0.03]
    assert len(rising) > 3 and np.ptp(rising) < 0.012  # not into what stands beside it
    metres, radians = beyond(path[-1])
    assert metres < 1e-6 and radians < 1e-6


def test_a_blocked_retreat_from_outside_leads_by_no_more_than_the_lead_and_gives_up():
    bench = Bench(OUTSIDE['both'])
    bench.arm.jammed = True
    assert bench.logic.retreat()
    while bench.logic.state is ArmState.RETREATING:
        bench.advance()
        distance, angle = bench.logic.guard.commanded.distance_to(bench.arm.pose)
        assert distance <= LIMITS.lead_m + 1e-9 and angle <= LIMITS.lead_rad + 1e-9
    assert bench.logic.state is ArmState.STOPPED and 'retreat' in bench.logic.detail


@pytest.mark.parametrize('jammed', [False, True], ids=['follows', 'blocked'])
def test_from_outside_an_action_moves_inward_only_slowly_and_within_the_lead(jammed):
    task = TASK.model_copy(
        update={'reset': TASK.reset.model_copy(update={'speed_m_s': 0.02, 'speed_rad_s': 0.05})}
    )
    start, reset = OUTSIDE['both'], task.reset
    actions = {
        'outward': -INWARD,
        'inward': INWARD + np.array([0.0, 0.0, 0.0, -1.0, 0.0, 0.0]),
        'along': np.array([0.0, 1.0, 0.0, 0.0, 0.0, 0.0]),
    }
    for name, action in actions.items():
        guard = Guard(task)
        guard.reset(start)
        for _ in range(8):
            before = guard.commanded
            tip = start if jammed else before
            after = guard.command(action, measurement(tip), FIXTURE).target
            distance, angle = before.distance_to(after)
            assert distance <= reset.speed_m_s * task.period_s + 1e-9
            assert angle <= reset.speed_rad_s * task.period_s + 1e-9
            lead, turned = after.distance_to(tip)
            assert lead <= LIMITS.lead_m + 1e-9 and turned <= LIMITS.lead_rad + 1e-9
        came_in = start.position[0] - guard.commanded.position[0]
        assert came_in == pytest.approx({'inward': 0.008}.get(name, 0.0), abs=1e-6), name
        assert (beyond(guard.commanded)[1] < beyond(start)[1] - 0.01) == (name == 'inward')


@pytest.mark.parametrize('action', [None, INWARD], ids=['held', 'acts inward'])
def test_an_arm_that_is_pushed_out_of_the_workspace_is_followed_to_within_the_lead(action):
    guard = Guard(TASK)
    inside = Pose(beside().position * [0, 1, 1] + [HIGH - 0.005, 0, 0], FIXTURE.quaternion)
    guard.reset(inside)
    tip = inside
    for k in range(60):
        pushed = min(1.0, k / 20)
        tip = Pose.from_rotation(
            inside.position + np.array([0.06 * pushed, 0.0, 0.0]),
            Rotation.from_rotvec([0.0, 0.6 * pushed, 0.0]) * FIXTURE.rotation,
        )
        before = guard.commanded
        after = guard.command(action, measurement(tip), FIXTURE).target
        # Never further out than the arm, and no further than before if the arm is near.
        assert (
            beyond(after)[0] <= max(0.0, beyond(tip)[0] - LIMITS.lead_m, beyond(before)[0]) + 1e-9
        )
        assert beyond(after)[1] <= max(beyond(tip)[1], beyond(before)[1]) + 1e-7
    lead, turned = guard.commanded.distance_to(tip)
    assert lead <= LIMITS.lead_m + 1e-9 and turned <= LIMITS.lead_rad + 1e-9


def test_a_tip_that_is_measured_ever_further_out_is_followed_for_a_bounded_way_only():
    guard = Guard(TASK)
    guard.reset(above(TASK, 0.05))
    for _ in range(400):
        # As with a controller that commands another frame than the one that is measured.
        here = guard.commanded
        away = Pose.from_rotation(
            here.position + np.array([0.03, 0.0, 0.0]),
            Rotation.from_rotvec([0.2, 0.0, 0.0]) * here.rotation,
        )
        guard.command(None, measurement(away), FIXTURE)
    metres, radians = beyond(guard.commanded)
    assert metres == pytest.approx(0.05, abs=1e-6)
    assert radians == pytest.approx(0.2, abs=1e-6)
    assert guard.at_rest


def test_an_arm_that_is_seeded_in_motion_outside_brakes_there():
    guard = Guard(TASK)
    guard.reset(OUTSIDE['both'], np.array([0.1, 0.0, 0.0, 0.3, 0.0, 0.0]))
    for _ in range(10):
        guard.command(None, measurement(guard.commanded), FIXTURE)
    assert guard.at_rest
    distance, angle = guard.commanded.distance_to(OUTSIDE['both'])
    assert distance < 0.01 and angle < 0.05
