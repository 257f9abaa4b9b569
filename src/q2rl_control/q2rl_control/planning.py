# SPDX-License-Identifier: Apache-2.0
"""What a motion planner is asked and what it answers. It only plans: `arm_interface` moves, through the guard.

A planner has one method. It returns a path that keeps every rule of the task, or refuses in one line:

    path = planner.plan(PlanRequest(start=..., goal=..., fixture=...))    # raises PlanRefused
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from q2rl_task import Pose, TaskSpec
from q2rl_task.rotations import angle_between

TOLERANCE = 1e-9


class PlanRefused(Exception):
    """There is no plan; the text says why in one line."""


@dataclass(frozen=True)
class PlanRequest:
    """From where to where, and what is in the way.

    start, goal: tip poses, base frame. fixture, part: as estimated, base frame; part is None in a task without one.
    joint_names, joints: (n,) [rad or m], all joints that were measured; empty where nobody says, and then only one that
    needs no joints can plan. seed: of the planner's random numbers.
    """

    start: Pose
    goal: Pose
    fixture: Pose
    part: Pose | None = None
    joint_names: tuple[str, ...] = ()
    joints: np.ndarray = field(default_factory=lambda: np.zeros(0))
    seed: int = 0


@dataclass(frozen=True)
class PlannedPath:
    """Where the tip goes: waypoints in the base frame, straight in between. The last one is the goal, exactly.

    joints: (number of waypoints, n) [rad], joints with which the planner reaches them; n is 0 where it knows none. A
    controller that is told the tip only may choose others.
    """

    waypoints: tuple[Pose, ...]
    joints: np.ndarray


class MotionPlanner(Protocol):
    """Finds ways for the tip. Never commands anything.

    repeatable: whether the same request, its seed included, gives the same path.
    """

    repeatable: bool

    def plan(self, request: PlanRequest) -> PlannedPath:
        """Return a way from start to goal.

        :raises PlanRefused: there is none, or none was found in time
        """


class Planning(Protocol):
    """A planner at work beside the control tick, one request at a time.

    instant: whether the answer is there as soon as `begin` returns.
    """

    instant: bool

    def begin(self, request: PlanRequest) -> None:
        """Start to plan; what was under way is forgotten."""

    def ready(self) -> bool:
        """Whether `poll` has the answer."""

    def poll(self) -> PlannedPath | None:
        """Return the path, or None while it is being sought.

        :raises PlanRefused: there is none
        """

    def cancel(self) -> None:
        """Forget what is under way."""

    def close(self) -> None:
        """Stop for good."""


class PlanAtOnce:
    """A planner so fast that it plans within the tick."""

    instant = True

    def __init__(self, planner: MotionPlanner) -> None:
        self._planner = planner
        self._request: PlanRequest | None = None

    def begin(self, request: PlanRequest) -> None:
        """Remember what is asked."""
        self._request = request

    def ready(self) -> bool:
        """Whether there is a request: then there is an answer."""
        return self._request is not None

    def poll(self) -> PlannedPath | None:
        """Return the path.

        :raises PlanRefused: there is none
        """
        return None if self._request is None else self._planner.plan(self._request)

    def cancel(self) -> None:
        """Forget what was asked."""
        self._request = None

    def close(self) -> None:
        """Do nothing: there is nothing to stop."""


class StraightLine:
    """Straight to the goal, without a look at anything but the workspace."""

    repeatable = True

    def __init__(self, task: TaskSpec) -> None:
        self._task = task

    def plan(self, request: PlanRequest) -> PlannedPath:
        """Return start and goal.

        :raises PlanRefused: the goal is outside the workspace
        """
        check_goal(self._task, request)
        return PlannedPath((request.start, request.goal), np.zeros((2, 0)))


def outside(task: TaskSpec, pose: Pose) -> tuple[float, float]:
    """How far a tip pose is outside the workspace: of its box [m] and of its cone [rad]; negative inside."""
    space = task.limits.workspace
    beyond = np.maximum(np.array(space.low) - pose.position, pose.position - np.array(space.high))
    angle = angle_between(task.fixture.nominal.pose.quaternion, pose.quaternion)
    return float(beyond.max()), angle - space.max_rotation_rad


def check_goal(task: TaskSpec, request: PlanRequest) -> None:
    """Check what can be said without knowing the arm.

    :raises PlanRefused: start or goal is not finite, or the goal is outside the workspace
    """
    if not (request.start.is_finite() and request.goal.is_finite()):
        raise PlanRefused('start or goal is not a finite pose')
    metres, radians = outside(task, request.goal)
    if metres > TOLERANCE:
        raise PlanRefused(f'the goal is {1e3 * metres:.1f} mm outside the workspace')
    if radians > TOLERANCE:
        raise PlanRefused(f'the goal is turned {np.degrees(radians):.1f} deg too far')


def check_waypoints(task: TaskSpec, waypoints: tuple[Pose, ...]) -> None:
    """Check that a path stays in the workspace, or if it starts outside, never goes further out.

    :raises PlanRefused: it does not
    """
    first_m, first_rad = outside(task, waypoints[0])
    for waypoint in waypoints[1:]:
        metres, radians = outside(task, waypoint)
        if metres > max(0.0, first_m) + TOLERANCE or radians > max(0.0, first_rad) + TOLERANCE:
            raise PlanRefused('the way leaves the workspace')
