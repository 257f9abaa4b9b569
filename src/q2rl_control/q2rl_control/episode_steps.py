# SPDX-License-Identifier: Apache-2.0
"""The steps of one episode: what is observed, how arriving there is judged, and the record of what was done."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from q2rl_control.guard import CREDIBLE_WRENCH
from q2rl_task import (
    Decision,
    EndReason,
    ExecutedStep,
    Measurement,
    Mode,
    ObservationBuilder,
    ObservationRecord,
    Pose,
    StepOutcome,
    TaskSpec,
    judge_step,
)

HELD_SHARE = 0.1
"""Of an episode's time; see `EpisodeSteps.note_hold`."""


@dataclass(frozen=True)
class _Pending:
    """An observation that waits for its answer, with how arriving there was judged and the peak force [N]."""

    record: ObservationRecord
    outcome: StepOutcome
    force: float


class EpisodeSteps:
    """Count and judge the steps of one robot's episodes, one at a time: `observe`, then `answer`, and so on.

    Judging comes before observing, so that the observation knows whether it is final.
    """

    def __init__(self, task: TaskSpec, robot: str) -> None:
        self.episode = ''
        self._task = task
        self._robot = robot
        self._builder = ObservationBuilder(task)
        self._pending: _Pending | None = None
        self.mode = Mode.BC
        self._explore = False
        self._step = 0
        self._peak_force = 0.0
        self._end_requested = False
        self._lost = ''
        self._held = 0
        self._label: bool | None = None

    @property
    def pending(self) -> ObservationRecord | None:
        """The observation that waits for `answer`."""
        return self._pending.record if self._pending else None

    @property
    def end_requested(self) -> bool:
        """Whether someone asked for the end of the episode."""
        return self._end_requested

    @property
    def ends(self) -> bool:
        """Whether the next observation is final, whatever is done until then."""
        return self._end_requested or bool(self._lost) or self._label is not None

    def begin(self, episode: str, mode: Mode, explore: bool) -> None:
        """Expect an episode, which may still have to get to its start pose."""
        self.episode, self.mode, self._explore = episode, mode, explore
        self._end_requested, self._label, self._step = False, None, 0

    def start(self, part: Pose | None, force: float) -> None:
        """Begin to observe: the start pose is reached, and nothing counts as lost that was on the way there.

        :param part: estimate of the loose part (base frame), for a task with one
        :param force: contact force [N] there
        """
        self._builder.reset(part)
        self._peak_force = force
        self._lost, self._held = '', 0

    def drop(self) -> None:
        """Forget the observation that waits for its answer."""
        self._pending = None

    def request_end(self) -> None:
        """Make the next observation final: truncated, REQUESTED."""
        self._end_requested = True

    def label(self, success: bool) -> bool:
        """Make the next observation final by a person's verdict; the first one stands (else False).

        Success terminates with the reward of success, failure truncates.
        """
        if self._label is None:
            self._label = success
        return self._label is success

    def lose(self, detail: str) -> None:
        """Make the next observation final because sensing, or the arm, was lost: truncated, LOST."""
        self._lost = detail

    def note_hold(self) -> None:
        """Note a tick on which not the policies kept the arm still.

        Where that took more than `HELD_SHARE` of its time, an episode whose time runs out is LOST, and no result of
        theirs. After a shorter hold it counts as it ends, or failures alone would be left out.
        """
        self._held += 1

    def note_force(self, force: float) -> None:
        """Take a contact force [N] measured between ticks into the step's peak, if an arm may measure it."""
        if force <= CREDIBLE_WRENCH:
            self._peak_force = max(self._peak_force, force)

    def observe(
        self, measurement: Measurement, commanded: Pose, fixture: Pose
    ) -> ObservationRecord:
        """Judge the state and return the observation of it, which is pending from then on.

        :param commanded: last commanded tip pose, base frame
        :param fixture: estimated fixture pose, base frame
        """
        outcome = judge_step(self._task, self._step, measurement, self._end_requested, self._label)
        robbed = self._held > HELD_SHARE * self._task.max_steps
        lost = self._lost or (robbed and outcome.reason is EndReason.TIME_LIMIT)
        if lost and not outcome.terminated:
            outcome = StepOutcome(outcome.reward, False, True, EndReason.LOST)
        elif self._peak_force > self._task.limits.force_stop_n and not outcome.final:
            # A blow between two ticks counts as well.
            outcome = StepOutcome(outcome.reward, False, True, EndReason.FORCE_LIMIT)
        record = ObservationRecord(
            stamp=measurement.stamp,
            contract=self._task.contract_hash,
            episode=self.episode,
            step=self._step,
            mode=self.mode,
            final=outcome.final,
            observation=self._builder.build(measurement, commanded, fixture),
            explore=self._explore,
        )
        self._pending = _Pending(record, outcome, self._peak_force)
        self._peak_force = 0.0
        return record

    def answer(
        self, decision: Decision, executed: np.ndarray, interventions: tuple[str, ...]
    ) -> ExecutedStep:
        """Return the record of what became of the pending observation, and count the step.

        :param executed: (D,) after the guard, in units of the action
        :raises RuntimeError: no observation is pending
        """
        if self._pending is None:
            raise RuntimeError('no observation is pending')
        record, outcome, force = self._pending.record, self._pending.outcome, self._pending.force
        self._pending = None
        if not record.final:
            self._step += 1
        return ExecutedStep.of(
            record,
            outcome,
            decision,
            robot=self._robot,
            force=force,
            executed_action=executed,
            interventions=interventions,
        )
