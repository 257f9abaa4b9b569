# SPDX-License-Identifier: Apache-2.0
"""Where an arm that must stop now is to be: where it is."""

from __future__ import annotations

import math

import numpy as np

from q2rl_task import Measurement, Pose

HALTED_M_S = 0.01
HALT_TICKS = 10
"""An arm that still moves after so many ticks is being pushed, and comes back."""


class Halt:
    """The goal of an emergency stop, tick by tick, for `Guard.move`.

    A compliant arm trails its command; merely to stop the command would let it catch up first. So the command is
    brought back to the arm: to where it is as long as it moves, and then to where it came to rest, for good. An arm
    that others may move meanwhile, since its controller does not, is gone after when it has been carried off.

    :param carried_m: how far off that is, and `carried_rad` how far turned; an arm that merely sags must not be gone
        after, or it would sink without end
    """

    def __init__(self, carried_m: float = math.inf, carried_rad: float = math.inf) -> None:
        self._carried = carried_m, carried_rad
        self._goal: Pose | None = None
        self._ticks = 0

    def goal(self, measured: Measurement) -> Pose:
        """Return the goal for this tick (base frame)."""
        moving = float(np.linalg.norm(measured.tip_twist[:3])) > HALTED_M_S
        if (
            self._goal is None
            or (moving and self._ticks < HALT_TICKS)
            or self._is_carried_off(measured)
        ):
            self._goal = measured.tip_pose
        self._ticks += 1
        return self._goal

    def _is_carried_off(self, measured: Measurement) -> bool:
        distance, angle = self._goal.distance_to(measured.tip_pose)
        return distance > self._carried[0] or angle > self._carried[1]
