# SPDX-License-Identifier: Apache-2.0
"""Whether what is learned is still better than BC: asked after every episode, answered with statistical confidence.

BC-only and RL-only episodes, interleaved with the gated ones, are compared in pairs: RL alone graduates once it has
been shown to succeed more often. Success of the episodes that are learned from is watched for falling below BC's: then
the weights go back to those of the best window so far.
"""

from __future__ import annotations

from dataclasses import dataclass, field
import math

from q2rl_control.sequential_tests import (
    evidence_of_better,
    log_evidence_of_drop,
    lower_bound,
)
from q2rl_task import Mode

WINDOW = 20
"""Episodes over which the success of a version of the weights is judged."""


@dataclass
class PerformanceWatch:
    """What has been seen so far; plain data, saved with the progress of a run.

    bc_successes, bc_episodes: of BC alone. wins, losses: pairs in which only RL alone, or only BC, succeeded.
    unpaired: outcome of an RL-only episode that waits for a BC-only one. drop: log evidence that success fell below
    BC's. window: weights version and outcome of the last episodes that were learned from. best_success, best_version:
    of the best window, and the version that it ended with.
    """

    bc_successes: int = 0
    bc_episodes: int = 0
    wins: int = 0
    losses: int = 0
    unpaired: bool | None = None
    drop: float = 0.0
    window: list[list[int]] = field(default_factory=list)
    best_success: float = 0.0
    best_version: int = 1

    @property
    def evidence(self) -> float:
        """E-value for "RL alone succeeds more often than BC"."""
        return evidence_of_better(self.wins, self.losses)

    @property
    def bc_level(self) -> float:
        """Success rate that BC has for sure (one-sided, 95 %)."""
        return lower_bound(self.bc_successes, self.bc_episodes)

    def measured(self, mode: Mode, success: bool) -> None:
        """Take an episode in which BC or RL acted alone and by itself, to be measured."""
        if mode is Mode.BC:
            self.bc_episodes += 1
            self.bc_successes += success
            if self.unpaired is not None:
                self.wins += self.unpaired and not success
                self.losses += success and not self.unpaired
                self.unpaired = None
        elif mode is Mode.RL:
            self.unpaired = success

    def learned_from(self, success: bool, version: int) -> None:
        """Take an episode that was learned from, and the weights that it ended with."""
        self.drop = log_evidence_of_drop(self.drop, success, self.bc_level)
        self.window = [*self.window, [version, int(success)]][-WINDOW:]
        rate = sum(outcome for _, outcome in self.window) / WINDOW
        if len(self.window) == WINDOW and rate >= self.best_success:
            self.best_success, self.best_version = rate, version

    def dropped(self, evidence: float) -> bool:
        """Whether success has fallen below BC's: no more often without cause than once in `evidence` episodes."""
        return self.drop >= math.log(evidence)

    def start_over(self) -> None:
        """Forget the present: other weights act from now on, and RL alone has to prove itself again."""
        self.wins = self.losses = 0
        self.unpaired, self.drop, self.window = None, 0.0, []
