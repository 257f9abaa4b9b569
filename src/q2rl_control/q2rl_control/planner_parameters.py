# SPDX-License-Identifier: Apache-2.0
"""The parameters of a node by which its planner is chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from q2rl_control.kinematics import description_text
from q2rl_control.planner_process import PlannerProcess
from q2rl_control.planners import MOVEIT, PLANNERS, STRAIGHT, PlannerSettings
from q2rl_control.planning import PlanAtOnce, Planning, StraightLine
from q2rl_ros.node import Q2rlNode
from q2rl_task.settings_file import read_mapping


def declare_planner(node: Q2rlNode) -> None:
    """Declare them; what is planned with besides, `robot_description`, is of the node's command sink too."""
    node.declare(
        'planner',
        STRAIGHT,
        'How the way to a start pose is found. straight: it is a line, and looks for obstacles if there is a '
        'robot_description. ompl: round obstacles, by OMPL and Pinocchio. moveit: by MoveIt (moveit_py).',
        choices=PLANNERS,
    )
    node.declare(
        'planning_time',
        5.0,
        'Time [s] within which a way must be found; the arm holds meanwhile.',
        low=0.01,
        high=600.0,
    )
    node.declare(
        'moveit_config',
        '',
        'File (YAML) of MoveIt parameters that win over those of moveit_folder, and those made; empty: none.',
    )
    node.declare(
        'moveit_folder',
        '',
        'Folder of a MoveIt configuration for this robot (SRDF, kinematics, joint limits, pipelines); a start names '
        'that of a robot it knows. Empty, or what is not in it: made from task and robot_description.',
    )


def make_planning(node: Q2rlNode) -> Planning:
    """Start the planner that the parameters ask for; the node closes it when it is cleaned up.

    :raises InputError: it cannot be made
    """
    kind, urdf = node.value('planner'), description_text(node.value('robot_description'))
    if kind == STRAIGHT and not urdf:
        return PlanAtOnce(StraightLine(node.task))
    config = _read_config(node.value('moveit_config')) if kind == MOVEIT else {}
    planning = PlannerProcess(
        PlannerSettings(
            kind, node.task, urdf, node.value('planning_time'), config, node.value('moveit_folder')
        )
    )
    node.when_released(planning.close)
    return planning


def _read_config(path: str) -> dict[str, Any]:
    if not path:
        return {}
    remedy = 'name a YAML file of parameters, as name: value, without ros__parameters'
    return read_mapping(Path(path), remedy, f'parameter `moveit_config`: {path}')
