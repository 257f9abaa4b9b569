# SPDX-License-Identifier: Apache-2.0
"""The page of one episode: film, plots and numbers on one time axis, in one HTML file that needs no network."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from importlib import resources
import json
import math
import shlex
from typing import Any

import numpy as np

from q2rl_lab.console import finite_or_none
from q2rl_lab.episode_story import Remark, verdict, words
from q2rl_lab.episode_ticks import REASONS, EpisodeTicks, component_names, short_name
from q2rl_lab.run_data import EpisodeRow, RunData
from q2rl_lab.run_folder import named
from q2rl_task import TaskSpec

KINDS = {
    'chosen': 'the chosen action',
    'executed': 'what the guard let through',
    'bc_action': "BC's proposal",
    'rl_action': "RL's proposal",
    'apart': "RL's less BC's",
}
DECIMALS = 4


def render_episode(
    data: RunData,
    ticks: EpisodeTicks,
    film: Sequence[bytes],
    told: Sequence[Remark],
    film_note: str = '',
    others: Sequence[tuple[str, str]] = (),
) -> str:
    """Return the whole page.

    :param film: one WebP picture per row of `ticks`; empty: none
    :param film_note: why there is no film
    :param others: text and address of pages to go to
    """
    row = ticks.row
    name = row.episode
    columns = _columns(data.task, ticks)
    pictures = [base64.b64encode(picture).decode() for picture in film]
    links = ' · '.join(f'<a href="{escape(to)}">{escape(text)}</a>' for text, to in others)
    outcome, kind = verdict(row)
    body = (
        f'<header><h1>{escape(name)}</h1><p>{escape(data.task.name.replace("_", " "))} · '
        f'{words(row.phase.name)} · {words(row.mode.name)} · <strong class="{kind}">'
        f'{outcome}</strong> · {row.steps} ticks · run {escape(data.folder.id)}'
        f'{" · " if links else ""}{links}</p></header>'
        f'<div class="desk"><aside>{_film(bool(film), film_note)}{_numbers(data.task)}</aside>'
        f'<section><div class="told">{_told(told)}</div>'
        '<div id="plots"></div></section></div>'
    )
    return document(
        f'{name}: why',
        body,
        scripts=(
            f'<script type="application/json" id="data">{embed(columns)}</script>'
            f'<script type="application/json" id="film">{embed(pictures)}</script>'
            f'<script>{asset("vendor/uPlot.iife.min.js")}</script><script>{asset("why.js")}</script>'
        ),
        styles=asset('vendor/uPlot.min.css'),
    )


def document(title: str, body: str, scripts: str = '', styles: str = '') -> str:
    """Return a whole page in the style of the report."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>q2rl: {escape(title)}</title>'
        f'<style>{styles}{asset("report.css")}{asset("why.css")}</style></head>\n'
        f'<body><main class="wide">{body}</main>{scripts}</body></html>\n'
    )


def asset(name: str) -> str:
    """Return a text file of this package."""
    return (resources.files('q2rl_lab') / name).read_text(encoding='utf-8')


def embed(value: Any) -> str:
    """Return JSON that may stand within a script element."""
    return json.dumps(value, separators=(',', ':')).replace('<', '\\u003c')


def _columns(task: TaskSpec, ticks: EpisodeTicks) -> dict[str, Any]:
    """Return what the page's script draws: one list per quantity, lengths in millimetres."""
    lead = [codes is not None and 'lead' in codes for codes in ticks.interventions]
    limited = ticks.limited.tolist()
    changes = ticks.changes
    guarded = [k for k in range(1, len(limited)) if limited[k] and not limited[k - 1]]
    actions = {
        'chosen': ticks.chosen,
        'executed': ticks.executed,
        'bc_action': ticks.bc_action,
        'rl_action': ticks.rl_action,
        'apart': ticks.rl_action - ticks.bc_action,
    }
    kinds = [kind for kind in KINDS if np.isfinite(actions[kind]).any()]
    names = component_names(task)
    groups = [
        {'title': f'Translation by the action, 1 is {1000 * task.action.translation_m:g} mm a tick: ',
         'components': [0, 1, 2]},
        {'title': f'Rotation, 1 is {math.degrees(task.action.rotation_rad):.2g}° a tick',
         'components': list(range(3, len(names)))},
    ]  # fmt: skip
    columns = {
        name: _rounded(getattr(ticks, name))
        for name in (
            't', 'force', 'q_bc', 'q_rl', 'margin', 'v_bc', 'q_spread', 'bc_log_prob', 'bc_entropy',
            'actor_version', 'critic_version', 'value_version',
        )
    }  # fmt: skip
    columns |= {name: _rounded(1000.0 * getattr(ticks, name)) for name in ('depth', 'lateral')}
    columns |= {
        name: [value.name if value is not None else None for value in getattr(ticks, name)]
        for name in ('source', 'would_act', 'reason')
    }
    return {
        **columns,
        'interventions': ticks.interventions,
        'limited': limited,
        'lead': lead,
        'changes': changes,
        'marks': sorted({*changes, *guarded}),
        'actions': {kind: [_rounded(c) for c in actions[kind].T] for kind in kinds},
        'components': names,
        'groups': groups,
        'kinds': kinds,
        'kind_names': KINDS,
        'reasons': {reason.name: text for reason, text in REASONS.items()},
        'limits': {
            'force_soften': task.limits.force_soften_n,
            'force_stop': task.limits.force_stop_n,
        },
        'period': task.period_s,
        'start': 0,
    }


def _rounded(values: np.ndarray) -> list[float | None]:
    return finite_or_none([round(float(v), DECIMALS) for v in values])


def _film(there: bool, note: str) -> str:
    if there:
        screen = '<canvas id="screen" width="560" height="420"></canvas>'
    else:
        screen = f'<p class="note">{escape(note)}</p>'
    return (
        f'<figure class="film">{screen}<div class="bar-row"><button id="play" title="space">▶</button>'
        '<input id="slider" type="range" min="0" value="0" aria-label="tick">'
        '<select id="pace" title="pace"><option value="0.25">¼ ×</option><option value="0.5">½ ×</option>'
        '<option value="1" selected>1 ×</option></select>'
        '<button id="previous" title="p: event before">⟨</button>'
        '<button id="next" title="n: next event">⟩</button></div>'
        '<p class="keys"><kbd>←</kbd> <kbd>→</kbd> a tick, with <kbd>⇧</kbd> ten · <kbd>space</kbd> plays · '
        '<kbd>n</kbd> <kbd>p</kbd> change of hands or guard</p></figure>'
    )


def _numbers(task: TaskSpec) -> str:
    cells = (
        ('time', 'n-time'), ('tick', 'n-tick'), ('acts', 'n-who'), ('gate prefers', 'n-would'),
        ('Q_BC', 'n-qbc'), ('Q_RL', 'n-qrl'), ('RL better by', 'n-margin'), ('critics apart', 'n-spread'),
        ('V_BC', 'n-v'), ('log π_BC / H', 'n-density'), ('force', 'n-force'), ('depth', 'n-depth'),
        ('off the axis', 'n-lateral'), ('actor / critic / V', 'n-versions'),
    )  # fmt: skip
    pairs = ''.join(f'<div><dt>{name}</dt><dd id="{key}">–</dd></div>' for name, key in cells)
    wide = ''.join(
        f'<div class="whole"><dt>{name}</dt><dd id="{key}">–</dd></div>'
        for name, key in (('why', 'n-reason'), ('guard', 'n-guard'))
    )
    short = {'chosen': 'chosen', 'executed': 'executed', 'bc_action': 'BC', 'rl_action': 'RL',
             'apart': 'RL − BC'}  # fmt: skip
    names = component_names(task)
    head = ''.join(f'<th class="n">{escape(name.replace("about ", "∠"))}</th>' for name in names)
    rows = ''.join(
        f'<tr><th>{label}</th>'
        + ''.join(f'<td class="n" id="n-{kind}-{c}">–</td>' for c in range(len(names)))
        + '</tr>'
        for kind, label in short.items()
    )
    return (
        f'<dl class="numbers">{pairs}{wide}</dl><div class="table actions"><table><tr><th></th>{head}</tr>'
        f'{rows}</table></div>'
    )


def _told(told: Sequence[Remark]) -> str:
    items = ''.join(
        f'<li>{escape(r.text)}</li>'
        if r.tick is None
        else f'<li><a href="#{r.tick}" data-tick="{r.tick}">{escape(r.text)}</a></li>'
        for r in told
    )
    return f'<ul>{items}</ul>'


def render_list(
    data: RunData, rows: Sequence[EpisodeRow], pages: dict[str, str], reasons: dict[str, str]
) -> str:
    """Return the page that lists a run's episodes in the order of `rows`.

    :param pages: address of each episode that has a page
    :param reasons: why an episode is worth a look, by its id
    """
    failed = sum(row.failed for row in rows)
    lines = ''.join(
        _list_row(data, row, pages.get(row.episode), reasons.get(row.episode, '')) for row in rows
    )
    body = (
        f'<header><h1>Why: run {escape(data.folder.id)}</h1><p>{escape(data.task.name.replace("_", " "))} · '
        f'{len(rows)} episodes, {failed} failed. Failures first, the most telling on top. Where an episode has '
        'no page yet, the command in its row makes it.</p></header>'
        '<div class="table list"><table><tr><th>episode</th><th>phase</th><th>mode</th><th>ended by</th>'
        '<th class="n">ticks</th><th class="n">by RL</th><th class="n">peak force</th><th class="n">ticks limited</th>'
        f'<th class="n">weights of</th><th></th></tr>{lines}</table></div>'
    )
    return document(f'why, {data.folder.id}', body)


def why_command(data: RunData, row: EpisodeRow) -> str:
    """Return how an episode's page is asked for."""
    return f'./q2rl why {shlex.quote(named(data.folder))} {short_name(row)}'


def _list_row(data: RunData, row: EpisodeRow, page: str | None, reason: str) -> str:
    short = short_name(row)
    name = f'<a href="{escape(page)}">{escape(short)}</a>' if page else escape(short)
    share = f'{100 * row.rl_steps / row.steps:.0f} %' if row.steps else '–'
    how = '' if page else f'<code>{escape(why_command(data, row))}</code>'
    ended, kind = verdict(row)
    return (
        f'<tr><td>{name}</td><td>{words(row.phase.name)}</td><td>{words(row.mode.name)}</td>'
        f'<td class="{kind}">{ended}</td><td class="n">{row.steps}</td>'
        f'<td class="n">{share}</td><td class="n">{row.peak_force:.0f} N</td>'
        f'<td class="n">{row.guard_interventions}</td><td class="n">v{row.weights_version}</td>'
        f'<td>{escape(reason)}{how}</td></tr>'
    )
