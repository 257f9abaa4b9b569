# SPDX-License-Identifier: Apache-2.0
"""The `why` folder of a run: a page per episode that was asked for, and the page that lists all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from q2rl_lab.episode_story import by_instruction, remarks
from q2rl_lab.episode_ticks import EpisodeTicks, read_ticks, short_name
from q2rl_lab.film import HEIGHT, WIDTH, make_film
from q2rl_lab.run_data import EpisodeRow, RunData
from q2rl_lab.trace_pictures import TracePictures
from q2rl_lab.why_page import render_episode, render_list, why_command
from q2rl_task import InputError, Mode, Phase
from q2rl_task.atomic_file import write_atomically


def page_path(data: RunData, row: EpisodeRow) -> Path:
    """Return where an episode's page is."""
    return data.folder.why / f'episode-{short_name(row)}.html'


def read_logged(
    data: RunData,
    rows: Sequence[EpisodeRow],
    most: int | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> list[EpisodeTicks]:
    """Read the ticks of episodes in order, up to so many; those that the log does not hold are left out.

    :param tell: called with a line where some are
    """
    found: list[EpisodeTicks] = []
    missing: list[InputError] = []
    for row in rows:
        if len(found) == most:
            break
        try:
            found.append(read_ticks(data, row))
        except InputError as error:
            missing.append(error)
    if missing:
        count, first = len(missing), missing[0]
        tell(
            f'episodes whose ticks cannot be read, left out: {count} ({first.where}: {first.problem})'
        )
    return found


def write_episodes(
    data: RunData,
    rows: Sequence[EpisodeRow],
    films: int | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Write the pages of episodes and the list anew; returns the pages' paths.

    :param films: how many of them, from the first, get a film; None: all. A page that is there and gets none stays
    :param tell: called with a line where something is worth saying
    :raises InputError: the log does not hold an episode, or the folder cannot be written
    """
    found = [(row, read_ticks(data, row)) for row in rows]
    folder = data.folder.why
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(
            folder, f'cannot be made ({error.strerror})', 'make the run writable'
        ) from None
    paths, said = [], set()
    with TracePictures(data, WIDTH, HEIGHT) as pictures:
        for row, ticks in found:
            path, filmed = page_path(data, row), films is None or len(paths) < films
            paths.append(path)
            if not filmed and path.is_file():
                continue
            film, note = make_film(pictures, ticks) if filmed else ([], _how_to_film(data, row))
            if note and filmed and note not in said:
                tell(note)
                said.add(note)
            told = remarks(data.task, ticks, data.episodes)
            others = [('all episodes', 'index.html'), *_twins(data, row)]
            write_atomically(path, render_episode(data, ticks, film, told, note, others))
    write_list(data)
    return paths


def write_list(data: RunData) -> Path:
    """Write the page that lists all episodes, failures first; returns its path."""
    rows = by_instruction(data.episodes)
    pages = {row.episode: path.name for row in rows if (path := page_path(data, row)).is_file()}
    path = data.folder.why / 'index.html'
    write_atomically(path, render_list(data, rows, pages, _reasons(rows)))
    return path


def _how_to_film(data: RunData, row: EpisodeRow) -> str:
    return f'Not filmed yet: {why_command(data, row)}'


def _twins(data: RunData, row: EpisodeRow) -> list[tuple[str, str]]:
    """Return links to the pages of the same scene under other modes, where there are pages."""
    if row.seed is None or row.phase is not Phase.EVALUATING:
        return []
    return [
        (f'same scene, {other.mode.name.lower()}', page_path(data, other).name)
        for other in data.episodes
        if (other.seed, other.phase) == (row.seed, row.phase)
        and other.mode is not row.mode
        and page_path(data, other).is_file()
    ]


def _reasons(rows: Sequence[EpisodeRow]) -> dict[str, str]:
    """Return what to expect of failed episodes, by id."""
    names = {Mode.BC: 'BC alone', Mode.GATED: 'the gate', Mode.RL: 'RL alone'}
    winners: dict[int, list[Mode]] = {}
    for row in rows:
        if row.success and row.seed is not None and row.phase is Phase.EVALUATING:
            winners.setdefault(row.seed, []).append(row.mode)
    found = {}
    for row in rows:
        if not row.failed or row.phase is not Phase.EVALUATING or row.seed not in winners:
            continue
        by = ' and '.join(names[mode] for mode in sorted(winners[row.seed]))
        found[row.episode] = f'on this scene {by} succeeded '
    return found
