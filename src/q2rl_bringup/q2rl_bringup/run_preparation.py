# SPDX-License-Identifier: Apache-2.0
"""What a run reads from its folder, and the process that makes it before all nodes where it is not there yet."""

from __future__ import annotations

from collections.abc import Mapping
import json
from pathlib import Path

from q2rl_bringup.arguments import Value
from q2rl_bringup.graph_specs import NodeSpec

NO_DEMONSTRATIONS = 'none'


def clone_file(args: Mapping[str, Value], run_dir: Path) -> str:
    """Return the path of the BC policy."""
    return args['bc_checkpoint'] or str(run_dir / 'bc.safetensors')


def demonstrations_file(args: Mapping[str, Value], run_dir: Path) -> str:
    """Return the path of the demonstrations; empty for a run without."""
    if args['demos'] == NO_DEMONSTRATIONS:
        return ''
    return args['demos'] or str(run_dir / 'demonstrations.hdf5')


def preparation(args: Mapping[str, Value], run_dir: Path) -> NodeSpec | None:
    """Return the process that records and clones what the run lacks; None where it lacks nothing.

    None too where nothing can be made: demonstrations are simulated, of no use to a real arm and in the way of those of
    a person; of a run over two machines the clone must be the very same on both.

    :param args: of the start, with what is left to the task in place
    """
    files = [clone_file(args, run_dir)]
    if args['policy_mode'] != 'bc':
        files.append(demonstrations_file(args, run_dir))
    complete = all(Path(path).is_file() for path in files if path)
    made_here = args['sim'] != 'none' and args['policy_mode'] != 'demonstrate'
    if args['part'] != 'all' or complete or not made_here:
        return None
    same = 'task', 'seed', 'preset', 'device', 'rollouts', 'eval_episodes', 'planner', 'sim'
    asked = {name: args[name] for name in (*same, 'robot_type', 'command_sink')}
    asked |= {
        'steps': args['online_steps'],
        'realtime': args['sim'] != 'mujoco' or args['lockstep'] == 'false',
        'shadow': args['policy_mode'] == 'shadow',
    }
    if args['bc_checkpoint']:
        asked['bc'] = args['bc_checkpoint']
    if args['demos'] not in ('', NO_DEMONSTRATIONS):
        asked['demonstrations'] = args['demos']
    # By name only: q2rl_lab, which knows how, stands above this package.
    return NodeSpec(
        package='q2rl_lab',
        executable='prepare_run',
        name='prepare_run',
        arguments=(str(run_dir), json.dumps(asked)),
        managed=False,
        named=False,
        respawn=False,
        once=True,
    )
