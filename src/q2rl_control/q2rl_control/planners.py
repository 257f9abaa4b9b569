# SPDX-License-Identifier: Apache-2.0
"""The planners there are, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from q2rl_control.planning import MotionPlanner
from q2rl_task import InputError, TaskSpec

STRAIGHT, OMPL, MOVEIT = 'straight', 'ompl', 'moveit'
PLANNERS = (STRAIGHT, OMPL, MOVEIT)


@dataclass(frozen=True)
class PlannerSettings:
    """What a planner is made of; plain data, so that it can be sent to another process.

    kind: one of `PLANNERS`. urdf: the robot's description, meshes by absolute paths. time_limit_s: of one plan.
    moveit_config: parameters of MoveIt that win over all others. moveit_folder: path of a MoveIt configuration for this
    robot; empty: it is made from task and URDF.
    """

    kind: str
    task: TaskSpec
    urdf: str
    time_limit_s: float
    moveit_config: Mapping[str, Any] = field(default_factory=dict)
    moveit_folder: str = ''


def make_planner(settings: PlannerSettings) -> MotionPlanner:
    """Load a planner, with everything that it needs to know of the arm.

    :raises InputError: a library is missing, or the description does not fit the task
    """
    if not settings.urdf.strip():
        raise InputError(
            'parameter `robot_description`',
            f'is empty, and planner {settings.kind} needs the robot',
            'give its URDF, or say planner:=straight',
        )
    try:
        from q2rl_control.arm_scene import ArmScene, StraightPath
    except ImportError as error:
        raise InputError(
            f'planner {settings.kind}',
            f'needs the Python package {error.name}',
            'pip install pin, or on a robot apt install ros-jazzy-pinocchio',
        ) from None
    scene = ArmScene(settings.task, settings.urdf)
    if settings.kind == STRAIGHT:
        return StraightPath(scene)
    if settings.kind == OMPL:
        from q2rl_control.ompl_planner import OmplPlanner

        return OmplPlanner(scene, settings.time_limit_s)
    if settings.kind == MOVEIT:
        from q2rl_control.moveit_planner import MoveItPlanner

        return MoveItPlanner(
            scene,
            settings.urdf,
            settings.time_limit_s,
            settings.moveit_config,
            settings.moveit_folder,
        )
    raise InputError(
        'parameter `planner`', f'{settings.kind!r} is none', f'say one of {", ".join(PLANNERS)}'
    )
