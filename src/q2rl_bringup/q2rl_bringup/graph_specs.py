# SPDX-License-Identifier: Apache-2.0
"""What a start is made of: processes, and launch files of other packages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ParameterValue = bool | int | float | str | tuple[str, ...]
RESPAWN_DELAY_S = 0.5
RESPAWN_LIMIT = 5


@dataclass(frozen=True)
class NodeSpec:
    """One process of the graph.

    parameters: what this start sets; everything else comes from the params file or the node's own defaults.
    arguments: of the command line, before the ROS arguments. managed: whether it is a lifecycle node of q2rl, which
    reads the graph's params file. files: further parameter files. named: whether `name` is given to the process;
    false for one that holds several nodes, which would all be called that.
    respawn: start it again when it dies, after `respawn_delay` [s], at most `respawn_limit` times; not after
    exit code 2. required: the whole graph ends when it is given up. once: it does one thing and ends with 0. last: the
    whole graph ends when it has ended with 0.
    """

    package: str
    executable: str
    name: str
    parameters: Mapping[str, ParameterValue] = field(default_factory=dict)
    remappings: tuple[tuple[str, str], ...] = ()
    arguments: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    managed: bool = True
    named: bool = True
    respawn: bool = True
    respawn_delay: float = RESPAWN_DELAY_S
    respawn_limit: int = RESPAWN_LIMIT
    required: bool = True
    once: bool = False
    last: bool = False


@dataclass(frozen=True)
class IncludeSpec:
    """A launch file of another package, in its `launch` folder, with what it is told."""

    package: str
    file: str
    arguments: Mapping[str, str]

    @property
    def name(self) -> str:
        """What it is called among processes: the file without its endings."""
        return self.file.split('.')[0]
