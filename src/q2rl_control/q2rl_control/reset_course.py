# SPDX-License-Identifier: Apache-2.0
"""Which motion between two episodes is under way, how its way is planned, and when it has taken too long."""

from __future__ import annotations

from q2rl_control.planning import PlanAtOnce, PlannedPath, Planning, PlanRequest, StraightLine
from q2rl_control.reset_motion import Approach, Retreat
from q2rl_task import Measurement, Pose, TaskSpec, draw_start

MOVED_M = 0.015
MOVED_RAD = 0.1
"""A command that has followed the arm so far while it was held says that others moved the arm."""


class ResetCourse:
    """The retreat, or the plan of a way to a start pose and the approach along it; one at a time.

    It says where to go; whoever asks moves the arm there, and calls `forget` for the next motion.

    :param planning: finds the way to a start pose; by default it is straight
    """

    def __init__(self, task: TaskSpec, planning: Planning | None = None) -> None:
        self._task = task
        self._planning = planning or PlanAtOnce(StraightLine(task))
        self._asked = False
        self._motion: Retreat | Approach | None = None
        self._started: float | None = None
        self._paused = False
        self._held_at: Pose | None = None

    @property
    def plan_is_in(self) -> bool:
        """Whether an arm that holds while its way is planned can go on."""
        return self._asked and self._motion is None and self._planning.ready()

    def forget(self) -> None:
        """Give up the motion that is under way, and the plan for one."""
        self._motion = self._started = self._held_at = None
        self._paused = False
        self._ask_anew()

    def wait(self) -> None:
        """Start the time of the motion anew with its next tick."""
        self._started = None

    def pause(self, commanded: Pose, at_rest: bool) -> None:
        """Take note that the arm is held on its way, at the commanded pose once that rests; its time does not run."""
        self.wait()
        self._paused = True
        if at_rest and self._held_at is None:
            self._held_at = commanded

    def is_left(self, commanded: Pose) -> bool:
        """Whether a motion that was paused is none to go on with, since others moved the arm meanwhile.

        A plan that was still sought begins anew, from where the arm is.
        """
        paused, held_at = self._paused, self._held_at
        self._paused, self._held_at = False, None
        if paused and self._motion is None:
            self._ask_anew()
        if held_at is None or self._motion is None:
            return False
        distance, angle = held_at.distance_to(commanded)
        return distance > MOVED_M or angle > MOVED_RAD

    def is_overdue(self, stamp: float) -> bool:
        """Whether the motion, which moves at `stamp` [s], has taken longer than the task allows."""
        if self._started is None:
            self._started = stamp
        return stamp - self._started > self._task.reset.timeout_s

    def retreat(self, measurement: Measurement, fixture: Pose) -> Retreat:
        """Return the motion out of the fixture (estimated, base frame), which begins where the tip is measured."""
        if self._motion is None:
            self._motion = Retreat(self._task, measurement.tip_pose, fixture)
        return self._motion

    def approach(
        self, measurement: Measurement, fixture: Pose, part: Pose | None, seed: int, at_rest: bool
    ) -> Approach | None:
        """Return the motion to the start pose that `seed` draws; None while the arm is to hold and its way is planned.

        :param fixture: as estimated, base frame; likewise `part`, for a task with one
        :param at_rest: whether the command rests; a planner that takes its time begins only then
        :raises PlanRefused: there is no way
        """
        if self._motion is None:
            if not self._asked:
                if not (self._planning.instant or at_rest):
                    return None
                self._planning.begin(self._request(measurement, fixture, part, seed))
                self._asked = True
            path: PlannedPath | None = self._planning.poll()
            if path is None:
                return None
            self._motion = Approach(path)
        return self._motion

    def _ask_anew(self) -> None:
        if self._asked:
            self._planning.cancel()
            self._asked = False

    def _request(
        self, measurement: Measurement, fixture: Pose, part: Pose | None, seed: int
    ) -> PlanRequest:
        return PlanRequest(
            start=measurement.tip_pose,
            goal=draw_start(self._task, fixture, seed, part),
            fixture=fixture,
            part=part,
            joint_names=measurement.joint_names,
            joints=measurement.joint_positions,
            seed=seed,
        )
