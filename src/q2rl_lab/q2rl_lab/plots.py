# SPDX-License-Identifier: Apache-2.0
"""The report's figures as inline SVG, in one style that follows the page's light or dark colours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import io
import math
import re

import matplotlib
import numpy as np

matplotlib.use('svg')
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from q2rl_lab.run_data import EpisodeRow, RunData, Ticks
from q2rl_lab.statistics import moving_band, moving_success, shares_over
from q2rl_task import EndReason, Mode, Phase, Source

# A colour that no figure uses for data: it becomes the page's own text colour.
INK = '#010203'
BC_COLOUR, RL_COLOUR, GATED_COLOUR, ALERT = '#d9822b', '#3b82f6', '#16a34a', '#dc2626'
STYLE = {
    'svg.fonttype': 'none',
    'font.family': 'sans-serif',
    'font.size': 10.0,
    'figure.facecolor': 'none',
    'axes.facecolor': 'none',
    'axes.edgecolor': INK,
    'axes.labelcolor': INK,
    'axes.titlecolor': INK,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.grid': True,
    'grid.color': INK,
    'grid.alpha': 0.12,
    'text.color': INK,
    'xtick.color': INK,
    'ytick.color': INK,
    'legend.frameon': False,
    'lines.linewidth': 1.8,
    'figure.constrained_layout.use': True,
}
WIDTH = 6.4
WINDOW = 50


def draw(name: str, paint: Callable[[Axes], None], height: float = 3.2) -> str:
    """Return one figure as an `<svg>` element; ids are made unique by `name`.

    :param height: for a width of `WIDTH`; the page scales both
    """
    return draw_panels(name, [paint], (WIDTH, height))


def draw_panels(
    name: str,
    paints: Sequence[Callable[[Axes], None]],
    size: tuple[float, float],
    columns: int = 1,
    label: tuple[str, str] = ('', ''),
) -> str:
    """Return several axes of one scale, row by row, as one `<svg>` element.

    :param size: width and height of the whole; the page scales both
    :param label: of all axes together, below and at the left
    """
    with plt.rc_context({**STYLE, 'svg.hashsalt': name}):
        rows = math.ceil(len(paints) / columns)
        figure, grid = plt.subplots(
            rows, columns, figsize=size, squeeze=False, sharex=True, sharey=True
        )
        try:
            for axes in grid.flat[len(paints) :]:
                axes.set_visible(False)
            for axes, paint in zip(grid.flat, paints, strict=False):
                axes.tick_params(labelbottom=True)
                paint(axes)
            figure.supxlabel(label[0], fontsize='medium')
            figure.supylabel(label[1], fontsize='medium')
            buffer = io.StringIO()
            figure.savefig(buffer, format='svg', metadata={'Date': None, 'Creator': None})
        finally:
            plt.close(figure)
    text = buffer.getvalue()
    text = text[text.index('<svg') :]
    text = re.sub(r'<metadata>.*?</metadata>', '', text, flags=re.DOTALL)
    text = re.sub(r'\b(id="|url\(#|href="#)', rf'\g<1>{name}-', text)
    # The page scales the figure; its viewBox keeps the proportions.
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r'\1', text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r'\1', text, count=1)
    return text.replace(INK, 'currentColor')


def legend_above(axes: Axes, **more: float) -> None:
    """Put the legend in a row above the axes, where it covers no data whatever they are."""
    axes.legend(loc='lower right', bbox_to_anchor=(1.0, 1.0), ncols=4, borderaxespad=0.2, **more)


def learning_curves(data: RunData) -> dict[str, str]:
    """Success of gated online episodes over episodes and over robot time, with Wilson bands."""
    rows = data.learned_from()
    if not rows:
        return {}
    outcomes = [row.success for row in rows]
    moving = 100.0 * moving_success(outcomes, WINDOW)
    low, high = (100.0 * edge for edge in moving_band(outcomes, WINDOW))
    ends = _robot_minutes(data.episodes)
    minutes = [ends[row.episode] for row in rows]
    bc = _bc_level(data)

    def over(x: Sequence[float], label: str) -> Callable[[Axes], None]:
        def paint(axes: Axes) -> None:
            axes.fill_between(x, low, high, color=GATED_COLOUR, alpha=0.15, linewidth=0)
            axes.plot(x, moving, color=GATED_COLOUR, label=f'gated, last {WINDOW}')
            failed = [at for at, success in zip(x, outcomes, strict=True) if not success]
            axes.plot(failed, [-3.0] * len(failed), '|', color=ALERT, ms=6, label='failed')
            if bc is not None:
                axes.axhline(100.0 * bc, color=BC_COLOUR, ls='--', label='BC alone')
            axes.set(xlabel=label, ylabel='success [%]', ylim=(-6, 104))
            legend_above(axes)

        return paint

    return {
        'Success over episodes': draw(
            'curve-episodes', over(range(1, len(rows) + 1), 'gated online episode')
        ),
        'Success over robot time': draw('curve-time', over(minutes, 'robot time [min]')),
    }


def gate_figures(data: RunData) -> dict[str, str]:
    """Who acted: over the run's episodes, and over the depth of insertion."""
    figures = {}
    rows = [r for r in data.episodes if r.mode is Mode.GATED and r.steps]
    if rows:
        share = np.array([row.rl_steps / row.steps for row in rows])
        smooth = np.convolve(np.pad(share, (9, 0), mode='edge'), np.full(10, 0.1), 'valid')

        def over_episodes(axes: Axes) -> None:
            x = np.arange(1, len(rows) + 1)
            axes.plot(
                x, 100.0 * share, '.', ms=9, mew=0, alpha=0.6, color=RL_COLOUR, label='episode'
            )
            axes.plot(x, 100.0 * smooth, color=RL_COLOUR, label='mean of 10')
            for evaluated in [*(rows for _, rows in data.evaluated_before), data.evaluated]:
                ids = {row.episode for row in evaluated}
                evaluation = [k for k, row in zip(x, rows, strict=True) if row.episode in ids]
                if evaluation:
                    axes.axvspan(evaluation[0] - 0.5, evaluation[-1] + 0.5, color=INK, alpha=0.05)
                    axes.text(evaluation[0], 101, ' evaluation', va='bottom')
            axes.set(xlabel='gated episode', ylabel='actions by RL [%]', ylim=(-3, 112))
            legend_above(axes)

        figures['Who acts, over episodes'] = draw('gate-episodes', over_episodes)
    depths = depth_shares(data.ticks)
    if depths is not None:
        edges, shares, counts = depths

        def over_depth(axes: Axes) -> None:
            middle, width = 500.0 * (edges[:-1] + edges[1:]), 1000.0 * np.diff(edges)
            shown = np.where(counts > 0, 100.0 * shares, 0.0)
            axes.bar(middle, shown, width=0.9 * width, color=RL_COLOUR, label='RL')
            rest = np.where(counts > 0, 100.0 - shown, 0.0)
            axes.bar(middle, rest, width=0.9 * width, bottom=shown, color=BC_COLOUR, label='BC')
            mark_rim(axes, 'actions [%]')
            legend_above(axes)

        figures['Who acts, over the depth of insertion'] = draw('gate-depth', over_depth)
    return figures


def mark_rim(axes: Axes, shares: str) -> None:
    """Label axes of `shares` by depth, with a line where the hole begins."""
    axes.axvline(0.0, color=INK, lw=1)
    axes.text(0.0, 101, ' rim', va='bottom')
    axes.set(xlabel='depth of the tip along the estimated hole [mm]', ylabel=shares, ylim=(0, 112))
    axes.grid(visible=False)


def depth_shares(ticks: Ticks | None) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return RL's share of gated actions by depth: bin edges [m], shares, counts; None without such ticks."""
    if ticks is None or ticks.count == 0:
        return None
    chosen = (ticks.mode == Mode.GATED) & np.isfinite(ticks.depth)
    chosen &= np.isin(ticks.source, (Source.BC, Source.RL))
    if not chosen.any():
        return None
    return shares_over(ticks.depth[chosen], ticks.source[chosen] == Source.RL)


def value_figures(data: RunData) -> dict[str, str]:
    """What the gate believed: both values over the run, and against each other tick by tick."""
    figures = {}
    rows = [
        r
        for r in data.episodes
        if r.mode is Mode.GATED and math.isfinite(r.mean_q_bc) and math.isfinite(r.mean_q_rl)
    ]
    if rows:

        def over_episodes(axes: Axes) -> None:
            x = range(1, len(rows) + 1)
            axes.plot(x, [r.mean_q_bc for r in rows], color=BC_COLOUR, label='Q_BC', lw=1.3)
            axes.plot(x, [r.mean_q_rl for r in rows], color=RL_COLOUR, label='Q_RL', lw=1.3)
            axes.set(xlabel='gated episode', ylabel='mean value of the episode')
            legend_above(axes)

        figures['Q_BC and Q_RL over episodes'] = draw('values', over_episodes)
    ticks = data.ticks
    if ticks is not None and ticks.count:
        known = (ticks.mode == Mode.GATED) & np.isfinite(ticks.q_bc) & np.isfinite(ticks.q_rl)
        index = np.flatnonzero(known)
        if len(index):
            # Evenly thinned: every dot is an element of the page.
            index = index[np.linspace(0, len(index) - 1, min(len(index), 1200)).astype(int)]

            def against(axes: Axes) -> None:
                q_bc, q_rl = ticks.q_bc[index], ticks.q_rl[index]
                for source, colour, name in (
                    (Source.BC, BC_COLOUR, 'BC acted'),
                    (Source.RL, RL_COLOUR, 'RL acted'),
                ):
                    chosen = ticks.source[index] == source
                    axes.plot(
                        q_bc[chosen], q_rl[chosen], '.', ms=3, alpha=0.5, color=colour, label=name
                    )
                axes.axline((float(q_bc.mean()), float(q_bc.mean())), slope=1, color=INK, lw=0.8)
                low, high = np.percentile(np.concatenate([q_bc, q_rl]), (0.5, 99.5))
                pad = 0.05 * max(high - low, 1e-6)
                axes.set(xlabel='Q_BC', ylabel='Q_RL', xlim=(low - pad, high + pad))
                axes.set_ylim(low - pad, high + pad)
                legend_above(axes, markerscale=3)

            figures['Q_RL against Q_BC, a sample of ticks'] = draw('values-ticks', against)
    return figures


def safety_figures(data: RunData) -> dict[str, str]:
    """Contact forces and what the guard did, episode by episode."""
    if not data.episodes:
        return {}
    rows = data.episodes
    x = np.arange(1, len(rows) + 1)

    def forces(axes: Axes) -> None:
        for mode, colour in (
            (Mode.BC, BC_COLOUR),
            (Mode.RL, RL_COLOUR),
            (Mode.GATED, GATED_COLOUR),
        ):
            chosen = np.array([row.mode is mode for row in rows])
            if chosen.any():
                peaks = np.array([row.peak_force for row in rows])[chosen]
                axes.plot(
                    x[chosen], peaks, '.', ms=4, alpha=0.7, color=colour, label=mode.name.lower()
                )
        limits = data.task.limits
        axes.axhline(limits.force_soften_n, color=INK, ls=':', lw=1)
        axes.axhline(limits.force_stop_n, color=ALERT, ls='--', lw=1)
        axes.text(1, limits.force_stop_n, 'stop', color=ALERT, va='bottom')
        axes.text(1, limits.force_soften_n, 'soften', va='bottom')
        axes.set(xlabel='episode', ylabel='peak contact force [N]')
        axes.set_ylim(0, None)
        legend_above(axes, markerscale=2)

    def guard(axes: Axes) -> None:
        share = [100.0 * row.guard_interventions / max(1, row.steps) for row in rows]
        stops = np.array([row.end_reason is EndReason.FORCE_LIMIT for row in rows])
        axes.bar(x, share, width=1.0, color=BC_COLOUR, alpha=0.8)
        if stops.any():
            axes.plot(x[stops], np.zeros(stops.sum()), 'v', color=ALERT, label='stopped by force')
            legend_above(axes)
        axes.set(xlabel='episode', ylabel='steps that the guard limited [%]')
        axes.set_ylim(0, None)

    return {
        'Peak contact force': draw('forces', forces),
        'Guard interventions': draw('guard', guard),
    }


def learner_figures(data: RunData) -> dict[str, str]:
    """Gradient steps against environment steps, and their pace."""
    entries = [e for e in data.timeline if e.get('online_steps') and 't' in e]
    if len(entries) < 2:
        return {}

    def progress(axes: Axes) -> None:
        minutes = [entry['t'] / 60.0 for entry in entries]
        axes.plot(
            minutes, [e['gradient_steps'] for e in entries], color=RL_COLOUR, label='critic updates'
        )
        axes.plot(
            minutes, [e['online_steps'] for e in entries], color=INK, label='environment steps'
        )
        axes.set(xlabel='wall time of the learner [min]', ylabel='count')
        legend_above(axes)

    return {'Learning keeps pace with the robot': draw('learner', progress)}


def _robot_minutes(rows: Sequence[EpisodeRow]) -> dict[str, float]:
    total, ends = 0.0, {}
    for row in rows:
        total += row.duration / 60.0
        ends[row.episode] = total
    return ends


def _bc_level(data: RunData) -> float | None:
    rows = data.select(Phase.EVALUATING, Mode.BC) or data.select(Phase.ESTIMATING, Mode.BC)
    return sum(row.success for row in rows) / len(rows) if rows else None
