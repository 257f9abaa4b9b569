# SPDX-License-Identifier: Apache-2.0
"""Tests on outcomes of episodes that may be looked at after every episode, and end whenever the evidence is enough.

Evidence is an e-value: a wager that does not grow in expectation while what it bets against is true. So it may be
watched for ever: that it reaches 1/p at all has probability p at most. Ramdas et al., Game-theoretic statistics and
safe anytime-valid inference, arXiv 2210.01948; summed over when a change began: Shin et al., E-detectors, arXiv
2203.03532; against rates that are not known: Wasserman et al., Universal inference, arXiv 1912.11436.
"""

from __future__ import annotations

from collections.abc import Sequence
import math

import numpy as np
from scipy.special import betaln, xlog1py, xlogy
from scipy.stats import beta, binom

RATES = (np.arange(32) + 0.5) / 32
"""Success rates of the policy that another is watched against which are wagered on, all alike."""
FALLS = (0.0, 0.25, 0.5, 0.7)
"""Shares of such a rate that a drop is wagered to leave, all alike."""
LONGEST = 400
"""Episodes that a drop is looked for in: one that began before them has long been seen, or is too small."""

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


def _logs(rates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the logs of the probabilities of failure and of success; of probability 0 that of the least number."""
    return np.log1p(-rates), np.log(np.maximum(rates, np.finfo(float).tiny))


_LOG_OTHER = _logs(np.repeat(RATES, len(FALLS)))
_LOG_FALLEN = _logs(np.outer(RATES, FALLS).ravel())


def evidence_since(outcomes: Sequence[bool], successes: int, n: int) -> np.ndarray:
    """Return an e-value for "succeeds less often than the other policy" per suffix of outcomes, (S,), shortest first.

    Each is a likelihood ratio: the mean over the wagers (`RATES`, `FALLS`) against the likeliest pair of rates of which
    the first is no less than the second. So the other policy's rate need not be known: that little has been seen of it
    makes evidence slow, and nothing else. The bound holds whatever the first one's rates are, changing ones too, as
    long as none is below the other's; and whatever decides which of the two acts next.

    :param outcomes: of the policy that is watched, in order; the last `LONGEST` of them count
    :param successes: of the other policy in all its `n` episodes so far
    """
    newest_first = np.asarray(outcomes, dtype=np.float64)[-LONGEST:][::-1]
    watched = np.cumsum(newest_first)
    count = np.arange(1, len(watched) + 1)
    wagers = (
        np.outer(watched, _LOG_FALLEN[1])
        + np.outer(count - watched, _LOG_FALLEN[0])
        + (successes * _LOG_OTHER[1] + (n - successes) * _LOG_OTHER[0])
    )
    pooled = (watched + successes) / (count + n)
    no_less = watched * n >= successes * count
    first = np.where(no_less, watched / count, pooled)
    second = np.where(no_less, successes / max(n, 1), pooled)
    likeliest = (
        xlogy(watched, first)
        + xlog1py(count - watched, -first)
        + xlogy(successes, second)
        + xlog1py(n - successes, -second)
    )
    return np.exp(np.minimum(wagers - likeliest[:, None], LOG_MOST)).mean(axis=1)


def evidence_of_drop(outcomes: Sequence[bool], successes: int, n: int) -> float:
    """Return an e-detector for "now succeeds less often than the other policy": the sum over when that began.

    While it succeeds as often or more, this reaches c no more often than once in c episodes on average. E-values that
    speak against a beginning are left out: many of those are no evidence. Parameters as of `evidence_since`.
    """
    found = evidence_since(outcomes, successes, n)
    return float(found[found > 1.0].sum())


def _evidence(log: float) -> float:
    return math.exp(min(log, LOG_MOST))


def is_below(successes: int, n: int, level: float, doubt: float = 0.05) -> bool:
    """Return whether a success rate of `level` makes so few successes less often than `doubt`."""
    return bool(binom.cdf(successes, n, level) < doubt)


def lower_bound(successes: int, n: int, confidence: float = 0.95) -> float:
    """Return the one-sided Clopper-Pearson bound that a success rate lies above; 0 without a success."""
    return float(beta.ppf(1.0 - confidence, successes, n - successes + 1)) if successes else 0.0
