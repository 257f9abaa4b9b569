# SPDX-License-Identifier: Apache-2.0
"""`q2rl shadow`: BC acts, RL is only scored."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from q2rl_lab.commands.options import Json, RunsDir, Task, TaskPreset


def shadow(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar='RUN_OR_WEIGHTS',
            help='A run by name or path, or a folder with actor.safetensors and critic.safetensors.',
            show_default='the latest run',
        ),
    ] = None,
    episodes: Annotated[
        int, typer.Option('--episodes', '-n', min=1, help='Fresh scenes to run.')
    ] = 20,
    seed: Annotated[
        int | None,
        typer.Option('--seed', min=0, help='Seed of the scenes.', show_default="the run's; else 0"),
    ] = None,
    nodes: Annotated[
        bool, typer.Option('--nodes', help='Through the ROS 2 nodes, not in this process.')
    ] = False,
    bc: Annotated[
        Path | None,
        typer.Option(
            '--bc', help='The BC policy that acts.', show_default='that of RUN_OR_WEIGHTS'
        ),
    ] = None,
    task: Task = 'pipe_assembly',
    preset: TaskPreset = None,
    name: Annotated[
        str | None,
        typer.Option('--run', help='Name of the run to keep.', show_default='RUN-shadow'),
    ] = None,
    films: Annotated[
        int, typer.Option(min=0, help='How many of the episode pages get a film; 0: none.')
    ] = 3,
    open_it: Annotated[
        bool, typer.Option('--open/--no-open', help='Open the page in a browser.')
    ] = True,
    runs_dir: RunsDir = Path('runs'),
    as_json: Json = False,
) -> None:
    """Let BC act and score RL beside it: where it would act, and by what margin.

    No action of RL reaches the arm. The episodes are kept in runs/NAME; the table
    goes to stdout, the page is runs/NAME/shadow.html, and its links open single
    episodes at the tick in question. A run that was recorded in the shadow
    (q2rl up --shadow, policy_mode:=shadow) is reported on as it is.

    \b
    q2rl shadow                        the latest run's weights, 20 fresh scenes
    q2rl shadow seven -n 100           of runs/seven
    q2rl shadow seven --nodes          the same through arm, policies and gate
    q2rl shadow learned/               of a folder that q2rl export wrote
    """  # noqa: D301
    from q2rl_lab.browser import open_page
    from q2rl_lab.console import EXIT_FAILED, emit, say
    from q2rl_lab.progress import EpisodeProgress
    from q2rl_lab.shadow_files import write_shadow
    from q2rl_lab.shadow_page import show_shadow
    from q2rl_lab.shadow_run import (
        can_run_by_nodes,
        find_learned,
        make_folder,
        run_by_nodes,
        run_in_process,
    )
    from q2rl_task import InputError, load_task

    what = find_learned(runs_dir, target, bc, task, preset)
    if what.run is not None and what.run.read_config().shadow:
        folder = what.run
    else:
        spec = load_task(what.task)
        if not what.learner.is_dir():
            raise InputError(
                what.learner, 'is not there: nothing was learned yet', 'let the run learn first'
            )
        if nodes and not can_run_by_nodes(what):
            raise InputError(
                '--nodes', 'there is no saved state of a learner', 'name a run of q2rl up'
            )
        scenes = what.seed if seed is None else seed
        folder = make_folder(what, runs_dir, name, episodes, scenes, not nodes)
        say(f'run {folder.id} in {folder.path}')
        if nodes:
            try:
                run_by_nodes(what, folder, spec)
            except RuntimeError as error:
                say(f'the run did not finish: {error}')
                raise typer.Exit(EXIT_FAILED) from None
        else:
            with EpisodeProgress(episodes) as progress:
                run_in_process(what, folder, spec, progress)
    result = write_shadow(folder, films, say)
    if folder is what.run:
        say(f'{folder.id} was recorded in the shadow: its own episodes are reported, none was run')
    if as_json:
        emit(result, True)
        return
    show_shadow(result)
    print(folder.shadow, flush=True)
    if open_it and not open_page(folder.shadow):
        say('no display here: open the file in a browser')
