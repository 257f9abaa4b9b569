# SPDX-License-Identifier: Apache-2.0
"""`q2rl why`: open one episode in the browser, tick by tick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from q2rl_lab.commands.options import RunsDir


def why(
    run: Annotated[
        str | None, typer.Argument(help='Name or path of the run.', show_default='the latest')
    ] = None,
    episode: Annotated[
        str | None,
        typer.Argument(
            help='Episode: its id, or the end of it (o0012, v3). last: the last failed one.',
            show_default='a list, failures first',
        ),
    ] = None,
    pages: Annotated[
        int, typer.Option(min=1, help='Without EPISODE: how many get a page, failures first.')
    ] = 40,
    films: Annotated[
        int,
        typer.Option(
            min=0,
            help='Without EPISODE: how many of these get a film (some seconds each); 0: none at all.',
        ),
    ] = 3,
    open_it: Annotated[
        bool, typer.Option('--open/--no-open', help='Open the page in a browser.')
    ] = True,
    runs_dir: RunsDir = Path('runs'),
    as_json: Annotated[
        bool, typer.Option('--json', help='Write the ticks of EPISODE as JSON to stdout, no page.')
    ] = False,
) -> None:
    """See why an episode went as it did: film, force, values, gate, guard on one time axis.

    Moving over a plot moves the film and the cursor in all plots; the arrow keys
    step tick by tick. The page is one file, runs/NAME/why/episode-E.html, which
    needs no network. Its path goes to stdout.

    \b
    q2rl why                     list of the latest run's episodes, failures first
    q2rl why seven last          the last failed episode of runs/seven
    q2rl why seven v3            evaluation episode 3 (e: rollouts, o: online)
    q2rl why seven o12 --json    its ticks, for a program
    """  # noqa: D301
    from q2rl_lab.browser import open_page
    from q2rl_lab.console import emit, say
    from q2rl_lab.episode_story import by_instruction, last_failure
    from q2rl_lab.episode_ticks import find_row, read_ticks
    from q2rl_lab.run_data import read_run
    from q2rl_lab.run_folder import open_run
    from q2rl_lab.why_files import read_logged, write_episodes
    from q2rl_task import InputError

    data = read_run(open_run(runs_dir, run))
    if not data.episodes:
        raise InputError(data.folder.path, 'has no finished episode yet', 'wait for the first one')
    if episode == 'last':
        row = last_failure(data.episodes)
        if row is None:
            raise InputError('episode last', 'no episode failed', 'name one, or leave it out')
    else:
        row = find_row(data, episode) if episode is not None else None
    if as_json:
        if row is None:
            raise InputError('--json', 'needs one episode', 'name it, or say last')
        emit(read_ticks(data, row).as_dict(), True)
        return
    if row is not None:
        paths = write_episodes(data, [row], None if films else 0, say)
    else:
        logged = read_logged(data, by_instruction(data.episodes), pages, say)
        paths = write_episodes(data, [ticks.row for ticks in logged], films, say)
    path = paths[0] if row is not None else data.folder.why / 'index.html'
    print(path, flush=True)
    if open_it and not open_page(path):
        say('no display here: open the file in a browser')
