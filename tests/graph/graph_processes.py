# SPDX-License-Identifier: Apache-2.0
"""The processes of a node graph, as a supervisor starts them."""

from __future__ import annotations

from pathlib import Path

from q2rl_bringup.node_graph import NodeGraph
from q2rl_lab.supervisor import ProcessSpec
from q2rl_lab.up_run import program


def processes(graph: NodeGraph, folder: Path) -> list[ProcessSpec]:
    """Return them; their parameter files are written into `folder`."""
    specs = []
    for node in graph.nodes:
        file = folder / f'{node.name}.yaml'
        file.write_text(graph.parameter_file(node))
        argv = (*program(node.package, node.executable), *graph.command_line(node, file))
        specs.append(ProcessSpec(name=node.name, argv=argv, once=node.once))
    return specs
