# SPDX-License-Identifier: Apache-2.0
"""The report of a run: one HTML file that needs nothing else, not even a network."""

from __future__ import annotations

import base64
from dataclasses import asdict, dataclass
from html import escape
from importlib import resources
import json
from pathlib import Path
import re
import shlex
from typing import Any

from q2rl_lab import plots
from q2rl_lab.result import BAND_MEANS, BAND_TEXT, outside_band
from q2rl_lab.run_data import EpisodeRow, RunData
from q2rl_lab.run_folder import named
from q2rl_lab.run_view import clock_text
from q2rl_task import Mode, Phase
from q2rl_task.atomic_file import write_atomically

MOST_FAILURES = 60


@dataclass(frozen=True)
class Clip:
    """One episode as a moving picture. `image`: an animated WebP."""

    title: str
    text: str
    image: bytes


def write_report(
    data: RunData, result: dict[str, Any], clips: list[Clip], clips_note: str = ''
) -> Path:
    """Write `report.html` of a run and return its path.

    :param clips_note: why there are no clips, and the remedy; shown in their place
    """
    write_atomically(data.folder.report, render_report(data, result, clips, clips_note))
    return data.folder.report


def render_report(
    data: RunData, result: dict[str, Any], clips: list[Clip], clips_note: str = ''
) -> str:
    """Return the whole page."""
    style = (resources.files('q2rl_lab') / 'report.css').read_text(encoding='utf-8')
    title = f'{data.task.name.replace("_", " ")} · {data.folder.id}'
    body = [
        _header(data, result),
        _evaluation(result),
        _events(result),
        _figures(
            'How it learned',
            'Gated online episodes, on a fresh scene each. The band is the 95 % Wilson interval of the window.',
            plots.learning_curves(data),
        ),
        _figures(
            'Who acts',
            'At every tick the gate executes the action that is worth more. Depth is measured along the '
            'estimated hole: 0 at its rim, positive inside.',
            plots.gate_figures(data),
        ),
        _figures(
            'What the gate believes',
            'Values in units of reward: minus the steps still to go, discounted.',
            plots.value_figures(data),
        ),
        _figures('Forces and the guard', '', plots.safety_figures(data)),
        _figures('The learner', '', plots.learner_figures(data)),
        _clips(clips, clips_note),
        _failures(data),
        _settings(data, result),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>q2rl: {escape(title)}</title><style>{style}</style></head>\n'
        f'<body><main>{"".join(body)}</main></body></html>\n'
    )


def _header(data: RunData, result: dict[str, Any]) -> str:
    minutes = result['robot_time_s'] / 60.0
    reached, failures = result['episodes_to_80'], result['failures_to_95']
    wall = result['wall_s']
    tiles = [
        ('bc', _percent(result['bc']), 'BC alone'),
        ('gated', _percent(result['gated']), 'BC and RL, gated'),
        ('rl', _percent(result['rl']), 'RL alone'),
        ('', f'{minutes:.1f} min', f'robot time, {result["finished_episode_steps"]} steps'),
        _speed_tile(
            result, 'episodes_to_80', reached['episodes'], reached['of'], 'online episodes'
        ),
        _speed_tile(
            result, 'failures_to_95', failures['failures'], failures['failures_seen'], 'failures'
        ),
        ('', '-' if wall is None else clock_text(wall), 'wall time, launch to report'),
    ]
    boxes = ''.join(
        f'<div class="tile {kind}"><b>{escape(value)}</b><span>{escape(text)}</span></div>'
        for kind, value, text in tiles
    )
    state = '' if result['finished'] else ' · <strong>not finished</strong>'
    started = escape(_moment(str(data.about.get('started', ''))))
    return (
        f'<header><h1>{escape(data.task.name.replace("_", " "))}</h1>'
        f'<p>{escape(data.task.description)}</p>'
        f'<p>run {escape(data.folder.id)} · seed {data.config.seed} · preset {escape(data.config.preset)}'
        f' · started {started}{state}</p></header><div class="tiles">{boxes}</div>'
    )


def _moment(stamp: str) -> str:
    """Word a time stamp: '2026-11-27 18:20 +0000'; what is none stays as it is."""
    found = re.fullmatch(r'(\d{4}-\d\d-\d\d)T(\d\d:\d\d):\d\d(.*)', stamp)
    return f'{found[1]} {found[2]} {found[3]}' if found else stamp


def _rates_table(rates: dict[str, Any]) -> str:
    rows = []
    for key, name in (('bc', 'BC alone'), ('gated', 'gated'), ('rl', 'RL alone')):
        rate = rates[key]
        if not rate['n']:
            rows.append(
                f'<tr><td>{name}</td><td class="n">0</td><td colspan="3">not measured</td></tr>'
            )
            continue
        low, high = (100 * edge for edge in rate['wilson'])
        share = 100 * rate['success']
        bar = (
            f'<div class="bar" style="--c:var(--{key})"><i style="left:{low:.1f}%;width:{high - low:.1f}%">'
            f'</i><u style="left:calc({share:.1f}% - 1px)"></u></div>'
        )
        measured = ' (from rollouts)' if rate.get('measured_on') == 'rollouts' else ''
        rows.append(
            f'<tr><td>{name}{measured}</td><td class="n">{rate["n"]}</td><td class="n">{share:.1f} %</td>'
            f'<td class="n">{low:.1f} to {high:.1f} %</td><td>{bar}</td></tr>'
        )
    return (
        '<div class="table"><table><tr><th>who acts</th><th class="n">episodes</th><th class="n">success</th>'
        f'<th class="n">95 % interval</th><th></th></tr>{"".join(rows)}</table></div>'
    )


def _evaluation(result: dict[str, Any]) -> str:
    before = ''.join(
        f'<p class="lead">On other scenes, after {earlier["online_steps"]} online steps, before it learned on:</p>'
        f'{_rates_table(earlier)}'
        for earlier in reversed(result['evaluated_before'])
    )
    outside = ''
    if outside_band(result):
        outside = (
            f'<p class="note">The whole interval of the cloned policy lies outside {BAND_TEXT}. That band is meant '
            f"for the task's own number of demonstrations: {BAND_MEANS}.</p>"
        )
    return (
        '<h2>Evaluation</h2><p class="lead">Fresh scenes that training never saw; nothing is learned here. '
        f"The interval is Wilson's at 95 %.</p>{_rates_table(result)}{outside}{before}"
    )


def _events(result: dict[str, Any]) -> str:
    """Return what the run found out about itself: of its V, graduation, doubts, and what became of them."""
    if not result['events']:
        return ''
    rows = ''.join(
        f'<tr><td class="n">{number}</td><td>{escape(str(text))}</td></tr>'
        for number, text in result['events']
    )
    return (
        '<h2>What the run found out</h2><p class="lead">Of V from the rollouts, then while it learned, '
        'from BC-only, RL-only and gated episodes.</p><div class="table"><table><tr>'
        '<th class="n">after online episode</th>'
        f'<th>what</th></tr>{rows}</table></div>'
    )


def _figures(title: str, lead: str, figures: dict[str, str]) -> str:
    if not figures:
        return ''
    boxes = ''.join(
        f'<figure><figcaption>{escape(name)}</figcaption>{svg}</figure>'
        for name, svg in figures.items()
    )
    text = f'<p class="lead">{escape(lead)}</p>' if lead else ''
    return f'<h2>{escape(title)}</h2>{text}<div class="figures">{boxes}</div>'


def _clips(clips: list[Clip], note: str) -> str:
    if not clips and not note:
        return ''
    boxes = ''.join(
        f'<figure><figcaption>{escape(clip.title)}<small>{escape(clip.text)}</small></figcaption>'
        f'<img alt="{escape(clip.title)}" src="data:image/webp;base64,{base64.b64encode(clip.image).decode()}">'
        '</figure>'
        for clip in clips
    )
    said = f'<p class="note">{escape(note)}</p>' if note else ''
    return f'<h2>In motion</h2>{said}<div class="figures">{boxes}</div>'


def _failures(data: RunData) -> str:
    counted = [e for e in data.episodes if e.phase in (Phase.ONLINE, Phase.EVALUATING)]
    rows = [e for e in counted if e.failed]
    gated = [e for e in rows if e.mode is Mode.GATED]
    cut = sum(e.interrupted for e in counted)
    said = (
        f' {cut} more were interrupted (sensing lost, or ended on request) and count for nothing.'
        if cut
        else ''
    )
    if not rows:
        return f'<h2>Failed episodes</h2><p>None.{said}</p>'
    shown = gated[-MOST_FAILURES:][::-1]
    cells = ''.join(_failure_row(e) for e in shown)
    counts: dict[str, int] = {}
    for e in gated:
        reason = e.end_reason.name.lower().replace('_', ' ')
        counts[reason] = counts.get(reason, 0) + 1
    why = ', '.join(f'{count} by {reason}' for reason, count in sorted(counts.items())) or 'none'
    more = f', the last {len(shown)} are listed' if len(gated) > len(shown) else ''
    return (
        f'<h2>Failed episodes</h2><p class="lead">{len(gated)} gated episodes failed ({why}){more}; '
        f'{len(rows) - len(gated)} more failed with one policy alone.{said} Film and values of one, tick by '
        f'tick: <code>./q2rl why {escape(shlex.quote(named(data.folder)))} last</code>, or an episode id in place '
        'of last.</p>'
        '<details><summary>List</summary>'
        '<div class="table"><table><tr><th>episode</th><th>phase</th><th>ended by</th>'
        '<th class="n">steps</th><th class="n">by RL</th><th class="n">peak force</th>'
        f'<th class="n">steps limited</th></tr>{cells}</table></div></details>'
    )


def _failure_row(e: EpisodeRow) -> str:
    share = f'{100 * e.rl_steps / e.steps:.0f} %' if e.steps else '-'
    return (
        f'<tr><td>{escape(e.episode)}</td><td>{e.phase.name.lower()}</td>'
        f'<td>{e.end_reason.name.lower().replace("_", " ")}</td><td class="n">{e.steps}</td>'
        f'<td class="n">{share}</td><td class="n">{e.peak_force:.0f} N</td>'
        f'<td class="n">{e.guard_interventions}</td></tr>'
    )


def _settings(data: RunData, result: dict[str, Any]) -> str:
    numbers = {k: v for k, v in result.items() if k not in ('versions', 'notes')}
    notes = ''.join(f'<p class="note">{escape(note)}</p>' for note in result['notes'])
    versions = ' · '.join(f'{k} {v}' for k, v in result['versions'].items() if v)
    asked = json.dumps(asdict(data.config), indent=2)
    return (
        f'<h2>All numbers</h2>{notes}<details><summary>result.json</summary><div class="table">'
        f'<pre>{escape(json.dumps(numbers, indent=2))}</pre></div></details>'
        f'<details><summary>Settings of the run</summary><div class="table"><pre>{escape(asked)}</pre>'
        f'</div></details><footer>{escape(versions)}</footer>'
    )


def _speed_tile(
    result: dict[str, Any], name: str, reached: int | None, there: int, counted: str
) -> tuple[str, str, str]:
    """Return how fast a level of success was reached, as a tile: kind, value, text.

    :param there: the count where it was not reached
    """
    goal = f'{100 * result[name]["level"]:.0f} % success over {result[name]["window"]} episodes'
    if reached is not None:
        return '', str(reached), f'{counted} until {goal}'
    too_few = result['episodes_to_80']['of'] < result[name]['window']
    if result['finished'] and not too_few:
        return 'alert', 'never', f'{goal}; {there} {counted} in all'
    return '', '-' if too_few else 'not yet', f'{goal}; {there} {counted} so far'


def _percent(rate: dict[str, Any]) -> str:
    return f'{100 * rate["success"]:.0f} %' if rate['n'] else '-'
