# SPDX-License-Identifier: Apache-2.0
"""The report of a benchmark: one HTML file in the style of a run's report."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import resources
import json
from typing import Any

from q2rl_lab.bench_figures import PANELS, Line, learning_figures, lines_for, price_figure
from q2rl_lab.bench_report import COLUMNS, meanings, notes, start_words, table_rows
from q2rl_lab.bench_results import FinishedRun, finished_runs


def render_bench_page(lines: Sequence[dict[str, Any]], result: dict[str, Any]) -> str:
    """Return the whole page."""
    style = (resources.files('q2rl_lab') / 'report.css').read_text(encoding='utf-8')
    title = 'benchmark ' + ', '.join(result['suites'])
    runs = finished_runs(lines)
    lines_of = lines_for(list(result['methods']))
    legend = _legend(lines_of)
    figures = learning_figures(runs, result, lines_of)
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
        f'<h2>What it cost, and what came of it</h2>{legend}{_price(runs, result, lines_of)}'
        f'<h2>How they learned</h2>{legend}<div class="figures">{shown}</div>'
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


def _legend(lines_of: dict[str, Line]) -> str:
    """Return one legend for all figures: within them it would cover the curves of many methods."""
    css = {'-': 'solid', '--': 'dashed', ':': 'dotted'}
    keys = ''.join(
        f'<span><i style="border-top:3px {css[line["ls"]]} {line["color"]}"></i>{escape(method)}</span>'
        for method, line in lines_of.items()
    )
    return f'<p class="legend">{keys}</p>'


def _price(runs: Sequence[FinishedRun], result: dict[str, Any], lines_of: dict[str, Line]) -> str:
    said = 'Small: a run that began. Large: their mean. Dotted: BC alone. Further up and further left is better.'
    width = 100 * min(len(result['tasks']), PANELS) / PANELS
    return (
        f'<figure style="max-width: {width:.0f}%"><figcaption><small>{said}</small></figcaption>'
        f'{price_figure(runs, result, lines_of)}</figure>'
    )
