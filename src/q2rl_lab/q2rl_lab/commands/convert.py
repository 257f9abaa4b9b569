# SPDX-License-Identifier: Apache-2.0
"""`q2rl convert`: demonstrations from one kind of file into another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from q2rl_lab.commands.options import Json, Task


def convert(
    source: Annotated[Path, typer.Argument(metavar='IN', help='Demonstrations to read.')],
    target: Annotated[Path, typer.Argument(metavar='OUT', help='File or folder to write.')],
    task: Task = 'pipe_assembly',
    as_is: Annotated[
        bool,
        typer.Option(
            '--as-is', help="IN names no contract: take its numbers for the task's, as they are."
        ),
    ] = False,
    successes: Annotated[
        bool, typer.Option('--successes', help='Leave out episodes that did not succeed.')
    ] = False,
    force: Annotated[bool, typer.Option('--force', help='Replace what is at OUT.')] = False,
    as_json: Json = False,
) -> None:
    """Convert demonstrations: robomimic HDF5, LeRobotDataset v3, MCAP.

    The kind follows from the name: *.hdf5 (robomimic layout); *.mcap or a folder
    of them (bags of the topic `transition`, as ros2 bag records them); any other
    folder is a LeRobotDataset (no videos). train-bc and up take the HDF5.

    \b
    q2rl convert demos.hdf5 my_dataset               for LeRobot
    q2rl convert my_dataset demos.hdf5 --as-is       from LeRobot
    q2rl convert rosbag2_folder won.hdf5 --successes from a recorded run
    """  # noqa: D301
    from q2rl_lab.bench_suites import bench_task
    from q2rl_lab.console import emit
    from q2rl_learner.demonstration_files import format_of
    from q2rl_task import InputError
    from q2rl_task.atomic_file import check_writable, refuse_existing, saying_why

    if not source.exists():
        raise InputError(source, 'no such file or folder', 'name demonstrations')
    refuse_existing(target, force)
    reads, writes = format_of(source), format_of(target)
    check_writable(target, folder=writes.folder)
    spec = bench_task(task).spec
    found = reads.read(source, spec, as_is)
    kept = [e for e in found.episodes if e.terminated or not successes]
    if not kept:
        raise InputError(source, 'holds no episode that succeeded', 'leave out --successes')
    with saying_why(target):
        writes.write(target, spec, kept)
    result = {
        'from': reads.name,
        'to': writes.name,
        'file': str(target),
        'episodes': len(kept),
        'left_out': len(found.episodes) - len(kept),
        'successes': sum(e.terminated for e in kept),
        'steps': sum(len(e) for e in kept),
        'notes': list(found.notes),
    }
    if not as_json:
        result['notes'] = '; '.join(found.notes) or None
    emit(result, as_json)
