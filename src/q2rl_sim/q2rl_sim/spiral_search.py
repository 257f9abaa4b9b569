# SPDX-License-Identifier: Apache-2.0
"""`SpiralSearch`: insertion from observable information only; the yardstick of the contact model.

A behaviour that knows the true socket succeeds on a wrong contact model too. This one feels its way: down to the rim,
outwards in a spiral under light pressure until the tip drops, then in, yielding to lateral forces.
"""

from __future__ import annotations

import numpy as np

from q2rl_sim.steering import in_fixture, steer
from q2rl_task import Measurement, Pose, TaskSpec

HOVER_M = 0.004
TOUCH_N = 3.0
PRESS_M = 0.004
"""Command lead into the rim while searching: 6 N at 1500 N/m."""
SPIRAL_PITCH_M = 0.0014
SPIRAL_STEP_M = 0.0015
DROP_M = 0.0012
INSERT_LEAD_M = 0.009
YIELD_M_N = 0.0001
"""How far the lateral command gives way per newton while inserting."""


class SpiralSearch:
    """Search for the hole and insert, given the *estimated* fixture pose; one instance per episode."""

    def __init__(self, task: TaskSpec, rng: np.random.Generator) -> None:
        self._task = task
        self._phase = 'approach'
        self._angle = 0.0
        self._start_angle = rng.uniform(0.0, 2.0 * np.pi)
        self._rim = 0.0

    @property
    def phase(self) -> str:
        """One of approach, touch, search, insert."""
        return self._phase

    def act(
        self, measurement: Measurement, fixture: Pose, commanded: Pose, part: Pose | None = None
    ) -> np.ndarray:
        """Return the action (D,) in [-1, 1].

        :param fixture: estimated fixture pose, base frame
        :param commanded: last commanded tip pose, base frame
        """
        tip = measurement.tip_pose.relative_to(fixture)
        force = (fixture.rotation.inv() * measurement.tip_pose.rotation).apply(
            measurement.wrench[:3]
        )
        if self._phase == 'approach':
            wanted = in_fixture(fixture, np.array([0.0, 0.0, -HOVER_M]))
            if np.hypot(*tip.position[:2]) < 0.001 and abs(tip.position[2] + HOVER_M) < 0.0015:
                self._phase = 'touch'
            return steer(self._task, commanded, wanted, fixture)
        if self._phase == 'touch':
            if -force[2] > TOUCH_N:
                self._phase, self._rim = 'search', tip.position[2]
            elif tip.position[2] > self._task.fixture.estimate_error_m + DROP_M:
                self._phase = 'insert'
            wanted = in_fixture(fixture, np.array([0.0, 0.0, tip.position[2] + PRESS_M]))
            return steer(self._task, commanded, wanted, fixture, 0.5)
        if self._phase == 'search':
            self._rim = min(self._rim, tip.position[2])
            if tip.position[2] - self._rim > DROP_M:
                self._phase = 'insert'
            else:
                wanted = in_fixture(fixture, np.append(self._spiral(), tip.position[2] + PRESS_M))
                return steer(self._task, commanded, wanted, fixture)
        lateral = tip.position[:2] + YIELD_M_N * force[:2]
        wanted = in_fixture(fixture, np.append(lateral, tip.position[2] + INSERT_LEAD_M))
        return steer(self._task, commanded, wanted, fixture)

    def _spiral(self) -> np.ndarray:
        """Advance along an Archimedean spiral at a constant path speed; start over beyond the largest error."""
        growth = SPIRAL_PITCH_M / (2.0 * np.pi)
        radius = growth * self._angle
        self._angle += SPIRAL_STEP_M / np.hypot(max(radius, 0.3 * SPIRAL_PITCH_M), growth)
        if radius > self._task.fixture.estimate_error_m + SPIRAL_PITCH_M:
            self._angle = 0.0
        turned = self._angle + self._start_angle
        return growth * self._angle * np.array([np.cos(turned), np.sin(turned)])
