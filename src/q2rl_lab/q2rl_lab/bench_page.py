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

from q2rl_lab.bench_report import COLUMNS, course_of, meanings, notes, start_words, table_rows
from q2rl_lab.bench_results import FinishedRun, finished_runs
from q2rl_lab.plots import ALERT, BC_COLOUR, INK, draw
from q2rl_lab.statistics import moving_success

COLOURS = ('#16a34a', '#3b82f6', '#a855f7', '#db2777', '#0891b2', '#84cc16', '#64748b', '#dc2626')
DASHES = ('-', '--', ':')
CROWD = 4
"""Methods up to which the range over runs is drawn too."""
Line = dict[str, str]
"""How a method is drawn: `color` and `ls` of matplotlib."""


def render_bench_page(lines: Sequence[dict[str, Any]], result: dict[str, Any]) -> str:
    """Return the whole page."""
    style = (resources.files('q2rl_lab') / 'report.css').read_text(encoding='utf-8')
    title = 'benchmark ' + ', '.join(result['suites'])
    runs = finished_runs(lines)
    lines_of = _lines_of(list(result['methods']))
    figures = _figures(runs, result, lines_of)
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
        f'{len(runs)} runs; of one seed all methods start from the same demonstrations, rollouts and BC: '
        f'{escape(start_words(result))}.</p>'
        f'</header><h2>Comparison</h2>{_table(result)}'
        f'<p class="key">{escape(" ".join(meanings(result)))}</p>{said}'
        f'<h2>How they learned</h2>{_legend(lines_of)}<div class="figures">{shown}</div>'
        '<h2>All numbers</h2><details><summary>JSON</summary><div class="table">'
        f'<pre>{numbers}</pre></div></details></main></body></html>\n'
    )


def _table(result: dict[str, Any]) -> str:
    # A head may break, but not within a number and its unit.
    head = ''.join(f'<th>{escape(column).replace(" %", "&nbsp;%")}</th>' for column in COLUMNS)
    rows = ''.join(
        '<tr>' + ''.join(f'<td>{_unbroken(cell)}</td>' for cell in row) + '</tr>'
        for row in table_rows(result)
    )
    return f'<div class="table"><table class="comparison"><tr>{head}</tr>{rows}</table></div>'


def _unbroken(cell: str) -> str:
    """Return a cell that breaks before what it has in brackets, and nowhere else."""
    number, bracket, rest = cell.partition(' (')
    parts = [number, f'({rest}'] if bracket else [number]
    return ' '.join(f'<span>{escape(part)}</span>' for part in parts)


def _lines_of(methods: Sequence[str]) -> dict[str, Line]:
    found = {}
    for k, method in enumerate(methods):
        dashes = DASHES[k // len(COLOURS) % len(DASHES)]
        found[method] = {'color': COLOURS[k % len(COLOURS)], 'ls': dashes}
    if 'bc' in found:
        found['bc'] = {'color': BC_COLOUR, 'ls': '-'}
    return found


def _legend(lines_of: dict[str, Line]) -> str:
    """Return one legend for all figures: within them it would cover the curves of many methods."""
    css = {'-': 'solid', '--': 'dashed', ':': 'dotted'}
    keys = ''.join(
        f'<span><i style="border-top:3px {css[line["ls"]]} {line["color"]}"></i>{escape(method)}</span>'
        for method, line in lines_of.items()
    )
    return f'<p class="legend">{keys}</p>'


def _figures(
    runs: Sequence[FinishedRun], result: dict[str, Any], lines_of: dict[str, Line]
) -> dict[str, str]:
    methods, window = list(result['methods']), result['window']
    figures = {}
    for task in result['tasks']:
        own = {m: [r for r in runs if (r.method, r.task) == (m, task)] for m in methods}
        own = {m: found for m, found in own.items() if found}

        def curves(axes: Axes, own=own) -> None:
            for method, found in own.items():
                began = [r for r in found if r.outcomes]
                if not began:
                    continue
                moving = [100 * moving_success(r.outcomes, window) for r in began]
                length = min(map(len, moving))
                # A share of fewer episodes than a window holds jumps about; leave it out where there is more.
                first = min(window, length) - 1
                x, stacked = (
                    np.arange(first, length) + 1,
                    np.stack([m[first:length] for m in moving]),
                )
                axes.plot(x, stacked.mean(axis=0), **lines_of[method])
                if len(own) <= CROWD:
                    edges = stacked.min(axis=0), stacked.max(axis=0)
                    colour = lines_of[method]['color']
                    axes.fill_between(x, *edges, color=colour, alpha=0.08, lw=0)
            axes.set_xlim(0, None)
            axes.set(
                xlabel='online episode', ylabel='success of the last window [%]', ylim=(-3, 103)
            )

        def probes(axes: Axes, own=own) -> None:
            for method, found in own.items():
                # A run that was stopped before it learned anything goes on as its clone.
                count = max(len(r.evaluations) for r in found)
                whole = [r for r in found if len(r.evaluations) == count]
                x = [
                    np.mean([r.evaluations[k]['online_steps'] for r in whole]) for k in range(count)
                ]
                y = [
                    100
                    * np.mean(
                        [r.evaluations[min(k, len(r.evaluations) - 1)]['success'] for r in found]
                    )
                    for k in range(count)
                ]
                bc = 100 * np.mean([r.final['bc']['success'] for r in found])
                axes.plot([0, *x], [bc, *y], marker='o', ms=3.5, **lines_of[method])
            axes.set(xlabel='online steps', ylabel='success, evaluated [%]', ylim=(-3, 103))

        def failures(axes: Axes, own=own) -> None:
            for row, (method, found) in enumerate(own.items()):
                colour = lines_of[method]['color']
                # Side by side, so that equal counts do not hide one another.
                began = [course_of(r, window) for r in found if r.outcomes]
                rows = row + 0.25 * (np.arange(len(began)) / max(1, len(began) - 1) - 0.5)
                for at, course in zip(rows, began, strict=True):
                    reached = course.failures_to_95 is not None
                    count = course.failures_to_95 if reached else course.failures
                    face = colour if reached else 'none'
                    axes.plot(count, at, 'o' if reached else '>', ms=6, mfc=face, mec=colour)
            axes.set_yticks(range(len(own)), list(own))
            axes.invert_yaxis()
            axes.set_xlim(-0.02 * max(1.0, axes.get_xlim()[1]), None)
            axes.set(xlabel='failed episodes until 95 % (hollow: not reached)')

        spread = ' and range' if len(own) <= CROWD else ''
        for name, paint in (
            (f'success on the way, mean{spread} over runs', curves),
            ('success of fresh evaluations, mean over runs', probes),
            ('failed episodes until 95 %, one mark per run', failures),
        ):
            height = 0.9 + 0.3 * len(own) if paint is failures else 0.0
            figures[f'{task}: {name}'] = draw(
                f'bench-{len(figures)}', paint, height=max(3.2, height)
            )

    def profile(axes: Axes) -> None:
        levels = 100 * np.array(result['profile']['levels'])
        for method in methods:
            axes.step(levels, result['profile'][method], **lines_of[method])
        axes.axvline(95, color=ALERT, ls=':', lw=1)
        axes.axhline(0.5, color=INK, lw=0.6, alpha=0.4)
        axes.set(xlabel='final success above [%]', ylabel='share of runs', ylim=(-0.03, 1.03))

    figures['Performance profile'] = draw('bench-profile', profile)
    return figures
