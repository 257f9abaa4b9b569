# SPDX-License-Identifier: Apache-2.0
"""What every planner promises, whichever it is. (MoveIt is a stand-in here, see `moveit_stand_in`.)"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from planning_cell import SOCKET, TASK, arm, pipe_gap, plan_request, settings, tip
import pytest

from q2rl_control.planners import PLANNERS, make_planner
from q2rl_control.planning import PlanRefused, outside

ABOVE = tip(0.44, -0.02, 0.20)
BESIDE, OTHER_SIDE = tip(0.44, 0.0, 0.14), tip(0.56, 0.0, 0.14)
START_POSE = tip(0.502, 0.003, 0.172, 2.0)
WAYS = {
    'over free ground': (ABOVE, START_POSE),
    'from where the arm is switched on': (tip(0.307, 0.0, 0.42), START_POSE),
    'up from beside the socket': (BESIDE, START_POSE),
    'round the socket': (BESIDE, OTHER_SIDE),
    'round the socket, along the board': (tip(0.5, -0.06, 0.135), tip(0.5, 0.06, 0.135, -3.0)),
}
OBSTRUCTED = [name for name in WAYS if 'socket' in name]
BAD_GOALS = {
    'outside the workspace': (tip(0.65, 0.0, 0.2), 'outside the workspace'),
    'above it': (tip(0.5, 0.0, 0.301), 'outside the workspace'),
    'turned too far': (tip(0.5, 0.0, 0.2, 25.0), 'too far'),
    'in the hole': (tip(0.5, 0.0, 0.14), 'pipe_0 is too near fixture'),
    'in the wall': (tip(0.52, 0.0, 0.14), 'pipe_0 is too near fixture'),
    'in the board': (tip(0.44, 0.06, 0.121), 'pipe_0 is too near fixture_box_0'),
    'nowhere': (tip(float('nan'), 0.0, 0.2), 'finite'),
}


@pytest.fixture(params=PLANNERS)
def planner(request):
    return request.getfixturevalue(request.param)


def planned(planner, asked):
    """The path, or None where the straight planner refuses what is not straight."""
    try:
        return planner.plan(asked)
    except PlanRefused as refused:
        if type(planner).__name__ == 'StraightPath' and str(refused).startswith('on the way'):
            return None
        raise


@pytest.mark.parametrize('name', WAYS)
def test_a_path_goes_where_it_should_and_keeps_every_rule(planner, name):
    start, goal = WAYS[name]
    asked = plan_request(start, goal)
    path = planned(planner, asked)
    if path is None:
        assert name in OBSTRUCTED
        return
    metres, radians = path.waypoints[0].distance_to(start)
    assert metres < 1e-4 and radians < 1e-3
    assert path.waypoints[-1] is goal
    for first, second in zip(path.waypoints, path.waypoints[1:], strict=False):
        metres, radians = first.distance_to(second)
        assert metres < 0.003 and radians < 0.03
    room = np.maximum(0.0, outside(TASK, start)) + 1e-9
    assert all((outside(TASK, waypoint) <= room).all() for waypoint in path.waypoints)
    assert path.joints.shape == (len(path.waypoints), len(arm().joints))
    assert (path.joints >= arm().lower).all() and (path.joints <= arm().upper).all()
    assert np.abs(np.diff(path.joints, axis=0)).max() < 0.025
    for waypoint, joints in zip(path.waypoints, path.joints, strict=True):
        metres, radians = arm().tip_pose(joints).distance_to(waypoint)
        assert metres < 1e-4 and radians < 1e-3
    assert pipe_gap(path) > TASK.fixture.estimate_error_m


@pytest.mark.parametrize('name', OBSTRUCTED)
def test_a_straight_line_there_would_collide(straight, name):
    with pytest.raises(PlanRefused, match='on the way pipe_0 is too near fixture'):
        straight.plan(plan_request(*WAYS[name]))


@pytest.mark.parametrize('name', BAD_GOALS)
def test_a_goal_that_is_not_allowed_is_refused_in_one_line(planner, name):
    goal, why = BAD_GOALS[name]
    with pytest.raises(PlanRefused, match=why) as refused:
        planner.plan(plan_request(ABOVE, goal))
    assert '\n' not in str(refused.value) and 10 < len(str(refused.value)) < 120


def test_a_goal_out_of_the_arms_reach_is_refused(moveit):
    """In a workspace larger than the arm: what the description says of it counts."""
    space = TASK.limits.workspace.model_copy(update={'high': (2.0, 0.1, 0.3)})
    wide = TASK.model_copy(update={'limits': TASK.limits.model_copy(update={'workspace': space})})
    for kind in PLANNERS:
        planner = make_planner(settings(kind, wide))
        with pytest.raises(PlanRefused, match='at the goal the arm cannot reach it'):
            planner.plan(plan_request(ABOVE, tip(1.5, 0.0, 0.2)))


def test_a_start_that_cannot_be_is_refused(planner):
    asked = plan_request(BESIDE, ABOVE)
    short = replace(asked, joint_names=asked.joint_names[1:], joints=asked.joints[1:])
    with pytest.raises(PlanRefused, match='measured joints lack panda_joint7'):
        planner.plan(short)
    with pytest.raises(PlanRefused, match='40 mm'):
        planner.plan(replace(asked, start=tip(0.44, 0.0, 0.18)))
    with pytest.raises(PlanRefused, match='at the start pipe_0 is too near fixture'):
        planner.plan(replace(asked, fixture=tip(0.46, 0.0, 0.15)))


def test_the_fixture_is_where_the_request_says(planner):
    moved = tip(0.5, 0.06, 0.15)
    clear = plan_request(BESIDE, OTHER_SIDE, fixture=moved)
    path = planner.plan(clear)
    assert pipe_gap(path, moved) > TASK.fixture.estimate_error_m
    assert pipe_gap(path, SOCKET) < 0.0


def test_all_but_moveit_say_that_they_are_repeatable(straight, ompl, moveit):
    """MoveIt has no seed."""
    assert [planner.repeatable for planner in (straight, ompl, moveit)] == [True, True, False]


@pytest.mark.parametrize('kind', ['straight', 'ompl'])
def test_the_same_seed_gives_the_same_path(kind, request):
    planner = request.getfixturevalue(kind)
    around = plan_request(*WAYS['round the socket'], seed=4)
    over = plan_request(*WAYS['over free ground'], seed=4)
    first = [planned(planner, asked) for asked in (around, over)]
    again = [planned(planner, asked) for asked in (over, around)][::-1]
    for path, other in zip(first, again, strict=True):
        if path is not None:
            np.testing.assert_array_equal(path.joints, other.joints)


def test_another_seed_may_go_another_way(ompl):
    ways = [ompl.plan(plan_request(*WAYS['round the socket'], seed=seed)) for seed in (1, 2)]
    assert ways[0].joints.shape != ways[1].joints.shape or (ways[0].joints != ways[1].joints).any()


def test_a_way_that_is_not_found_in_time_is_refused(moveit):
    for kind in ('ompl', 'moveit'):
        hasty = make_planner(settings(kind, limit_s=0.0))
        with pytest.raises(PlanRefused, match='found'):
            hasty.plan(plan_request(BESIDE, OTHER_SIDE))


def test_a_walled_in_arm_gives_up_when_its_time_is_over(moveit):
    """Nothing is found because there is nothing: the limit ends it."""
    wall = {'position': (0.47, 0.0, 0.25), 'size': (0.002, 1.0, 1.0)}
    walled = type(TASK).model_validate({**TASK.model_dump(), 'obstacles': [wall]})
    for kind in ('ompl', 'moveit'):
        planner = make_planner(settings(kind, walled, limit_s=0.3))
        with pytest.raises(PlanRefused):
            planner.plan(plan_request(tip(0.42, 0.0, 0.2), tip(0.56, 0.0, 0.2)))
