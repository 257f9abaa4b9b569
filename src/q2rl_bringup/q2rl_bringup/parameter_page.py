# SPDX-License-Identifier: Apache-2.0
"""The page docs/parameters.md: every argument of a start and every parameter of every node, as they declare them.

./q2rl shell python3 -m q2rl_bringup.parameter_page > docs/parameters.md
"""

from __future__ import annotations

from collections.abc import Iterable
import importlib
import inspect
import sys

import rclpy
from rclpy.parameter import Parameter

from q2rl_bringup.arguments import ARGUMENTS
from q2rl_bringup.node_graph import build_graph
from q2rl_ros.node import Q2rlNode

HEAD = """\
<!-- SPDX-License-Identifier: Apache-2.0 -->
<!-- Made by `./q2rl shell python3 -m q2rl_bringup.parameter_page > docs/parameters.md`; a test holds it up to date. -->
# Arguments and parameters

Arguments are what a start is told; they win over the parameter file, `config/q2rl.params.yaml` of `q2rl_bringup`, which
spells out all other parameters of the nodes. No file can change what is said to be set by the start. A task's own
numbers are in its YAML, the learner's in its preset.
"""
SET = ' Set by the start.'
OF_RCLPY = {'use_sim_time', 'start_type_description_service'}
TYPES = {
    Parameter.Type.BOOL: 'bool',
    Parameter.Type.INTEGER: 'int',
    Parameter.Type.DOUBLE: 'double',
    Parameter.Type.STRING: 'string',
    Parameter.Type.STRING_ARRAY: 'string[]',
    Parameter.Type.DOUBLE_ARRAY: 'double[]',
}
STARTS = (
    {'launch_rviz': True, 'browser': True},
    {'sim': 'gazebo'},
    {'sim': 'none', 'scene': 'fixed'},
    {'policy_mode': 'demonstrate', 'teleop': 'spacenav'},
    {'policy_mode': 'bc'},
)
"""Starts that have all nodes of q2rl between them."""


def parameter_page(domain: int | None = None) -> str:
    """Return the page; needs ROS, for the nodes are made (not configured) to ask them.

    :param domain: ROS_DOMAIN_ID of the nodes; None: that of the environment
    """
    nodes: dict[str, tuple[str, list[tuple[str, str, str, str]]]] = {}
    told: dict[str, set[str]] = {}  # by every start that has the node
    for start in STARTS:
        for spec in build_graph(start).nodes:
            if spec.managed:
                nodes[spec.name] = (spec.package, _rows(spec.package, spec.executable, domain))
                told[spec.name] = told.get(spec.name, set(spec.parameters)) & set(spec.parameters)
    common = set.intersection(*(set(rows) for _, rows in nodes.values()))
    lines = [HEAD, '## Arguments', '', '| argument | default | what |', '|---|---|---|']
    for argument in ARGUMENTS:
        choices = f' One of {", ".join(argument.choices)}.' if argument.choices else ''
        default = f'`{argument.text}`' if argument.text else '(empty)'
        lines.append(f'| `{argument.name}` | {default} | {argument.description}{choices} |')
    lines += ['', '## Every node', '', *_table(sorted(common), set.intersection(*told.values()))]
    for name, (package, rows) in sorted(nodes.items()):
        lines += ['', f'## {name} (`{package}`)', '']
        own = [row for row in rows if row not in common]
        lines += _table(own, told[name]) if own else ['None beside those of every node.']
    return '\n'.join(lines) + '\n'


def _rows(package: str, executable: str, domain: int | None) -> list[tuple[str, str, str, str]]:
    """Return (name, type, default, text) of a node's parameters, in the order of their declaration."""
    module = importlib.import_module(f'{package}.{executable}_node')
    kind = next(
        k
        for _, k in inspect.getmembers(module, inspect.isclass)
        if issubclass(k, Q2rlNode) and k.__module__ == module.__name__
    )
    context = rclpy.Context()
    rclpy.init(args=[], context=context, domain_id=domain)
    node = kind(context=context)
    try:
        return [
            _row(name, node.get_parameter(name), node.describe_parameter(name))
            for name in node._parameters
            if name not in OF_RCLPY and not name.startswith('qos_overrides')
        ]
    finally:
        node.destroy_node()
        context.shutdown()


def _row(name: str, parameter: Parameter, descriptor) -> tuple[str, str, str, str]:
    text = descriptor.description.rstrip('.')
    for limits in (*descriptor.floating_point_range, *descriptor.integer_range):
        text += f'. From {limits.from_value:g} to {limits.to_value:g}'
    if descriptor.additional_constraints:
        constraint = descriptor.additional_constraints
        text += f'. {constraint[0].upper()}{constraint[1:]}'
    value = parameter.value
    default = str(value).lower() if isinstance(value, bool) else str(value)
    return name, TYPES[parameter.type_], f'`{default}`' if default else '(empty)', f'{text}.'


def _table(rows: Iterable[tuple[str, str, str, str]], told: set[str]) -> list[str]:
    head = ['| parameter | type | default | what |', '|---|---|---|---|']
    return head + [
        f'| `{name}` | {kind} | {default} | {text.replace("|", "/")}{SET if name in told else ""} |'
        for name, kind, default, text in rows
    ]


if __name__ == '__main__':
    sys.stdout.write(parameter_page())
