# SPDX-License-Identifier: Apache-2.0
"""The node graph of a start as plain data, without ROS: `ros2 launch` and `q2rl up` both run what stands here.

arguments = {'run_dir': 'runs/one', 'seed': '3'}
graph = build_graph(arguments)
for node in graph.nodes: ...        # package, executable, parameters, remappings, respawn rule
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
import re
import time

import yaml

from q2rl_bringup.arguments import Value, parse_arguments
from q2rl_bringup.robot_description import robot_urdf
from q2rl_bringup.share import share_path
from q2rl_learner.config import load_preset
from q2rl_task import InputError, TaskSpec, load_task

ParameterValue = bool | int | float | str | tuple[str, ...]
NAMESPACE = re.compile(r'(/?[A-Za-z][A-Za-z0-9_]*(/[A-Za-z][A-Za-z0-9_]*)*/?)?')
RUN_ID = re.compile(r'[A-Za-z0-9][A-Za-z0-9._-]*')
EVALUATION_MODES = {'gated': ('BC', 'GATED', 'RL'), 'bc': ('BC',), 'rl': ('RL',)}
RESPAWN_DELAY_S = 0.5
RESPAWN_LIMIT = 5
FINAL_EXIT_CODE = 2
"""Exit code of a node for bad input: it would only come again, so the node is not started again."""


@dataclass(frozen=True)
class NodeSpec:
    """One process of the graph.

    parameters: what this start sets; everything else comes from the params file or the node's own defaults.
    arguments: of the command line, before the ROS arguments. managed: whether it is a lifecycle node.
    respawn: start it again when it dies, after `respawn_delay` [s], at most `respawn_limit` times; not after
    `FINAL_EXIT_CODE`. required: the whole graph ends when it is given up.
    """

    package: str
    executable: str
    name: str
    parameters: Mapping[str, ParameterValue] = field(default_factory=dict)
    remappings: tuple[tuple[str, str], ...] = ()
    arguments: tuple[str, ...] = ()
    managed: bool = True
    respawn: bool = True
    respawn_delay: float = RESPAWN_DELAY_S
    respawn_limit: int = RESPAWN_LIMIT
    required: bool = True


@dataclass(frozen=True)
class NodeGraph:
    """All processes of a start and what they share.

    namespace: '' or '/left'. environment: variables of every process, on top of the caller's.
    """

    nodes: tuple[NodeSpec, ...]
    namespace: str
    params_file: Path
    log_level: str
    run_dir: Path
    run_id: str
    environment: Mapping[str, str]

    def full_name(self, node: NodeSpec) -> str:
        """Return a node's fully qualified name."""
        return f'{self.namespace}/{node.name}'

    def parameter_file(self, node: NodeSpec) -> str:
        """Return a node's parameters as the text of a parameter file (YAML).

        Keyed by the full name: `-p name:=value` on the command line loses against a params file that has a `/**`
        entry and one for the node, since it goes into the former and the latter is read after it.
        """
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in node.parameters.items()}
        return yaml.safe_dump(
            {self.full_name(node): {'ros__parameters': values}}, sort_keys=False, width=1000
        )

    def command_line(self, node: NodeSpec, parameter_file: Path) -> tuple[str, ...]:
        """Return what follows a node's executable; `parameter_file` holds the text of `parameter_file`."""
        remaps = [('__node', node.name), *node.remappings]
        if self.namespace:
            remaps.insert(1, ('__ns', self.namespace))
        rules = [word for rule in remaps for word in ('-r', ':='.join(rule))]
        files = [
            w for path in (self.params_file, parameter_file) for w in ('--params-file', str(path))
        ]
        return (*node.arguments, '--ros-args', *rules, *files, '--log-level', self.log_level)


def build_graph(given: Mapping[str, object]) -> NodeGraph:
    """Return the graph that the arguments `given` (see `q2rl_bringup.arguments`) ask for.

    :raises InputError: an argument that is unknown, impossible, or at odds with another
    """
    args = parse_arguments(given)
    task = load_task(args['task'])
    namespace = _namespace(args['namespace'])
    run_dir, run_id = _run(args['run_dir'], args['run_id'])
    lockstep = _lockstep(args)
    common: dict[str, ParameterValue] = {
        'task': args['task'],
        'robot': args['robot'],
        'run_dir': str(run_dir),
        'lockstep': lockstep,
        'use_sim_time': lockstep,
        'autostart': args['autostart'],
    }
    packages = {
        'mujoco_arm': 'q2rl_sim',
        'arm_interface': 'q2rl_control',
        'bc_policy': 'q2rl_policies',
        'rl_policy': 'q2rl_policies',
        'q_gate': 'q2rl_policies',
        'learner': 'q2rl_learner',
        'episode_manager': 'q2rl_control',
    }
    if args['sim'] == 'none':
        del packages['mujoco_arm']
    own = _own_parameters(args, task, run_dir, run_id)
    own['episode_manager']['wait_for'] = tuple(
        name for name in packages if name != 'episode_manager'
    )
    # A node's clock listens to the absolute name /clock, the simulation publishes the relative one.
    remappings = (('/clock', 'clock'),) if namespace and lockstep else ()
    nodes = [
        NodeSpec(
            package, name, name, {**common, **own[name]}, remappings, respawn=args['use_respawn']
        )
        for name, package in packages.items()
    ]
    if args['teleop'] != 'none':
        device = {**common, 'device': args['teleop']}
        nodes.append(
            NodeSpec('q2rl_control', 'teleop', 'teleop', device, remappings, required=False)
        )
    if args['launch_rviz']:
        package, name = 'q2rl_bringup', 'scene_view'
        view = NodeSpec(package, name, name, common, remappings, respawn=False, required=False)
        nodes += _watching(args, task, lockstep, view)
    return NodeGraph(
        nodes=tuple(nodes),
        namespace=namespace,
        params_file=_existing(args['params_file'], 'params_file', 'config/q2rl.params.yaml'),
        log_level=args['log_level'],
        run_dir=run_dir,
        run_id=run_id,
        # Some seven processes share the machine; a thread pool of its size in each would only fight the others.
        environment={'OMP_NUM_THREADS': '1', 'OPENBLAS_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1'},
    )


def _own_parameters(
    args: Mapping[str, Value], task: TaskSpec, run_dir: Path, run_id: str
) -> dict[str, dict[str, ParameterValue]]:
    """Return what each node gets beside the common parameters."""
    seed, mode = args['seed'], args['policy_mode']
    checkpoint = args['bc_checkpoint'] or str(run_dir / 'bc.safetensors')
    demos = args['demos'] or str(run_dir / 'demonstrations.hdf5')
    learns = mode == 'gated' and args['learn']
    config = load_preset(args['preset'])
    # What the method decides of acting; where it leaves a choice alone, the params file has the word.
    entropy = {} if config.entropy == 'monte_carlo' else {'entropy': config.entropy}
    soft = config.acting.soft_temperature
    return {
        'mujoco_arm': {
            'seed': seed,
            'trace_file': str(run_dir / 'trace.bin'),
            'command_interface': _command_interface(args),
        },
        'arm_interface': _commanding(args, task),
        'bc_policy': {'checkpoint': checkpoint, 'seed': seed, **entropy},
        'rl_policy': {
            'rl_action': config.acting.rl_action,
            'rl_noise': config.acting.rl_noise,
            'seed': seed,
        },
        # The gate scores BC with the temperature that the critics are trained against.
        'q_gate': {
            'alpha': config.alpha,
            'bc_value': config.acting.bc_value,
            'chooser': config.acting.chooser,
            'seed': seed,
            **({'soft_temperature': soft} if soft else {}),
        },
        'learner': {
            'preset': args['preset'],
            'demos': '' if demos == 'none' else demos,
            'bc_checkpoint': checkpoint,
            'rollouts': args['rollouts'],
            'seed': seed,
        },
        'episode_manager': {
            'run_id': run_id,
            'seed': seed,
            'rollouts': args['rollouts'],
            'online_steps': args['online_steps'] if learns else 0,
            'evaluation_episodes': args['eval_episodes'],
            'evaluation_modes': EVALUATION_MODES[mode],
            'resume': args['resume'],
        },
    }


def _command_interface(args: Mapping[str, Value]) -> str:
    """Return what the simulated arm is commanded by."""
    if args['sim'] == 'mujoco' and args['command_sink'] == 'servo_twist':
        raise InputError(
            'argument `command_sink`',
            'the MuJoCo simulation takes no twists',
            'say pose_target or joint_position, or another sim',
        )
    return 'joints' if args['command_sink'] == 'joint_position' else 'pose'


def _commanding(args: Mapping[str, Value], task: TaskSpec) -> dict[str, ParameterValue]:
    """Return what arm_interface must know to command the arm; a real arm's description is in the params file."""
    sink = {'command_sink': args['command_sink']}
    if args['command_sink'] == 'joint_position' and args['sim'] != 'none':
        sink['robot_description'] = robot_urdf(task)
    return sink


def _watching(
    args: Mapping[str, Value], task: TaskSpec, lockstep: bool, view: NodeSpec
) -> list[NodeSpec]:
    """Return RViz, its markers and, where no driver publishes the robot's frames, robot_state_publisher.

    All of them may come and go without the run noticing.
    """
    remappings = (('/tf', 'tf'), ('/tf_static', 'tf_static'), ('/clock', 'clock'))
    config = _existing(args['rviz_config_file'], 'rviz_config_file', 'rviz/pipe_assembly.rviz')
    loose = {'managed': False, 'respawn': False, 'required': False}
    rviz = NodeSpec(
        'rviz2',
        'rviz2',
        'rviz2',
        {'use_sim_time': lockstep},
        remappings,
        ('-d', str(config)),
        **loose,
    )
    if args['sim'] == 'none':
        return [view, rviz]
    described = {'robot_description': robot_urdf(task), 'use_sim_time': lockstep}
    package = 'robot_state_publisher'
    return [NodeSpec(package, package, package, described, remappings, **loose), view, rviz]


def _lockstep(args: Mapping[str, Value]) -> bool:
    simulated = args['sim'] != 'none'
    if args['lockstep'] == 'true' and not simulated:
        raise InputError(
            'argument `lockstep`',
            'a real robot does not wait',
            'say lockstep:=false, or sim:=mujoco',
        )
    return simulated and args['lockstep'] != 'false'


def _namespace(name: str) -> str:
    if not NAMESPACE.fullmatch(name):
        raise InputError(
            'argument `namespace`', f'{name!r} is not a ROS name', 'use letters, digits and _'
        )
    return f'/{name.strip("/")}' if name.strip('/') else ''


def _run(run_dir: str, run_id: str) -> tuple[Path, str]:
    if not run_id:
        run_id = Path(run_dir).absolute().name if run_dir else time.strftime('r%Y%m%dT%H%M%S')
    if not RUN_ID.fullmatch(run_id):
        raise InputError(
            'argument `run_id`', f'{run_id!r} is no name', 'use letters, digits, and any of . _ -'
        )
    return Path(run_dir or Path('runs') / run_id).absolute(), run_id


def _existing(given: str, argument: str, default: str) -> Path:
    path = Path(given).absolute() if given else share_path(default)
    if not path.is_file():
        raise InputError(f'argument `{argument}`', f'no file {path}', 'name an existing file')
    return path
