# SPDX-License-Identifier: Apache-2.0
"""What RL in the shadow would have done, as a table in the terminal and as a page."""

from __future__ import annotations

from html import escape
import json
from typing import Any

from matplotlib.axes import Axes
import numpy as np

from q2rl_lab.console import rate_text
from q2rl_lab.episode_ticks import REASONS
from q2rl_lab.plots import ALERT, GATED_COLOUR, INK, RL_COLOUR, draw, mark_rim
from q2rl_lab.shadow_result import ShadowTicks, shares_by_depth
from q2rl_lab.why_page import document
from q2rl_task import Reason


def show_shadow(result: dict[str, Any]) -> None:
    """Print the tables to stdout."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    title = f'shadow, run {result["run"]}'
    about = Table(title=title, show_header=False, title_justify='left', pad_edge=False)
    about.add_column(style='dim')
    about.add_column()
    for name, text in _summary(result):
        about.add_row(name, text)
    console.print(about)
    places = Table(title='where RL would act', title_justify='left', pad_edge=False)
    places.add_column('phase of the insertion')
    for name in ('ticks', 'RL would act', 'margin, 5 %', 'median', '95 %'):
        places.add_column(name, justify='right')
    for place in result['by_place']:
        places.add_row(place['place'], *_place_cells(place))
    console.print(places)
    if result['failures']:
        failures = Table(title="BC's failures", title_justify='left', pad_edge=False)
        failures.add_column('episode', no_wrap=True)
        failures.add_column('ended by')
        for name in ('RL would act', 'first at tick', 'margin then'):
            failures.add_column(name, justify='right')
        for failure in result['failures'][:10]:
            failures.add_row(*_failure_cells(failure))
        console.print(failures)


def render_shadow(result: dict[str, Any], judged: ShadowTicks, pages: dict[str, str]) -> str:
    """Return the page.

    :param pages: address of the page of each episode that has one, by its id
    """
    success = result['success']
    tiles = ''.join(
        f'<div class="tile {kind}"><b>{escape(value)}</b><span>{escape(text)}</span></div>'
        for kind, value, text in (
            ('bc', _percent(success['success']), f'success of BC, which acted, in {success["n"]} episodes'),
            ('rl', _percent(result['rl_would_act']), 'RL would act, of the ticks judged'),
            ('', _percent(result['undecided']), 'undecided: the values differ by less than the critics disagree'),
            ('alert', _percent(result['by_outcome']['bc_failed']), 'RL would act, where BC failed'),
            ('gated', _percent(result['by_outcome']['bc_succeeded']), 'RL would act, where BC succeeded'),
        )
    )  # fmt: skip
    figures = ''.join(
        f'<figure><figcaption>{escape(name)}</figcaption>{svg}</figure>'
        for name, svg in _figures(judged).items()
    )
    places = _table(
        ('phase of the insertion', 'ticks', 'RL would act', 'margin, 5 %', 'median', '95 %'),
        [[escape(p['place']), *map(escape, _place_cells(p))] for p in result['by_place']],
    )
    failures = _table(
        ('episode', 'ended by', 'RL would act', 'first at tick', 'margin then (median)'),
        [
            [_link(f['episode'], f['first_tick'], pages), *map(escape, _failure_cells(f)[1:])]
            for f in result['failures']
        ],
    )
    worst = _table(
        ('tick', 'apart', 'margin', 'critics apart', 'depth', 'force', "BC's action", "RL's action"),
        [
            [
                _link(w['episode'], w['tick'], pages, f' at {w["t"]:.2f} s'),
                f'{w["apart"]:.2f}',
                f'{w["margin"]:.2f}',
                _number(w['spread'], 2),
                '–' if w['depth'] is None else f'{1000 * w["depth"]:.1f} mm',
                f'{w["force"]:.0f} N',
                _action(w['bc_action']),
                _action(w['rl_action']),
            ]
            for w in result['worst']
        ],
    )  # fmt: skip
    numbers = escape(json.dumps(result, indent=2))
    body = (
        f'<header><h1>In the shadow: {escape(result["run"])}</h1><p>{escape(result["task"].replace("_", " "))} · '
        f'BC acted on every tick, RL was only scored · {result["judged"]} of {result["ticks"]} ticks judged'
        f'{escape(_why_not(result))}</p>'
        f'</header><div class="tiles">{tiles}</div>'
        f'<h2>Where RL would act</h2>{places}<div class="figures" style="margin-top:14px">{figures}</div>'
        '<h2>BC\'s failures</h2><p class="lead">First those in which RL wanted to act most. Whether it '
        f'would have succeeded is not known: none of its actions was tried.</p>{failures}'
        '<h2>Where the two differ most</h2><p class="lead">Ticks on which RL would have acted, by the length of '
        f'the difference of the actions (each component within ±1).</p>{worst}'
        '<h2>All numbers</h2><details><summary>JSON</summary><div class="table">'
        f'<pre>{numbers}</pre></div></details>'
    )
    return document(f'shadow, {result["run"]}', body)


def _summary(result: dict[str, Any]) -> list[tuple[str, str]]:
    margin, outcome = result['margin'], result['by_outcome']
    return [
        ('BC, which acted', rate_text(result['success'])),
        ('ticks judged', f'{result["judged"]} of {result["ticks"]}{_why_not(result)}'),
        ('RL would act', f'{_percent(result["rl_would_act"])} of them'),
        ('  where BC failed', _percent(outcome['bc_failed'])),
        ('  where BC succeeded', _percent(outcome['bc_succeeded'])),
        (
            'Q_RL - Q_BC',
            f'median {_number(margin["p50"], 2)}, 5 to 95 %: {_number(margin["p5"], 2)} to '
            f'{_number(margin["p95"], 2)}',
        ),
        (
            'undecided',
            f'{_percent(result["undecided"])}: the values differ by less than the critics disagree',
        ),
    ]


def _why_not(result: dict[str, Any]) -> str:
    """Return why ticks could not be judged: no weights yet, for instance."""
    if result['judged'] == result['ticks']:
        return ''
    compared = {r.name.lower() for r in (Reason.RL_HIGHER, Reason.BC_HIGHER, Reason.TIE)}
    others = [
        f'{n} {REASONS[Reason[name.upper()]]}'
        for name, n in result['reasons'].items()
        if name not in compared
    ]
    return f' ({"; ".join(others)})' if others else ''


def _place_cells(place: dict[str, Any]) -> list[str]:
    margin = [_number(place['margin'][name], 2) for name in ('p5', 'p50', 'p95')]
    return [str(place['ticks']), _percent(place['rl_would_act']), *margin]


def _failure_cells(failure: dict[str, Any]) -> list[str]:
    tick = failure['first_tick']
    return [
        failure['episode'],
        failure['end_reason'].replace('_', ' '),
        _percent(failure['rl_would_act']),
        '–' if tick is None else str(tick),
        _number(failure['margin'], 2),
    ]


def _figures(judged: ShadowTicks) -> dict[str, str]:
    figures: dict[str, str] = {}
    if len(judged.margin):

        def margins(axes: Axes) -> None:
            low, high = np.percentile(judged.margin, (0.5, 99.5))
            edges = np.linspace(min(low, -1e-3), max(high, 1e-3), 41)
            for failed, colour, name in (
                (False, GATED_COLOUR, 'BC succeeded'),
                (True, ALERT, 'BC failed'),
            ):
                chosen = judged.margin[judged.failed == failed]
                if len(chosen):
                    axes.hist(chosen, edges, alpha=0.5, color=colour, label=name)
            axes.axvline(0.0, color=INK, lw=1)
            axes.set(xlabel='Q_RL - Q_BC; right of 0 RL would act', ylabel='ticks')
            axes.legend(loc='upper right')

        figures['By what margin'] = draw('shadow-margin', margins)
    depths = shares_by_depth(judged)
    if depths is not None:
        edges, shares, counts = depths

        def over_depth(axes: Axes) -> None:
            middle, width = 500.0 * (edges[:-1] + edges[1:]), 1000.0 * np.diff(edges)
            axes.bar(
                middle, np.where(counts > 0, 100.0 * shares, 0.0), width=0.9 * width, color=RL_COLOUR
            )  # fmt: skip
            mark_rim(axes, 'RL would act [%]')

        figures['Over the depth of insertion'] = draw('shadow-depth', over_depth)
    return figures


def _table(head: tuple[str, ...], rows: list[list[str]]) -> str:
    if not rows:
        return '<p>None.</p>'
    top = ''.join(f'<th>{escape(name)}</th>' for name in head)
    lines = ''.join('<tr>' + ''.join(f'<td>{c}</td>' for c in row) + '</tr>' for row in rows)
    return f'<div class="table list"><table><tr>{top}</tr>{lines}</table></div>'


def _link(episode: str, tick: int | None, pages: dict[str, str], more: str = '') -> str:
    text = escape(episode + more)
    if episode not in pages:
        return text
    return f'<a href="{escape(pages[episode])}#{tick or 0}">{text}</a>'


def _action(components: list[float]) -> str:
    return escape(' '.join(f'{c:+.2f}' for c in components))


def _percent(share: float | None) -> str:
    return '–' if share is None else f'{100 * share:.0f} %'


def _number(value: float | None, digits: int) -> str:
    return '–' if value is None else f'{value:.{digits}f}'
