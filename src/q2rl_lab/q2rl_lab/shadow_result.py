# SPDX-License-Identifier: Apache-2.0
"""What RL in the shadow would have done: where, by what margin, how differently, and in which failures of BC."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from q2rl_lab.console import finite_or_none
from q2rl_lab.episode_story import CONTACT_N
from q2rl_lab.episode_ticks import EpisodeTicks
from q2rl_lab.statistics import Rate, shares_over
from q2rl_task import Source, TaskSpec

MOST_APART = 10
MOST_PER_EPISODE = 2
QUANTILES = (5, 25, 50, 75, 95)


@dataclass(frozen=True)
class ShadowTicks:
    """The judged ticks of all episodes, (n,) each: those where both policies proposed and both values are known.

    episode: index into the episodes. apart: length of RL's action less BC's, in units of the action. place: index
    into `PLACES`.
    """

    episode: np.ndarray
    tick: np.ndarray
    wants: np.ndarray
    margin: np.ndarray
    spread: np.ndarray
    depth: np.ndarray
    force: np.ndarray
    apart: np.ndarray
    failed: np.ndarray
    place: np.ndarray


PLACES = (
    'free, above the rim',
    'in contact, above the rim',
    'free, below the rim',
    'in contact, below the rim',
    'free, depth not known',
    'in contact, depth not known',
)
"""Phases of an insertion, by the estimated rim and a contact force of `CONTACT_N`; the last two: no tip is observed."""
KNOWN_PLACES = 4


def judged_ticks(episodes: Sequence[EpisodeTicks]) -> ShadowTicks:
    """Gather the judged ticks of episodes in which RL did not act."""
    columns: dict[str, list[np.ndarray]] = {
        name: [] for name in ShadowTicks.__dataclass_fields__ if name != 'place'
    }
    for index, ticks in enumerate(episodes):
        known = np.isfinite(ticks.margin) & np.array([s is not None for s in ticks.would_act])
        at = np.flatnonzero(known)
        force = np.nan_to_num(ticks.force)
        values = {
            'episode': np.full(len(at), index),
            'tick': at,
            'wants': np.array([ticks.would_act[k] is Source.RL for k in at], dtype=bool),
            'margin': ticks.margin[at],
            'spread': ticks.q_spread[at],
            'depth': ticks.depth[at],
            'force': force[at],
            'apart': np.linalg.norm(ticks.rl_action[at] - ticks.bc_action[at], axis=1),
            'failed': np.full(len(at), not ticks.row.success),
        }
        for name, column in values.items():
            columns[name].append(column)
    joined = {
        name: np.concatenate(parts) if parts else np.zeros(0) for name, parts in columns.items()
    }
    below = np.where(np.isfinite(joined['depth']), joined['depth'] > 0.0, 2)
    place = 2 * below.astype(int) + (joined['force'] >= CONTACT_N)
    return ShadowTicks(**joined, place=place)


def build_shadow(
    task: TaskSpec, run: str, episodes: Sequence[EpisodeTicks], judged: ShadowTicks
) -> dict[str, Any]:
    """Return the numbers as plain data; null where there is nothing to count."""
    hands = Counter(s for ticks in episodes for s in ticks.source if s is not None)
    reasons = Counter(r.name.lower() for ticks in episodes for r in ticks.reason if r is not None)
    agreed = np.isfinite(judged.spread)
    decided = np.abs(judged.margin[agreed]) >= judged.spread[agreed]
    return finite_or_none(
        {
            'run': run,
            'task': task.name,
            'success': Rate.of([ticks.row.success for ticks in episodes]).as_dict(),
            'ticks': sum(hands.values()),
            'actions_by_source': {s.name.lower(): n for s, n in sorted(hands.items())},
            'reasons': dict(sorted(reasons.items())),
            'judged': len(judged.tick),
            'rl_would_act': _share(judged.wants),
            'undecided': _share(~decided),
            'by_place': [
                {
                    'place': name,
                    'ticks': int((judged.place == k).sum()),
                    'rl_would_act': _share(judged.wants[judged.place == k]),
                    'margin': _quantiles(judged.margin[judged.place == k]),
                }
                for k, name in enumerate(PLACES)
                if k < KNOWN_PLACES or (judged.place == k).any()
            ],
            'by_outcome': {
                name: _share(judged.wants[judged.failed == failed])
                for name, failed in (('bc_succeeded', False), ('bc_failed', True))
            },
            'margin': _quantiles(judged.margin),
            'apart': _quantiles(judged.apart),
            'worst': _worst(episodes, judged),
            'failures': _failures(episodes, judged),
        }
    )


def shares_by_depth(judged: ShadowTicks) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return the share of ticks on which RL would act by depth: bin edges [m], shares, counts; None without depths."""
    known = np.isfinite(judged.depth)
    if not known.any():
        return None
    return shares_over(judged.depth[known], judged.wants[known])


def _worst(episodes: Sequence[EpisodeTicks], judged: ShadowTicks) -> list[dict[str, Any]]:
    """Return the ticks on which RL would have acted most differently from BC, a few per episode at most."""
    found: list[dict[str, Any]] = []
    taken: Counter[int] = Counter()
    for k in np.argsort(-np.where(judged.wants, judged.apart, -1.0), kind='stable'):
        index, tick = int(judged.episode[k]), int(judged.tick[k])
        if len(found) == MOST_APART or not judged.wants[k]:
            break
        if taken[index] == MOST_PER_EPISODE:
            continue
        taken[index] += 1
        ticks = episodes[index]
        found.append(
            {
                'episode': ticks.row.episode,
                'tick': tick,
                't': float(ticks.t[tick]),
                'apart': float(judged.apart[k]),
                'margin': float(judged.margin[k]),
                'spread': float(judged.spread[k]),
                'depth': float(judged.depth[k]),
                'force': float(judged.force[k]),
                'bc_action': ticks.bc_action[tick].tolist(),
                'rl_action': ticks.rl_action[tick].tolist(),
            }
        )
    return found


def _failures(episodes: Sequence[EpisodeTicks], judged: ShadowTicks) -> list[dict[str, Any]]:
    """Return BC's failed episodes, those first in which RL wanted to act most."""
    found = []
    for index, ticks in enumerate(episodes):
        if ticks.row.success:
            continue
        own = judged.episode == index
        wants = judged.wants[own]
        found.append(
            {
                'episode': ticks.row.episode,
                'end_reason': ticks.row.end_reason.name.lower(),
                'rl_would_act': _share(wants),
                'first_tick': int(judged.tick[own][wants][0]) if wants.any() else None,
                'margin': float(np.median(judged.margin[own][wants])) if wants.any() else None,
            }
        )
    return sorted(found, key=lambda f: (-(f['rl_would_act'] or 0.0), f['episode']))


def _share(chosen: np.ndarray) -> float | None:
    return float(chosen.mean()) if len(chosen) else None


def _quantiles(values: np.ndarray) -> dict[str, float | None]:
    known = values[np.isfinite(values)]
    if not len(known):
        return {f'p{q}': None for q in QUANTILES}
    return {f'p{q}': float(np.percentile(known, q)) for q in QUANTILES}
