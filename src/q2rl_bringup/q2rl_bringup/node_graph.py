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

from q2rl_bringup.arguments import BROWSER, DEVICES, Value, as_the_task_says, parse_arguments
from q2rl_bringup.cell_processes import MOVED_TF, Cell, cell_processes
from q2rl_bringup.graph_specs import IncludeSpec, NodeSpec, ParameterValue
from q2rl_bringup.node_parameters import (
    DEMONSTRATE,
    RECORDER,
    command_sink,
    description,
    existing,
    own_parameters,
)
from q2rl_bringup.real_cell import nodes_of_a_real_cell
from q2rl_bringup.robots import PANDA
from q2rl_bringup.run_preparation import preparation, record_of_start
from q2rl_task import InputError, TaskSpec, load_task

NAMESPACE = re.compile(r'(/?[A-Za-z][A-Za-z0-9_]*(/[A-Za-z][A-Za-z0-9_]*)*/?)?')
RUN_ID = re.compile(r'[A-Za-z0-9][A-Za-z0-9._-]*')
PATIENCE_S = 600.0
FINAL_EXIT_CODE = 2
"""Exit code of a node for bad input: it would only come again, so the node is not started again."""


@dataclass(frozen=True)
class NodeGraph:
    """All processes of a start and what they share.

    namespace: '' or '/left'. environment: variables of every process, on top of the caller's. includes: launch files of
    other packages, which start before the nodes. files: path to text, to be written before anything starts.
    preparation: the process that makes what the folder of the run lacks, if anything; all else starts when it is done.
    """

    nodes: tuple[NodeSpec, ...]
    namespace: str
    params_file: Path
    log_level: str
    run_dir: Path
    run_id: str
    environment: Mapping[str, str]
    includes: tuple[IncludeSpec, ...] = ()
    files: Mapping[Path, str] = field(default_factory=dict)
    preparation: NodeSpec | None = None

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
            {self.full_name(node) if node.named else '/**': {'ros__parameters': values}},
            sort_keys=False,
            width=1000,
        )

    def command_line(self, node: NodeSpec, parameter_file: Path) -> tuple[str, ...]:
        """Return what follows a node's executable; `parameter_file` holds the text of `parameter_file`."""
        remaps = [('__node', node.name)] if node.named else []
        if self.namespace:
            remaps.append(('__ns', self.namespace))
        remaps += node.remappings
        rules = [word for rule in remaps for word in ('-r', ':='.join(rule))]
        files = [
            w
            for path in (self.params_file, *node.files, parameter_file)
            for w in ('--params-file', str(path))
        ]
        return (*node.arguments, '--ros-args', *rules, *files, '--log-level', self.log_level)


def build_graph(given: Mapping[str, object]) -> NodeGraph:
    """Return the graph that the arguments `given` (see `q2rl_bringup.arguments`) ask for.

    :raises InputError: an argument that is unknown, impossible, or at odds with another
    """
    args = parse_arguments(given)
    task = load_task(args['task'])
    args = as_the_task_says(args, task)
    steered = _steered(args)
    namespace = namespace_of(args['namespace'])
    run_dir, run_id = _run(args['run_dir'], args['run_id'])
    lockstep = _lockstep(args)
    # Gazebo keeps its own time, and does not wait.
    sim_time = lockstep or args['sim'] == 'gazebo'
    common: dict[str, ParameterValue] = {
        'task': args['task'],
        'robot': args['robot'],
        'run_dir': str(run_dir),
        'lockstep': lockstep,
        'use_sim_time': sim_time,
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
    if args['policy_mode'] == DEMONSTRATE:
        if args['part'] != 'all':
            raise InputError('argument `part`', 'demonstrations have no learner', 'say part:=all')
        for name in ('bc_policy', 'rl_policy', 'q_gate', 'learner'):
            del packages[name]
        packages = {RECORDER: 'q2rl_learner', **packages}
    if args['sim'] != 'mujoco':
        del packages['mujoco_arm']
    if args['policy_mode'] == 'bc':
        if args['part'] == 'learner':
            raise InputError(
                'argument `part`', 'nothing learns with policy_mode:=bc', 'say part:=all or robot'
            )
        del packages['learner']
    cell = Cell(())
    if args['sim'] in ('mock', 'gazebo'):
        cell = cell_processes(args, task, namespace, run_dir)
        packages = {'tip_state': 'q2rl_control', **packages}
    if args['sim'] == 'gazebo':
        packages = {'gazebo_scene': 'q2rl_sim', **packages}
    params_file = existing(args['params_file'], 'params_file', 'config/q2rl.params.yaml')
    beside = nodes_of_a_real_cell(args, params_file)
    packages = {**dict.fromkeys(beside, 'q2rl_control'), **packages}
    own = {**own_parameters(args, task, run_dir, run_id), **beside}
    if steered:  # a simulation that waits, waits for a person who thinks
        own['arm_interface']['lockstep_timeout'] = PATIENCE_S
    # Whoever runs where, an episode starts when all are there.
    own['episode_manager']['wait_for'] = tuple(
        name for name in packages if name != 'episode_manager'
    )
    if args['part'] == 'learner':
        cell, packages = Cell(()), {'learner': packages['learner']}
    elif args['part'] == 'robot':
        packages.pop('learner', None)
    # A node's clock listens to the absolute name /clock, the simulation publishes the relative one.
    remappings = (('/clock', 'clock'),) if namespace and sim_time else ()
    # The same with TF, which one node listens to, by absolute names as everywhere (`pose_source: tf`).
    heard = {'arm_interface': MOVED_TF} if namespace else {}
    nodes = [
        NodeSpec(
            package,
            name,
            name,
            {**common, **own.get(name, {})},
            (*remappings, *heard.get(name, ())),
            respawn=args['use_respawn'],
            once=name == RECORDER,
            last=name == RECORDER,
        )
        for name, package in packages.items()
    ]
    nodes = [*cell.nodes, *nodes]
    if args['teleop'] in DEVICES and args['part'] != 'learner':
        device = {**common, 'device': args['teleop']}
        nodes.append(
            NodeSpec('q2rl_control', 'teleop', 'teleop', device, remappings, required=False)
        )
    if args['launch_rviz'] and args['part'] != 'learner':
        package, name = 'q2rl_bringup', 'scene_view'
        view = NodeSpec(package, name, name, common, remappings, respawn=False, required=False)
        nodes += _watching(args, task, sim_time, view)
    if args['browser'] or steered:
        package, name = 'q2rl_bringup', 'operator_view'
        own_port = {**common, 'port': args['browser_port'], 'steer': steered}
        nodes.append(
            NodeSpec(
                package,
                name,
                name,
                own_port,
                remappings,
                respawn=args['use_respawn'],
                required=False,
            )
        )
    prepare = preparation(args, run_dir)
    return NodeGraph(
        nodes=tuple(nodes),
        namespace=namespace,
        params_file=params_file,
        log_level=args['log_level'],
        run_dir=run_dir,
        run_id=run_id,
        # Some seven processes share the machine; a thread pool of its size in each would only fight the others.
        environment={'OMP_NUM_THREADS': '1', 'OPENBLAS_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1'},
        includes=cell.includes,
        files={**cell.files, **({} if prepare else record_of_start(args, run_dir))},
        preparation=prepare,
    )


def _watching(
    args: Mapping[str, Value], task: TaskSpec, sim_time: bool, view: NodeSpec
) -> list[NodeSpec]:
    """Return RViz, its markers and, where no driver publishes the robot's frames, robot_state_publisher.

    All of them may come and go without the run noticing.
    """
    remappings = (*MOVED_TF, ('/clock', 'clock'))
    config = existing(args['rviz_config_file'], 'rviz_config_file', 'rviz/pipe_assembly.rviz')
    loose = {'managed': False, 'respawn': False, 'required': False}
    rviz = NodeSpec(
        'rviz2',
        'rviz2',
        'rviz2',
        {'use_sim_time': sim_time},
        remappings,
        ('-d', str(config)),
        **loose,
    )
    if args['sim'] != 'mujoco':
        return [view, rviz]
    described = {'robot_description': description(args, task), 'use_sim_time': sim_time}
    package = 'robot_state_publisher'
    return [NodeSpec(package, package, package, described, remappings, **loose), view, rviz]


def _steered(args: Mapping[str, Value]) -> bool:
    """Return whether a person steers on the page.

    :raises InputError: an arm that is not simulated here, where a late network or a closed page could not be afforded
    """
    if args['teleop'] != BROWSER:
        return False
    if args['sim'] != 'mujoco' or args['policy_mode'] != DEMONSTRATE:
        problem = "browser is to demonstrate in a simulation: a page has no dead man's button"
        remedy = f'say sim:=mujoco policy_mode:={DEMONSTRATE}, or teleop:=gamepad'
        raise InputError('argument `teleop`', problem, remedy)
    if command_sink(args) != 'pose_target':
        problem = 'the page steers poses of the tip'
        raise InputError('argument `command_sink`', problem, 'say pose_target')
    return True


def _lockstep(args: Mapping[str, Value]) -> bool:
    waits = args['sim'] == 'mujoco'
    if waits and args['robot_type'] != PANDA.name:
        raise InputError(
            'argument `robot_type`',
            'the MuJoCo scenes have a panda only',
            'say sim:=mock or sim:=gazebo',
        )
    if args['lockstep'] == 'true' and not waits:
        who = 'a real robot' if args['sim'] == 'none' else f'sim:={args["sim"]}'
        raise InputError(
            'argument `lockstep`',
            f'{who} does not wait',
            'say lockstep:=false, or sim:=mujoco',
        )
    if args['policy_mode'] != DEMONSTRATE:
        return waits and args['lockstep'] != 'false'
    if args['lockstep'] == 'true' and args['teleop'] in DEVICES:
        raise InputError(
            'argument `lockstep`', 'no hand keeps up with a simulation', 'say lockstep:=false'
        )
    return args['lockstep'] == 'true'


def namespace_of(name: str) -> str:
    """Return a namespace as ROS has it, '' or '/left'.

    :raises InputError: it is none
    """
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
