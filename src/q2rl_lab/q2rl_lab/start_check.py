# SPDX-License-Identifier: Apache-2.0
"""Whether `q2rl up` can start what it was asked for, said before anything is written."""

from __future__ import annotations

import importlib.util
import re

from q2rl_lab.run_folder import RunConfig
from q2rl_lab.task_check import check_simulated
from q2rl_task import InputError, TaskSpec

DOCUMENTED = 'docs/bring-your-own-robot.md'


def check_start(config: RunConfig, task: TaskSpec) -> None:
    """Make sure that there is such a graph, that the packages which it starts are there, and its scene.

    :raises InputError: arguments that do not go together, packages that are missing, a task that cannot be simulated
    """
    from q2rl_bringup.arguments import SIMULATIONS
    from q2rl_bringup.node_graph import build_graph

    simulations = [sim for sim in SIMULATIONS if sim != 'none']
    if config.sim == 'none':
        raise InputError(
            '--sim none',
            'is a real arm, which `up` does not start',
            f'start it by `ros2 launch`, as {DOCUMENTED} says; here say {", ".join(simulations)}',
        )
    if config.sim not in simulations:
        problem = f'unknown value {config.sim!r}'
        raise InputError('--sim', problem, f'say one of {", ".join(simulations)}')
    said = ('task', 'sim', 'robot_type', 'command_sink')
    asked = {name: getattr(config, name) for name in said}
    try:
        graph = build_graph({**asked, 'lockstep': 'false' if config.realtime else 'true'})
    except InputError as error:
        raise InputError(
            as_options(error.where), as_options(error.problem), as_options(error.remedy)
        ) from None
    wanted = {node.package for node in graph.nodes if not node.managed}
    wanted |= {spec.package for spec in graph.includes}
    if config.sim == 'gazebo':
        wanted.add('gz_ros2_control')  # a plugin: no process of its own
    missing = sorted(package for package in wanted if not has_package(package))
    if missing:
        raise InputError(
            f'--sim {config.sim}',
            f'needs the ROS packages {", ".join(missing)}',
            'source a ROS 2 Jazzy that has them and set Q2RL_USE_SYSTEM_ROS=1, or say --sim mujoco',
        )
    if config.planner == 'moveit' and not has_module('moveit'):
        raise InputError(
            '--planner moveit',
            'needs MoveIt and moveit_py',
            'source a ROS 2 Jazzy that has them (apt install ros-jazzy-moveit-py ros-jazzy-moveit) and set '
            'Q2RL_USE_SYSTEM_ROS=1, or say --planner ompl',
        )
    if config.sim == 'mujoco':
        check_simulated(config.task, task)


def as_options(text: str) -> str:
    """Return what is said of a launch's arguments in words of this command line: `--robot-type` for `robot_type:=`."""
    text = re.sub(r'argument `(\w+)`', lambda found: _option(found[1]), text)
    return re.sub(r'\b(\w+):=', lambda found: f'{_option(found[1])} ', text)


def _option(argument: str) -> str:
    return f'--{argument.replace("_", "-")}'


def has_module(name: str) -> bool:
    """Whether a Python module is in the environment."""
    return importlib.util.find_spec(name) is not None


def has_package(name: str) -> bool:
    """Whether a ROS package is in the environment."""
    from ament_index_python.packages import PackageNotFoundError, get_package_prefix

    try:
        get_package_prefix(name)
    except (PackageNotFoundError, LookupError):
        return False
    return True
