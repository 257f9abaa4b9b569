# SPDX-License-Identifier: Apache-2.0
"""`q2rl demos`: record demonstrations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from q2rl_lab.commands.options import Json, Seed


def demos(
    task: Annotated[
        str, typer.Argument(help='Task: the name of a shipped one, or the path of a task YAML.')
    ],
    output: Annotated[
        Path, typer.Option('--output', '-o', help='File to write (HDF5, robomimic layout).')
    ] = Path('demonstrations.hdf5'),
    count: Annotated[
        int | None,
        typer.Option('--count', '-n', min=1, help='Demonstrations.', show_default="the task's"),
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help='The demonstrator: 0 a machine, 1 practised, 2 a novice.',
            show_default="the task's",
        ),
    ] = None,
    seed: Seed = 0,
    force: Annotated[bool, typer.Option('--force', help='Replace an existing file.')] = False,
    as_json: Json = False,
) -> None:
    """Record demonstrations of a task by the scripted demonstrator, in simulation.

    The demonstrator sees where things really are; what it records shows the
    estimate only, as a policy sees it.

    \b
    q2rl demos pipe_assembly -o demos.hdf5
    q2rl demos pipe_assembly -n 50 --noise 0.5 --seed 3 -o many.hdf5
    """  # noqa: D301
    from q2rl_lab.console import emit
    from q2rl_lab.preparation import record
    from q2rl_task import InputError, load_task

    if output.exists() and not force:
        raise InputError(output, 'is there already', 'name another file, or say --force')
    emit(record(load_task(task), count, seed, output, noise), as_json)
