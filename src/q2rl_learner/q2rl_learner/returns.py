# SPDX-License-Identifier: Apache-2.0
"""Returns: Monte Carlo returns of whole episodes with completion of cut ones, and n-step returns.

A time limit is no property of the task: the return of a cut episode lacks what would have come after the cut.
It is completed with the value of the state at the cut:
    G_t = sum_{i=t}^{T-1} gamma^(i-t) r_i + gamma^(T-t) V(s_T).
A policy that never succeeds at -1 per step then has G = -1/(1-gamma) everywhere, the fixed point of V.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from q2rl_learner.episodes import Episode


@dataclass(frozen=True)
class Segment:
    """A run of an episode's steps [first, last) in which a policy acted at every step.

    terminated: the task ended right after; otherwise the segment was cut in state `end` (O,).
    """

    episode: int
    first: int
    last: int
    rewards: np.ndarray
    terminated: bool
    end: np.ndarray


def segments(episodes: Sequence[Episode]) -> list[Segment]:
    """Split episodes at ticks that were held or a person's: what those did is in no return.

    The state before one counts as a cut.
    """
    found: list[Segment] = []
    for number, episode in enumerate(episodes):
        acting = np.flatnonzero(episode.by_policy)
        for run in np.split(acting, np.flatnonzero(np.diff(acting) > 1) + 1):
            if len(run) == 0:
                continue
            first, last = int(run[0]), int(run[-1]) + 1
            found.append(
                Segment(
                    episode=number,
                    first=first,
                    last=last,
                    rewards=episode.rewards[first:last],
                    terminated=episode.terminated and last == len(episode),
                    end=episode.next_observations[last - 1],
                )
            )
    return found


def monte_carlo(rewards: np.ndarray, discount: float, tail: float = 0.0) -> np.ndarray:
    """Return G_t of each of the T steps, (T,); `tail`: value of the state after the last (0 if terminated)."""
    returns = np.empty(len(rewards))
    running = float(tail)
    for t in range(len(rewards) - 1, -1, -1):
        running = float(rewards[t]) + discount * running
        returns[t] = running
    return returns


def tail_weights(steps: int, discount: float) -> np.ndarray:
    """Return gamma^(T-t) of each step t, (T,): how much of the value at the cut is in its return."""
    return discount ** np.arange(steps, 0, -1)


def attainable_range(per_step: float, success: float, discount: float) -> tuple[float, float]:
    """Return the least and the greatest return of a task that pays `per_step` until `success` ends it."""
    never = per_step / (1.0 - discount)
    return min(never, success), max(never, success)


def range_of_any(least: float, greatest: float, discount: float) -> tuple[float, float]:
    """Return the least and the greatest return of steps that pay anything in between, few or many."""
    horizon = 1.0 / (1.0 - discount)
    return min(least, least * horizon), max(greatest, greatest * horizon)


def n_step(rewards: Sequence[float], discount: float, terminated: bool) -> tuple[float, float]:
    """Return (R_n, factor of the bootstrap value) of the next n = len(rewards) steps of one episode.

    R_n = sum_i gamma^i r_i. The factor is gamma^n, and 0 if the last step terminated; a cut keeps gamma^n.
    """
    total = sum(discount**i * float(reward) for i, reward in enumerate(rewards))
    return total, 0.0 if terminated else discount ** len(rewards)
