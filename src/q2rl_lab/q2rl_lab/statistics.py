# SPDX-License-Identifier: Apache-2.0
"""Success rates and how fast they rose, with the uncertainty they deserve. Pure; outcomes are booleans in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of a success rate; (0, 1) without a trial.

    :raises ValueError: not 0 <= successes <= n
    """
    if not 0 <= successes <= n:
        raise ValueError(f'{successes} successes of {n} trials')
    if n == 0:
        return 0.0, 1.0
    from scipy.stats import binomtest  # half a second to import

    interval = binomtest(successes, n).proportion_ci(confidence, method='wilson')
    # At 0 of n and n of n the formula's end is exact but for rounding.
    return (0.0 if successes == 0 else float(interval.low)), (
        1.0 if successes == n else float(interval.high)
    )


@dataclass(frozen=True)
class Rate:
    """A measured success rate."""

    successes: int
    n: int

    @staticmethod
    def of(outcomes: Sequence[bool]) -> Rate:
        """Count successes."""
        return Rate(sum(bool(outcome) for outcome in outcomes), len(outcomes))

    @property
    def success(self) -> float:
        """Share of successes; NaN without a trial."""
        return self.successes / self.n if self.n else float('nan')

    def as_dict(self) -> dict:
        """Return `{success, n, wilson: [low, high]}`; success None without a trial."""
        return {
            'success': self.success if self.n else None,
            'n': self.n,
            'wilson': list(wilson(self.successes, self.n)),
        }


def moving_success(outcomes: Sequence[bool], window: int) -> np.ndarray:
    """Return the share of successes among the last `window` outcomes, fewer at the start; (n,) float64."""
    total = np.concatenate([[0.0], np.cumsum(np.asarray(outcomes, dtype=np.float64))])
    end = np.arange(1, len(total))
    start = np.maximum(0, end - window)
    return (total[end] - total[start]) / (end - start)


def moving_band(outcomes: Sequence[bool], window: int) -> tuple[np.ndarray, np.ndarray]:
    """Return Wilson's 95 % interval of every point of `moving_success`; two (n,) arrays."""
    counts = np.arange(1, len(outcomes) + 1).clip(max=window)
    wins = np.rint(moving_success(outcomes, window) * counts).astype(int)
    known: dict[tuple[int, int], tuple[float, float]] = {}
    for key in zip(wins.tolist(), counts.tolist(), strict=True):
        if key not in known:
            known[key] = wilson(*key)
    pairs = [known[key] for key in zip(wins.tolist(), counts.tolist(), strict=True)]
    low, high = np.array(pairs).reshape(-1, 2).T
    return low, high


def shares_over(
    place: np.ndarray, wins: np.ndarray, bins: int = 12
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the share of `wins` (n,) bool by `place` (n,): bin edges (bins + 1,), shares and counts (bins,).

    The bins span all but the outermost hundredth; an empty one has the share 0.
    """
    low, high = np.percentile(place, (0.5, 99.5))
    edges = np.linspace(low, max(high, low + 1e-4), bins + 1)
    counts, _ = np.histogram(place, edges)
    won, _ = np.histogram(place, edges, weights=wins.astype(float))
    return edges, np.divide(won, counts, out=np.zeros(bins), where=counts > 0), counts


def first_reaching(outcomes: Sequence[bool], level: float, window: int) -> int | None:
    """Return after how many outcomes the last `window` (all of them there) first succeed at `level` or more."""
    moving = moving_success(outcomes, window)
    reached = np.flatnonzero(moving[window - 1 :] >= level - 1e-12)
    return int(reached[0]) + window if len(reached) else None


def failures_until(outcomes: Sequence[bool], level: float, window: int) -> int | None:
    """Return the failures up to `first_reaching`; None when the level is never reached (then it is censored)."""
    count = first_reaching(outcomes, level, window)
    return None if count is None else int(sum(not outcome for outcome in outcomes[:count]))


def longest_below(outcomes: Sequence[bool], level: float, window: int, skip: int) -> int:
    """Return the longest stretch of outcomes after the first `skip` whose moving success lies below `level`."""
    longest = current = 0
    for share in moving_success(outcomes, window)[skip:]:
        current = current + 1 if share < level - 1e-12 else 0
        longest = max(longest, current)
    return longest
