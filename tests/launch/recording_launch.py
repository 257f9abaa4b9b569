# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the part of `launch` and `launch_ros` that the launch files use: it only records the calls.

The real packages come with a ROS installation and are not on PyPI. Signatures follow ROS 2 Jazzy: an argument that is
not there is refused here too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import contextlib
from dataclasses import dataclass, field
import sys
from types import ModuleType, SimpleNamespace


class Action:
    """`launch.Action`."""


@dataclass
class DeclareLaunchArgument(Action):
    """`launch.actions.DeclareLaunchArgument`."""

    name: str
    _: object = field(default=None, kw_only=True, repr=False)
    default_value: str | None = field(default=None, kw_only=True)
    description: str | None = field(default=None, kw_only=True)
    choices: list[str] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Check what launch checks."""
        if not isinstance(self.default_value, str | None):
            raise TypeError(f'the default of {self.name} is not text')
        if self.choices is not None and self.default_value not in self.choices:
            raise RuntimeError(f'the default of {self.name} is not one of its choices')


@dataclass
class PathJoinSubstitution:
    """`launch.substitutions.PathJoinSubstitution`."""

    substitutions: Sequence[object]


@dataclass
class FindPackageShare:
    """`launch_ros.substitutions.FindPackageShare`."""

    package: str


@dataclass
class PythonLaunchDescriptionSource:
    """`launch.launch_description_sources.PythonLaunchDescriptionSource`."""

    launch_file_path: str | PathJoinSubstitution


@dataclass
class IncludeLaunchDescription(Action):
    """`launch.actions.IncludeLaunchDescription`."""

    launch_description_source: PythonLaunchDescriptionSource
    _: object = field(default=None, kw_only=True, repr=False)
    launch_arguments: Iterable[tuple[str, str]] | None = field(default=None, kw_only=True)


@dataclass(kw_only=True)
class OpaqueFunction(Action):
    """`launch.actions.OpaqueFunction`."""

    function: Callable


@dataclass(kw_only=True)
class Shutdown(Action):
    """`launch.actions.Shutdown`."""

    reason: str = 'reason not given'


@dataclass
class LaunchDescription:
    """`launch.LaunchDescription`."""

    entities: Sequence[object] = ()


@dataclass
class LaunchContext:
    """`launch.LaunchContext`, as far as an `OpaqueFunction` sees it."""

    launch_configurations: dict[str, str] = field(default_factory=dict)
    is_shutdown: bool = False


@dataclass
class ProcessExited:
    """`launch.events.process.ProcessExited`."""

    returncode: int


@dataclass
class ParameterValue:
    """`launch_ros.parameter_descriptions.ParameterValue`."""

    value: object
    value_type: type | None = field(default=None, kw_only=True)


@dataclass(kw_only=True)
class Node(Action):
    """`launch_ros.actions.Node`."""

    package: str
    executable: str
    name: str | None = None
    namespace: str | None = None
    exec_name: str | None = None
    parameters: Sequence[str | Mapping[str, object]] | None = None
    remappings: Sequence[tuple[str, str]] | None = None
    ros_arguments: Sequence[str] | None = None
    arguments: Sequence[str] | None = None
    additional_env: Mapping[str, str] | None = None
    output: str = 'log'
    respawn: bool = False
    respawn_delay: float | None = None
    respawn_max_retries: int = -1
    on_exit: Callable | None = None


@dataclass(kw_only=True)
class LifecycleNode(Node):
    """`launch_ros.actions.LifecycleNode`; name and namespace are required."""

    name: str
    namespace: str


MODULES = {
    'launch': {
        'Action': Action,
        'LaunchDescription': LaunchDescription,
        'LaunchContext': LaunchContext,
    },
    'launch.actions': {
        'DeclareLaunchArgument': DeclareLaunchArgument,
        'IncludeLaunchDescription': IncludeLaunchDescription,
        'OpaqueFunction': OpaqueFunction,
        'Shutdown': Shutdown,
    },
    'launch.events': {},
    'launch.launch_description_sources': {
        'PythonLaunchDescriptionSource': PythonLaunchDescriptionSource
    },
    'launch.substitutions': {'PathJoinSubstitution': PathJoinSubstitution},
    'launch_ros.substitutions': {'FindPackageShare': FindPackageShare},
    'launch.events.process': {'ProcessExited': ProcessExited},
    'launch_ros': {},
    'launch_ros.actions': {'LifecycleNode': LifecycleNode, 'Node': Node},
    'launch_ros.parameter_descriptions': {'ParameterValue': ParameterValue},
}


@contextlib.contextmanager
def installed() -> Iterator[SimpleNamespace]:
    """Let `import launch` and `import launch_ros` find the stand-in for a while."""
    before = {name: sys.modules.get(name) for name in MODULES}
    for name, content in MODULES.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        sys.modules[name] = module
    try:
        yield SimpleNamespace(**MODULES['launch'])
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
