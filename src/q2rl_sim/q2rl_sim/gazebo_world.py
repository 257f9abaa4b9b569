# SPDX-License-Identifier: Apache-2.0
"""The world of a task for Gazebo Harmonic (gz-sim 8), as SDF made from the task's YAML.

    python3 -m q2rl_sim.gazebo_world pipe_assembly > pipe_assembly.sdf

World frame and robot base coincide. The socket is a static model of the boxes that the MuJoCo scene is made of, moved
by /world/<world>/set_pose; a contact sensor in its floor tells where the pipe touches, for people (what counts as
seated is decided from poses, as in MuJoCo). The robot is not in it: `ros_gz_sim create` spawns it.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree

from scipy.spatial.transform import Rotation

from q2rl_sim.socket_parts import (
    FRICTION,
    Box,
    socket_floor_and_board,
    socket_walls,
    stand,
)
from q2rl_task import InputError, Pose, TaskSpec, load_task

SCENE = 'pipe_assembly'
SOCKET = 'socket'
SEAT_TOPIC = 'seat_contacts'
STEP_S = 0.001
TABLE_HALF_M = (0.3, 0.45, 0.02)
SYSTEMS = {
    'gz-sim-physics-system': 'gz::sim::systems::Physics',
    'gz-sim-user-commands-system': 'gz::sim::systems::UserCommands',
    'gz-sim-scene-broadcaster-system': 'gz::sim::systems::SceneBroadcaster',
    'gz-sim-contact-system': 'gz::sim::systems::Contact',
    'gz-sim-forcetorque-system': 'gz::sim::systems::ForceTorque',
}


def world_sdf(task: TaskSpec) -> str:
    """Return the world of `task`; its name is the task's.

    :raises InputError: the task has another scene than the pipe's
    """
    if task.scene != SCENE:
        raise InputError(
            f'task {task.name}: field `scene`',
            f'{task.scene or "empty"} has no Gazebo world',
            f'use a task with scene {SCENE}, or sim:=mujoco',
        )
    sdf = ElementTree.Element('sdf', version='1.9')
    world = ElementTree.SubElement(sdf, 'world', name=task.name)
    physics = ElementTree.SubElement(world, 'physics', name='fine', type='ignored')
    _say(physics, max_step_size=STEP_S, real_time_factor=1.0)
    for filename, name in SYSTEMS.items():
        ElementTree.SubElement(world, 'plugin', filename=filename, name=name)
    _say(world, gravity='0 0 -9.81')
    _add_light(world)
    _add_table(world, task)
    _add_socket(world, task)
    ElementTree.indent(sdf)
    return '<?xml version="1.0"?>\n' + ElementTree.tostring(sdf, encoding='unicode') + '\n'


def pose_text(pose: Pose) -> str:
    """Return a pose as SDF has it: x y z [m], then fixed-axis roll pitch yaw [rad]."""
    angles = pose.rotation.as_euler('xyz')
    return ' '.join(f'{value:.9g}' for value in (*pose.position, *angles))


def _add_light(world: ElementTree.Element) -> None:
    light = ElementTree.SubElement(world, 'light', name='sun', type='directional')
    _say(light, cast_shadows='true', pose='0 0 3 0 0 0', diffuse='0.8 0.8 0.8 1')
    _say(light, specular='0.2 0.2 0.2 1', direction='-0.5 0.2 -0.9')


def _add_table(world: ElementTree.Element, task: TaskSpec) -> None:
    """Add a table under the stand, flush with the robot's base but for a few millimetres."""
    base = task.fixture.nominal.pose @ Pose.of([0.0, 0.0, stand().centre[2] + stand().half[2]])
    top = float(base.position[2])
    table = _model(world, 'table', Pose.of([base.position[0], base.position[1], 0.0]))
    centre = (0.0, 0.0, top - TABLE_HALF_M[2])
    _add_box(table, Box('top', TABLE_HALF_M, centre, 0.0, (0.75, 0.72, 0.66, 1.0)))


def _add_socket(world: ElementTree.Element, task: TaskSpec) -> None:
    link = _model(world, SOCKET, task.fixture.nominal.pose)
    for box in (*socket_walls(task), *socket_floor_and_board(task)):
        _add_box(link, box)
    _add_box(link, stand(), touches=False)
    sensor = ElementTree.SubElement(link, 'sensor', name='seat', type='contact')
    _say(sensor, always_on='true', update_rate=100, topic=SEAT_TOPIC)
    _say(ElementTree.SubElement(sensor, 'contact'), collision='floor')


def _model(world: ElementTree.Element, name: str, pose: Pose) -> ElementTree.Element:
    """Add a static model of one link; return the link."""
    model = ElementTree.SubElement(world, 'model', name=name)
    _say(model, static='true', pose=pose_text(pose))
    return ElementTree.SubElement(model, 'link', name='link')


def _add_box(link: ElementTree.Element, box: Box, touches: bool = True) -> None:
    pose = pose_text(Pose.from_rotation(box.centre, Rotation.from_euler('z', box.yaw)))
    for kind in ('visual', 'collision') if touches else ('visual',):
        # Names are unique among all children of a link.
        name = box.name if kind == 'collision' else f'{box.name}_visual'
        part = ElementTree.SubElement(link, kind, name=name)
        _say(part, pose=pose)
        shape = ElementTree.SubElement(ElementTree.SubElement(part, 'geometry'), 'box')
        _say(shape, size=' '.join(f'{2.0 * half:.9g}' for half in box.half))
        if kind == 'visual':
            colour = ' '.join(f'{value:g}' for value in box.rgba)
            _say(ElementTree.SubElement(part, 'material'), ambient=colour, diffuse=colour)
        else:
            surface = ElementTree.SubElement(part, 'surface')
            friction = ElementTree.SubElement(ElementTree.SubElement(surface, 'friction'), 'ode')
            _say(friction, mu=FRICTION, mu2=FRICTION)


def _say(parent: ElementTree.Element, **children: object) -> None:
    """Add elements that hold only a text."""
    for name, text in children.items():
        ElementTree.SubElement(parent, name).text = str(text)


def main(arguments: list[str] | None = None) -> int:
    """Print the world of the task named on the command line."""
    names = sys.argv[1:] if arguments is None else arguments
    try:
        print(world_sdf(load_task(names[0] if names else SCENE)), end='')
    except InputError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
