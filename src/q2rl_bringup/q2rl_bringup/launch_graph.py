# SPDX-License-Identifier: Apache-2.0
"""The node graph as a launch description; the only module here that needs the launch system of a ROS installation.

What runs with which parameters is decided by `q2rl_bringup.node_graph`; here it only becomes launch actions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
import sys

from launch import Action, LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    OpaqueFunction,
    Shutdown,
)
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import PathJoinSubstitution
from launch_ros.actions import LifecycleNode, Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

try:
    from q2rl_bringup.arguments import ARGUMENTS, Argument
    from q2rl_bringup.cell_starts import CELL_STARTS
    from q2rl_bringup.graph_specs import IncludeSpec, NodeSpec
    from q2rl_bringup.node_graph import FINAL_EXIT_CODE, NodeGraph, build_graph
    from q2rl_task.atomic_file import write_atomically
except ImportError as error:
    if (error.name or '').startswith('q2rl_'):
        raise
    # Not an exception that launch catches: it would try the file as XML and YAML too and tell of all three.
    sys.stderr.write(
        f'q2rl: {sys.executable}: {error}: put the Python packages of requirements/jazzy.txt on '
        'PYTHONPATH, see "Install on Jazzy" in docs/bring-your-own-robot.md\n'
    )
    raise SystemExit(2) from None


def describe_launch(task: str) -> LaunchDescription:
    """Declare the arguments, `task` being the default of the argument of that name; the rest needs their values."""
    declared = [replace(a, default=task) if a.name == 'task' else a for a in ARGUMENTS]
    return _description(declared, launch_setup)


def describe_cell(name: str) -> LaunchDescription:
    """The same for a start of `CELL_STARTS`."""
    start = CELL_STARTS[name]

    def setup(context: LaunchContext) -> list[Action]:
        return _actions(start.build(_given(context, start.arguments)))

    return _description(start.arguments, setup)


def _description(arguments: Sequence[Argument], setup: Callable) -> LaunchDescription:
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(
                    argument.name,
                    default_value=argument.text,
                    description=argument.description,
                    choices=list(argument.choices) or None,
                )
                for argument in arguments
            ),
            OpaqueFunction(function=setup),
        ]
    )


def launch_setup(context: LaunchContext) -> list[IncludeLaunchDescription | Node]:
    """Return the actions of the graph that the arguments ask for; what they read is written first.

    Of a run that must be prepared first, that is the one process that does it, and its end brings the others.
    """
    graph = build_graph(_given(context, ARGUMENTS))
    for path, text in graph.files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
    if graph.preparation is None:
        return _actions(graph)
    return [make_action(graph, graph.preparation, then=_actions(graph))]


def _given(context: LaunchContext, arguments: Sequence[Argument]) -> dict[str, str]:
    names = {argument.name for argument in arguments}
    return {k: v for k, v in context.launch_configurations.items() if k in names}


def _actions(graph: NodeGraph) -> list[Action]:
    return [
        *(include(spec) for spec in graph.includes),
        *(make_action(graph, node) for node in graph.nodes),
    ]


def include(spec: IncludeSpec) -> IncludeLaunchDescription:
    """Return the action that includes a launch file of another package."""
    path = PathJoinSubstitution([FindPackageShare(spec.package), 'launch', spec.file])
    return IncludeLaunchDescription(
        PythonLaunchDescriptionSource(path), launch_arguments=dict(spec.arguments).items()
    )


def make_action(graph: NodeGraph, node: NodeSpec, then: Sequence[Action] = ()) -> Node:
    """Return the launch action of one node.

    :param then: what starts when a process that does one thing has done it
    """
    kind = LifecycleNode if node.managed else Node
    return kind(
        package=node.package,
        executable=node.executable,
        name=node.name if node.named else None,
        exec_name=node.name,
        namespace=graph.namespace,
        parameters=[
            *([str(graph.params_file)] if node.managed else []),
            *(str(path) for path in node.files),
            {name: parameter(value) for name, value in node.parameters.items()},
        ],
        remappings=list(node.remappings),
        arguments=list(node.arguments),
        ros_arguments=['--log-level', graph.log_level],
        additional_env=dict(graph.environment),
        output='screen',
        respawn=node.respawn,
        respawn_delay=node.respawn_delay,
        respawn_max_retries=node.respawn_limit,
        on_exit=end_with(node, then) if node.required else None,
    )


def parameter(value: object) -> object:
    """Return a parameter's value as launch_ros must be told: it would read a bare text as YAML ('123' as a number)."""
    if isinstance(value, str):
        return ParameterValue(value, value_type=str)
    if isinstance(value, tuple):
        return ParameterValue(list(value), value_type=list[str])
    return value


def end_with(
    node: NodeSpec, then: Sequence[Action] = ()
) -> Callable[[ProcessExited, LaunchContext], list[Action]]:
    """Return the handler that ends the launch when `node` is given up, and starts `then` when it did its one thing.

    It wins over a respawn because that first waits for `respawn_delay`, and the shutdown ends the wait.
    """
    deaths = 0

    def on_exit(event: ProcessExited, context: LaunchContext) -> list[Action]:
        nonlocal deaths
        deaths += 1
        if node.last and event.returncode == 0 and not context.is_shutdown:
            return [Shutdown(reason=f'{node.name} is done')]
        if node.once and event.returncode == 0:
            return list(then)
        allowed = node.respawn_limit if node.respawn else 0
        if context.is_shutdown or (event.returncode != FINAL_EXIT_CODE and deaths <= allowed):
            return []
        return [Shutdown(reason=f'{node.name} ended with exit code {event.returncode}')]

    return on_exit
