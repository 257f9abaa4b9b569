# SPDX-License-Identifier: Apache-2.0
"""A folder of MoveIt's configuration as parameters of a node, by the names of files that MoveIt's own tools use."""

from __future__ import annotations

from pathlib import Path
from typing import Any
import xml.etree.ElementTree as ElementTree

import yaml

from q2rl_task import InputError

SECTIONS = {
    'kinematics.yaml': 'robot_description_kinematics',
    'joint_limits.yaml': 'robot_description_planning',
}
"""What these files hold, under this name. `moveit_cpp.yaml` has its sections by their names."""
WHOLE = 'moveit_cpp.yaml'
PIPELINE_ENDING = '_planning.yaml'


def folder_parameters(
    folder: Path, robot: str, group: str, chain: tuple[str, str]
) -> dict[str, Any]:
    """Return the sections of a MoveIt node's parameters that a folder has; what it lacks is not there.

    Taken are `kinematics.yaml`, `joint_limits.yaml`, `moveit_cpp.yaml`, each `<pipeline>_planning.yaml`, and of the
    SRDFs `<robot>.srdf`, if its group goes along that chain: another tool has pairs and a chain of its own.

    :param robot: name of the description
    :param group: to plan for
    :param chain: its first and last link
    :raises InputError: there is no such folder, or a file of it cannot be read
    """
    if not folder.is_dir():
        raise InputError('parameter `moveit_folder`', f'no folder {folder}', 'name an existing one')
    found: dict[str, Any] = {}
    for file in sorted(folder.glob('*.yaml')):
        if file.name in SECTIONS:
            found[SECTIONS[file.name]] = _mapping(file)
        elif file.name == WHOLE:
            found |= _mapping(file)
        elif file.name.endswith(PIPELINE_ENDING):
            found[file.name.removesuffix(PIPELINE_ENDING)] = _mapping(file)
    srdf = folder / f'{robot}.srdf'
    if srdf.is_file() and _goes_along(srdf, group, chain):
        found['robot_description_semantic'] = srdf.read_text()
    return found


def _goes_along(srdf: Path, group: str, chain: tuple[str, str]) -> bool:
    try:
        found = ElementTree.parse(srdf).getroot().find(f"group[@name='{group}']/chain")
    except ElementTree.ParseError as error:
        raise _unreadable(srdf, error) from None
    return found is not None and (found.get('base_link'), found.get('tip_link')) == chain


def _mapping(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise _unreadable(file, error) from None
    if not isinstance(content, dict):
        raise _unreadable(file, 'holds no parameters')
    return content


def _unreadable(file: Path, why: object) -> InputError:
    return InputError(str(file), ' '.join(str(why).split()), 'mend it, or name another folder')
