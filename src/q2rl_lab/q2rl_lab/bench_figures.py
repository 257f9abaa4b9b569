# SPDX-License-Identifier: Apache-2.0
"""The figures of a benchmark: what methods cost and reached, task by task, and how they learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import math
from typing import Any

from matplotlib.axes import Axes
import numpy as np

from q2rl_lab.bench_report import FIRST, course_of
from q2rl_lab.bench_results import FinishedRun
from q2rl_lab.plots import ALERT, BC_COLOUR, INK, draw, draw_panels
from q2rl_lab.statistics import moving_success

COLOURS = ('#16a34a', '#3b82f6', '#a855f7', '#db2777', '#0891b2', '#84cc16', '#64748b', '#dc2626')
MARKERS = {'-': 'o', '--': 's', ':': '^'}
"""Of the marks of methods that are drawn by these lines."""
PANELS = 3
"""Tasks side by side in a figure of all of them."""
CROWD = 4
"""Methods up to which the range over runs is drawn too."""
Line = dict[str, str]
"""How a method is drawn: `color` and `ls` of matplotlib."""


def lines_for(methods: Sequence[str]) -> dict[str, Line]:
    """Return how each method is drawn, the same in all figures of a page."""
    found = {}
    for k, method in enumerate(methods):
        dashes = list(MARKERS)[k // len(COLOURS) % len(MARKERS)]
        found[method] = {'color': COLOURS[k % len(COLOURS)], 'ls': dashes}
    if 'bc' in found:
        found['bc'] = {'color': BC_COLOUR, 'ls': '-'}
    return found


def price_figure(
    runs: Sequence[FinishedRun], result: dict[str, Any], lines_of: dict[str, Line]
) -> str:
    """Return a figure with a panel per task: failures among the first episodes against success at the end."""
    tasks = list(result['tasks'])

    def panel(task: str) -> Callable[[Axes], None]:
        def paint(axes: Axes) -> None:
            own = [r for r in runs if r.task == task]
            axes.axhline(
                100 * np.mean([r.final['bc']['success'] for r in own]), color=INK, ls=':', lw=1
            )
            for method in result['methods']:
                began = [r for r in own if r.method == method and r.outcomes]
                if not began:
                    continue
                cost = [course_of(r).first_failures for r in began]
                success = [100 * r.final['success'] for r in began]
                colour, marker = lines_of[method]['color'], MARKERS[lines_of[method]['ls']]
                axes.plot(cost, success, marker, ms=4, color=colour, alpha=0.5, mew=0)
                mean = np.mean(cost), np.mean(success)
                axes.plot(*mean, marker, ms=11, color=colour, mec=INK, mew=0.8)
            axes.set_title(task, fontsize=10.5, fontweight='bold')
            axes.set(xlim=(-0.8, FIRST + 0.8), ylim=(-4, 104), xticks=range(0, FIRST + 1, 5))

        return paint

    columns = min(len(tasks), PANELS)
    size = 3.4 * columns, 2.9 * math.ceil(len(tasks) / columns)
    label = f'failed among the first {FIRST} online episodes', 'success at the end [%]'
    return draw_panels('bench-price', [panel(task) for task in tasks], size, columns, label)


def learning_figures(
    runs: Sequence[FinishedRun], result: dict[str, Any], lines_of: dict[str, Line]
) -> dict[str, str]:
    """Return three figures per task and the performance profile, by their titles."""
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
