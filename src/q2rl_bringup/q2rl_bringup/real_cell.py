# SPDX-License-Identifier: Apache-2.0
"""What q2rl starts beside a real arm where nobody else does: the pose of the tip, the scene of a bolted fixture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from q2rl_bringup.arguments import Value
from q2rl_bringup.graph_specs import ParameterValue
from q2rl_task import InputError

POSE_TOPIC = 'current_pose'
SECTIONS = ('/**', '/**/arm_interface', 'arm_interface', '/arm_interface')


def nodes_of_a_real_cell(
    args: Mapping[str, Value], params_file: Path
) -> dict[str, dict[str, ParameterValue]]:
    """Return the nodes of q2rl_control that a start with sim:=none adds, by name, with their own parameters.

    :raises InputError: `scene` is asked for with a simulation, which has its own
    """
    if args['sim'] != 'none':
        if args['scene'] != 'elsewhere':
            raise InputError(
                'argument `scene`', 'a simulation has its own', 'leave it out, or say sim:=none'
            )
        return {}
    found: dict[str, dict[str, ParameterValue]] = {}
    if args['description_file'] and _pose_is_wanted(params_file):
        path = str(Path(args['description_file']).absolute())
        found['tip_state'] = {'robot_description': path}
    if args['scene'] == 'fixed':
        found['fixed_scene'] = {}
    return found


def _pose_is_wanted(params_file: Path) -> bool:
    """Return whether arm_interface waits for the topic that tip_state publishes."""
    said = {'pose_source': 'topic', 'pose_topic': POSE_TOPIC}
    try:
        sections = yaml.safe_load(params_file.read_text()) or {}
    except yaml.YAMLError as error:
        raise InputError(str(params_file), f'is not YAML: {error}', 'mend it') from None
    for name in SECTIONS:
        said |= (sections.get(name) or {}).get('ros__parameters') or {}
    return said['pose_source'] == 'topic' and said['pose_topic'] == POSE_TOPIC
