# SPDX-License-Identifier: Apache-2.0
"""What MoveIt needs to know: of a folder that was made for the robot, and else from the task and its description."""

from __future__ import annotations

from collections.abc import Mapping
import itertools
from pathlib import Path
from typing import Any
import xml.etree.ElementTree as ElementTree

from q2rl_control.kinematics import ArmKinematics
from q2rl_control.moveit_folder import folder_parameters
from q2rl_task import TaskSpec

GROUP = 'arm'
PIPELINE = 'ompl'
PLANNER = 'RRTConnect'


def moveit_config(
    task: TaskSpec,
    urdf_text: str,
    arm: ArmKinematics,
    given: Mapping[str, Any],
    folder: str = '',
) -> dict[str, Any]:
    """Return the parameters of a MoveIt node that plans for one group, `arm`, from the base to the tip.

    :param given: parameters that win over all others, one by one
    :param folder: whose sections are taken for those made here, see `folder_parameters`; empty: none
    :raises InputError: the folder cannot be read
    """
    made = {
        'robot_description': urdf_text,
        'robot_description_semantic': srdf(task, urdf_text, arm),
        'robot_description_kinematics': {
            GROUP: {
                'kinematics_solver': 'kdl_kinematics_plugin/KDLKinematicsPlugin',
                'kinematics_solver_search_resolution': 0.005,
                'kinematics_solver_timeout': 0.05,
            }
        },
        'planning_pipelines': {'pipeline_names': [PIPELINE]},
        # No adapter gives the path its times: the guard does, and those of MoveIt want acceleration limits.
        PIPELINE: {
            'planning_plugins': ['ompl_interface/OMPLPlanner'],
            'request_adapters': [
                'default_planning_request_adapters/ResolveConstraintFrames',
                'default_planning_request_adapters/CheckStartStateBounds',
                'default_planning_request_adapters/CheckStartStateCollision',
            ],
            'response_adapters': ['default_planning_response_adapters/ValidateSolution'],
            'planner_configs': {PLANNER: {'type': f'geometric::{PLANNER}', 'range': 0.15}},
            GROUP: {
                'planner_configs': [PLANNER],
                # With constraints on the tip it would else sample poses, and jump between ways to hold the arm.
                'enforce_joint_model_state_space': True,
                'longest_valid_segment_fraction': 0.001,
            },
        },
        'plan_request_params': {
            'planning_pipeline': PIPELINE,
            'planner_id': PLANNER,
            'planning_attempts': 1,
            'max_velocity_scaling_factor': 1.0,
            'max_acceleration_scaling_factor': 1.0,
        },
    }
    if folder:
        robot = ElementTree.fromstring(urdf_text).get('name', '')
        made |= folder_parameters(Path(folder), robot, GROUP, (task.frames.base, task.frames.tip))
    return _over(made, given)


def srdf(task: TaskSpec, urdf_text: str, arm: ArmKinematics) -> str:
    """Return a semantic description: the group, and which links may touch, being neighbours or fixed to one another."""
    robot = ElementTree.fromstring(urdf_text)
    semantic = ElementTree.Element('robot', name=robot.get('name'))
    group = ElementTree.SubElement(semantic, 'group', name=GROUP)
    ElementTree.SubElement(group, 'chain', base_link=task.frames.base, tip_link=task.frames.tip)
    carriers = _carriers(robot, arm)
    for (first, one), (second, other) in itertools.combinations(carriers.items(), 2):
        if abs(one - other) <= 1:
            ElementTree.SubElement(
                semantic, 'disable_collisions', link1=first, link2=second, reason='Adjacent'
            )
    ElementTree.indent(semantic)
    return ElementTree.tostring(semantic, encoding='unicode')


def _carriers(robot: ElementTree.Element, arm: ArmKinematics) -> dict[str, int]:
    """Return by link how many of the arm's joints are between it and the base."""
    parents = {joint.find('child').get('link'): joint for joint in robot.findall('joint')}
    count = {}
    for link in (element.get('name') for element in robot.findall('link')):
        count[link], at = 0, link
        while at in parents:
            count[link] += parents[at].get('name') in arm.joints
            at = parents[at].find('parent').get('link')
    return count


def _over(made: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(made)
    for key, value in given.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _over(merged[key], value) if both else value
    return merged
