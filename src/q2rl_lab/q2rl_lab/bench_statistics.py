# SPDX-License-Identifier: Apache-2.0
"""Comparing methods from few runs (Agarwal et al. 2021, arXiv 2108.13264): what to aggregate, and how sure one may be.

Scores are one array of runs per task. Everything here agrees with `rliable` 1.2 to rounding, intervals to the noise of
the bootstrap; that package brings pandas, statsmodels, arch and seaborn along for it, hence these few lines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import statistics

import numpy as np

Scores = Sequence[np.ndarray]
"""One array (runs,) per task."""
RESAMPLES = 2000


def interquartile_mean(scores: Scores) -> float:
    """Return the mean of the middle half of all runs: less noisy than the median, and robust unlike the mean."""
    values = np.sort(np.concatenate(list(scores)))
    cut = int(0.25 * len(values))
    return float(values[cut : len(values) - cut].mean())


def probability_of_improvement(x: Scores, y: Scores) -> float:
    """Return P(a run of x scores above one of y), ties counted half: the mean over tasks."""
    shares = []
    for a, b in zip(x, y, strict=True):
        difference = np.asarray(a)[:, None] - np.asarray(b)[None, :]
        shares.append(float((difference > 0).mean() + 0.5 * (difference == 0).mean()))
    return float(np.mean(shares))


def stratified_interval(
    groups: Sequence[Scores],
    statistic: Callable[..., float],
    confidence: float = 0.95,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of `statistic(*groups)`; runs are drawn anew within each task.

    With a handful of runs it is too narrow rather than too wide: read it as a lower bound of the uncertainty.
    """
    rng = np.random.default_rng(seed)
    found = [
        statistic(*([rng.choice(runs, len(runs)) for runs in scores] for scores in groups))
        for _ in range(resamples)
    ]
    low, high = np.percentile(found, [50 * (1 - confidence), 50 * (1 + confidence)])
    return float(low), float(high)


def performance_profile(scores: Scores, levels: np.ndarray) -> np.ndarray:
    """Return the share of runs that score above each level, (L,): the mean over tasks."""
    return np.mean([(np.asarray(runs)[:, None] > levels).mean(axis=0) for runs in scores], axis=0)


def censored_median(counts: Sequence[int | None], seen: Sequence[int]) -> tuple[int, bool]:
    """Return the median of counts, the higher of two, some of which never came, and whether it is only a lower bound.

    :param counts: after how many; None where it did not happen
    :param seen: how many there were at the end of each run: what is known of those that did not happen
    """
    middle = statistics.median_high([float('inf') if c is None else c for c in counts])
    if middle < float('inf'):
        return int(middle), False
    known = [bound if c is None else c for c, bound in zip(counts, seen, strict=True)]
    return statistics.median_high(known), True
