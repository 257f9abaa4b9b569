# SPDX-License-Identifier: Apache-2.0
"""Tests on outcomes of episodes that may be looked at after every episode, and end whenever the evidence is enough.

Evidence is an e-value: a wager that does not grow in expectation while what it bets against is true. So it may be
watched for ever: that it reaches 1/p at all has probability p at most. Ramdas et al., Game-theoretic statistics and
safe anytime-valid inference, arXiv 2210.01948; restarted for changes: Shin et al., E-detectors, arXiv 2203.03532.
"""

from __future__ import annotations

from collections.abc import Sequence
import math

from scipy.special import betaln
from scipy.stats import beta, binom

STAKES = (0.25, 0.5, 0.9)
"""Shares of the most that may be wagered on a drop: small ones notice a small drop, large ones a large drop soon."""

LOG_MOST = 700.0
"""Evidence beyond its exponential is as good as certain, and no float."""


def evidence_of_better(wins: int, losses: int) -> float:
    """Return the e-value for "the first of two policies succeeds more often", from pairs of their episodes.

    Bets against P(win) <= 1/2, on a win rate uniform over [1/2, 1].

    :param wins: pairs in which only the first succeeded
    :param losses: pairs in which only the second did; pairs that ended alike say nothing
    """
    n = wins + losses
    log_integral = betaln(wins + 1, losses + 1) + beta.logsf(0.5, wins + 1, losses + 1)
    return _evidence((n + 1) * math.log(2.0) + log_integral)


def wager_on_drop(before: Sequence[float], success: bool, level: float) -> list[float]:
    """Return the logs of the wagers on "the success rate has fallen below `level`", one episode later.

    :param before: what they were, one per stake of `STAKES`; empty at the start, and again after an alarm
    """
    most = 1.0 / (1.0 - level) if level < 1.0 else 1.0
    return [
        max(log, 0.0) + math.log1p(stake * most * (level - success))
        for log, stake in zip(before or [0.0] * len(STAKES), STAKES, strict=True)
    ]


def evidence_of_drop(wagers: Sequence[float]) -> float:
    """Return the e-detector that these wagers make: their mean.

    While the rate is `level` or more, it reaches c no more often than once in c episodes on average.
    """
    return sum(map(_evidence, wagers)) / len(wagers) if wagers else 1.0


def _evidence(log: float) -> float:
    return math.exp(min(log, LOG_MOST))


def is_below(successes: int, n: int, level: float, doubt: float = 0.05) -> bool:
    """Return whether a success rate of `level` makes so few successes less often than `doubt`."""
    return bool(binom.cdf(successes, n, level) < doubt)


def lower_bound(successes: int, n: int, confidence: float = 0.95) -> float:
    """Return the one-sided Clopper-Pearson bound that a success rate lies above; 0 without a success."""
    return float(beta.ppf(1.0 - confidence, successes, n - successes + 1)) if successes else 0.0
