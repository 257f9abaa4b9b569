# SPDX-License-Identifier: Apache-2.0
"""The robot's description: the Panda of `example-robot-data` as a task needs it, as URDF.

    python3 -m q2rl_bringup.robot_description pipe_assembly > pipe_panda.urdf

A task with a gripper gets the hand with moving fingers, its tip frame between their pads. A task without one gets a
pipe in closed fingers: `pipe` at its held end, where the force-torque sensor sits, z along it; the tip frame at its
free end.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
import sys
import xml.etree.ElementTree as ElementTree

from q2rl_task import InputError, TaskSpec, load_task

DISTRIBUTION = 'example-robot-data'
PACKAGE_PREFIX = f'package://{DISTRIBUTION}/'
BASE_LINK = 'panda_link0'
HAND_LINK = 'panda_hand'
FINGERS = {'panda_finger_joint1': 1.0, 'panda_finger_joint2': -1.0}
PADS_FROM_HAND_M = 0.1034
"""From the hand's frame to between the finger pads, along z."""
TIP_FROM_PADS_M = 0.065
PIPE_LENGTH_M = 0.09
PIPE_MASS_KG = 0.12
PIPE_RGBA = '0.93 0.45 0.13 1.0'


def robot_urdf(task: TaskSpec) -> str:
    """Return the URDF of the Panda with what `task` has in its hand, meshes by their absolute paths.

    :raises InputError: example-robot-data is not installed, or the task's base frame is not the Panda's
    """
    if task.frames.base != BASE_LINK:
        raise InputError(
            f'task {task.name}: field `frames.base`',
            f'{task.frames.base!r} is not the base of the Panda',
            f'set it to {BASE_LINK}, or bring a description of your own robot',
        )
    source = panda_urdf()
    robot = ElementTree.parse(source).getroot()
    robot.set('name', 'panda' if task.gripper else 'pipe_panda')
    # RViz resolves package:// by the ament index, in which a wheel does not appear.
    root = next(folder for folder in source.parents if folder.name == DISTRIBUTION)
    for mesh in robot.iter('mesh'):
        path = root / mesh.get('filename').removeprefix(PACKAGE_PREFIX)
        mesh.set('filename', path.as_uri())
    if task.gripper:
        _add_tip(robot, task.frames.tip)
    else:
        _add_pipe(robot, task)
    ElementTree.indent(robot)
    return ElementTree.tostring(robot, encoding='unicode')


def _add_tip(robot: ElementTree.Element, tip: str) -> None:
    """Add the tip frame between the finger pads, unless the description has a frame of that name there."""
    if all(link.get('name') != tip for link in robot.iter('link')):
        robot.append(ElementTree.Element('link', name=tip))
        robot.append(_fixed_joint('tip_joint', HAND_LINK, tip, PADS_FROM_HAND_M))


def _add_pipe(robot: ElementTree.Element, task: TaskSpec) -> None:
    radius = task.fixture.insert_radius_m
    for joint in robot.iter('joint'):
        if joint.get('name') in FINGERS:
            _close_finger(joint, FINGERS[joint.get('name')] * radius)
    held_end = PADS_FROM_HAND_M + TIP_FROM_PADS_M - PIPE_LENGTH_M
    robot.append(_pipe_link(radius))
    robot.append(_fixed_joint('pipe_joint', HAND_LINK, 'pipe', held_end))
    robot.append(ElementTree.Element('link', name=task.frames.tip))
    robot.append(_fixed_joint('pipe_tip_joint', 'pipe', task.frames.tip, PIPE_LENGTH_M))


def panda_urdf() -> Path:
    """Return the path of the installed panda.urdf.

    :raises InputError: there is none
    """
    try:
        files = metadata.files(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == 'panda.urdf' and Path(file.locate()).is_file():
            return Path(file.locate()).resolve()
    raise InputError(
        DISTRIBUTION,
        'is not installed',
        'install the pinned requirements (pip install example-robot-data)',
    )


def _close_finger(joint: ElementTree.Element, along_y: float) -> None:
    """Turn a finger's prismatic joint into a fixed one, closed on the pipe."""
    joint.set('type', 'fixed')
    origin = joint.find('origin')
    z = origin.get('xyz').split()[2]
    origin.set('xyz', f'0 {along_y} {z}')
    for child in list(joint):
        if child.tag not in ('parent', 'child', 'origin'):
            joint.remove(child)


def _pipe_link(radius: float) -> ElementTree.Element:
    link = ElementTree.Element('link', name='pipe')
    middle = f'0 0 {PIPE_LENGTH_M / 2.0}'
    for kind in ('visual', 'collision'):
        part = ElementTree.SubElement(link, kind)
        ElementTree.SubElement(part, 'origin', rpy='0 0 0', xyz=middle)
        geometry = ElementTree.SubElement(part, 'geometry')
        ElementTree.SubElement(geometry, 'cylinder', radius=str(radius), length=str(PIPE_LENGTH_M))
        if kind == 'visual':
            material = ElementTree.SubElement(part, 'material', name='pipe')
            ElementTree.SubElement(material, 'color', rgba=PIPE_RGBA)
    inertial = ElementTree.SubElement(link, 'inertial')
    ElementTree.SubElement(inertial, 'origin', rpy='0 0 0', xyz=middle)
    ElementTree.SubElement(inertial, 'mass', value=str(PIPE_MASS_KG))
    # A thin-walled tube.
    across = PIPE_MASS_KG * (radius**2 / 2.0 + PIPE_LENGTH_M**2 / 12.0)
    along = PIPE_MASS_KG * radius**2
    zero = {name: '0' for name in ('ixy', 'ixz', 'iyz')}
    ElementTree.SubElement(
        inertial, 'inertia', ixx=str(across), iyy=str(across), izz=str(along), **zero
    )
    return link


def _fixed_joint(name: str, parent: str, child: str, along_z: float) -> ElementTree.Element:
    joint = ElementTree.Element('joint', name=name, type='fixed')
    ElementTree.SubElement(joint, 'parent', link=parent)
    ElementTree.SubElement(joint, 'child', link=child)
    ElementTree.SubElement(joint, 'origin', rpy='0 0 0', xyz=f'0 0 {along_z:.6f}')
    return joint


def main(arguments: list[str] | None = None) -> int:
    """Print the description for the task named on the command line."""
    names = sys.argv[1:] if arguments is None else arguments
    try:
        print(robot_urdf(load_task(names[0] if names else 'pipe_assembly')))
    except InputError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
