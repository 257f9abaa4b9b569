# SPDX-License-Identifier: Apache-2.0
"""What stands out in an episode, in sentences with the tick to look at, and which episodes to look at first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from q2rl_lab.episode_ticks import EpisodeTicks
from q2rl_lab.run_data import EpisodeRow
from q2rl_task import EndReason, Mode, Phase, Source, TaskSpec

STUCK_M, STUCK_S = 0.001, 1.0
"""A tip whose depth stays within `STUCK_M` for `STUCK_S` or longer, in contact, is stuck."""
CONTACT_N = 3.0
MODE_NAMES = {Mode.BC: 'BC alone', Mode.GATED: 'the gate', Mode.RL: 'RL alone'}


@dataclass(frozen=True)
class Remark:
    """One thing to know; `tick`: where to look, None for the whole episode."""

    text: str
    tick: int | None = None


def remarks(
    task: TaskSpec, ticks: EpisodeTicks, rows: Sequence[EpisodeRow] = ()
) -> tuple[Remark, ...]:
    """Return what stands out.

    :param rows: all episodes of the run, to find those on the same scene
    """
    found = [_ending(task, ticks), *_same_scene(ticks.row, rows), *_hands(ticks)]
    return (*found, *_forces(task, ticks), *_stuck(task, ticks), *_doubt(ticks), *_guard(ticks))


def by_instruction(rows: Sequence[EpisodeRow]) -> list[EpisodeRow]:
    """Return the episodes, those first from which there is most to learn.

    Failures before successes, and what was interrupted last. Of failures: gated ones on a scene where another mode
    succeeded; then those that a force ended; then where BC and RL shared the actions; then the later ones.
    """
    succeeded = {(row.phase, row.seed, row.mode) for row in rows if row.success}

    def key(order: tuple[int, EpisodeRow]) -> tuple:
        place, row = order
        others = [m for m in Mode if m is not row.mode and (row.phase, row.seed, m) in succeeded]
        lost = bool(others) and row.seed is not None and row.phase is Phase.EVALUATING
        return (
            0 if row.failed else 1 if row.success else 2,
            not (lost and row.mode is Mode.GATED and row.failed),
            row.mode is not Mode.GATED,
            row.end_reason is not EndReason.FORCE_LIMIT,
            row.rl_steps == 0 or row.bc_steps == 0,
            -place,
        )

    return [row for _, row in sorted(enumerate(rows), key=key)]


def last_failure(rows: Sequence[EpisodeRow]) -> EpisodeRow | None:
    """Return the last failed episode, a gated one if there is any; None without failures."""
    failed = [row for row in rows if row.failed]
    gated = [row for row in failed if row.mode is Mode.GATED]
    return (gated or failed or [None])[-1]


def words(name: str) -> str:
    """Return an enumeration's name as text."""
    return name.lower().replace('_', ' ')


def verdict(row: EpisodeRow) -> tuple[str, str]:
    """Return what an episode ended by, and the style of a page for it: good, bad, or none for an interruption."""
    if row.interrupted:
        return f'interrupted: {words(row.end_reason.name)}', ''
    return words(row.end_reason.name), 'good' if row.success else 'bad'


def _ending(task: TaskSpec, ticks: EpisodeTicks) -> Remark:
    row, end = ticks.row, len(ticks.t) - 1
    seconds = row.steps * task.period_s
    what = 'Succeeded' if row.success else f'Failed by {words(row.end_reason.name)}'
    if row.interrupted:
        what = f'Interrupted ({words(row.end_reason.name)}), so neither a success nor a failure,'
    where = ''
    if np.isfinite(ticks.depth[-1]) and not row.success:
        side = 'below' if ticks.depth[-1] > 0 else 'above'
        where = f', the tip {1000 * abs(ticks.depth[-1]):.1f} mm {side} the estimated rim'
    return Remark(f'{what} after {seconds:.1f} s{where}.', end)


def _same_scene(row: EpisodeRow, rows: Sequence[EpisodeRow]) -> list[Remark]:
    if row.seed is None or row.phase is not Phase.EVALUATING:
        return []
    others = {
        r.mode: r for r in rows
        if r.seed == row.seed and r.phase is row.phase and r.mode is not row.mode and not r.interrupted
    }  # fmt: skip
    told = [
        f'{MODE_NAMES[mode]} {"succeeded" if r.success else "failed"} ({r.episode})'
        for mode, r in sorted(others.items())
    ]
    return [Remark(f'On the same scene {" and ".join(told)}.')] if told else []


def _hands(ticks: EpisodeTicks) -> list[Remark]:
    hands = [source for source in ticks.source if source is not None]
    share = {source: hands.count(source) / len(hands) for source in Source if source in hands}
    told = ', '.join(
        f'{source.name if source in (Source.BC, Source.RL) else words(source.name)} {100 * part:.0f} %'
        for source, part in sorted(share.items(), key=lambda item: -item[1])
    )
    changes = ticks.changes
    more = f'; {len(changes)} changes of hands' if changes else ''
    found = [Remark(f'Actions: {told}{more}.', changes[0] if changes else None)]
    would = [
        k for k, (prefers, acts) in enumerate(zip(ticks.would_act, ticks.source, strict=True))
        if prefers is Source.RL and acts is Source.BC
    ]  # fmt: skip
    if would:
        text = (
            f'The gate would have let RL act on {100 * len(would) / len(hands):.0f} % of the ticks.'
        )
        found.append(Remark(text, would[0]))
    return found


def _forces(task: TaskSpec, ticks: EpisodeTicks) -> list[Remark]:
    force, limits = ticks.force, task.limits
    if not np.isfinite(force).any():
        return []
    peak = int(np.nanargmax(force))
    by = _who(ticks, peak - 1)
    found = []
    if force[peak] >= CONTACT_N:
        text = f'The highest force, {force[peak]:.0f} N at {ticks.t[peak]:.2f} s, came {by}.'
        found.append(Remark(text, peak))
    hard = np.flatnonzero(np.nan_to_num(force) > limits.force_soften_n)
    if len(hard):
        first = int(hard[0])
        text = (
            f'Above the softening force ({limits.force_soften_n:.0f} N) first at '
            f'{ticks.t[first]:.2f} s, {_who(ticks, first - 1)}; {len(hard)} ticks in all.'
        )
        found.append(Remark(text, first))
    return found


def _stuck(task: TaskSpec, ticks: EpisodeTicks) -> list[Remark]:
    """Find the longest stretch in contact in which the tip gets no deeper and comes no higher."""
    depth, touching = ticks.depth, np.nan_to_num(ticks.force) >= CONTACT_N
    if not np.isfinite(depth).all():
        return []  # the task does not observe where the tip is
    best, begin = (0, 0), 0
    for k in range(len(depth)):
        while begin < k and np.ptp(depth[begin : k + 1]) > STUCK_M:
            begin += 1
        if k - begin > best[1] - best[0]:
            best = (begin, k)
    begin, end = best
    if (end - begin) * task.period_s < STUCK_S or touching[begin : end + 1].mean() < 0.5:
        return []
    place = 1000 * float(np.median(depth[begin : end + 1]))
    return [
        Remark(
            f'No way down from {ticks.t[begin]:.1f} s to {ticks.t[end]:.1f} s: in contact at '
            f'{place:+.1f} mm of depth, {1000 * float(np.median(ticks.lateral[begin : end + 1])):.1f} mm off '
            'the estimated axis.',
            begin,
        )
    ]


def _doubt(ticks: EpisodeTicks) -> list[Remark]:
    known = np.isfinite(ticks.margin) & np.isfinite(ticks.q_spread)
    if not known.any():
        return []
    unsure = known & (np.abs(ticks.margin) < ticks.q_spread)
    share = unsure.sum() / known.sum()
    if share < 0.2:
        return []
    text = f'On {100 * share:.0f} % of the ticks the two values differ by less than the critics disagree.'
    return [Remark(text, int(np.flatnonzero(unsure)[0]))]


def _guard(ticks: EpisodeTicks) -> list[Remark]:
    limited = np.flatnonzero(ticks.limited)
    if not len(limited):
        return []
    codes = sorted({code for k in limited for code in ticks.interventions[k] or ()} - {'lead'})
    return [
        Remark(
            f'The guard limited {len(limited)} tick{"s" * (len(limited) > 1)} ({", ".join(codes)}).',
            int(limited[0]),
        )
    ]


def _who(ticks: EpisodeTicks, k: int) -> str:
    source = ticks.source[k] if 0 <= k < len(ticks.source) else None
    names = {
        Source.BC: 'while BC acted',
        Source.RL: 'while RL acted',
        Source.HUMAN: 'from a person',
    }
    return names.get(source, 'while the arm held')
