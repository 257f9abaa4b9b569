# SPDX-License-Identifier: Apache-2.0
"""What ros2_control brings to a start, with mock hardware or in Gazebo: its processes, and files that they read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from q2rl_bringup.arguments import Value
from q2rl_bringup.graph_specs import IncludeSpec, NodeSpec
from q2rl_bringup.robot_description import robot_urdf
from q2rl_bringup.robots import ROBOTS, Robot
from q2rl_sim.gazebo_world import SEAT_TOPIC, world_sdf
from q2rl_task import TaskSpec

CLOCK_BRIDGE = '/clock@rosgraph_msgs/msg/Clock[gz.msgs.Clock'
SEAT_BRIDGE = f'/{SEAT_TOPIC}@ros_gz_interfaces/msg/Contacts[gz.msgs.Contacts'
SPAWNER_PATIENCE_S = 60
MOVED_TF = (('/tf', 'tf'), ('/tf_static', 'tf_static'))
"""Names of TF are absolute; so they move with a namespace as everything else does."""
MOVED_CLOCK = (*MOVED_TF, ('/clock', 'clock'))
"""The same where a simulation's clock is heard, whose name is absolute too."""


@dataclass(frozen=True)
class Cell:
    """What a kind of simulation adds to a start. files: path to text, written before anything starts."""

    nodes: tuple[NodeSpec, ...]
    includes: tuple[IncludeSpec, ...] = ()
    files: Mapping[Path, str] = field(default_factory=dict)


def cell_processes(
    args: Mapping[str, Value], task: TaskSpec, namespace: str, run_dir: Path
) -> Cell:
    """Return what sim:=mock or sim:=gazebo starts beside q2rl's own nodes; nothing for any other `sim`.

    :raises InputError: the robot is not the task's, or the task has no Gazebo world
    """
    if args['sim'] not in ('mock', 'gazebo'):
        return Cell(())
    robot, gazebo = ROBOTS[args['robot_type']], args['sim'] == 'gazebo'
    urdf = robot_urdf(task, robot, args['sim'], namespace=namespace)
    time = {'use_sim_time': gazebo}
    moved = MOVED_CLOCK if gazebo else MOVED_TF
    others = {'managed': False, 'respawn': False, 'remappings': moved}
    publisher = 'robot_state_publisher'
    described = {'robot_description': urdf, **time}
    nodes = [NodeSpec(publisher, publisher, publisher, described, **others)]
    nodes += _gazebo(task, others) if gazebo else [manager(robot, others)]
    nodes += [
        spawner('spawn_active', robot, robot.active, time, others),
        spawner('spawn_inactive', robot, robot.inactive, time, others, '--inactive'),
    ]
    if not gazebo:
        return Cell(tuple(nodes))
    world = run_dir / 'gazebo' / f'{task.name}.sdf'
    server = '-s ' if args['headless'] else ''
    told = {'gz_args': f'-r {server}-v 2 {world}', 'on_exit_shutdown': 'true'}
    return Cell(
        tuple(nodes),
        (IncludeSpec('ros_gz_sim', 'gz_sim.launch.py', told),),
        {world: world_sdf(task)},
    )


def manager(robot: Robot, others: Mapping[str, object]) -> NodeSpec:
    """Return the controller manager of `robot`; others: what the processes of the start have in common."""
    return NodeSpec(
        'controller_manager',
        'ros2_control_node',
        'controller_manager',
        files=(robot.controllers,),
        named=False,
        **others,
    )


def _gazebo(task: TaskSpec, others: Mapping[str, object]) -> list[NodeSpec]:
    """Return what puts the robot into Gazebo, whose plugin is the controller manager, and brings its clock out."""
    spawn = ('-world', task.name, '-topic', 'robot_description', '-name', 'robot')
    bridge = ('ros_gz_bridge', 'parameter_bridge', 'gazebo_bridge')
    return [
        NodeSpec('ros_gz_sim', 'create', 'spawn_robot', arguments=spawn, once=True, **others),
        NodeSpec(*bridge, arguments=(CLOCK_BRIDGE, SEAT_BRIDGE), **others),
    ]


def spawner(
    name: str,
    robot: Robot,
    controllers: tuple[str, ...],
    parameters: Mapping[str, bool],
    others: Mapping[str, object],
    *options: str,
) -> NodeSpec:
    """Return what loads `controllers` and, without the option `--inactive`, activates them."""
    return NodeSpec(
        'controller_manager',
        'spawner',
        name,
        parameters,
        arguments=(
            *controllers,
            '--param-file',
            str(robot.controllers),
            '--controller-manager-timeout',
            str(SPAWNER_PATIENCE_S),
            *options,
        ),
        named=False,
        once=True,
        **others,
    )
