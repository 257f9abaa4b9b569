# SPDX-License-Identifier: Apache-2.0
"""Tests on outcomes of episodes that may be looked at after every episode, and end whenever the evidence is enough.

Evidence is an e-value: a wager that does not grow in expectation while what it bets against is true. So it may be
watched for ever: that it reaches 1/p at all has probability p at most. Ramdas et al., Game-theoretic statistics and
safe anytime-valid inference, arXiv 2210.01948; restarted for changes: Shin et al., E-detectors, arXiv 2203.03532.
"""

from __future__ import annotations

import math

from scipy.special import betaln
from scipy.stats import beta


def evidence_of_better(wins: int, losses: int) -> float:
    """Return the e-value for "the first of two policies succeeds more often", from pairs of their episodes.

    Bets against P(win) <= 1/2, on a win rate uniform over [1/2, 1].

    :param wins: pairs in which only the first succeeded
    :param losses: pairs in which only the second did; pairs that ended alike say nothing
    """
    n = wins + losses
    log_integral = betaln(wins + 1, losses + 1) + beta.logsf(0.5, wins + 1, losses + 1)
    return math.exp((n + 1) * math.log(2.0) + log_integral)


def log_evidence_of_drop(before: float, success: bool, level: float) -> float:
    """Return the log e-detector for "the success rate has fallen below `level`", one episode later.

    While the rate is `level` or more, it reaches log(c) no more often than once in c episodes on average.

    :param before: what it was; 0 at the start, and again after an alarm
    """
    stake = 0.5 / (1.0 - level) if level < 1.0 else 1.0
    return max(before, 0.0) + math.log1p(stake * (level - success))


def lower_bound(successes: int, n: int, confidence: float = 0.95) -> float:
    """Return the one-sided Clopper-Pearson bound that a success rate lies above; 0 without a success."""
    return float(beta.ppf(1.0 - confidence, successes, n - successes + 1)) if successes else 0.0
