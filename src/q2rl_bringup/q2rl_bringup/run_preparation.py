# SPDX-License-Identifier: Apache-2.0
"""What a run reads from its folder, the process that makes it before all nodes, and what is kept of the start."""

from __future__ import annotations

from collections.abc import Mapping
import json
from pathlib import Path
import time
from typing import Any

from q2rl_bringup.arguments import Value
from q2rl_bringup.graph_specs import NodeSpec
from q2rl_learner.learned_weights import weights_path

NO_DEMONSTRATIONS = 'none'


def policy_in(folder: Path) -> Path:
    """Return where the BC policy of a folder is: safetensors, or the YAML of one that is a Python class."""
    named = folder / 'bc.yaml'
    return named if named.is_file() else folder / 'bc.safetensors'


def clone_file(args: Mapping[str, Value], run_dir: Path) -> str:
    """Return the path of the BC policy."""
    return args['bc_checkpoint'] or str(policy_in(Path(args['weights'] or run_dir)))


def given_weights(args: Mapping[str, Value], kind: str) -> str:
    """Return the path of the `actor` or the `critic` that was given; empty where a learner is to send it."""
    return str(weights_path(Path(args['weights']), kind)) if args['weights'] else ''


def demonstrations_file(args: Mapping[str, Value], run_dir: Path) -> str:
    """Return the path of the demonstrations; empty for a run without."""
    if args['demos'] == NO_DEMONSTRATIONS:
        return ''
    return args['demos'] or str(run_dir / 'demonstrations.hdf5')


def record_of_start(args: Mapping[str, Value], run_dir: Path) -> dict[Path, str]:
    """Return the file that `q2rl report` and `q2rl why` know a run by, as text; empty where the run has it.

    `q2rl up` and the preparing process write their own; a run that was given all it needs, as on a real arm, gets this.
    """
    path = run_dir / 'config.json'
    if path.is_file() or args['policy_mode'] == 'demonstrate':
        return {}
    started = time.strftime('%Y-%m-%dT%H:%M:%S%z')
    return {path: json.dumps({'asked': _asked(args), 'started': started}, indent=2)}


def _asked(args: Mapping[str, Value]) -> dict[str, Any]:
    """Return what was asked for, by the names of q2rl_lab's RunConfig."""
    learning = 'task', 'seed', 'preset', 'device', 'rollouts', 'goal', 'drop_bc', 'eval_episodes'
    arm = 'planner', 'sim', 'robot_type', 'command_sink'
    asked: dict[str, Any] = {name: args[name] for name in (*learning, *arm)}
    asked |= {
        'steps': args['online_steps'],
        'realtime': args['sim'] != 'mujoco' or args['lockstep'] == 'false',
        'shadow': args['policy_mode'] == 'shadow',
    }
    if args['weights']:
        asked['weights'] = args['weights']
    if args['bc_checkpoint'] or args['weights']:
        asked['bc'] = clone_file(args, Path())
    if args['demos'] not in ('', NO_DEMONSTRATIONS):
        asked['demonstrations'] = args['demos']
    return asked


def preparation(args: Mapping[str, Value], run_dir: Path) -> NodeSpec | None:
    """Return the process that records and clones what the run lacks; None where it lacks nothing.

    None too where nothing can be made: weights have their clone with them; demonstrations are simulated, of no use to a
    real arm and in the way of those of a person; of a run over two machines the clone must be the very same on both.

    :param args: of the start, with what is left to the task in place
    """
    files = [clone_file(args, run_dir)]
    if args['policy_mode'] != 'bc':
        files.append(demonstrations_file(args, run_dir))
    complete = all(Path(path).is_file() for path in files if path)
    simulated = args['sim'] != 'none' and args['policy_mode'] != 'demonstrate'
    made_here = simulated and not args['weights']
    if args['part'] != 'all' or complete or not made_here:
        return None
    # By name only: q2rl_lab, which knows how, stands above this package.
    return NodeSpec(
        package='q2rl_lab',
        executable='prepare_run',
        name='prepare_run',
        arguments=(str(run_dir), json.dumps(_asked(args))),
        managed=False,
        named=False,
        respawn=False,
        once=True,
    )
