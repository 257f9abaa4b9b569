# SPDX-License-Identifier: Apache-2.0
"""One episode of a run: what is planned for it, and what the plan counts of it when it is over."""

from __future__ import annotations

from dataclasses import dataclass

from q2rl_task import EndReason, Mode, Phase, Source
from q2rl_task.episode import INTERRUPTIONS


@dataclass(frozen=True)
class EpisodePlan:
    """The next episode. `seed` gives scene and start pose; `number` counts from 1 within the phase.

    phase: of the stream that the episode belongs to (that of a graduated run is ONLINE). explore: whether the RL
    policy may explore: only where the run is under way, and not where a policy is measured.
    """

    episode: str
    phase: Phase
    mode: Mode
    seed: int
    number: int
    explore: bool = False


@dataclass(frozen=True)
class EpisodeResult:
    """What the plan counts of a finished episode. `by_source`: transitions per `Source` name.

    success: of the policies, so never of an episode in which a person acted. whole: all its steps became transitions.
    """

    success: bool
    end_reason: EndReason
    transitions: int
    by_source: dict[str, int]
    interventions: int = 0
    robot_time_s: float = 0.0
    weights_version: int = 0
    whole: bool = True

    @property
    def interrupted(self) -> bool:
        """Whether the episode measures no policy: someone asked for its end, or sensing was lost."""
        return self.end_reason in INTERRUPTIONS

    @property
    def helped(self) -> bool:
        """Whether a person acted in it."""
        return bool(self.by_source.get(Source.HUMAN.name))
