# SPDX-License-Identifier: Apache-2.0
"""What the scripted demonstrators of all tasks share: a hand that trembles, pauses, hurries and dawdles."""

from __future__ import annotations

import numpy as np

from q2rl_sim.steering import steer
from q2rl_task import Measurement, Pose, TaskSpec

TREMOR = 0.22
"""Standard deviation of the correlated action noise at noise 1."""
TREMOR_MEMORY = 0.7
PAUSE_PER_TICK = 0.02
PAUSE_TICKS = (2, 6)
SPEEDS = (0.45, 0.95)
MISSED_TICKS = 5
"""For so long a hand presses beside the hole before it notices."""


class Teleoperator:
    """Go where `_wanted` says, as a person's hand would; one instance per episode.

    A subclass says how well it aims: `aim_error_m`, `aim_error_rad` are standard deviations, per axis, of the first
    aim at noise 1; each correction halves them.

    :param noise: scales all human faults: 0 is a machine, 1 a practised person, 2 a novice
    """

    aim_error_m: float
    aim_error_rad: float

    def __init__(self, task: TaskSpec, rng: np.random.Generator, noise: float = 1.0) -> None:
        self._task, self._rng, self._noise = task, rng, noise
        self._tremor = np.zeros(task.action_size)
        self._pause = self._missed = 0
        self._speed = SPEEDS[1]
        self._spread = 1.0
        self._aim()

    def act(
        self, measurement: Measurement, fixture: Pose, commanded: Pose, part: Pose | None = None
    ) -> np.ndarray:
        """Return the action (D,) in [-1, 1].

        :param fixture: *true* fixture pose, base frame
        :param commanded: last commanded tip pose, base frame
        :param part: *true* pose of the loose part now, base frame; None without one
        """
        rng = self._rng
        self._tremor = TREMOR_MEMORY * self._tremor + rng.normal(size=self._tremor.shape) * (
            TREMOR * self._noise * np.sqrt(1.0 - TREMOR_MEMORY**2)
        )
        if self._pause == 0 and rng.random() < PAUSE_PER_TICK * self._noise:
            self._pause = int(rng.integers(PAUSE_TICKS[0], PAUSE_TICKS[1] + 1))
        if self._pause > 0:
            self._pause -= 1
            return self._with_grip(0.3 * self._tremor)
        wanted = self._wanted(measurement, fixture, part)
        return self._with_grip(
            steer(self._task, commanded, wanted, fixture, self._speed) + self._tremor
        )

    def _wanted(self, measurement: Measurement, fixture: Pose, part: Pose | None) -> Pose:
        """Return the tip pose to steer to, base frame."""
        raise NotImplementedError

    def _grip(self) -> float:
        """Return what the gripper is told: 1 open, -1 closed."""
        return 1.0

    def _with_grip(self, action: np.ndarray) -> np.ndarray:
        if self._task.gripper is not None:
            # A button: pressed or not, whatever the hand does.
            action[6] = self._grip()
        return np.clip(action, -1.0, 1.0)

    def _aim(self) -> None:
        scale = self._noise * self._spread
        self._aim_m = self._rng.normal(size=2) * (self.aim_error_m * scale)
        self._aim_rad = self._rng.normal(size=3) * (self.aim_error_rad * scale)
        self._hurry()

    def _notices_a_miss(self, stuck: bool) -> bool:
        """Take one tick of feeling for the hole; once it has been `stuck` for too long, aim better and return True."""
        self._missed = self._missed + 1 if stuck else 0
        if self._missed <= MISSED_TICKS:
            return False
        self._missed = 0
        self._spread *= 0.5
        self._aim()
        return True

    def _aim_left(self, depth: float) -> float:
        """Return how much of the aim's error is left with the end `depth` [m] in: hands follow the hole, 1 to 0."""
        return float(np.clip(1.0 - depth / (0.3 * self._task.fixture.depth_m), 0.0, 1.0))

    def _hurry(self) -> None:
        low, high = SPEEDS
        self._speed = float(self._rng.uniform(low, high)) if self._noise > 0.0 else high
