# SPDX-License-Identifier: Apache-2.0
"""What is said about an episode once it is over, gathered step by step."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
import math

from q2rl_control.episode_plan import EpisodePlan, EpisodeResult
from q2rl_control.guard import is_limited
from q2rl_task import EndReason, ExecutedStep, Phase, Source


@dataclass(frozen=True)
class EpisodeRecord:
    """A finished episode (fields of q2rl_msgs/EpisodeSummary, and its seed).

    phase, mode, end_reason: names. explored: whether RL might explore. episode_return: undiscounted. peak_force:
    [N]. duration: robot time, the reset included [s]. mean_q_bc, mean_q_rl: NaN where not known. lead_steps: steps on
    which the lead clamp shortened the action; guard_interventions: steps on which the guard did anything beyond that.
    """

    robot: str
    episode: str
    number: int
    phase: str
    mode: str
    explored: bool
    seed: int
    success: bool
    end_reason: str
    steps: int
    episode_return: float
    rl_steps: int
    bc_steps: int
    hold_steps: int
    human_steps: int
    guard_interventions: int
    lead_steps: int
    peak_force: float
    mean_q_bc: float
    mean_q_rl: float
    duration: float
    weights_version: int


class EpisodeTally:
    """Add up the executed steps of one episode.

    :param started: robot time at which the reset began [s]
    """

    def __init__(self, plan: EpisodePlan, robot: str, started: float) -> None:
        self.plan = plan
        self._robot = robot
        self._started = started
        self._sources: Counter[Source] = Counter()
        self._limited = self._lead = 0
        self._return = 0.0
        self._peak_force = 0.0
        self._q_bc: list[float] = []
        self._q_rl: list[float] = []
        self._version = 0
        self._last: ExecutedStep | None = None

    def add(self, step: ExecutedStep) -> None:
        """Take the next step of the episode; steps already taken and those of others are left out."""
        expected = 0 if self._last is None else self._last.step + 1
        if step.episode != self.plan.episode or step.step < expected:
            return
        self._last = step
        self._return += step.reward
        self._peak_force = max(self._peak_force, step.force)
        self._version = max(self._version, step.decision.actor_version)
        if step.final:
            return
        self._sources[step.decision.source] += 1
        self._limited += is_limited(step.interventions)
        self._lead += 'lead' in step.interventions
        for values, value in ((self._q_bc, step.decision.q_bc), (self._q_rl, step.decision.q_rl)):
            if math.isfinite(value):
                values.append(value)

    @property
    def begun(self) -> bool:
        """Whether a step is in."""
        return self._last is not None

    @property
    def over(self) -> bool:
        """Whether the final step is in."""
        return self._last is not None and self._last.final

    def record(self) -> EpisodeRecord:
        """Return the record of the finished episode.

        :raises ValueError: it is not over
        """
        last = self._last
        if last is None or not last.final:
            raise ValueError(f'episode {self.plan.episode} is not over')
        return EpisodeRecord(
            robot=self._robot,
            episode=self.plan.episode,
            number=self.plan.number,
            phase=self.plan.phase.name,
            mode=self.plan.mode.name,
            explored=self.plan.explore,
            seed=self.plan.seed,
            success=last.terminated and last.end_reason is EndReason.SUCCESS,
            end_reason=last.end_reason.name,
            steps=last.step,
            episode_return=self._return,
            rl_steps=self._sources[Source.RL],
            bc_steps=self._sources[Source.BC],
            hold_steps=self._sources[Source.HOLD],
            human_steps=self._sources[Source.HUMAN],
            guard_interventions=self._limited,
            lead_steps=self._lead,
            peak_force=self._peak_force,
            mean_q_bc=_mean(self._q_bc),
            mean_q_rl=_mean(self._q_rl),
            duration=max(0.0, last.stamp - self._started),
            weights_version=self._version,
        )

    def result(self, transitions: int) -> EpisodeResult:
        """Return what the run's plan counts; `transitions`: how many of them were published.

        An episode in which a person acted is no success of the policies, and one in which a policy acted, or of
        which a step got lost, no demonstration of a person's.
        """
        record = self.record()
        success = record.success and not record.human_steps
        if self.plan.phase is Phase.DEMONSTRATING:
            alone = record.human_steps > 0 and not (record.bc_steps or record.rl_steps)
            success = record.success and alone and transitions == record.steps
        return EpisodeResult(
            success=success,
            end_reason=EndReason[record.end_reason],
            transitions=transitions,
            by_source={source.name: count for source, count in self._sources.items()},
            interventions=record.guard_interventions,
            robot_time_s=record.duration,
            weights_version=record.weights_version,
            whole=transitions == record.steps,
        )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan
