# SPDX-License-Identifier: Apache-2.0
"""The robot's description as a task needs it, as URDF: the one place where arm, tool and hardware come together.

    python3 -m q2rl_bringup.robot_description pipe_assembly > pipe_panda.urdf
    python3 -m q2rl_bringup.robot_description pipe_assembly_ur5e --robot ur5e --hardware mock > pipe_ur5e.urdf
    python3 -m q2rl_bringup.robot_description pipe_assembly_fr3 --robot fr3 --hardware vendor > pipe_fr3.urdf

`urdf/<robot>.urdf.xacro` says what there is. Here it is given the task's names and sizes, and what xacro cannot do to
an arm that it includes is done: the fingers closed on the pipe, meshes found, and inertias mended that a simulator
would refuse. A task with a gripper gets the hand with moving fingers, its tip frame between their pads. A task without
one gets the pipe of `urdf/tool.xacro`; the task's tip frame is at its free end.
"""

from __future__ import annotations

import argparse
from importlib import metadata
import importlib.util
from pathlib import Path
import re
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np

from q2rl_bringup.franka_names import as_fr3
from q2rl_bringup.robots import FR3, HARDWARE, PANDA, ROBOTS, Robot
from q2rl_task import InputError, TaskSpec, load_task

DISTRIBUTION = 'example-robot-data'
PACKAGE_PREFIX = f'package://{DISTRIBUTION}/'
FINGERS = {
    f'{arm}_finger_joint{number}': along
    for arm in ('panda', 'fr3')
    for number, along in ((1, 1.0), (2, -1.0))
}
APT = ('ur_', 'moveit_')
"""How the names of vendors' packages begin that apt has; others are built from source."""


def robot_urdf(
    task: TaskSpec,
    robot: Robot = PANDA,
    hardware: str = 'none',
    *,
    controllers_file: str | Path = '',
    namespace: str = '',
    robot_ip: str = '',
    kinematics_file: str | Path = '',
) -> str:
    """Return the URDF of `robot` with what `task` has in its hand, meshes by their absolute paths.

    :param hardware: one of `HARDWARE`: what ros2_control drives
    :param controllers_file: for Gazebo, whose controller manager reads it; empty: the robot's own
    :param kinematics_file: for the ur5e with ur_description or its driver: calibration of that arm; empty: nominal
    :raises InputError: a package or the task's other robot is missing, or nothing mounts this task's tool
    """
    if task.frames.base != robot.base:
        raise InputError(
            f'task {task.name}: field `frames.base`',
            f'{task.frames.base!r} is not the base of the {robot.name}',
            f'name a task made for it (its base is {robot.base}), or bring a description of your own robot',
        )
    franka = robot in (PANDA, FR3)
    if task.gripper and not franka:
        raise InputError(
            f'task {task.name}',
            f'needs a gripper, and the {robot.name} here has none',
            'use the panda',
        )
    given = {
        'holds': 'nothing' if task.gripper else 'pipe',
        'tip': task.frames.tip,
        'radius': str(task.fixture.insert_radius_m),
    }
    if hardware == 'vendor':
        return _driven(task, robot, {**given, 'robot_ip': robot_ip}, str(kinematics_file))
    given |= {
        'tip': task.frames.tip.replace('fr3_', 'panda_') if robot is FR3 else task.frames.tip,
        'ros2_control': _truth(hardware != 'none'),
        'use_mock_hardware': _truth(hardware == 'mock'),
        'use_gazebo': _truth(hardware == 'gazebo'),
        'controllers_file': str(controllers_file or robot.controllers),
        'namespace': namespace.strip('/'),
    }
    if franka:
        given['arm_file'] = str(panda_urdf())
    else:
        given['arm'] = 'ur_description' if _has_package('ur_description') else 'shapes'
        given['kinematics_file'] = str(kinematics_file)
    tree = ElementTree.fromstring(_expanded(robot.description, given))
    _resolve_meshes(tree, Path(given['arm_file']) if franka else None)
    if robot is FR3:
        as_fr3(tree)
    _mend_inertias(tree)
    return _finished(tree, task, robot)


def _driven(task: TaskSpec, robot: Robot, given: dict[str, str], kinematics_file: str) -> str:
    """Return the URDF of the real arm, all of it but the tool as the vendor's packages have it."""
    file = robot.driver_description
    if file is None:
        raise InputError(
            f'the {robot.name}', 'has no driver for ROS 2 Jazzy', 'name one of fr3 and ur5e'
        )
    if kinematics_file:
        given['kinematics_params'] = kinematics_file
    return _finished(ElementTree.fromstring(_expanded(file, given)), task, robot)


def _finished(tree: ElementTree.Element, task: TaskSpec, robot: Robot) -> str:
    """Return the text of a description, named by what it holds, the fingers closed on it."""
    tree.set('name', robot.name if task.gripper else f'pipe_{robot.name}')
    for joint in tree.findall('joint'):
        if not task.gripper and joint.get('name') in FINGERS:
            _close_finger(joint, FINGERS[joint.get('name')] * task.fixture.insert_radius_m)
    ElementTree.indent(tree)
    return ElementTree.tostring(tree, encoding='unicode')


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
    if _has_package('moveit_resources_panda_description'):
        from ament_index_python.packages import get_package_share_directory

        share = get_package_share_directory('moveit_resources_panda_description')
        return Path(share) / 'urdf' / 'panda.urdf'
    raise InputError(
        DISTRIBUTION,
        'is not installed',
        'install the pinned requirements (pip install example-robot-data)',
    )


def _expanded(file: Path, given: dict[str, str]) -> str:
    if importlib.util.find_spec('xacro') is None:
        raise InputError('xacro', 'is not installed', 'pip install xacro, or ros-jazzy-xacro')
    import xacro

    try:
        return xacro.process_file(str(file), mappings=given).toxml()
    except xacro.XacroException as error:
        missing = re.search(r"package '(\w+)' not found", str(error))
        if missing is None:
            raise
        name = missing.group(1)
        raise InputError(
            file.name,
            f'needs the ROS package {name}',
            f'apt install ros-jazzy-{name.replace("_", "-")}'
            if name.startswith(APT)
            else 'build it from source: config/drivers/fr3.repos',
        ) from None


def _has_package(name: str) -> bool:
    try:
        from ament_index_python.packages import PackageNotFoundError, get_package_prefix
    except ModuleNotFoundError:
        return False
    try:
        get_package_prefix(name)
    except (PackageNotFoundError, KeyError, LookupError):
        return False
    return True


def _resolve_meshes(tree: ElementTree.Element, arm_file: Path | None) -> None:
    """Name the wheel's meshes by their paths: package:// goes by the ament index, in which a wheel does not appear."""
    for mesh in tree.iter('mesh'):
        name = mesh.get('filename')
        if arm_file is not None and name.startswith(PACKAGE_PREFIX):
            root = next(folder for folder in arm_file.parents if folder.name == DISTRIBUTION)
            mesh.set('filename', (root / name.removeprefix(PACKAGE_PREFIX)).as_uri())


def _close_finger(joint: ElementTree.Element, along_y: float) -> None:
    """Turn a finger's prismatic joint into a fixed one, closed on the pipe."""
    joint.set('type', 'fixed')
    origin = joint.find('origin')
    z = origin.get('xyz').split()[2]
    origin.set('xyz', f'0 {along_y} {z}')
    for child in list(joint):
        if child.tag not in ('parent', 'child', 'origin'):
            joint.remove(child)


def _mend_inertias(tree: ElementTree.Element) -> None:
    """Drop inertias of no mass, and raise a principal moment that no body can have (it exceeds the other two's sum).

    The identified inertia of the Panda's first link is such a one, by a little; simulators refuse it.
    """
    for link in tree.findall('link'):
        inertial = link.find('inertial')
        if inertial is None:
            continue
        if float(inertial.find('mass').get('value')) == 0.0:
            link.remove(inertial)
            continue
        element = inertial.find('inertia')
        xx, yy, zz, xy, xz, yz = (
            float(element.get(f'i{axes}')) for axes in ('xx', 'yy', 'zz', 'xy', 'xz', 'yz')
        )
        moments, axes = np.linalg.eigh([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        lacking = moments[2] - moments[0] - moments[1]
        if lacking > 0.0:
            moments[0] += 1.01 * lacking
            mended = axes @ np.diag(moments) @ axes.T
            for name, (i, j) in {
                'xx': (0, 0), 'yy': (1, 1), 'zz': (2, 2), 'xy': (0, 1), 'xz': (0, 2), 'yz': (1, 2),
            }.items():  # fmt: skip
                element.set(f'i{name}', f'{mended[i, j]:.9g}')


def _truth(value: bool) -> str:
    return 'true' if value else 'false'


def main(arguments: list[str] | None = None) -> int:
    """Print the description for the task named on the command line."""
    parser = argparse.ArgumentParser(prog='robot_description', description=main.__doc__)
    parser.add_argument('task', nargs='?', default='pipe_assembly')
    parser.add_argument('--robot', choices=ROBOTS, default=PANDA.name)
    parser.add_argument('--hardware', choices=HARDWARE, default='none')
    parser.add_argument('--robot-ip', default='', help="for the vendor's hardware")
    parser.add_argument('--kinematics-file', default='', help='calibration of that ur5e')
    given = parser.parse_args(arguments)
    try:
        print(
            robot_urdf(
                load_task(given.task),
                ROBOTS[given.robot],
                given.hardware,
                robot_ip=given.robot_ip,
                kinematics_file=given.kinematics_file,
            )
        )
    except InputError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
