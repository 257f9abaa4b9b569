# SPDX-License-Identifier: Apache-2.0
"""The lines behind the tables of docs/results.md can be read, and reported on, by anyone who has the tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from q2rl_lab.bench_report import build_bench_result
from q2rl_lab.bench_results import finished_runs, read_lines

FILES = sorted((Path(__file__).resolve().parents[2] / 'docs' / 'measured').glob('*.jsonl'))


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_measured_runs_are_whole_and_alike(path):
    lines = read_lines(path)
    runs = finished_runs(lines)
    assert len(runs) == sum(line['final'] for line in lines) > 0
    assert len({(run.task, run.method, run.seed) for run in runs}) == len(runs)
    result = build_bench_result(lines, None)
    assert not result['unfinished'] and not result['unequal']
