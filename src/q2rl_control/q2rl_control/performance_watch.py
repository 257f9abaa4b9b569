# SPDX-License-Identifier: Apache-2.0
"""Whether what is learned is still better than BC: asked after every episode, answered with statistical confidence.

BC-only and RL-only episodes, interleaved with the gated ones, are compared in pairs: RL alone graduates once it has
been shown to succeed more often, and no longer does once its episodes fall below BC's. Success of the episodes that
are learned from is watched for falling below BC's too. Then BC acts alone until one of two is shown: if it still
succeeds, the weights are at fault; if it fails as well, the world has changed, and what was known of BC is forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

from q2rl_control.sequential_tests import (
    LONGEST,
    evidence_of_better,
    evidence_of_drop,
    is_below,
    lower_bound,
)
from q2rl_task import Mode

WINDOW = 20
"""Episodes over which the success of a version of the weights is judged."""
CLEARING = 2
"""Successes of BC alone that clear the world: one is easily luck."""
DOUBT = 0.05
"""Probability with which a world that has not changed is convicted, at most: that may happen after 0, 1, ...
`CLEARING` - 1 successes, and for each of these there is one number of episodes at which it does."""
LONGEST_DOUBT = 40
"""Episodes of BC alone after which the weights are at fault if it was not shown to have changed: 34 failures in a row
convict the world where BC succeeded in 5 of 20."""


class Fault(Enum):
    """Why success fell below what BC was known to reach."""

    WEIGHTS = auto()
    WORLD = auto()


@dataclass
class PerformanceWatch:
    """What has been seen so far; plain data, saved with the progress of a run.

    bc_successes, bc_episodes: of BC alone. wins, losses: pairs in which only RL alone, or only BC, succeeded.
    graduations: how often that was enough.
    unpaired: outcome of an RL-only episode that waits for a BC-only one. learned, rl_alone: outcomes of the episodes
    learned from, or of RL-only ones, in which success below BC's is looked for. doubt_level: what BC was known to reach
    when it was put in doubt; 0: it is not. doubt_successes, doubt_episodes: of BC alone since.
    window: weights version and outcome of the last episodes that were learned from. best_success, best_version: of the
    best window that was no worse than BC, and the version that it ended with.
    """

    bc_successes: int = 0
    bc_episodes: int = 0
    wins: int = 0
    losses: int = 0
    graduations: int = 0
    unpaired: bool | None = None
    learned: list[bool] = field(default_factory=list)
    rl_alone: list[bool] = field(default_factory=list)
    doubt_level: float = 0.0
    doubt_successes: int = 0
    doubt_episodes: int = 0
    window: list[list[int]] = field(default_factory=list)
    best_success: float = 0.0
    best_version: int = 1

    @property
    def evidence(self) -> float:
        """E-value for "RL alone succeeds more often than BC"."""
        return evidence_of_better(self.wins, self.losses)

    def graduates(self, evidence: float) -> bool:
        """Whether RL alone is shown to be better, at an e-value that doubles with every time that it was before.

        So over all times it is wrongly shown with probability 2 / `evidence` at most, however often it is taken back.
        """
        return self.evidence >= evidence * 2.0**self.graduations

    @property
    def evidence_of_drop(self) -> float:
        """E-detector for "success of the episodes learned from has fallen below BC's"."""
        return evidence_of_drop(self.learned, self.bc_successes, self.bc_episodes)

    @property
    def evidence_of_rl_drop(self) -> float:
        """E-detector for "success of RL alone has fallen below BC's"."""
        return evidence_of_drop(self.rl_alone, self.bc_successes, self.bc_episodes)

    @property
    def bc_level(self) -> float:
        """Success rate that BC has for sure (one-sided, 95 %)."""
        return lower_bound(self.bc_successes, self.bc_episodes)

    @property
    def in_doubt(self) -> bool:
        """Whether BC acts alone to show whether it is still as good as it was."""
        return self.doubt_level > 0.0

    def measured(self, mode: Mode, success: bool) -> Fault | None:
        """Take an episode in which BC or RL acted alone and by itself; return the fault, where it settles a doubt."""
        if mode is Mode.RL:
            self.unpaired = success
            self.rl_alone = [*self.rl_alone, success][-LONGEST:]
            return None
        self.bc_episodes += 1
        self.bc_successes += success
        if self.unpaired is not None:
            self.wins += self.unpaired and not success
            self.losses += success and not self.unpaired
            self.unpaired = None
        if not self.in_doubt:
            return None
        self.doubt_successes += success
        self.doubt_episodes += 1
        if is_below(self.doubt_successes, self.doubt_episodes, self.doubt_level, DOUBT / CLEARING):
            return Fault.WORLD
        if self.doubt_successes >= CLEARING or self.doubt_episodes >= LONGEST_DOUBT:
            # The world is not shown to have changed: forgetting what was learned would need that.
            return Fault.WEIGHTS
        return None

    def learned_from(self, success: bool, version: int) -> None:
        """Take an episode that was learned from, and the weights that it ended with; 0: RL had none to act with."""
        self.learned = [*self.learned, success][-LONGEST:]
        self.window = [*self.window, [version, int(success)]][-WINDOW:]
        rate = sum(outcome for _, outcome in self.window) / WINDOW
        good = rate >= max(self.best_success, self.bc_level)
        if len(self.window) == WINDOW and good and version > 0:
            self.best_success, self.best_version = rate, version

    def doubt(self) -> None:
        """Let BC show whether it is still as good as it was."""
        self.doubt_level, self.doubt_successes, self.doubt_episodes = self.bc_level, 0, 0

    def rolled_back(self) -> int:
        """Return the weights to go back to, and start over: those have to prove themselves again.

        If they fall below BC's success without a window as good as it, the first weights are next.
        """
        version = self.best_version
        self._start_over()
        return version

    def world_changed(self) -> None:
        """Forget what BC used to reach, and what was better than that: how it fared in doubt is all that is known."""
        self._start_over()
        self.bc_successes, self.bc_episodes = self.doubt_successes, self.doubt_episodes

    def compare_anew(self) -> None:
        """Let RL alone prove itself again."""
        self.wins = self.losses = 0
        self.unpaired, self.rl_alone = None, []

    def _start_over(self) -> None:
        self.compare_anew()
        self.doubt_level, self.learned, self.window = 0.0, [], []
        self.best_success, self.best_version = 0.0, 1
