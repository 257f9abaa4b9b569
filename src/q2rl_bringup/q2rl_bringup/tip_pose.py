# SPDX-License-Identifier: Apache-2.0
"""Whether `tip_state` has to tell where the tip of the arm is, since nobody else does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from q2rl_bringup.arguments import Value
from q2rl_bringup.node_parameters import params_file
from q2rl_task import InputError
from q2rl_task.settings_file import read_mapping

POSE_TOPIC = 'current_pose'
SECTIONS = ('/**', '/**/arm_interface', 'arm_interface', '/arm_interface')


def wants_tip_state(args: Mapping[str, Value]) -> bool:
    """Return whether a start has `tip_state`: by ros2_control's joints, or by those of a real arm that is described."""
    if args['sim'] != 'none':
        return args['sim'] != 'mujoco'
    return bool(args['description_file']) and _pose_is_wanted(params_file(args))


def _pose_is_wanted(file: Path) -> bool:
    """Return whether arm_interface waits for the topic that tip_state publishes.

    :raises InputError: the file cannot be read, or a section of it holds no parameters
    """
    said = {'pose_source': 'topic', 'pose_topic': POSE_TOPIC}
    remedy = 'mend it, or name another params_file'
    sections = read_mapping(file, remedy)
    for name in SECTIONS:
        section = sections.get(name) or {}
        parameters = (section.get('ros__parameters') or {}) if isinstance(section, dict) else None
        if not isinstance(parameters, dict):
            raise InputError(f'{file}: {name}', 'is not a mapping to ros__parameters', remedy)
        said |= parameters
    return said['pose_source'] == 'topic' and said['pose_topic'] == POSE_TOPIC
