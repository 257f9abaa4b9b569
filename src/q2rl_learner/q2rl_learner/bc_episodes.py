# SPDX-License-Identifier: Apache-2.0
"""The episodes in which BC acted alone: what V is fitted on."""

from __future__ import annotations

from q2rl_learner.episodes import Episode, ends_by_itself, finished_episodes
from q2rl_task import Mode, Transition

LEAST_FAILURES = 4


class BCEpisodes:
    """Rollouts of the estimating phase, and BC-only episodes of the online phase with the place they have in it.

    One that was interrupted says nothing of BC, and is none. taken: online transitions so far, of any mode.
    ended: BC-only online episodes that came to an end so far.
    """

    def __init__(self) -> None:
        self.taken = self.ended = 0
        self._rollouts: list[Transition] = []
        self._online: list[Transition] = []
        self._began: dict[str, int] = {}

    def add_rollout(self, transition: Transition) -> None:
        """Take a transition of a rollout."""
        self._rollouts.append(transition)

    def add_online(self, transition: Transition, forgotten: int) -> bool:
        """Take the next transition of the online phase, of any mode; return whether it counts still.

        :param forgotten: the first so many do not: they are of another world
        """
        self.taken += 1
        counts = self.taken > forgotten
        if transition.mode == Mode.BC:
            self.ended += ends_by_itself(transition)
            if counts:
                self._began.setdefault(transition.episode, self.taken - 1)
                self._online.append(transition)
        return counts

    def rollouts(self) -> list[Episode]:
        """Return the finished rollouts."""
        return finished_episodes(self._rollouts)

    def online(self) -> list[Episode]:
        """Return the finished BC-only episodes of the online phase."""
        return finished_episodes(self._online)

    def since_it_failed(self) -> list[Episode]:
        """Return the last ones of the online phase since BC last succeeded, in order.

        If that was just now, they reach back to its success before: one may be luck.
        """
        found: list[Episode] = []
        lucky = False
        for episode in reversed(self.online()):
            if episode.succeeded:
                if lucky or len(found) >= LEAST_FAILURES:
                    break
                lucky = True
            found.insert(0, episode)
        return found

    def began(self, episode: Episode) -> int:
        """Return how many online transitions came before a BC-only episode of the online phase."""
        return self._began[episode.name]

    def forget(self, before: int) -> None:
        """Forget the rollouts, and the episodes that began before online transition `before`."""
        self._rollouts = []
        self._online = [t for t in self._online if self._began[t.episode] >= before]
