# SPDX-License-Identifier: Apache-2.0
"""The cell of the pipe task as planners are asked about it, and a second opinion on what they answer."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.spatial.transform import Rotation

from q2rl_bringup.robot_description import robot_urdf
from q2rl_bringup.robots import PANDA
from q2rl_control.kinematics import ArmKinematics
from q2rl_control.planners import PlannerSettings
from q2rl_control.planning import PlannedPath, PlanRequest
from q2rl_sim.panda import HOME
from q2rl_task import Pose, TaskSpec, load_task

TASK = load_task('pipe_assembly')
SOCKET = TASK.fixture.nominal.pose
LIMIT_S = 20.0
"""Far more than any of these plans needs, also on a busy machine."""
PIPE_M = 0.09
STEP_M = 0.001


@cache
def urdf(name: str = 'pipe_assembly') -> str:
    return robot_urdf(load_task(name))


@cache
def arm():
    return ArmKinematics(urdf(), TASK.frames.base, TASK.frames.tip)


def settings(kind: str, task: TaskSpec = TASK, limit_s: float = LIMIT_S) -> PlannerSettings:
    return PlannerSettings(kind, task, urdf(), limit_s, moveit_folder=str(PANDA.moveit))


def tip(x: float, y: float, z: float, tilt_deg: float = 0.0) -> Pose:
    turn = Rotation.from_rotvec([np.radians(tilt_deg), 0.0, 0.0])
    return Pose.from_rotation([x, y, z], turn * SOCKET.rotation)


def plan_request(start: Pose, goal: Pose, seed: int = 0, fixture: Pose = SOCKET) -> PlanRequest:
    """The joints as a driver may report them: in any order, with some of no concern."""
    joints = arm().solve(start, np.array(HOME))
    assert joints is not None
    names = (*reversed(arm().joints), 'conveyor')
    return PlanRequest(start, goal, fixture, None, names, np.append(joints[::-1], 0.3), seed)


def pipe_gap(path: PlannedPath, fixture: Pose = SOCKET) -> float:
    """How near the pipe comes to collar and board [m], negative inside, by points on its skin every millimetre of way.

    Written without coal: distances of points to a cylinder and a box.
    """
    angles = np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False)
    radius = TASK.fixture.insert_radius_m
    skin = np.array(
        [
            [r * np.cos(a), r * np.sin(a), -z]
            for z in np.linspace(0.0, PIPE_M, 10)
            for r in (radius, radius / 2.0)
            for a in angles
        ]
    )
    nearest = float('inf')
    for first, last in zip(path.waypoints, path.waypoints[1:], strict=False):
        count = max(2, int(np.linalg.norm(last.position - first.position) / STEP_M) + 1)
        turn = first.rotation_vector_to(last)
        for share in np.linspace(0.0, 1.0, count):
            pose = Pose.from_rotation(
                first.position + share * (last.position - first.position),
                Rotation.from_rotvec(share * turn) * first.rotation,
            )
            local = pose.relative_to(fixture)
            points = local.position + local.rotation.apply(skin)
            nearest = min(nearest, float(_from_cylinder(points).min()))
            for box in TASK.fixture.boxes:
                nearest = min(nearest, float(_from_box(points, box).min()))
    return nearest


def _from_cylinder(points: np.ndarray) -> np.ndarray:
    spec = TASK.fixture
    outer = spec.insert_radius_m + spec.radial_clearance_m + spec.wall_m
    beside = np.hypot(points[:, 0], points[:, 1]) - outer
    above = np.abs(points[:, 2] - spec.body_m / 2.0) - spec.body_m / 2.0
    return _signed(np.column_stack([beside, above]))


def _from_box(points: np.ndarray, box) -> np.ndarray:
    return _signed(np.abs(points - box.position) - np.array(box.size) / 2.0)


def _signed(excess: np.ndarray) -> np.ndarray:
    return np.linalg.norm(np.maximum(excess, 0.0), axis=1) + np.minimum(excess.max(axis=1), 0.0)
