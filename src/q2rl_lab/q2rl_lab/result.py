# SPDX-License-Identifier: Apache-2.0
"""The numbers of a run, each from the source that knows it: `result.json`."""

from __future__ import annotations

import json
from typing import Any

from q2rl_lab.console import finite_or_none, rate_text
from q2rl_lab.run_data import EpisodeRow, RunData, source_counts
from q2rl_lab.statistics import Rate, failures_until, first_reaching, longest_below, wilson
from q2rl_lab.workspace import versions
from q2rl_task import EndReason, Mode, Phase
from q2rl_task.atomic_file import write_atomically

LEARNED_WINDOW = 50
LEARNED_LEVEL = 0.80
MASTERED_LEVEL = 0.95
BELOW_WINDOW = 30
BELOW_SKIP = 20
BC_BAND = (0.25, 0.45)
"""Success of the cloned policy that leaves room to learn and gives something to learn from."""
BAND_TEXT = f'{100 * BC_BAND[0]:.0f} to {100 * BC_BAND[1]:.0f} %'
BAND_MEANS = 'a start with room to learn, and something to learn from'
NOT_BEGUN = 'no online episode yet'


def build_result(data: RunData) -> dict[str, Any]:
    """Return the numbers of a run as plain data; null where a number is not known.

    `env_steps` counts the transitions that the episode manager published, `acknowledged` the contiguous ones on the
    learner's disk; `finished_episode_steps` leaves out episodes that came to nothing. `arm_counters` has the names of
    /diagnostics. The windows and levels of the learning-speed numbers stand beside them. `bc_in_band` `holds` unless
    Wilson's interval lies outside; it is `meant` of clones of as many demonstrations as the task's own.
    `evaluated_before` has what was measured before the run was given more to learn.
    """
    online = data.learned_from()
    outcomes = [row.success for row in online]
    bc, measured_on = _bc_rate(data)
    evaluated = _rates(data.evaluated)
    low, high = wilson(bc.successes, bc.n)
    reached = first_reaching(outcomes, LEARNED_LEVEL, LEARNED_WINDOW)
    failures = failures_until(outcomes, MASTERED_LEVEL, LEARNED_WINDOW)
    learner, session = data.learner, data.session
    steps = _published_steps(data)
    acknowledged = sum(data.ticks.highest.values()) if data.ticks is not None else None
    started = data.about.get('versions', {})
    return finite_or_none(
        {
            'run': data.folder.id,
            'task': data.config.task,
            'seed': data.config.seed,
            'preset': data.config.preset,
            'finished': data.phase is Phase.FINISHED,
            'bc': {**bc.as_dict(), 'measured_on': measured_on},
            'gated': evaluated['gated'],
            'rl': evaluated['rl'],
            'evaluated_before': [
                {'online_steps': steps, **_rates(rows)} for steps, rows in data.evaluated_before
            ],
            'adopted': data.config.bc,
            'bc_in_band': {
                'low': BC_BAND[0],
                'high': BC_BAND[1],
                'meant': data.config.bc is None and data.config.demonstrations is None,
                'holds': bool(bc.n) and low <= BC_BAND[1] and high >= BC_BAND[0],
            },
            'env_steps': steps,
            'finished_episode_steps': sum(row.steps for row in data.episodes),
            'acknowledged': acknowledged,
            'steps_all_acknowledged': None
            if None in (acknowledged, steps)
            else acknowledged == steps,
            'episodes': _count_episodes(data.episodes),
            'robot_time_s': sum(row.duration for row in data.episodes),
            'wall_s': session.get('wall_s'),
            'gradient_steps': learner.get('gradient_steps'),
            'update_ratio': {'configured': _configured_ratio(data), 'achieved': _ratio(learner)},
            'demo_fraction': learner.get('demo_fraction'),
            'actions_by_source': source_counts(data.ticks),
            'drops': {
                'rejected': session.get('rejected'),
                'held': sum(row.hold_steps for row in data.episodes),
                'by_episode_manager': data.state.get('extra', {}).get('dropped', {}),
                'damaged_rows': len(data.ticks.damaged) if data.ticks is not None else None,
            },
            'arm_counters': session.get('arm', {}),
            'guard_interventions': sum(row.guard_interventions for row in data.episodes),
            'force_stops': sum(row.end_reason is EndReason.FORCE_LIMIT for row in data.episodes),
            'peak_force_n': max((row.peak_force for row in data.episodes), default=None),
            'graduated_at': data.progress.get('graduated_at') or None,
            'rollbacks': data.progress.get('rollbacks'),
            'events': data.progress.get('events', []),
            'episodes_to_80': {
                'episodes': reached,
                'level': LEARNED_LEVEL,
                'window': LEARNED_WINDOW,
                'of': len(outcomes),
            },
            'failures_to_95': {
                'failures': failures,
                'censored': failures is None,
                'level': MASTERED_LEVEL,
                'window': LEARNED_WINDOW,
                'failures_seen': outcomes.count(False),
            },
            'below_bc_after_20': {
                'episodes': longest_below(outcomes, bc.success, BELOW_WINDOW, BELOW_SKIP)
                if bc.n
                else None,
                'window': BELOW_WINDOW,
                'skipped': BELOW_SKIP,
            },
            'restarts': session.get('respawns', {}),
            'versions': started or versions(),
            'notes': list(data.notes),
        }
    )


def write_result(data: RunData, result: dict[str, Any]) -> None:
    """Write `result.json` of a run."""
    write_atomically(data.folder.result, json.dumps(result, indent=2))


def outside_band(result: dict[str, Any]) -> bool:
    """Whether the run's own clone certainly misses the band that it is meant to lie in (see `build_result`)."""
    band = result['bc_in_band']
    return bool(result['bc']['n']) and band['meant'] and not band['holds']


def short_result(result: dict[str, Any]) -> dict[str, Any]:
    """Pick and word what a person wants to see first."""
    reached, failures = result['episodes_to_80'], result['failures_to_95']
    ratio = result['update_ratio']
    wall = result['wall_s']
    begun = reached['of'] > 0
    gone, least = reached['of'], reached['window']
    too_few = f'unknown: {gone} of the {least} episodes that it takes' if gone < least else None
    too_few = too_few if begun else NOT_BEGUN
    # The learner keeps a timeline; a run whose learner was on another machine has none here.
    unknown = 'not recorded' if begun else 'no online step yet'
    achieved = unknown if ratio['achieved'] is None else f'{ratio["achieved"]:.3g} per step'
    before = {
        f'after {earlier["online_steps"]} steps': f'gated {rate_text(earlier["gated"])}, '
        f'RL alone {rate_text(earlier["rl"])}'
        for earlier in result['evaluated_before']
    }
    return {
        'run': result['run'],
        'BC alone': _bc_text(result),
        **before,
        'gated': rate_text(result['gated']),
        'RL alone': rate_text(result['rl']),
        'episodes to 80 %': _or(reached['episodes'], too_few or f'not within {gone}'),
        'failures to 95 %': _or(
            failures['failures'], too_few or f'more than {failures["failures_seen"]}'
        ),
        'robot time': f'{result["robot_time_s"] / 60:.1f} min, {_or(result["env_steps"], "?")} steps, '
        f'{_or(result["acknowledged"], "?")} acknowledged',
        'gradient steps': f'{_or(result["gradient_steps"], "-")} ({achieved}, '
        f'{_or(ratio["configured"], "?")} per step configured)',
        'guard interventions': result['guard_interventions'],
        'wall time': '-' if wall is None else f'{wall / 60:.1f} min',
    }


def _bc_text(result: dict[str, Any]) -> str:
    text = rate_text(result['bc'])
    if result['bc']['n'] and result['bc']['measured_on'] == 'rollouts':
        text += ', from rollouts'
    return f'{text}  (outside {BAND_TEXT}: {BAND_MEANS})' if outside_band(result) else text


def _or(value: Any, otherwise: str) -> str:
    if value is None:
        return otherwise
    return f'{value:.3g}' if isinstance(value, float) else str(value)


def _bc_rate(data: RunData) -> tuple[Rate, str]:
    """BC's success: of its evaluation, else of the episodes it ran alone while the run learned."""
    evaluated = data.select(Phase.EVALUATING, Mode.BC)
    if evaluated:
        return Rate.of([row.success for row in evaluated]), 'evaluation'
    alone = data.select(Phase.ESTIMATING, Mode.BC) + data.select(Phase.ONLINE, Mode.BC)
    return Rate.of([row.success for row in alone]), 'rollouts'


def _rates(rows: list[EpisodeRow]) -> dict[str, dict[str, Any]]:
    """Return the success of each policy in episodes of one evaluation, by its name."""
    return {
        mode.name.lower(): Rate.of(
            [r.success for r in rows if r.mode is mode and not r.interrupted]
        ).as_dict()
        for mode in (Mode.BC, Mode.GATED, Mode.RL)
    }


def _published_steps(data: RunData) -> int | None:
    next_sequence = data.state.get('extra', {}).get('next_sequence')
    return None if next_sequence is None else next_sequence - 1


def _count_episodes(rows: list[EpisodeRow]) -> dict[str, int]:
    counts: dict[str, int] = {'all': len(rows)}
    for row in rows:
        key = (
            row.phase.name.lower()
            if row.phase is Phase.ESTIMATING
            else f'{row.phase.name}_{row.mode.name}'.lower()
        )
        counts[key] = counts.get(key, 0) + 1
    return counts


def _configured_ratio(data: RunData) -> float | None:
    from q2rl_learner.config import load_preset
    from q2rl_task import InputError

    try:
        return float(load_preset(data.config.preset).critic_updates_per_step)
    except InputError:
        return None  # a preset file that has gone since


def _ratio(learner: dict[str, Any]) -> float | None:
    steps = learner.get('online_steps')
    return learner['gradient_steps'] / steps if steps else None
