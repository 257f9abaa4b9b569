# SPDX-License-Identifier: Apache-2.0
"""Run one episode of a scripted behaviour on a `SimArm`, with the task's own arithmetic and no ROS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from q2rl_sim.arm import ArmState, SimArm
from q2rl_task import (
    Measurement,
    ObservationBuilder,
    Pose,
    StepOutcome,
    advance_command,
    advance_gripper,
    draw_start,
    judge_step,
)


class Behaviour(Protocol):
    """A scripted policy; `fixture` and `part` are what it is allowed to know of their poses."""

    def act(
        self, measurement: Measurement, fixture: Pose, commanded: Pose, part: Pose | None
    ) -> np.ndarray:
        """Return an action (D,) in [-1, 1]."""


@dataclass
class Episode:
    """What happened: T actions, T + 1 observations and states, the outcome of each step."""

    observations: list[np.ndarray] = field(default_factory=list)
    actions: list[np.ndarray] = field(default_factory=list)
    outcomes: list[StepOutcome] = field(default_factory=list)
    states: list[ArmState] = field(default_factory=list)

    @property
    def success(self) -> bool:
        """Whether the task was done."""
        return bool(self.outcomes) and self.outcomes[-1].terminated

    @property
    def steps(self) -> int:
        """Number of executed actions T."""
        return len(self.actions)


def run_episode(
    arm: SimArm,
    behaviour: Behaviour,
    seed: int,
    sees_truth: bool = False,
    keep_states: bool = False,
    watch: Callable[[SimArm, Measurement, Pose], None] | None = None,
) -> Episode:
    """Place fixture, part and arm by `seed`, then let `behaviour` act until the episode is over.

    :param sees_truth: give the behaviour the true poses, the part's at every step, instead of the estimates; action
        axes stay the estimate's
    :param keep_states: keep the simulator state at every observation, for replay and rendering
    :param watch: called after every step with arm, measurement and commanded pose
    """
    task = arm.task
    estimate = arm.place_fixture(seed)
    part = arm.part_estimate
    arm.reset_to(draw_start(task, estimate, [seed, 1], part))
    measurement = arm.measure()
    commanded = measurement.tip_pose
    known = arm.fixture_pose if sees_truth else estimate
    opening = 1.0
    builder, episode = ObservationBuilder(task), Episode()
    builder.reset(part)
    step = 0
    while True:
        episode.observations.append(builder.build(measurement, commanded, estimate))
        if keep_states:
            episode.states.append(arm.get_state())
        if episode.outcomes and episode.outcomes[-1].final:
            return episode
        seen_part = arm.part_pose if sees_truth else part
        action = np.clip(behaviour.act(measurement, known, commanded, seen_part), -1.0, 1.0)
        commanded = advance_command(task, commanded, action, measurement.tip_pose, estimate)
        opening = advance_gripper(task, opening, action)
        measurement = arm.step(commanded, opening)
        step += 1
        episode.actions.append(action.astype(np.float32))
        episode.outcomes.append(judge_step(task, step, measurement))
        if watch is not None:
            watch(arm, measurement, commanded)
