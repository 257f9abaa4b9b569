# SPDX-License-Identifier: Apache-2.0
"""A stand-in for moveit_py and moveit_msgs: the calls that the planner makes, with the names that upstream gives them.

It knows of the cell only what it is told through that interface, and finds ways as the OMPL planner does. It says
nothing of MoveIt itself, which has never run here.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
import time
from types import ModuleType, SimpleNamespace
import xml.etree.ElementTree as ElementTree

from geometry_msgs.msg import Pose as PoseMsg
from geometry_msgs.msg import Quaternion
import numpy as np
from planning_cell import TASK
from shape_msgs.msg import SolidPrimitive
from std_msgs.msg import Header

from q2rl_control.arm_scene import ArmScene
from q2rl_control.obstacles import Solid
from q2rl_control.ompl_planner import OmplPlanner
from q2rl_ros.conversions import pose_from_msg
from q2rl_task import Pose

SUCCESS, PLANNING_FAILED = 1, -1
PLUGINS = {
    'planning_plugins': {'ompl_interface/OMPLPlanner'},
    'request_adapters': {
        f'default_planning_request_adapters/{name}'
        for name in (
            'CheckForStackedConstraints',
            'CheckStartStateBounds',
            'CheckStartStateCollision',
            'ResolveConstraintFrames',
            'ValidateWorkspaceBounds',
        )
    },
    'response_adapters': {
        f'default_planning_response_adapters/{name}'
        for name in (
            'AddRuckigTrajectorySmoothing',
            'AddTimeOptimalParameterization',
            'DisplayMotionPath',
            'ValidateSolution',
        )
    },
}
"""What pluginlib would find with the packages that the image `robot` installs."""


@dataclass
class CollisionObject:
    ADD = b'\x00'

    id: str = ''
    operation: bytes = b'\x00'
    header: Header = field(default_factory=Header)
    pose: PoseMsg = field(default_factory=PoseMsg)
    primitives: list = field(default_factory=list)
    primitive_poses: list = field(default_factory=list)


@dataclass
class PositionConstraint:
    link_name: str = ''
    weight: float = 0.0
    header: Header = field(default_factory=Header)
    constraint_region: SimpleNamespace = field(
        default_factory=lambda: SimpleNamespace(primitives=[], primitive_poses=[])
    )


@dataclass
class OrientationConstraint:
    ROTATION_VECTOR = 1

    link_name: str = ''
    weight: float = 0.0
    parameterization: int = 0
    header: Header = field(default_factory=Header)
    orientation: Quaternion = field(default_factory=Quaternion)
    absolute_x_axis_tolerance: float = 0.0
    absolute_y_axis_tolerance: float = 0.0
    absolute_z_axis_tolerance: float = 0.0


@dataclass
class Constraints:
    position_constraints: list = field(default_factory=list)
    orientation_constraints: list = field(default_factory=list)


class RobotState:
    def __init__(self, robot_model) -> None:
        self._positions = {name: float('nan') for name in robot_model.joints}
        self.updated = False

    def set_to_default_values(self) -> None:
        self._positions = dict.fromkeys(self._positions, 0.0)

    @property
    def joint_positions(self) -> dict:
        return dict(self._positions)

    @joint_positions.setter
    def joint_positions(self, positions: dict) -> None:
        assert set(positions) <= set(self._positions), (
            'MoveIt throws on a variable it does not know'
        )
        self._positions |= positions
        self.updated = False

    def update(self, force: bool = False, type: str = 'all') -> None:
        self.updated = True


class PlanningScene:
    def __init__(self) -> None:
        self.objects: dict[str, CollisionObject] = {}
        self.current_state = SimpleNamespace(update=lambda: None)

    def remove_all_collision_objects(self) -> None:
        self.objects.clear()

    def apply_collision_object(self, collision_object_msg, color_msg=None) -> bool:
        assert collision_object_msg.operation == CollisionObject.ADD
        self.objects[collision_object_msg.id] = collision_object_msg
        return True

    def solids(self) -> tuple[Solid, ...]:
        return tuple(_solid(thing) for thing in self.objects.values())


def _solid(thing: CollisionObject) -> Solid:
    assert thing.header.frame_id == TASK.frames.base
    (shape,), (pose,) = thing.primitives, thing.primitive_poses
    stamped = SimpleNamespace(header=SimpleNamespace(frame_id=TASK.frames.base), pose=pose)
    size = list(shape.dimensions)
    if shape.type == SolidPrimitive.CYLINDER:
        size = [size[SolidPrimitive.CYLINDER_RADIUS], size[SolidPrimitive.CYLINDER_HEIGHT]]
    return Solid(thing.id, tuple(size), pose_from_msg(stamped), 0.0)


class PlanRequestParameters:
    def __init__(self, moveit_cpp, ns: str) -> None:
        given = moveit_cpp.parameters['plan_request_params']
        assert (
            given['planning_pipeline']
            in moveit_cpp.parameters['planning_pipelines']['pipeline_names']
        )
        self.planning_time = 1.0
        self.planning_attempts = given['planning_attempts']
        self.planning_pipeline = given['planning_pipeline']
        self.planner_id = given['planner_id']


class PlanningComponent:
    def __init__(self, name: str, owner: MoveItPy) -> None:
        semantic = ElementTree.fromstring(owner.parameters['robot_description_semantic'])
        chain = semantic.find(f"group[@name='{name}']/chain")
        assert (
            chain.get('base_link') == TASK.frames.base and chain.get('tip_link') == TASK.frames.tip
        )
        self._owner = owner
        self._start = self._goal = self._constraints = None

    def set_start_state(self, configuration_name=None, robot_state=None) -> bool:
        assert robot_state.updated
        self._start = robot_state
        return True

    def set_goal_state(
        self,
        configuration_name=None,
        robot_state=None,
        pose_stamped_msg=None,
        pose_link=None,
        motion_plan_constraints=None,
    ) -> bool:
        assert robot_state.updated
        self._goal = robot_state
        return True

    def set_path_constraints(self, path_constraints) -> bool:
        self._constraints = path_constraints
        return True

    def plan(self, single_plan_parameters=None, multi_plan_parameters=None, planning_scene=None):
        arm = self._owner.scene.arm
        start, goal = (
            np.array([state.joint_positions[name] for name in arm.joints])
            for state in (self._start, self._goal)
        )
        self._check_constraints(start, goal)
        self._owner.scene._place(self._owner.planning_scene.solids())
        end = time.monotonic() + single_plan_parameters.planning_time
        joints = self._owner.planner._search(start, goal, 1, end)
        return Response(joints, arm.joints[::-1])

    def _check_constraints(self, start: np.ndarray, goal: np.ndarray) -> None:
        """Refuse, as MoveIt would, to plan between states that break the constraints on the path."""
        (position,), (turn,) = (
            self._constraints.position_constraints,
            self._constraints.orientation_constraints,
        )
        assert position.link_name == turn.link_name == TASK.frames.tip
        (box,), (centre,) = (
            position.constraint_region.primitives,
            position.constraint_region.primitive_poses,
        )
        middle = np.array([centre.position.x, centre.position.y, centre.position.z])
        q = turn.orientation
        axes = Pose.of([0.0, 0.0, 0.0], [q.x, q.y, q.z, q.w])
        for joints in (start, goal):
            pose = self._owner.scene.arm.tip_pose(joints)
            assert (np.abs(pose.position - middle) <= np.array(box.dimensions) / 2.0 + 1e-9).all()
            assert (
                np.abs(axes.rotation_vector_to(pose)).max() <= turn.absolute_x_axis_tolerance + 1e-9
            )


class Response:
    def __init__(self, joints: np.ndarray | None, names: tuple[str, ...]) -> None:
        self._found = joints is not None
        self.error_code = SimpleNamespace(val=SUCCESS if self._found else PLANNING_FAILED)
        if self._found:
            points = [SimpleNamespace(positions=row[::-1].tolist()) for row in joints]
            message = SimpleNamespace(
                joint_trajectory=SimpleNamespace(joint_names=list(names), points=points)
            )
            self.trajectory = SimpleNamespace(get_robot_trajectory_msg=lambda: message)

    def __bool__(self) -> bool:
        return self._found


class MoveItPy:
    def __init__(
        self,
        node_name='moveit_py',
        name_space='',
        launch_params_filepaths=(),
        config_dict=None,
        provide_planning_service=True,
        remappings=None,
    ) -> None:
        self.parameters = config_dict
        _start(config_dict)
        self.scene = ArmScene(TASK, config_dict['robot_description'])
        self.planner = OmplPlanner(self.scene, 1.0)
        self.planning_scene = PlanningScene()
        robot = ElementTree.fromstring(config_dict['robot_description'])
        moving = [j.get('name') for j in robot.findall('joint') if j.get('type') != 'fixed']
        self._model = SimpleNamespace(joints=moving)

    def get_robot_model(self):
        return self._model

    def get_planning_component(self, planning_component_name: str) -> PlanningComponent:
        return PlanningComponent(planning_component_name, self)

    def get_planning_scene_monitor(self):
        return self

    @contextmanager
    def read_write(self):
        yield self.planning_scene


def _start(parameters: dict) -> None:
    """Refuse what MoveItCpp refuses as it starts, and what it would only complain of in its log."""
    monitor = parameters.get('planning_scene_monitor_options', {})
    if monitor.get('wait_for_initial_state_timeout', 0.0) > 0.0:
        # It waits for joint_states, which nobody here sends.
        raise RuntimeError('Unable to configure planning scene monitor')
    names = parameters['planning_pipelines']['pipeline_names']
    if not names:
        raise RuntimeError('Failed to load planning pipelines from parameter server')
    for name in names:
        assert parameters[name]['planning_plugins']
        for kind, known in PLUGINS.items():
            assert set(parameters[name][kind]) <= known
    links = {
        link.get('name')
        for link in ElementTree.fromstring(parameters['robot_description']).findall('link')
    }
    semantic = ElementTree.fromstring(parameters['robot_description_semantic'])
    for pair in semantic.findall('disable_collisions'):
        assert {pair.get('link1'), pair.get('link2')} <= links
    for group in semantic.findall('group'):
        solver = parameters['robot_description_kinematics'][group.get('name')]
        assert solver['kinematics_solver'] == 'kdl_kinematics_plugin/KDLKinematicsPlugin'


def modules() -> dict[str, ModuleType]:
    """The modules to put into sys.modules."""
    content = {
        'moveit': {},
        'moveit.core': {},
        'moveit.core.robot_state': {'RobotState': RobotState},
        'moveit.planning': {'MoveItPy': MoveItPy, 'PlanRequestParameters': PlanRequestParameters},
        'moveit_msgs': {},
        'moveit_msgs.msg': {
            'CollisionObject': CollisionObject,
            'Constraints': Constraints,
            'OrientationConstraint': OrientationConstraint,
            'PositionConstraint': PositionConstraint,
        },
    }
    made = {}
    for name, names in content.items():
        made[name] = ModuleType(name)
        vars(made[name]).update(names)
    return made
