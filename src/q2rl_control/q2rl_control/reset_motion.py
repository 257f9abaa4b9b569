# SPDX-License-Identifier: Apache-2.0
"""Motions between episodes: out of the fixture along the tool, then along a planned path to a start pose above it.

Both give, tick by tick, a goal pose for `Guard.move`; what is really commanded is up to the guard.
The way out is never planned: with the tool in a hole, or jammed in it, there is one way only.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from q2rl_control.motion_limits import workspace_regions
from q2rl_control.planning import PlannedPath
from q2rl_task import Measurement, Pose, TaskSpec
from q2rl_task.rotations import angle_between, inverse, rotate

CLEARANCE_M = 0.003
"""The retreat aims this much higher than asked, so that the lag of a compliant arm costs no time."""
PROGRESS_M = 0.0005
STUCK_TICKS = 6
OPENED = 0.8
"""Share of its opening at which a gripper has let go of whatever it held."""
OPENING_TICKS = 20
WIGGLE_M = 0.002
WIGGLE_RAD = 0.02
WIGGLE_GROWTH = 1.03
WIGGLE_MOST = 2.5
WIGGLE_TURN = 2.4
"""Angle between successive wiggles [rad]: near the golden angle, so that no direction is left out."""
SETTLED_M = 0.002
SETTLED_RAD = 0.02
SETTLED_M_S = 0.02
PATIENCE_TICKS = 10
NEAR_PATH_M = 0.001
"""How far a short cut may leave the path; turning by an angle counts as moving by that times `LEVER_M`."""
LEVER_M = 0.15
LOOK_AHEAD_M = 0.05
"""Farther than the guard needs to brake from the speed of a reset."""


def height_above_rim(tip: Pose, fixture: Pose) -> float:
    """Return how far the tip is above the fixture's rim [m], along the fixture's axis (z into the hole)."""
    return -float(rotate(inverse(fixture.quaternion), tip.position - fixture.position)[2])


class Retreat:
    """Straight out along the tool's axis until the tip is `reset.retreat_m` above the rim; a gripper opens first.

    A tool that stays behind (a jammed pipe) is wiggled sideways and tilted, growing slowly, while the
    pull goes on; progress ends the wiggle. One that is clear, but outside the workspace, then comes back into it.
    Time limits are the caller's.

    :param measured: tip pose at the start, base frame
    :param fixture: pose of the fixture that is left, as estimated, base frame
    """

    def __init__(self, task: TaskSpec, measured: Pose, fixture: Pose) -> None:
        self._box, self._cone = workspace_regions(task)
        self._fixture = fixture
        self._enough = task.reset.retreat_m
        self._start = measured
        outward = fixture.rotation.apply([0.0, 0.0, -1.0])
        axis = measured.rotation.apply([0.0, 0.0, -1.0])
        # A tool that leans further than any seated one has another way out: the fixture's own axis.
        if axis @ outward < 0.8:
            axis = outward
        rise = max(0.0, self._enough + CLEARANCE_M - height_above_rim(measured, fixture))
        self._goal = Pose(
            measured.position + axis * (rise / float(axis @ outward)), measured.quaternion
        )
        self._highest = height_above_rim(measured, fixture)
        self._idle = 0
        self._let_go = task.gripper is None
        self._waited = 0

    def goal(self, measured: Measurement, commanded: Pose) -> Pose:
        """Return the goal for this tick (base frame)."""
        if not self._let_go:
            self._waited += 1
            self._let_go = measured.gripper >= OPENED or self._waited > OPENING_TICKS
            return self._start
        if self._is_clear(measured):
            return self._inside(commanded)
        height = height_above_rim(measured.tip_pose, self._fixture)
        if height > self._highest + PROGRESS_M:
            self._highest, self._idle = height, 0
        else:
            self._idle += 1
        if self._idle < STUCK_TICKS:
            return self._goal
        count = self._idle - STUCK_TICKS
        scale = min(WIGGLE_MOST, WIGGLE_GROWTH**count)
        direction = np.array([np.cos(WIGGLE_TURN * count), np.sin(WIGGLE_TURN * count), 0.0])
        sideways = Pose.from_rotation(
            WIGGLE_M * scale * direction, Rotation.from_rotvec(WIGGLE_RAD * scale * direction)
        )
        return self._goal @ sideways

    def done(self, commanded: Pose, measured: Measurement) -> bool:
        """Whether the tip is clear of the fixture and in the workspace."""
        inside = self._box.contains(commanded.position[None])
        inside = inside and self._cone.contains(commanded.quaternion[None])
        return inside and self._is_clear(measured) and self._let_go

    def _is_clear(self, measured: Measurement) -> bool:
        return height_above_rim(measured.tip_pose, self._fixture) >= self._enough

    def _inside(self, pose: Pose) -> Pose:
        """Return the nearest pose in the workspace."""
        return Pose(self._box.project(pose.position), self._cone.project(pose.quaternion))


class Approach:
    """Along a path to its end; done once the command is there and the arm has settled.

    Heads for the farthest waypoint ahead to which the straight way keeps to the path: it slows down for corners only.
    """

    def __init__(self, path: PlannedPath) -> None:
        self._path = path.waypoints
        first = path.waypoints[0]
        self._first = first
        self._points = np.array([self._point(waypoint) for waypoint in path.waypoints])
        self._at = 0
        self._goal = path.waypoints[-1]
        self._waited = 0

    def goal(self, measured: Measurement, commanded: Pose) -> Pose:
        """Return the waypoint to head for (base frame)."""
        here, points = self._point(commanded), self._points
        distances = np.linalg.norm(points[self._at :] - here, axis=1)
        # The nearest one by the way that is left, not one that the path comes back to later.
        rising = np.flatnonzero(np.diff(distances) > 0.0)
        self._at += int(rising[0]) if rising.size else len(distances) - 1
        aim = min(self._at + 1, len(points) - 1)
        while (
            aim + 1 < len(points)
            and np.linalg.norm(points[aim + 1] - here) < LOOK_AHEAD_M
            and _off(points[self._at : aim + 1], here, points[aim + 1]) < NEAR_PATH_M
        ):
            aim += 1
        return self._path[aim]

    def at_end(self, commanded: Pose) -> bool:
        """Whether the command has come to the end of the path."""
        distance, angle = _distance(commanded, self._goal)
        return distance <= 1e-5 and angle <= 1e-4

    def done(self, commanded: Pose, measured: Measurement) -> bool:
        """Whether the arm has arrived; call once per tick.

        An arm held back by friction counts as arrived after ten ticks of patience, if it rests.
        """
        if not self.at_end(commanded):
            return False
        self._waited += 1
        if float(np.linalg.norm(measured.tip_twist[:3])) > SETTLED_M_S:
            return False
        distance, angle = _distance(measured.tip_pose, self._goal)
        near = distance <= SETTLED_M and angle <= SETTLED_RAD
        return near or (
            self._waited > PATIENCE_TICKS and distance <= 3 * SETTLED_M and angle <= 3 * SETTLED_RAD
        )

    def _point(self, pose: Pose) -> np.ndarray:
        """Return a pose as a point (6,) [m], in which straight motions are straight lines, nearly."""
        return np.concatenate([pose.position, LEVER_M * self._first.rotation_vector_to(pose)])


def _off(points: np.ndarray, first: np.ndarray, last: np.ndarray) -> float:
    """Return how far the farthest of points (m, 6) is from the line segment between two others."""
    along = last - first
    share = np.clip((points - first) @ along / max(float(along @ along), 1e-18), 0.0, 1.0)
    return float(np.linalg.norm(points - first - share[:, None] * along, axis=1).max())


def _distance(first: Pose, second: Pose) -> tuple[float, float]:
    return (
        float(np.linalg.norm(second.position - first.position)),
        angle_between(first.quaternion, second.quaternion),
    )
