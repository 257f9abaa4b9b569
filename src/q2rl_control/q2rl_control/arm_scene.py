# SPDX-License-Identifier: Apache-2.0
"""The arm among the obstacles of its cell: whether joints are allowed, and whether a whole path is.

Kinematics and collisions are Pinocchio's, with the geometry of the robot's own description.
"""

from __future__ import annotations

from collections.abc import Iterator
import itertools
import math

import coal
import numpy as np
import pinocchio

from q2rl_control.kinematics import ArmKinematics
from q2rl_control.obstacles import Solid, obstacles
from q2rl_control.planning import (
    PlannedPath,
    PlanRefused,
    PlanRequest,
    check_goal,
    check_waypoints,
    outside,
)
from q2rl_task import Pose, TaskSpec
from q2rl_task.rotations import angle_between, from_vector, product

WAYPOINT_M = 0.0025
WAYPOINT_RAD = 0.02
WAYPOINT_JOINT_RAD = 0.02
"""A path is checked, and handed over, at steps no longer than these."""
SAME_M = 0.005
SAME_RAD = 0.05
"""By so much may the tip by the joints differ from the measured one, and the ends of a path from what was asked."""
LIMIT_RAD = 1e-6
IK_SEEDS = 16


class ArmScene:
    """One arm and one cell; `place` says where the obstacles are.

    :param urdf_text: the robot's description, meshes by absolute paths
    :raises InputError: Pinocchio is not installed, or the description does not fit the task
    """

    def __init__(self, task: TaskSpec, urdf_text: str) -> None:
        open_fingers = {j: task.gripper.open_m for j in task.gripper.joints} if task.gripper else {}
        self.task = task
        self.arm = ArmKinematics(urdf_text, task.frames.base, task.frames.tip, others=open_fingers)
        self._robot = self.arm.collision_geometry()
        self.solids: tuple[Solid, ...] = ()
        self._place(())

    def place(self, request: PlanRequest) -> None:
        """Put fixture, part and the rest of the cell where the request says."""
        self._place(obstacles(self.task, request.fixture, request.part))

    def start_joints(self, request: PlanRequest) -> np.ndarray:
        """Return where the arm's joints are (n,), in the order of `arm.joints`.

        :raises PlanRefused: a joint is missing or beyond its limits, or they put the tip elsewhere than it was measured
        """
        order, missing = self.arm.among(request.joint_names)
        if missing:
            raise PlanRefused(f'the measured joints lack {", ".join(missing)}')
        joints = np.asarray(request.joints, dtype=np.float64)[order]
        metres, radians = self.arm.tip_pose(joints).distance_to(request.start)
        if not (metres <= SAME_M and radians <= SAME_RAD):
            raise PlanRefused(
                f'the robot description puts the tip {1e3 * metres:.0f} mm and {np.degrees(radians):.0f} deg '
                'from where it is measured'
            )
        fault = self.fault(joints)
        if fault:
            raise PlanRefused(f'at the start {fault}')
        return joints

    def goal_joints(self, request: PlanRequest, start: np.ndarray) -> np.ndarray:
        """Return joints (n,) that are allowed and put the tip at the goal; those nearest to `start`, if they serve.

        :raises PlanRefused: the goal is outside the workspace, out of reach, or in collision
        """
        check_goal(self.task, request)
        rng, fault = np.random.default_rng(request.seed), 'the arm cannot reach it'
        whole_turns = np.nan_to_num([self.arm.lower, self.arm.upper], posinf=np.pi, neginf=-np.pi)
        near = [start + 0.3 * rng.normal(size=start.size) for _ in range(IK_SEEDS // 2)]
        far = [rng.uniform(*whole_turns) for _ in range(IK_SEEDS // 2)]
        for seed in (start, *near, *far):
            joints = self.arm.solve(request.goal, seed)
            if joints is None:
                continue
            fault = self.fault(joints)
            if not fault:
                return joints
            if self._tool_only(fault):
                break  # whatever the arm does, the tool would be there
        raise PlanRefused(f'at the goal {fault}')

    def fault(self, joints: np.ndarray, extra_m: float = 0.0) -> str:
        """Return what is wrong with joints (n,), '' if nothing: a limit, or what touches what.

        :param extra_m: distance to keep from obstacles on top of their margins
        """
        low, high = self.arm.lower - LIMIT_RAD, self.arm.upper + LIMIT_RAD
        for k in np.flatnonzero((joints < low) | (joints > high)):
            return f'{self.arm.joints[k]} is beyond its limit'
        pair = self._touching(joints, extra_m)
        return f'{pair[0]} is too near {pair[1]}' if pair else ''

    def follow(self, request: PlanRequest, start: np.ndarray) -> np.ndarray:
        """Return joints (m, n) that take the tip straight from `start` to the goal.

        :raises PlanRefused: the arm cannot
        """
        check_goal(self.task, request)
        first, joints = self.arm.tip_pose(start), [start]
        for pose in _between(first, request.goal, WAYPOINT_M, WAYPOINT_RAD):
            found = self.arm.solve(pose, joints[-1])
            if found is None or np.abs(found - joints[-1]).max() > 10.0 * WAYPOINT_JOINT_RAD:
                raise PlanRefused('the arm cannot follow the straight line')
            joints.append(found)
        return np.array(joints)

    def path(self, request: PlanRequest, joints: np.ndarray) -> PlannedPath:
        """Return the path of joints (m, n), filled up to fine steps, if it keeps every rule and goes where it should.

        :raises PlanRefused: it does not
        """
        fine = self._filled(joints)
        for row in fine:
            fault = self.fault(row)
            if fault:
                raise PlanRefused(f'on the way {fault}')
        tips = [self.arm.tip_pose(row) for row in fine]
        for name, tip, asked in (
            ('start', tips[0], request.start),
            ('end', tips[-1], request.goal),
        ):
            metres, radians = tip.distance_to(asked)
            if not (metres <= SAME_M and radians <= SAME_RAD):
                raise PlanRefused(
                    f'the {name} of the way is {1e3 * metres:.0f} mm from what was asked'
                )
        waypoints = (*tips[:-1], request.goal)
        check_waypoints(self.task, waypoints)
        return PlannedPath(waypoints, fine)

    def is_allowed(self, joints: np.ndarray, extra_m: float, room: tuple[float, float]) -> bool:
        """Whether a planner may pass through joints (n,) within their limits.

        :param room: how far outside the workspace it may be, see `outside`
        """
        metres, radians = outside(self.task, self.arm.tip_pose(joints))
        return metres <= room[0] and radians <= room[1] and not self._touching(joints, extra_m)

    def _place(self, solids: tuple[Solid, ...]) -> None:
        geometry, number = self._robot.copy(), self._robot.ngeoms
        for solid in solids:
            shape = coal.Box(*solid.size) if solid.is_box else coal.Cylinder(*solid.size)
            placement = self.arm.base * pinocchio.SE3(
                solid.pose.rotation.as_matrix(), np.array(solid.pose.position)
            )
            geometry.addGeometryObject(pinocchio.GeometryObject(solid.name, 0, 0, placement, shape))
        objects, margins = geometry.geometryObjects, []
        for k in range(number):
            if objects[k].parentJoint == 0:
                continue  # the base stands where it stands
            for i, solid in enumerate(solids):
                geometry.addCollisionPair(pinocchio.CollisionPair(k, number + i))
                margins.append(solid.margin)
        for k, i in itertools.combinations(range(number), 2):
            # Neighbours along the chain share a joint, and touch there.
            if abs(objects[k].parentJoint - objects[i].parentJoint) > 1:
                geometry.addCollisionPair(pinocchio.CollisionPair(k, i))
        self.solids, self._margins, self._geometry = solids, margins, geometry
        self._checks = geometry.createData()
        self._extra = math.nan

    def _touching(self, joints: np.ndarray, extra_m: float) -> tuple[str, str] | None:
        """Return the names of two things that touch, or come nearer than the margin and `extra_m` allow."""
        if extra_m != self._extra:
            for k, margin in enumerate(self._margins):
                self._checks.collisionRequests[k].security_margin = margin + extra_m
            self._extra = extra_m
        arm, checks = self.arm, self._checks
        if not pinocchio.computeCollisions(
            arm.model, arm.data, self._geometry, checks, arm.configuration(joints), True
        ):
            return None
        # The results after the first hit are those of an earlier call.
        hit = next(k for k, result in enumerate(checks.collisionResults) if result.isCollision())
        pair = self._geometry.collisionPairs[hit]
        names = [self._geometry.geometryObjects[k].name for k in (pair.first, pair.second)]
        return names[0], names[1]

    def _tool_only(self, fault: str) -> bool:
        """Whether a fault is about what is fixed to the tip, which every way to hold the arm has alike."""
        last = self.arm.model.frames[self.arm.tip].parentJoint
        return any(
            fault.startswith(f'{thing.name} ')
            for thing in self._robot.geometryObjects
            if thing.parentJoint == last
        ) and any(fault.endswith(f' {solid.name}') for solid in self.solids)

    def _filled(self, joints: np.ndarray) -> np.ndarray:
        rows = [joints[0]]
        for first, last in itertools.pairwise(joints):
            metres, radians = self.arm.tip_pose(first).distance_to(self.arm.tip_pose(last))
            # The tip's way is curved: twice its chord is more than enough for so small steps.
            count = math.ceil(
                max(
                    np.abs(last - first).max() / WAYPOINT_JOINT_RAD,
                    2.0 * metres / WAYPOINT_M,
                    2.0 * radians / WAYPOINT_RAD,
                    1.0,
                )
            )
            rows += [first + (last - first) * (k / count) for k in range(1, count + 1)]
        return np.array(rows)


class StraightPath:
    """Straight to the goal, if nothing is in the way: joints, obstacles and workspace are looked at."""

    repeatable = True

    def __init__(self, scene: ArmScene) -> None:
        self._scene = scene

    def plan(self, request: PlanRequest) -> PlannedPath:
        """Return the straight path.

        :raises PlanRefused: the goal or the way is not allowed
        """
        scene = self._scene
        scene.place(request)
        check_goal(scene.task, request)
        start = scene.start_joints(request)
        scene.goal_joints(request, start)
        return scene.path(request, scene.follow(request, start))


def _between(first: Pose, last: Pose, step_m: float, step_rad: float) -> Iterator[Pose]:
    """Yield poses from after `first` up to `last`, in steps no longer than those."""
    shift, turn = last.position - first.position, first.rotation_vector_to(last)
    angle = angle_between(first.quaternion, last.quaternion)
    count = max(1, math.ceil(max(float(np.linalg.norm(shift)) / step_m, angle / step_rad)))
    for k in range(1, count):
        share = k / count
        yield Pose(
            first.position + share * shift, product(from_vector(share * turn), first.quaternion)
        )
    yield last
