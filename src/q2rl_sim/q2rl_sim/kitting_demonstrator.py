# SPDX-License-Identifier: Apache-2.0
"""`Demonstrator` of kitting: a scripted teleoperator who sees the true part and pocket, and is only human.

It grasps off the middle, closes too early now and then, carries the part beside the pocket, notices by touch that it
missed, lifts and tries again, lets go when the part is down, and goes back for a part that it has lost.
"""

from __future__ import annotations

import numpy as np

from q2rl_sim.steering import in_fixture
from q2rl_sim.teleoperator import Teleoperator
from q2rl_task import Measurement, Pose, TaskSpec

ABOVE_PART_M = 0.026
HOVER_M = 0.006
"""Height of the part's end over the rim before it is lowered."""
CARRY_M = 0.012
TOUCH_N = 5.0
INSERT_LEAD_M = 0.008
GRASP_ERROR_M = 0.0012
GRASP_HEIGHT_ERROR_M = 0.001
SLIP_PER_TICK = 0.01
"""How often the button is pressed too early on the way to the part, at noise 1: a clone learns to open again."""
ARRIVED_M = 0.003
STRADDLES_M = 0.009
"""Open fingers come down on both sides of a part that is not further aside than this."""
CLOSING_TICKS = 6
DOWN = 0.9
"""Share of the depth at which the part counts as down."""


class Demonstrator(Teleoperator):
    """Grasp the part and seat it as a teleoperator would; one instance per episode."""

    aim_error_m = 0.0009
    aim_error_rad = 0.008

    def __init__(self, task: TaskSpec, rng: np.random.Generator, noise: float = 1.0) -> None:
        super().__init__(task, rng, noise)
        self._end = task.part.below_m
        self._held = task.fixture.insert_radius_m / task.gripper.open_m
        self._ticks = 0
        self._begin()

    @property
    def phase(self) -> str:
        """One of reach, close, lift, carry, lower, raise, release."""
        return self._phase

    def _begin(self) -> None:
        """Go for the part, anew perhaps."""
        self._phase, self._ticks = 'reach', 0
        self._grasp = (
            self._rng.normal(size=3)
            * self._noise
            * (np.array([GRASP_ERROR_M, GRASP_ERROR_M, GRASP_HEIGHT_ERROR_M]))
        )
        self._descends = False
        self._hurry()

    def _grip(self) -> float:
        return 1.0 if self._phase in ('reach', 'release') else -1.0

    def _wanted(self, measurement: Measurement, fixture: Pose, part: Pose | None) -> Pose:
        tip = measurement.tip_pose.relative_to(fixture)
        grasp = part.relative_to(fixture).position
        end = grasp + part.relative_to(fixture).rotation.apply([0.0, 0.0, self._end])
        if self._phase == 'release':
            return in_fixture(fixture, tip.position)
        if self._phase in ('lift', 'carry', 'lower', 'raise') and measurement.gripper < (
            0.7 * self._held
        ):
            self._begin()
        if self._phase == 'reach':
            return self._reach(fixture, tip.position, grasp)
        if self._phase == 'close':
            self._ticks += 1
            if self._ticks > CLOSING_TICKS:
                self._phase = 'lift'
                self._hurry()
            return in_fixture(fixture, tip.position)
        return self._insert(measurement, fixture, tip, end)

    def _reach(self, fixture: Pose, tip: np.ndarray, grasp: np.ndarray) -> Pose:
        goal = grasp + self._grasp
        aside = np.hypot(*(tip - goal)[:2])
        self._descends = aside < (STRADDLES_M if self._descends else 0.6 * STRADDLES_M)
        there = self._descends and abs(tip[2] - goal[2]) < ARRIVED_M
        if there or self._rng.random() < SLIP_PER_TICK * self._noise:
            self._phase, self._ticks = 'close', 0
        if not self._descends:
            goal = goal - [0.0, 0.0, ABOVE_PART_M]
        return in_fixture(fixture, goal)

    def _insert(self, measurement: Measurement, fixture: Pose, tip: Pose, end: np.ndarray) -> Pose:
        """Carry the part's `end` (pocket frame) over the pocket and down."""
        aside = np.hypot(*(end[:2] - self._aim_m))
        if self._phase == 'lift' and end[2] < -HOVER_M:
            self._phase = 'carry'
        if self._phase == 'carry':
            self._speed = 1.0  # nothing is near
            if aside < ARRIVED_M:
                self._phase = 'lower'
                self._hurry()
        if self._phase == 'raise' and end[2] < -0.4 * HOVER_M:
            self._phase = 'carry'
        if self._phase == 'lower':
            stuck = end[2] < 0.5 * HOVER_M and measurement.force > TOUCH_N
            if end[2] > DOWN * self._task.fixture.depth_m:
                self._phase = 'release'
            elif self._notices_a_miss(stuck):
                self._phase = 'raise'
        if self._phase in ('lift', 'raise'):
            shift = np.array([0.0, 0.0, -CARRY_M - end[2]])
        elif self._phase == 'carry':
            shift = np.append(self._aim_m - end[:2], -HOVER_M - end[2])
        else:
            shift = np.append(self._aim_left(end[2]) * self._aim_m - end[:2], INSERT_LEAD_M)
        return in_fixture(fixture, tip.position + shift, self._aim_rad)
