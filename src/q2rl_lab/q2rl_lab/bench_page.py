# SPDX-License-Identifier: Apache-2.0
"""The report of a benchmark: one HTML file in the style of a run's report."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import resources
import json
from typing import Any

from matplotlib.axes import Axes
import numpy as np

from q2rl_lab.bench_report import COLUMNS, course_of, notes, table_rows
from q2rl_lab.bench_results import FinishedRun, finished_runs
from q2rl_lab.plots import ALERT, BC_COLOUR, INK, draw
from q2rl_lab.statistics import moving_success

COLOURS = ('#16a34a', '#3b82f6', '#a855f7', '#db2777', '#0891b2', '#ca8a04', '#64748b', '#dc2626')


def render_bench_page(lines: Sequence[dict[str, Any]], result: dict[str, Any]) -> str:
    """Return the whole page."""
    style = (resources.files('q2rl_lab') / 'report.css').read_text(encoding='utf-8')
    title = 'benchmark ' + ', '.join(result['suites'])
    runs = finished_runs(lines)
    figures = _figures(runs, result)
    shown = ''.join(
        f'<figure><figcaption>{escape(name)}</figcaption>{svg}</figure>'
        for name, svg in figures.items()
    )
    said = ''.join(f'<p class="note">{escape(note)}</p>' for note in notes(result))
    numbers = escape(json.dumps({k: v for k, v in result.items() if k != 'profile'}, indent=2))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>q2rl: {escape(title)}</title><style>{style}</style></head>\n<body><main>'
        f'<header><h1>{escape(title)}</h1><p>{escape(", ".join(result["tasks"]))}: '
        f'{len(runs)} runs; of one seed all methods start from the same clone, demonstrations and rollouts.</p>'
        f'</header><h2>Comparison</h2>{_table(result)}{said}'
        f'<h2>How they learned</h2><div class="figures">{shown}</div>'
        '<h2>All numbers</h2><details><summary>JSON</summary><div class="table">'
        f'<pre>{numbers}</pre></div></details></main></body></html>\n'
    )


def _table(result: dict[str, Any]) -> str:
    head = ''.join(f'<th>{escape(column)}</th>' for column in COLUMNS)
    rows = ''.join(
        '<tr>' + ''.join(f'<td>{escape(cell)}</td>' for cell in row) + '</tr>'
        for row in table_rows(result)
    )
    return f'<div class="table"><table><tr>{head}</tr>{rows}</table></div>'


def _figures(runs: Sequence[FinishedRun], result: dict[str, Any]) -> dict[str, str]:
    methods = list(result['methods'])
    colour = {m: COLOURS[k % len(COLOURS)] for k, m in enumerate(methods)}
    if 'bc' in colour:
        colour['bc'] = BC_COLOUR
    figures = {}
    for task in result['tasks']:
        own = {m: [r for r in runs if (r.method, r.task) == (m, task)] for m in methods}
        own = {m: found for m, found in own.items() if found}

        def curves(axes: Axes, own=own) -> None:
            for method, found in own.items():
                moving = [100 * moving_success(r.outcomes, r.final['window']) for r in found]
                length = min(map(len, moving))  # 0 where a run did not start
                x, stacked = np.arange(1, length + 1), np.stack([m[:length] for m in moving])
                axes.plot(x, stacked.mean(axis=0), color=colour[method], label=method)
                axes.fill_between(
                    x,
                    stacked.min(axis=0),
                    stacked.max(axis=0),
                    color=colour[method],
                    alpha=0.08,
                    lw=0,
                )
            axes.set(
                xlabel='online episode', ylabel='success of the last window [%]', ylim=(-3, 103)
            )
            axes.legend(loc='lower right', fontsize=8)

        def probes(axes: Axes, own=own) -> None:
            for method, found in own.items():
                count = min(len(r.evaluations) for r in found)
                x = [
                    np.mean([r.evaluations[k]['online_steps'] for r in found]) for k in range(count)
                ]
                y = [
                    100 * np.mean([r.evaluations[k]['success'] for r in found])
                    for k in range(count)
                ]
                bc = 100 * np.mean([r.final['bc']['success'] for r in found])
                axes.plot([0, *x], [bc, *y], 'o-', ms=3.5, color=colour[method], label=method)
            axes.set(xlabel='online steps', ylabel='success, evaluated [%]', ylim=(-3, 103))
            axes.legend(loc='lower right', fontsize=8)

        def failures(axes: Axes, own=own) -> None:
            for row, (method, found) in enumerate(own.items()):
                for course in map(course_of, found):
                    reached = course.failures_to_95 is not None
                    count = course.failures_to_95 if reached else course.failures
                    face = colour[method] if reached else 'none'
                    axes.plot(
                        count, row, 'o' if reached else '>', ms=7, mfc=face, mec=colour[method]
                    )
            axes.set_yticks(range(len(own)), list(own))
            axes.invert_yaxis()
            axes.set_xlim(0, None)
            axes.set(xlabel='failed episodes until 95 % (hollow: not reached)')

        for name, paint in (
            ('success on the way, mean and range over runs', curves),
            ('success of fresh evaluations, mean over runs', probes),
            ('failed episodes until 95 %, one mark per run', failures),
        ):
            figures[f'{task}: {name}'] = draw(f'bench-{len(figures)}', paint)

    def profile(axes: Axes) -> None:
        levels = 100 * np.array(result['profile']['levels'])
        for method in methods:
            axes.step(levels, result['profile'][method], color=colour[method], label=method)
        axes.axvline(95, color=ALERT, ls=':', lw=1)
        axes.axhline(0.5, color=INK, lw=0.6, alpha=0.4)
        axes.set(xlabel='final success above [%]', ylabel='share of runs', ylim=(-0.03, 1.03))
        axes.legend(loc='lower left', fontsize=8)

    figures['Performance profile'] = draw('bench-profile', profile)
    return figures
