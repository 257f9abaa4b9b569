# SPDX-License-Identifier: Apache-2.0
"""`q2rl demos`: record demonstrations, by a script or by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from q2rl_lab.commands.options import TASK_HELP, Json, Seed


def demos(
    task: Annotated[str, typer.Argument(help=TASK_HELP)],
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
    teleop: Annotated[
        bool,
        typer.Option('--teleop', help='You steer the arm yourself, in a browser on this machine.'),
    ] = False,
    realtime: Annotated[
        bool,
        typer.Option('--realtime', help='With --teleop: time runs on while you do not drag.'),
    ] = False,
    browser_port: Annotated[
        int,
        typer.Option('--browser-port', min=1, max=65535, help='With --teleop: TCP port.'),
    ] = 8080,
    force: Annotated[bool, typer.Option('--force', help='Replace an existing file.')] = False,
    as_json: Json = False,
) -> None:
    """Record demonstrations of a task in simulation, by a script or by your hand.

    The scripted demonstrator sees where things really are, and so do you with
    --teleop; what is recorded shows the estimate only, as a policy sees it.

    With --teleop the ROS 2 nodes start and a page is served on which you drag
    the tip of the arm. Every success is kept at once, in FILE.recording beside
    the file; Ctrl-C ends, and the same command goes on.

    \b
    q2rl demos pipe_assembly -o demos.hdf5
    q2rl demos pipe_assembly -n 50 --noise 0.5 --seed 3 -o many.hdf5
    q2rl demos pipe_assembly --teleop -n 10 -o mine.hdf5
    """  # noqa: D301
    from q2rl_lab.console import emit
    from q2rl_task import InputError, load_task
    from q2rl_task.atomic_file import check_writable, refuse_existing

    if teleop and noise is not None:
        raise InputError('--noise', 'is for the scripted demonstrator only', 'leave it out')
    if realtime and not teleop:
        raise InputError('--realtime', 'a script needs no clock', 'leave it out, or say --teleop')
    check_writable(output)
    if teleop:
        emit(_by_hand(task, output, count, seed, force, realtime, browser_port), as_json)
        return
    from q2rl_lab.preparation import record
    from q2rl_lab.task_check import check_simulated

    refuse_existing(output, force)
    spec = load_task(task)
    check_simulated(task, spec)
    emit(record(spec, count, seed, output, noise), as_json)


def _by_hand(
    task: str,
    output: Path,
    count: int | None,
    seed: int,
    force: bool,
    realtime: bool,
    port: int,
) -> dict[str, Any]:
    """Record what a person does; return what was recorded.

    :raises typer.Exit: it ended before so many were recorded
    """
    from q2rl_lab.console import EXIT_FAILED, EXIT_INTERRUPTED, say
    from q2rl_lab.hand_recording import explain, open_recording
    from q2rl_lab.run_folder import RunConfig
    from q2rl_lab.up_run import End

    config = RunConfig(task, seed, realtime=realtime)
    with open_recording(config, count, output, force, port) as recording:
        there = recording.keep()
        if there >= recording.wanted:
            say(f'{there} are recorded already; a larger -n adds to them')
            return recording.result()
        explain(port, recording)
        ending = recording.run(port, None)
        if ending.end is not End.FINISHED:
            say(ending.text or f'{recording.keep()} of {recording.wanted} recorded')
            code = EXIT_INTERRUPTED if ending.end is End.INTERRUPTED else EXIT_FAILED
            raise typer.Exit(code)
        return recording.result()
