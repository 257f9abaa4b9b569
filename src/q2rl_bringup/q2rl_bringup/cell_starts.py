# SPDX-License-Identifier: Apache-2.0
"""Starts of what stands below q2rl and outlives it: the driver of an FR3, and MoveIt Servo.

They are starts of their own on purpose: what watches over the arm must go on when a start of q2rl ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from q2rl_bringup.arguments import Argument, Value, parse_arguments
from q2rl_bringup.cell_processes import MOVED_CLOCK, MOVED_TF, manager, spawner
from q2rl_bringup.graph_specs import NodeSpec, ParameterValue
from q2rl_bringup.node_graph import NodeGraph, namespace_of
from q2rl_bringup.robot_description import robot_urdf
from q2rl_bringup.robots import FR3, Robot, known_robot, robot_on
from q2rl_bringup.share import share_path
from q2rl_control.kinematics import description_text
from q2rl_task import InputError, load_task

ON_THE_ARM = ('joint_state_broadcaster', 'franka_robot_state_broadcaster')
LOADED = {
    'spawn_compliant': 'cartesian_controller',
    'spawn_position': 'forward_position_controller',
}
"""What may be activated instead of each other. crisp's comes from source: a driver does without."""
OTHERS = {'managed': False, 'respawn': False, 'remappings': MOVED_TF}
TASK = Argument('task', 'pipe_assembly_fr3', 'Task: of it the tool, its tip and the base frame.')
NAMESPACE = Argument('namespace', '', 'Namespace of all nodes and topics. Empty: none.')


@dataclass(frozen=True)
class CellStart:
    """A start by a launch file of its own: what it is told, and what it makes of that."""

    arguments: tuple[Argument, ...]
    build: Callable[[Mapping[str, object]], NodeGraph]


def driver_graph(given: Mapping[str, object]) -> NodeGraph:
    """Return the driver of an FR3 with the pipe in its hand: description, controller manager, broadcasters.

    Controllers that move the arm are loaded, not active. Franka's own launch file takes no description but its own.

    :raises InputError: an argument is bad, or a package of the vendor's is missing
    """
    args = parse_arguments(given, DRIVER.arguments)
    urdf = robot_urdf(load_task(args['task']), FR3, 'vendor', robot_ip=args['robot_ip'])
    publisher = 'robot_state_publisher'
    nodes = (
        NodeSpec(publisher, publisher, publisher, {'robot_description': urdf}, **OTHERS),
        manager(FR3, OTHERS),
        spawner('spawn_active', FR3, ON_THE_ARM, {}, OTHERS),
        *(
            spawner(name, FR3, (controller,), {}, {**OTHERS, 'required': False}, '--inactive')
            for name, controller in LOADED.items()
        ),
    )
    return _graph(nodes, args)


def servo_graph(given: Mapping[str, object]) -> NodeGraph:
    """Return MoveIt Servo for a task's arm, with all that it must know of it.

    :raises InputError: no MoveIt configuration is for this arm
    """
    args = parse_arguments(given, SERVO.arguments)
    task = load_task(args['task'])
    base, urdf = task.frames.base, args['description_file']
    if urdf:
        text = description_text(urdf)
        robot = known_robot(base, text)
    else:
        robot = robot_on(base)
        text = robot_urdf(task, robot) if robot is not None else ''
    if robot is None:
        raise InputError(
            f'argument `description_file`: {urdf}'
            if urdf
            else f'task {task.name}: field `frames.base`',
            f'no MoveIt configuration here is for such an arm on {base!r}',
            'start Servo by a launch file of your own',
        )
    semantic = (robot.moveit / f'pipe_{robot.name}.srdf').read_text()
    parameters: dict[str, ParameterValue] = {
        'use_sim_time': args['use_sim_time'],
        'robot_description': text,
        'robot_description_semantic': semantic,
        **dict(_flat('robot_description_kinematics', _yaml(robot, 'kinematics.yaml'))),
        **dict(_flat('robot_description_planning', _yaml(robot, 'joint_limits.yaml'))),
    }
    name = 'servo_node'
    files = (robot.moveit / 'servo.yaml',)
    others = {**OTHERS, 'remappings': MOVED_CLOCK} if args['use_sim_time'] else OTHERS
    return _graph((NodeSpec('moveit_servo', name, name, parameters, files=files, **others),), args)


def _yaml(robot: Robot, file: str) -> Mapping[str, object]:
    return yaml.safe_load((robot.moveit / file).read_text())


def _flat(prefix: str, tree: Mapping[str, object]) -> Iterator[tuple[str, ParameterValue]]:
    """Yield the leaves of nested parameters by their dotted names."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(f'{prefix}.{name}', value)
        else:
            yield f'{prefix}.{name}', value


def _graph(nodes: tuple[NodeSpec, ...], args: Mapping[str, Value]) -> NodeGraph:
    return NodeGraph(
        nodes=nodes,
        namespace=namespace_of(args['namespace']),
        params_file=share_path('config/q2rl.params.yaml'),
        log_level='info',
        run_dir=Path.cwd(),
        run_id='',
        environment={},
    )


DRIVER = CellStart(
    (TASK, Argument('robot_ip', '', 'Address of the robot.'), NAMESPACE), driver_graph
)
SERVO = CellStart(
    (
        TASK,
        Argument(
            'description_file',
            '',
            'URDF of the robot. Empty: that of the task without ros2_control.',
        ),
        Argument('use_sim_time', False, 'Whether the clock is that of a simulation.'),
        NAMESPACE,
    ),
    servo_graph,
)
CELL_STARTS = {'fr3_driver': DRIVER, 'servo': SERVO}
"""By the name of the launch file."""
