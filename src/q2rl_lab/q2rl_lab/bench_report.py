# SPDX-License-Identifier: Apache-2.0
"""The numbers of a benchmark: what each method reached, how fast, and how often it failed on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from q2rl_lab.bench_results import FinishedRun, finished_runs
from q2rl_lab.bench_statistics import (
    Scores,
    censored_median,
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
    stratified_interval,
)
from q2rl_lab.statistics import failures_until, first_reaching
from q2rl_task import EndReason, InputError

LEARNED_LEVEL, MASTERED_LEVEL = 0.80, 0.95
FIRST = 20
"""Online episodes that tell how a run begins."""
WINDOW = 20
"""Online episodes that the shares of the counts until a level are taken over, unless told otherwise."""
SAME_BUDGET = 1.25
"""By how much medians of online steps may differ: a run ends with its last episode, over what it was given."""
PROFILE_LEVELS = np.linspace(0.0, 1.0, 51)


@dataclass(frozen=True)
class Course:
    """How one run went. Counts are None where the level was not reached within the run (censored).

    episodes_to_80: online episodes until 80 % of the last window succeeded. failures_to_95: failed ones until 95 % did.
    first_failures: failed ones among the first FIRST. rollout_failures: failed episodes of BC alone before.
    Up to 95 %, or to the end: force_peaks, episodes whose contact force passed the softening limit, and peak_force, the
    highest [N].
    """

    episodes: int
    failures: int
    first_failures: int
    rollout_failures: int
    episodes_to_80: int | None
    failures_to_95: int | None
    force_peaks: int
    force_stops: int
    peak_force: float


def course_of(run: FinishedRun, window: int = WINDOW) -> Course:
    """Return how a run went that has online episodes."""
    outcomes, final = run.outcomes, run.final
    end = first_reaching(outcomes, MASTERED_LEVEL, window) or len(outcomes)
    soften = final['force_soften_n']
    peaks = final['training']['peak_force_n'][:end]
    stops = final['training']['end_reasons'][:end].count(EndReason.FORCE_LIMIT.name)
    return Course(
        episodes=len(outcomes),
        failures=outcomes.count(False),
        first_failures=outcomes[:FIRST].count(False),
        rollout_failures=final['training']['rollouts'].count('0'),
        episodes_to_80=first_reaching(outcomes, LEARNED_LEVEL, window),
        failures_to_95=failures_until(outcomes, MASTERED_LEVEL, window),
        force_peaks=0 if soften is None else sum(peak > soften for peak in peaks),
        force_stops=stops,
        peak_force=max(peaks, default=0.0),
    )


def build_bench_result(
    lines: Sequence[dict[str, Any]], reference: str | None, window: int = WINDOW
) -> dict[str, Any]:
    """Return the numbers of results as plain data.

    :param reference: the method that others are compared with; the first of the file if not given
    :param window: online episodes that the shares of the counts until a level are taken over
    :raises InputError: no run is finished, or none of the reference
    """
    runs = finished_runs(lines)
    if not runs:
        raise InputError('results', 'no run is finished yet', 'let q2rl bench learning go on')
    methods = list(dict.fromkeys(run.method for run in runs))
    # A run that ends early is first in the file, so the order of names says little: q2rl leads where it is there.
    reference = reference or ('q2rl' if 'q2rl' in methods else methods[0])
    if reference not in methods:
        remedy = f'name one of {", ".join(methods)}'
        raise InputError(f'--reference {reference}', 'has no finished run', remedy)
    methods.sort(key=lambda name: name != reference)
    tasks = list(dict.fromkeys(run.task for run in runs))
    scores = {m: _scores(runs, m, tasks) for m in methods}
    table = {}
    for method in methods:
        own = [run for run in runs if run.method == method]
        table[method] = _summary(own, scores[method], window) | _against(
            scores, method, reference, runs, tasks
        )
    return {
        'suites': sorted({run.final['suite'] for run in runs}),
        'adopted': sorted({run.final['bc'].get('adopted') or '' for run in runs}),
        'tasks': tasks,
        'reference': reference,
        'seeds': {m: sorted({r.seed for r in runs if r.method == m}) for m in methods},
        'unfinished': _unfinished(lines, runs),
        'window': window,
        'mixed': _mixed(runs),
        'unequal': _unequal(runs),
        'methods': table,
        'profile': {
            'levels': PROFILE_LEVELS.tolist(),
            **{
                m: performance_profile([s for s in scores[m] if len(s)], PROFILE_LEVELS).tolist()
                for m in methods
            },
        },
    }


def _scores(runs: Sequence[FinishedRun], method: str, tasks: Sequence[str]) -> list[np.ndarray]:
    return [
        np.array([r.final['success'] for r in runs if (r.method, r.task) == (method, task)])
        for task in tasks
    ]


def _summary(runs: Sequence[FinishedRun], scores: Scores, window: int) -> dict[str, Any]:
    there = [s for s in scores if len(s)]
    return {
        'runs': len(runs),
        'stopped': [
            f'{r.task} seed {r.seed}: {r.final["stopped"]}' for r in runs if r.final['stopped']
        ],
        'bc': float(np.mean([run.final['bc']['success'] for run in runs])),
        'success': interquartile_mean(there),
        'success_interval': stratified_interval([there], interquartile_mean),
        'worst': float(min(s.min() for s in there)),
        'force_measured': any(run.final['force_soften_n'] is not None for run in runs),
        'wall_s': float(np.median([run.final['wall_s'] for run in runs])),
        'cost': _cost([course_of(run, window) for run in runs if run.outcomes]),
    }


def _cost(courses: Sequence[Course]) -> dict[str, Any] | None:
    """Return what learning cost: medians over the runs that began, None if none did; one that refused cost nothing."""
    if not courses:
        return None
    seen = [course.episodes for course in courses]
    failures = [course.failures for course in courses]
    mastered = [c.failures_to_95 is not None for c in courses]
    peaks = [course.force_peaks for course in courses]
    reached = [peak if done else None for peak, done in zip(peaks, mastered, strict=True)]
    return {
        'runs': len(courses),
        'rollout_failures': float(np.median([c.rollout_failures for c in courses])),
        'first_failures': float(np.median([c.first_failures for c in courses])),
        'failures': float(np.median(failures)),
        'episodes_to_80': _until([c.episodes_to_80 for c in courses], seen),
        'failures_to_95': _until([c.failures_to_95 for c in courses], failures),
        'force_peaks': _until(reached, peaks),
        'force_stops': sum(course.force_stops for course in courses),
        'peak_force_n': max(course.peak_force for course in courses),
    }


def _until(counts: Sequence[int | None], seen: Sequence[int]) -> dict[str, Any]:
    """Return the median of counts, whether it is only a bound, and how many never came."""
    median, is_bound = censored_median(counts, seen)
    return {'median': median, 'is_bound': is_bound, 'never': sum(c is None for c in counts)}


def _mixed(runs: Sequence[FinishedRun]) -> list[str]:
    """Name what differs between runs of one method on one task that are counted together."""
    found = []
    for task, method in dict.fromkeys((run.task, run.method) for run in runs):
        own = [run.final for run in runs if (run.task, run.method) == (task, method)]
        for field, name in (
            ('settings', 'settings or budget'),
            ('n', 'episodes of evaluation'),
            ('device', 'device'),
            ('code', 'code'),
        ):
            values: dict[str, list[int]] = {}
            for final in own:
                values.setdefault(str(final.get(field, 'not told')), []).append(final['seed'])
            if len(values) > 1:
                parts = (f'{v} (seeds {", ".join(map(str, s))})' for v, s in values.items())
                found.append(f'{method} on {task}, {name}: {"; ".join(parts)}')
    return found


def _unequal(runs: Sequence[FinishedRun]) -> list[str]:
    """Name the tasks on which methods had other numbers of online steps, and these [median]."""
    found = []
    for task in dict.fromkeys(run.task for run in runs):
        steps: dict[str, list[int]] = {}
        for run in runs:
            if run.task == task and not run.final['stopped'] and run.final['online_steps']:
                steps.setdefault(run.method, []).append(run.final['online_steps'])
        medians = {method: float(np.median(of)) for method, of in steps.items()}
        if medians and max(medians.values()) > SAME_BUDGET * min(medians.values()):
            parts = (f'{method} {median:.0f}' for method, median in medians.items())
            found.append(f'{task} ({", ".join(parts)})')
    return found


def _against(
    scores: dict[str, list[np.ndarray]],
    method: str,
    reference: str,
    runs: Sequence[FinishedRun],
    tasks: Sequence[str],
) -> dict[str, Any]:
    """Compare a method with the reference on the tasks that both have run."""
    nothing = {'better_than_reference': None, 'better_interval': None, 'fewer_failures': None}
    both = [k for k in range(len(tasks)) if len(scores[method][k]) and len(scores[reference][k])]
    if method == reference or not both:
        return nothing
    pair = [[scores[name][k] for k in both] for name in (method, reference)]
    failures = {(r.method, r.task, r.seed): r.outcomes.count(False) for r in runs if r.outcomes}
    # The same seed is the same clone and the same scenes: those runs can be compared one by one.
    wins = [
        (count < failures[reference, task, seed]) + 0.5 * (count == failures[reference, task, seed])
        for (name, task, seed), count in failures.items()
        if name == method and (reference, task, seed) in failures
    ]
    return {
        'better_than_reference': probability_of_improvement(*pair),
        'better_interval': stratified_interval(pair, probability_of_improvement),
        'fewer_failures': {'seeds': sum(wins), 'of': len(wins)} if wins else None,
    }


def _unfinished(lines: Sequence[dict[str, Any]], runs: Sequence[FinishedRun]) -> list[str]:
    done = {(run.task, run.method, run.seed) for run in runs}
    found = dict.fromkeys((line['task'], line['method'], line['seed']) for line in lines)
    return [
        f'{task} {method} seed {seed}'
        for task, method, seed in found
        if (task, method, seed) not in done
    ]


COLUMNS = (
    'method', 'runs', 'BC', 'success, IQM (95 %)', 'P(better)', 'failures at first', 'episodes to 80 %',
    'failures to 95 %', 'force peaks', 'wall',
)  # fmt: skip


def table_rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """Word a result as rows of `COLUMNS`; '>' marks what not even half of the runs reached."""
    rows = []
    for method, of in result['methods'].items():
        better = of['better_than_reference']
        versus = 'reference' if method == result['reference'] else '-'
        if better is not None:
            versus = f'{better:.2f}{_interval(of["better_interval"], of["runs"], 1.0, 2)}'
        rows.append(
            (
                method,
                f'{of["runs"]}',
                f'{100 * of["bc"]:.0f} %',
                f'{100 * of["success"]:.0f} %{_interval(of["success_interval"], of["runs"], 100.0)}',
                versus,
                *_cost_words(of['cost'], of['force_measured']),
                f'{of["wall_s"]:.0f} s',
            )
        )
    return rows


def _cost_words(cost: dict[str, Any] | None, force_measured: bool) -> tuple[str, str, str, str]:
    if cost is None:
        return '-', '-', '-', '-'
    to_80, to_95, peaks = (
        _count(cost[name], cost['runs'])
        for name in ('episodes_to_80', 'failures_to_95', 'force_peaks')
    )
    return (
        f'{cost["rollout_failures"]:.0f} + {cost["first_failures"]:.0f}',
        to_80,
        to_95,
        f'{peaks}, {cost["peak_force_n"]:.0f} N' if force_measured else '-',
    )


def start_words(result: dict[str, Any]) -> str:
    """Say what the methods start from: a clone per seed, or a policy that was given (`--bc`)."""
    named = ' or '.join(name for name in result['adopted'] if name)
    if not named:
        return 'a clone of the demonstrations of each seed'
    more = ', or a clone of its demonstrations' if '' in result['adopted'] else ''
    return f'the policy {named} that was given, the same for every seed{more}'


def meanings(result: dict[str, Any]) -> list[str]:
    """Return what the columns of the table mean."""
    return [
        f'Success: of the method as it acts, on the same fresh scenes for all. P(better): that a run ends above one of '
        f'{result["reference"]}. Medians over the runs that began; the window of the counts until a level is '
        f'{result["window"]} episodes.',
        f'BC, which all methods of a seed start from: {start_words(result)}.',
        f'Failures at first: in the rollouts of BC alone, and in the first {FIRST} episodes after.',
        'Force peaks: episodes beyond the softening force until 95 %, and the highest force; -: not measured.',
    ]


def notes(result: dict[str, Any]) -> list[str]:
    """Return what makes a comparison weaker than its table looks."""
    said = []
    if single := [method for method, of in result['methods'].items() if of['runs'] == 1]:
        said.append(
            f'A single run of {", ".join(single)}: no interval, and little to conclude from.'
        )
    if len({tuple(seeds) for seeds in result['seeds'].values()}) > 1:
        said.append('The methods have not run on the same seeds.')
    for method, of in result['methods'].items():
        said += [f'{method} did not start: {why}' for why in of['stopped']]
    said += [f'Counted together, though not alike: {what}.' for what in result['mixed']]
    if result['unequal']:
        said.append(f'Not the same budget, online steps on {"; ".join(result["unequal"])}.')
    if result['unfinished']:
        said.append(f'Not finished: {", ".join(result["unfinished"])}.')
    return said


def _interval(edges: Sequence[float], runs: int, scale: float, digits: int = 0) -> str:
    """Word an interval; of a single run there is none."""
    if runs < 2:
        return ''
    low, high = (f'{scale * edge:.{digits}f}' for edge in edges)
    return f' ({low}-{high})'


def _count(of: dict[str, Any], runs: int) -> str:
    text = f'{"> " if of["is_bound"] else ""}{of["median"]}'
    return f'{text} ({of["never"]} of {runs} never)' if of['never'] else text
