# SPDX-License-Identifier: Apache-2.0
"""Ways round obstacles by OMPL (RRTConnect in joint space), with Pinocchio's kinematics and collisions."""

from __future__ import annotations

import time

import numpy as np

from q2rl_control.arm_scene import ArmScene, StraightPath
from q2rl_control.planning import PlannedPath, PlanRefused, PlanRequest, check_goal, outside
from q2rl_task import InputError

ROOM_RAD = 0.6
"""How far beyond start and goal a joint may go, within its limits: the workspace of a task is small."""
RANGE_RAD = 0.15
STEP_RAD = 0.01
"""Longest step in joint space between two states that are looked at."""
EXTRA_M = 0.002
EDGE_M = 0.0005
EDGE_RAD = 0.002
"""In the search, obstacles are this much larger and the workspace smaller: what lies between two states passes too."""
SHORTCUTS = 200
ATTEMPTS = 5
"""A way that fails the final check, at its finer steps, is sought again with other random numbers so many times."""


class OmplPlanner:
    """Straight if nothing is in the way, else by RRTConnect, shortened.

    The same request gives the same path on any machine that finds one in time: only the search is limited by time, and
    what is cut short gives no path.

    :param time_limit_s: of the search for one path
    :raises InputError: OMPL is not installed
    """

    repeatable = True

    def __init__(self, scene: ArmScene, time_limit_s: float) -> None:
        try:
            from ompl import base, geometric, util
        except ImportError:
            raise InputError(
                'ompl', 'is not installed', 'pip install ompl, or say planner:=moveit'
            ) from None
        self._base, self._geometric, self._util = base, geometric, util
        self._scene = scene
        self._straight = StraightPath(scene)
        self._limit = time_limit_s
        util.setLogLevel(util.LOG_NONE)

    def plan(self, request: PlanRequest) -> PlannedPath:
        """Return a path round what is in the way.

        :raises PlanRefused: start or goal is not allowed, or no way was found in time
        """
        end, scene = time.monotonic() + self._limit, self._scene
        scene.place(request)
        check_goal(scene.task, request)
        start = scene.start_joints(request)
        goal = scene.goal_joints(request, start)
        try:
            return self._straight.plan(request)
        except PlanRefused:
            pass
        for attempt in range(ATTEMPTS):
            seed = int(np.random.default_rng((request.seed, attempt)).integers(1, 2**31))
            joints = self._search(start, goal, seed, end)
            if joints is None:
                break
            try:
                return scene.path(request, joints)
            except PlanRefused:
                continue
        raise PlanRefused(f'no way round the obstacles was found within {self._limit:g} s')

    def _search(
        self, start: np.ndarray, goal: np.ndarray, seed: int, end: float
    ) -> np.ndarray | None:
        """Return joints (m, n) of a path, shortened; None: not found before `end` [monotonic s]."""
        base, geometric, scene = self._base, self._geometric, self._scene
        # Seeds the generator that seeds all others, which are made below.
        self._util.RNG.setSeed(seed)
        size = start.size
        space = base.RealVectorStateSpace(size)
        low = np.maximum(scene.arm.lower, np.minimum(start, goal) - ROOM_RAD)
        high = np.minimum(scene.arm.upper, np.maximum(start, goal) + ROOM_RAD)
        bounds = base.RealVectorBounds(size)
        for k in range(size):
            bounds.setLow(k, float(low[k]))
            bounds.setHigh(k, float(high[k]))
        space.setBounds(bounds)
        ends = [outside(scene.task, scene.arm.tip_pose(joints)) for joints in (start, goal)]
        room = (
            max(-EDGE_M, *(metres for metres, _ in ends)),
            max(-EDGE_RAD, *(radians for _, radians in ends)),
        )
        # The margins at both ends have been looked at; keeping more than these there could shut the planner in.
        extra = EXTRA_M if not any(scene.fault(j, EXTRA_M) for j in (start, goal)) else 0.0
        information = base.SpaceInformation(space)
        information.setStateValidityChecker(
            lambda state: scene.is_allowed(_array(state, size), extra, room)
        )
        information.setStateValidityCheckingResolution(STEP_RAD / space.getMaximumExtent())
        information.setup()
        problem = base.ProblemDefinition(information)
        problem.setStartAndGoalStates(_state(space, start), _state(space, goal))
        planner = geometric.RRTConnect(information)
        planner.setRange(RANGE_RAD)
        planner.setProblemDefinition(problem)
        planner.setup()
        in_time = base.PlannerTerminationCondition(lambda: time.monotonic() > end)
        planner.solve(in_time)
        if not problem.hasExactSolution():
            return None
        path = problem.getSolutionPath()
        simplifier = geometric.PathSimplifier(information)
        simplifier.reduceVertices(path, SHORTCUTS, SHORTCUTS)
        simplifier.partialShortcutPath(path, SHORTCUTS, SHORTCUTS)
        simplifier.reduceVertices(path, SHORTCUTS, SHORTCUTS)
        return np.array([_array(state, size) for state in path.getStates()])


def _array(state, size: int) -> np.ndarray:
    return np.array([state[k] for k in range(size)])


def _state(space, joints: np.ndarray):
    state = space.allocState()
    for k, value in enumerate(joints):
        state[k] = float(value)
    return state
