# SPDX-License-Identifier: Apache-2.0
"""A folder of MoveIt's configuration as parameters of a node, by the names of files that MoveIt's own tools use."""

from __future__ import annotations

from pathlib import Path
from typing import Any
import xml.etree.ElementTree as ElementTree

from q2rl_task import InputError
from q2rl_task.errors import one_line
from q2rl_task.settings_file import read_mapping

SECTIONS = {
    'kinematics.yaml': 'robot_description_kinematics',
    'joint_limits.yaml': 'robot_description_planning',
}
"""What these files hold, under this name. `moveit_cpp.yaml` has its sections by their names."""
WHOLE = 'moveit_cpp.yaml'
PIPELINE_ENDING = '_planning.yaml'
REMEDY = 'mend it, or name another folder'


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
            found[SECTIONS[file.name]] = read_mapping(file, REMEDY)
        elif file.name == WHOLE:
            found |= read_mapping(file, REMEDY)
        elif file.name.endswith(PIPELINE_ENDING):
            found[file.name.removesuffix(PIPELINE_ENDING)] = read_mapping(file, REMEDY)
    srdf = folder / f'{robot}.srdf'
    if srdf.is_file():
        semantic = _read_srdf(srdf)
        if _goes_along(semantic, group, chain):
            found['robot_description_semantic'] = semantic
    return found


def _read_srdf(file: Path) -> str:
    try:
        text = file.read_text(encoding='utf-8')
        ElementTree.fromstring(text)
    except (OSError, UnicodeDecodeError, ElementTree.ParseError) as error:
        raise InputError(file, one_line(error), REMEDY) from None
    return text


def _goes_along(srdf: str, group: str, chain: tuple[str, str]) -> bool:
    found = ElementTree.fromstring(srdf).find(f"group[@name='{group}']/chain")
    return found is not None and (found.get('base_link'), found.get('tip_link')) == chain
