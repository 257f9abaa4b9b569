# SPDX-License-Identifier: Apache-2.0
"""Where an observation stands in the stream of (episode, step): new, seen before, or too late."""

from __future__ import annotations

from collections import deque
from enum import Enum

FORMER_EPISODES = 64
"""Episodes remembered as over; their stragglers are late, not the start of something new."""


class Arrival(Enum):
    """How an observation arrives."""

    NEW = 'new'
    REPEAT = 'repeat'
    LATE = 'late'


class TickTracker:
    """Follow the observations of one robot.

    After `arrive` gave NEW: `fresh` tells whether it opened an episode, `gapless` whether every step of its episode so
    far has arrived, from step 0 on.
    """

    def __init__(self) -> None:
        self.episode: str | None = None
        self.step = -1
        self.fresh = False
        self.gapless = False
        self._former: deque[str] = deque(maxlen=FORMER_EPISODES)

    def arrive(self, episode: str, step: int) -> Arrival:
        """Place the observation (episode, step) and move on to it if it is new."""
        if episode != self.episode:
            if episode in self._former:
                return Arrival.LATE
            if self.episode is not None:
                self._former.append(self.episode)
            self.episode, self.fresh, self.gapless = episode, True, step == 0
        elif step > self.step:
            self.fresh = False
            self.gapless = self.gapless and step == self.step + 1
        else:
            return Arrival.REPEAT if step == self.step else Arrival.LATE
        self.step = step
        return Arrival.NEW

    def is_over(self, episode: str, step: int) -> bool:
        """Whether (episode, step) lies behind the newest observation."""
        return episode in self._former or (episode == self.episode and step < self.step)
