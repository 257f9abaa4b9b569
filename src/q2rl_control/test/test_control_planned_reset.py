# SPDX-License-Identifier: Apache-2.0
"""A planned way to a start pose: the arm holds while it is sought, follows it, and moves nowhere if there is none."""

from __future__ import annotations

from dataclasses import replace
import itertools

from control_helpers import FollowingArm, above
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from q2rl_control.arm_logic import ArmLogic, ArmState
from q2rl_control.guard import Guard
from q2rl_control.obstacles import FOLLOWING_M, obstacles
from q2rl_control.planning import (
    PlanAtOnce,
    PlannedPath,
    PlanRefused,
    PlanRequest,
    StraightLine,
    check_waypoints,
)
from q2rl_control.reset_motion import Approach
from q2rl_task import Mode, Pose, load_task
from q2rl_task.reset import draw_start

NAMES = tuple(f'joint{k}' for k in range(7))


class Asked:
    """A planner at work whose answer the test gives."""

    instant = False

    def __init__(self) -> None:
        self.requests: list[PlanRequest] = []
        self.answer: PlannedPath | PlanRefused | None = None
        self.cancelled = 0

    def begin(self, request: PlanRequest) -> None:
        self.requests.append(request)
        self.answer = None

    def ready(self) -> bool:
        return self.answer is not None

    def poll(self) -> PlannedPath | None:
        if isinstance(self.answer, PlanRefused):
            raise self.answer
        return self.answer

    def cancel(self) -> None:
        self.cancelled += 1

    def close(self) -> None: ...


def bare(*waypoints: Pose) -> PlannedPath:
    return PlannedPath(waypoints, np.zeros((len(waypoints), 0)))


def filled(corners: list[Pose]) -> PlannedPath:
    """A path with a waypoint every 2 mm, as planners give them."""
    waypoints = [corners[0]]
    for first, last in itertools.pairwise(corners):
        count = int(np.linalg.norm(last.position - first.position) / 0.002) + 1
        turn = first.rotation_vector_to(last)
        waypoints += [
            Pose.from_rotation(
                first.position + (last.position - first.position) * k / count,
                Rotation.from_rotvec(turn * k / count) * first.rotation,
            )
            for k in range(1, count + 1)
        ]
    return bare(*waypoints)


def off_path(pose: Pose, path: PlannedPath) -> float:
    """Distance of a position to the polyline through a path's waypoints [m]."""
    points = np.array([waypoint.position for waypoint in path.waypoints])
    start, along = points[:-1], np.diff(points, axis=0)
    share = ((pose.position - start) * along).sum(1) / np.maximum((along**2).sum(1), 1e-18)
    feet = start + np.clip(share, 0.0, 1.0)[:, None] * along
    return float(np.linalg.norm(pose.position - feet, axis=1).min())


class Reset:
    """An arm that is clear of the fixture, and the logic over it."""

    def __init__(self, task) -> None:
        self.task = task
        self.planning = Asked()
        self.logic = ArmLogic(task, planning=self.planning)
        self.arm = FollowingArm(task, above(task, 0.06))
        self.logic.tick(self.measure())
        assert self.logic.retreat()
        self.tick()
        assert self.logic.state is ArmState.READY

    def measure(self):
        return replace(self.arm.measure(), joint_names=NAMES, joint_positions=np.arange(7.0))

    def start(self, episode: str = 'e1') -> None:
        fixture = self.task.fixture.nominal.pose
        assert self.logic.start_episode(episode, Mode.BC, 5, fixture)

    def tick(self):
        tick = self.logic.tick(self.measure())
        if tick.observation is None:
            self.arm.step(tick.target)
        return tick


@pytest.fixture
def reset(task):
    return Reset(task)


def test_the_arm_holds_while_its_way_is_planned_and_then_takes_it(reset, task):
    reset.start()
    ticks = [reset.tick() for _ in range(20)]
    (asked,) = reset.planning.requests
    goal = draw_start(task, task.fixture.nominal.pose, 5)
    np.testing.assert_array_equal(asked.goal.position, goal.position)
    assert asked.joint_names == NAMES and asked.seed == 5
    np.testing.assert_array_equal(asked.joints, np.arange(7.0))
    assert all(tick.waiting for tick in ticks)  # a simulation in lockstep stands still meanwhile
    here = ticks[0].target.position
    assert all(np.linalg.norm(tick.target.position - here) < 1e-6 for tick in ticks)
    assert not reset.logic.plan_is_in
    aside = above(task, 0.1) @ Pose.of([0.03, 0.0, 0.0])
    path = filled([asked.start, aside, asked.goal])
    reset.planning.answer = path
    assert reset.logic.plan_is_in
    visited = []
    for _ in range(200):
        tick = reset.tick()
        if tick.observation is not None:
            break
        visited.append(tick.target)
    assert reset.logic.state is ArmState.RUNNING and tick.observation.step == 0
    assert min(np.linalg.norm(p.position - aside.position) for p in visited) < FOLLOWING_M
    np.testing.assert_allclose(reset.logic.guard.commanded.position, goal.position, atol=1e-5)


def test_a_refused_plan_moves_nothing_and_the_next_one_is_asked_for(reset):
    reset.start()
    before = reset.tick().target
    reset.planning.answer = PlanRefused('at the goal pipe_0 is too near fixture')
    targets = [reset.tick().target for _ in range(5)]
    assert reset.logic.state is ArmState.READY
    assert reset.logic.detail == 'no way to the start pose: at the goal pipe_0 is too near fixture'
    assert all(np.linalg.norm(t.position - before.position) < 1e-6 for t in targets)
    reset.start('e2')
    reset.tick()
    assert len(reset.planning.requests) == 2


@pytest.mark.parametrize('interruption', ['end', 'stop', 'emergency', 'anew'])
def test_a_plan_that_nobody_needs_any_more_is_dropped(reset, interruption):
    reset.start()
    reset.tick()
    if interruption == 'end':
        assert reset.logic.request_end()
        reset.tick()
    elif interruption == 'stop':
        reset.logic.stop('because')
    elif interruption == 'emergency':
        reset.logic.emergency_stop('because')
    else:
        reset.logic.activate()
    assert reset.planning.cancelled == 1
    reset.planning.answer = bare(above(reset.task, 0.06), above(reset.task, 0.2))
    here = reset.arm.pose.position
    for _ in range(10):
        reset.tick()
    assert reset.logic.state is not ArmState.RUNNING
    assert np.linalg.norm(reset.arm.pose.position - here) < 1e-3


def test_a_moving_arm_comes_to_rest_before_its_joints_are_planned_from(task):
    gentle = {'acceleration_m_s2': 1.0, 'jerk_m_s3': 25.0}
    limits = task.limits.model_copy(update=gentle)
    reset = Reset(task.model_copy(update={'limits': limits}))
    reset.logic.activate()
    assert reset.logic.retreat()
    twist = np.array([0.25, 0.0, 0.0, 0.0, 0.0, 0.0])
    reset.logic.tick(replace(reset.measure(), tip_twist=twist))
    assert reset.logic.state is ArmState.READY
    assert not reset.logic.guard.at_rest
    reset.start()
    for _ in range(20):
        assert not reset.planning.requests
        if reset.logic.guard.at_rest:
            break
        reset.tick()
    reset.tick()
    assert reset.logic.guard.at_rest and len(reset.planning.requests) == 1


@pytest.mark.parametrize('seed', range(8))
def test_the_command_keeps_to_a_path_with_corners(task, seed):
    rng = np.random.default_rng(seed)
    low, high = np.array(task.limits.workspace.low), np.array(task.limits.workspace.high)
    nominal = task.fixture.nominal.pose.rotation
    corners = [
        Pose.from_rotation(
            rng.uniform(low + 0.01, high - 0.01),
            nominal * Rotation.from_rotvec(rng.uniform(-0.15, 0.15, 3)),
        )
        for _ in range(4)
    ]
    path, guard = filled(corners), Guard(task)
    arm = FollowingArm(task, corners[0])
    guard.reset(corners[0])
    motion, speed = Approach(path), task.reset.speed_m_s
    ticks = 0
    while not motion.done(guard.commanded, measured := arm.measure()):
        ticks += 1
        assert ticks < 400
        goal = motion.goal(measured, guard.commanded)
        guarded = guard.move(goal, measured, speed, task.reset.speed_rad_s)
        assert off_path(guarded.target, path) < FOLLOWING_M
        arm.step(guarded.target)
    # Slow at corners only: not longer than three times what the way takes at full speed.
    length = sum(np.linalg.norm(b.position - a.position) for a, b in itertools.pairwise(corners))
    assert ticks * task.period_s < 3.0 * length / speed + 2.0
    np.testing.assert_allclose(guard.commanded.position, corners[-1].position, atol=1e-5)


def test_a_path_that_crosses_itself_is_followed_all_the_way(task):
    """And not from the crossing on by the shorter branch."""
    corners = [
        Pose.from_rotation(position, task.fixture.nominal.pose.rotation)
        for position in (
            [0.45, 0.0, 0.2], [0.55, 0.0, 0.2], [0.55, 0.05, 0.2], [0.5, 0.05, 0.2], [0.5, -0.05, 0.2],
        )
    ]  # fmt: skip
    path, guard = filled(corners), Guard(task)
    arm = FollowingArm(task, corners[0])
    guard.reset(corners[0])
    motion, farthest = Approach(path), 0.0
    for _ in range(400):
        measured = arm.measure()
        if motion.done(guard.commanded, measured):
            break
        goal = motion.goal(measured, guard.commanded)
        arm.step(guard.move(goal, measured, 0.25, 1.0).target)
        farthest = max(farthest, guard.commanded.position[0])
    assert farthest > 0.545


def test_the_straight_line_of_today_is_a_plan_with_two_ends(task):
    start, goal = above(task, 0.06), above(task, 0.02)
    planning = PlanAtOnce(StraightLine(task))
    assert planning.poll() is None
    planning.begin(PlanRequest(start, goal, task.fixture.nominal.pose))
    path = planning.poll()
    assert path.waypoints == (start, goal)
    motion = Approach(path)
    measured = FollowingArm(task, start).measure()
    assert motion.goal(measured, start) is goal and motion.goal(measured, goal) is goal
    planning.cancel()
    assert planning.poll() is None


@pytest.mark.parametrize(
    'goal, why',
    [
        (Pose.of([0.5, 0.0, 0.35], [1.0, 0.0, 0.0, 0.0]), '50.0 mm outside the workspace'),
        (Pose.of([0.5, 0.0, 0.2], [0.0, 0.0, 0.0, 1.0]), 'turned 159.9 deg too far'),
        (Pose.of([0.5, np.inf, 0.2], [1.0, 0.0, 0.0, 0.0]), 'not a finite pose'),
    ],
)
def test_no_line_out_of_the_workspace(task, goal, why):
    with pytest.raises(PlanRefused, match=why):
        StraightLine(task).plan(PlanRequest(above(task, 0.06), goal, task.fixture.nominal.pose))


def test_a_way_leaves_the_workspace_nowhere_but_may_come_into_it(task):
    inside, edge, out, further = (above(task, height) for height in (0.1, 0.15, 0.2, 0.25))
    check_waypoints(task, (inside, edge))
    check_waypoints(task, (further, out, inside))
    for way in ((inside, out, inside), (out, further, inside)):
        with pytest.raises(PlanRefused, match='leaves the workspace'):
            check_waypoints(task, way)


def test_the_obstacles_stand_where_fixture_and_part_are_believed_to_be():
    task = load_task('kitting')
    fixture = task.fixture.nominal.pose @ Pose.of([0.01, 0.0, 0.0])
    part = task.part.nominal.pose
    solids = {solid.name: solid for solid in obstacles(task, fixture, part)}
    assert sorted(solids) == ['fixture', 'fixture_box_0', 'obstacle_0', 'part']
    rim = solids['fixture'].pose.position[2] + solids['fixture'].size[1] / 2.0
    assert rim == pytest.approx(task.fixture.nominal.position[2])
    np.testing.assert_allclose(solids['fixture'].pose.position[:2], fixture.position[:2])
    top = solids['part'].pose.position[2] + solids['part'].size[1] / 2.0
    assert top == pytest.approx(part.position[2] + task.part.above_m)
    foot = solids['part'].pose.position[2] - solids['part'].size[1] / 2.0
    table = solids['obstacle_0'].pose.position[2] + solids['obstacle_0'].size[2] / 2.0
    assert foot == pytest.approx(table)
    assert solids['part'].margin == pytest.approx(task.part.estimate_error_m + FOLLOWING_M)
    assert not any(solid.name == 'part' for solid in obstacles(task, fixture))
