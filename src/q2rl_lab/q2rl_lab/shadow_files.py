# SPDX-License-Identifier: Apache-2.0
"""From the episodes of a run in the shadow to its numbers, its page, and the pages of the episodes it links to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from q2rl_lab.run_data import read_run
from q2rl_lab.run_folder import RunFolder
from q2rl_lab.shadow_page import render_shadow
from q2rl_lab.shadow_result import build_shadow, judged_ticks
from q2rl_lab.why_files import page_path, read_logged, write_episodes
from q2rl_task import InputError, Phase
from q2rl_task.atomic_file import write_atomically

MOST_PAGES = 40


def write_shadow(
    folder: RunFolder, films: int = 0, tell: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Write `shadow.html` and the pages that it links to; returns the numbers.

    Online and evaluated episodes that are in the log count: in the rollouts before there was nothing to score.

    :param films: how many of those pages get a film
    :param tell: called with a line where something is worth saying
    :raises InputError: the run has no such episode
    """
    data = read_run(folder)
    rows = [
        r
        for r in data.episodes
        if r.phase in (Phase.ONLINE, Phase.EVALUATING) and not r.interrupted
    ]
    episodes = read_logged(data, rows, tell=tell)
    if not episodes:
        problem = 'has no episode with RL in the shadow'
        raise InputError(folder.path, problem, 'let the run go on to its online phase')
    judged = judged_ticks(episodes)
    result = build_shadow(data.task, folder.id, episodes, judged)
    named = [entry['episode'] for key in ('failures', 'worst') for entry in result[key]]
    by_id = {row.episode: row for row in rows}
    linked = [by_id[name] for name in dict.fromkeys(named)][:MOST_PAGES]
    if linked:
        write_episodes(data, linked, films, tell)
    pages = {row.episode: f'{folder.why.name}/{page_path(data, row).name}' for row in linked}
    write_atomically(folder.shadow, render_shadow(result, judged, pages))
    return result
