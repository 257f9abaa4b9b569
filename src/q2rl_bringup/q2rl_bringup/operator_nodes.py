# SPDX-License-Identifier: Apache-2.0
"""What a person works with: the driver of their device, RViz, the page. All of it may come and go during a run."""

from __future__ import annotations

from collections.abc import Mapping

from q2rl_bringup.arguments import BROWSER, DEVICES, Value
from q2rl_bringup.cell_processes import MOVED_CLOCK
from q2rl_bringup.graph_specs import NodeSpec, ParameterValue
from q2rl_bringup.node_parameters import description, existing
from q2rl_task import TaskSpec


def operator_nodes(
    args: Mapping[str, Value],
    task: TaskSpec,
    common: Mapping[str, ParameterValue],
    remappings: tuple[tuple[str, str], ...],
) -> list[NodeSpec]:
    """Return the nodes that the arguments ask for.

    :param common: parameters of every node of q2rl
    :param remappings: of every node of q2rl
    """
    nodes = []
    at_the_robot = args['part'] != 'learner'
    if args['teleop'] in DEVICES and at_the_robot:
        nodes.append(
            NodeSpec(
                'q2rl_control',
                'teleop',
                'teleop',
                {**common, 'device': args['teleop']},
                remappings,
                respawn=args['use_respawn'],
                required=False,
            )
        )
    if args['launch_rviz'] and at_the_robot:
        nodes += _rviz(args, task, common, remappings)
    steered = args['teleop'] == BROWSER
    if args['browser'] or steered:
        nodes.append(
            NodeSpec(
                'q2rl_bringup',
                'operator_view',
                'operator_view',
                {**common, 'port': args['browser_port'], 'steer': steered},
                remappings,
                respawn=args['use_respawn'],
                required=False,
            )
        )
    return nodes


def _rviz(
    args: Mapping[str, Value],
    task: TaskSpec,
    common: Mapping[str, ParameterValue],
    remappings: tuple[tuple[str, str], ...],
) -> list[NodeSpec]:
    """Return RViz, its markers and, where no driver publishes the robot's frames, robot_state_publisher."""
    time = {'use_sim_time': common['use_sim_time']}
    loose = {'respawn': False, 'required': False}
    foreign = {'remappings': MOVED_CLOCK, 'managed': False, **loose}
    nodes = []
    if args['sim'] == 'mujoco':
        publisher = 'robot_state_publisher'
        described = {'robot_description': description(args, task), **time}
        nodes.append(NodeSpec(publisher, publisher, publisher, described, **foreign))
    config = existing(args['rviz_config_file'], 'rviz_config_file', 'rviz/pipe_assembly.rviz')
    shown = ('-d', str(config))
    if not args['rviz_config_file']:
        # The shipped file serves all arms, of which a fixed frame names one.
        shown += ('-f', task.frames.base)
    return [
        *nodes,
        NodeSpec('q2rl_bringup', 'scene_view', 'scene_view', common, remappings, **loose),
        NodeSpec('rviz2', 'rviz2', 'rviz2', time, arguments=shown, **foreign),
    ]
