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

from q2rl_bringup.argument_conflicts import refuse_conflicts
from q2rl_bringup.arguments import Value, as_the_task_says, parse_arguments
from q2rl_bringup.cell_processes import MOVED_TF, Cell, cell_processes
from q2rl_bringup.graph_specs import IncludeSpec, NodeSpec, ParameterValue
from q2rl_bringup.node_parameters import DEMONSTRATE, RECORDER, own_parameters, params_file
from q2rl_bringup.node_selection import nodes_of_the_run, runs_here
from q2rl_bringup.operator_nodes import operator_nodes
from q2rl_bringup.run_preparation import preparation, record_of_start
from q2rl_task import InputError, load_task

NAMESPACE = re.compile(r'(/?[A-Za-z][A-Za-z0-9_]*(/[A-Za-z][A-Za-z0-9_]*)*/?)?')
RUN_ID = re.compile(r'[A-Za-z0-9][A-Za-z0-9._-]*')
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
    refuse_conflicts(args)
    namespace = namespace_of(args['namespace'])
    run_dir, run_id = _run(args['run_dir'], args['run_id'])
    lockstep = _in_lockstep(args)
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
    # A node's clock listens to the absolute name /clock, the simulation publishes the relative one.
    remappings = (('/clock', 'clock'),) if namespace and sim_time else ()
    # The same with TF, which one node listens to, by absolute names as everywhere (`pose_source: tf`).
    heard = {'arm_interface': MOVED_TF} if namespace else {}
    run = nodes_of_the_run(args)
    own = own_parameters(args, task, run_dir, run_id, run)
    run_nodes = [
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
        for name, package in run.items()
        if runs_here(name, args['part'])
    ]
    cell = cell_processes(args, task, namespace, run_dir)
    if args['part'] == 'learner':
        cell = Cell(())
    prepare = preparation(args, run_dir)
    return NodeGraph(
        nodes=(*cell.nodes, *run_nodes, *operator_nodes(args, task, common, remappings)),
        namespace=namespace,
        params_file=params_file(args),
        log_level=args['log_level'],
        run_dir=run_dir,
        run_id=run_id,
        # Some seven processes share the machine; a thread pool of its size in each would only fight the others.
        environment={'OMP_NUM_THREADS': '1', 'OPENBLAS_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1'},
        includes=cell.includes,
        files={**cell.files, **({} if prepare else record_of_start(args, run_dir))},
        preparation=prepare,
    )


def _in_lockstep(args: Mapping[str, Value]) -> bool:
    """Return whether a simulation waits for each decision: MuJoCo's does, unless a person is to keep up with it."""
    if args['lockstep'] == 'auto':
        return args['sim'] == 'mujoco' and args['policy_mode'] != DEMONSTRATE
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
