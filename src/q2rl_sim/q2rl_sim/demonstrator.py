# SPDX-License-Identifier: Apache-2.0
"""`Demonstrator`: a scripted teleoperator who sees the true socket, and is no better than a person at it.

It aims beside the hole, hurries and dawdles, pauses, trembles, notices by touch that it missed, lifts and tries
again.
"""

from __future__ import annotations

import numpy as np

from q2rl_sim.steering import in_fixture
from q2rl_sim.teleoperator import Teleoperator
from q2rl_task import Measurement, Pose, TaskSpec

HOVER_M = 0.005
TOUCH_N = 4.0
INSERT_LEAD_M = 0.008
ARRIVED_M = 0.0018


class Demonstrator(Teleoperator):
    """Insert the pipe as a teleoperator would; one instance per episode."""

    aim_error_m = 0.0013
    aim_error_rad = 0.012

    def __init__(self, task: TaskSpec, rng: np.random.Generator, noise: float = 1.0) -> None:
        super().__init__(task, rng, noise)
        self._phase = 'approach'

    @property
    def phase(self) -> str:
        """One of approach, lower, lift."""
        return self._phase

    def _wanted(self, measurement: Measurement, fixture: Pose, part: Pose | None) -> Pose:
        tip = measurement.tip_pose.relative_to(fixture).position
        aim, turn = self._aim_m, self._aim_rad
        if self._phase == 'lift' and tip[2] < -0.4 * HOVER_M:
            self._phase = 'approach'
        if (
            self._phase == 'approach'
            and np.linalg.norm(tip[:2] - aim) < ARRIVED_M
            and abs(tip[2] + HOVER_M) < ARRIVED_M
        ):
            self._phase = 'lower'
            self._hurry()
        if self._phase == 'lower':
            stuck = tip[2] < 0.5 * HOVER_M and measurement.force > TOUCH_N
            if self._notices_a_miss(stuck):
                self._phase = 'lift'
        if self._phase == 'approach':
            return in_fixture(fixture, np.append(aim, -HOVER_M), turn)
        if self._phase == 'lift':
            return in_fixture(fixture, np.append(tip[:2], -HOVER_M), turn)
        fade = self._aim_left(tip[2])
        return in_fixture(fixture, np.append(fade * aim, tip[2] + INSERT_LEAD_M), fade * turn)
