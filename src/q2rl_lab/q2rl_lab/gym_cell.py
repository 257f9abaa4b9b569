# SPDX-License-Identifier: Apache-2.0
"""A Gymnasium environment as an in-process run meets it: `q2rl_lab.cell.AnyCell` without a robot of q2rl's in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from q2rl_lab.cell import Decide
from q2rl_lab.gym_task import FixedGymTask, GymHost, GymTask
from q2rl_task import EndReason, ExecutedStep, Mode, ObservationRecord, StepOutcome

NO_FORCE = float('nan')


def judge_gym_step(task: GymTask, step: int, answer: dict[str, Any]) -> StepOutcome:
    """Judge the state reached after `step` actions by what the environment answered.

    Only success terminates. An environment that ends an episode without it cuts it: what lies beyond still counts, or
    failing early would pay.
    """
    success = answer['success']
    if task.reward.source == 'environment':
        reward = answer['reward']
    else:
        reward = task.reward.success if success else task.reward.per_step
    if success:
        return StepOutcome(reward, True, False, EndReason.SUCCESS)
    if answer['terminated']:
        return StepOutcome(reward, False, True, EndReason.FAILURE)
    if answer['truncated'] or step >= task.max_steps:
        return StepOutcome(reward, False, True, EndReason.TIME_LIMIT)
    return StepOutcome(reward, False, False, EndReason.NONE)


class GymCell:
    """An environment in a process of its own. Nothing in it is random but what it draws from an episode's seed.

    `time` counts steps: how long one takes is not known. No force is known either, and no guard stands in between.

    :param seed: there is no sensor noise that it could be of
    :raises InputError: the environment cannot be made
    """

    def __init__(self, host: GymHost, task: FixedGymTask, seed: int, robot: str) -> None:
        self.task = task
        self.time = 0.0
        self._robot = robot
        self._process = host.start(task)

    def run_episode(
        self, episode: str, mode: Mode, seed: int, decide: Decide, explore: bool = False
    ) -> Iterator[ExecutedStep]:
        """Run one episode from the scene of `seed`; yields every step, the final one included.

        :raises RuntimeError: the environment failed
        """
        raw = self._process.reset(seed)
        outcome = StepOutcome(0.0, False, False, EndReason.NONE)
        for step in range(self.task.max_steps + 1):
            record = ObservationRecord(
                stamp=self.time,
                contract=self.task.contract_hash,
                episode=episode,
                step=step,
                mode=mode,
                final=outcome.final,
                observation=self.task.observe(raw),
                explore=explore,
            )
            decision = decide(record)
            yield ExecutedStep.of(record, outcome, decision, robot=self._robot, force=NO_FORCE)
            if outcome.final:
                return
            raw, answer = self._process.step(np.asarray(decision.action))
            self.time += 1.0
            outcome = judge_gym_step(self.task, step + 1, answer)
