# SPDX-License-Identifier: Apache-2.0
"""Ways round obstacles by MoveIt, through moveit_py: for a machine with all of ROS.

Runs in a process of its own (`PlannerProcess`): moveit_py's `plan` holds Python's lock for as long as it takes, and the
object shuts down the C++ side of ROS in its process when it goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from q2rl_control.arm_scene import ArmScene
from q2rl_control.moveit_config import GROUP, moveit_config
from q2rl_control.obstacles import Solid
from q2rl_control.planning import PlannedPath, PlanRefused, PlanRequest, check_goal, outside
from q2rl_task import InputError, Pose
from q2rl_task.errors import one_line

NODE_NAME = 'q2rl_planner'


class MoveItPlanner:
    """Plans with MoveIt's pipeline; what it finds passes the same check as every other path.

    Goal and start are joints that this package's own kinematics found and allowed, so MoveIt only looks for the way
    between them. It has no seed: the same request may give another path (`repeatable` is False).

    :param config: parameters of MoveIt that win over all others
    :param folder: of a configuration that was made for this robot; empty: none. See `moveit_config`
    :raises InputError: moveit_py is not installed, or MoveIt does not start with these parameters
    """

    repeatable = False

    def __init__(
        self,
        scene: ArmScene,
        urdf_text: str,
        time_limit_s: float,
        config: Mapping[str, Any],
        folder: str = '',
    ) -> None:
        try:
            from moveit.core.robot_state import RobotState
            from moveit.planning import MoveItPy, PlanRequestParameters
        except ImportError:
            raise InputError(
                'moveit_py',
                'is not installed',
                'apt install ros-jazzy-moveit-py ros-jazzy-moveit, or say planner:=ompl',
            ) from None
        self._scene = scene
        self._robot_state = RobotState
        parameters = moveit_config(scene.task, urdf_text, scene.arm, config, folder)
        try:
            self._moveit = MoveItPy(node_name=NODE_NAME, config_dict=parameters)
            self._component = self._moveit.get_planning_component(GROUP)
        except RuntimeError as error:
            problem = one_line(error)
            raise InputError('MoveIt', problem, 'see its log, and `moveit_config`') from None
        self._parameters = PlanRequestParameters(self._moveit, '')
        self._parameters.planning_time = time_limit_s
        self._parameters.planning_attempts = 1

    def plan(self, request: PlanRequest) -> PlannedPath:
        """Return a path round what is in the way.

        :raises PlanRefused: start or goal is not allowed, or MoveIt found no way in time
        """
        scene = self._scene
        scene.place(request)
        check_goal(scene.task, request)
        start = scene.start_joints(request)
        goal = scene.goal_joints(request, start)
        with self._moveit.get_planning_scene_monitor().read_write() as planning_scene:
            planning_scene.remove_all_collision_objects()
            for solid in scene.solids:
                planning_scene.apply_collision_object(_collision_object(solid, scene))
            planning_scene.current_state.update()
        self._component.set_start_state(robot_state=self._state(start, request))
        self._component.set_goal_state(robot_state=self._state(goal, request))
        self._component.set_path_constraints(path_constraints=_constraints(request, scene))
        response = self._component.plan(single_plan_parameters=self._parameters)
        if not response:
            raise PlanRefused(f'MoveIt found no way (error code {response.error_code.val})')
        message = response.trajectory.get_robot_trajectory_msg().joint_trajectory
        order = [list(message.joint_names).index(name) for name in scene.arm.joints]
        return scene.path(
            request, np.array([np.asarray(point.positions)[order] for point in message.points])
        )

    def _state(self, joints: np.ndarray, request: PlanRequest):
        """Return the state of the whole robot with its arm at `joints` (n,)."""
        state = self._robot_state(self._moveit.get_robot_model())
        state.set_to_default_values()
        positions = dict(zip(self._scene.arm.joints, joints.tolist(), strict=True))
        gripper = self._scene.task.gripper
        measured = dict(zip(request.joint_names, request.joints, strict=False))
        for name in gripper.joints if gripper else ():
            positions[name] = float(measured.get(name, gripper.open_m))
        state.joint_positions = positions
        state.update()
        return state


def _collision_object(solid: Solid, scene: ArmScene):
    """Return a moveit_msgs/CollisionObject, grown by the solid's margin."""
    from moveit_msgs.msg import CollisionObject
    from shape_msgs.msg import SolidPrimitive

    grown = 2.0 * solid.margin
    if solid.is_box:
        shape = SolidPrimitive(type=SolidPrimitive.BOX)
        shape.dimensions = [float(edge) + grown for edge in solid.size]
    else:
        radius, length = solid.size
        shape = SolidPrimitive(type=SolidPrimitive.CYLINDER)
        shape.dimensions = [length + grown, radius + solid.margin]  # in this order
    thing = CollisionObject(id=solid.name, operation=CollisionObject.ADD)
    thing.header.frame_id = scene.task.frames.base
    thing.primitives = [shape]
    thing.primitive_poses = [_pose_msg(solid.pose)]
    return thing


def _constraints(request: PlanRequest, scene: ArmScene):
    """Return moveit_msgs/Constraints that keep the tip in the workspace, or no further out of it than it starts.

    The cone of orientations becomes the box of rotation vectors round it: the final check is the strict one.
    """
    from moveit_msgs.msg import Constraints, OrientationConstraint, PositionConstraint
    from shape_msgs.msg import SolidPrimitive

    task = scene.task
    space, frames, nominal = task.limits.workspace, task.frames, task.fixture.nominal.pose
    metres, radians = (max(0.0, beyond) for beyond in outside(task, request.start))
    low, high = np.array(space.low), np.array(space.high)
    box = SolidPrimitive(type=SolidPrimitive.BOX)
    box.dimensions = (high - low + 2.0 * metres).tolist()
    position = PositionConstraint(link_name=frames.tip, weight=1.0)
    position.header.frame_id = frames.base
    position.constraint_region.primitives = [box]
    position.constraint_region.primitive_poses = [_pose_msg(Pose.of((low + high) / 2.0))]
    turn = OrientationConstraint(link_name=frames.tip, weight=1.0)
    turn.header.frame_id = frames.base
    turn.parameterization = OrientationConstraint.ROTATION_VECTOR
    turn.orientation = _pose_msg(nominal).orientation
    tolerance = space.max_rotation_rad + radians
    turn.absolute_x_axis_tolerance = tolerance
    turn.absolute_y_axis_tolerance = tolerance
    turn.absolute_z_axis_tolerance = tolerance
    return Constraints(position_constraints=[position], orientation_constraints=[turn])


def _pose_msg(pose: Pose):
    """Return a geometry_msgs/Pose."""
    from geometry_msgs.msg import Point, Quaternion
    from geometry_msgs.msg import Pose as PoseMsg

    x, y, z = pose.position.tolist()
    qx, qy, qz, qw = pose.quaternion.tolist()
    return PoseMsg(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=qx, y=qy, z=qz, w=qw))
