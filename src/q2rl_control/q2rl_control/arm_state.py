# SPDX-License-Identifier: Apache-2.0
"""What is said about the robot side of an episode: its states, what a tick asks for, what is counted."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from q2rl_task import ObservationRecord, Pose


class ArmState(IntEnum):
    """What the arm is doing (values of q2rl_msgs/ArmStatus)."""

    IDLE = 0
    RETREATING = 1
    READY = 2
    RESETTING = 3
    RUNNING = 4
    STOPPED = 5


OF_ITSELF = (ArmState.RETREATING, ArmState.RESETTING)
"""States in which the arm moves without being asked at each tick."""
MAY_BEGIN = 'the person at the lever may begin'
"""What the arm says (RESETTING, at the start pose) while an episode waits for a person's first action."""


@dataclass(frozen=True)
class Tick:
    """What to do about one measurement.

    target: tip pose to command, base frame; None only with an observation, before the first
    measurement was usable, or where it is not and a step was made just now. observation: to be answered
    by `ArmLogic.execute`. waiting: the arm holds until someone asks for a motion, so a simulation in
    lockstep need not go on.
    """

    target: Pose | None
    observation: ObservationRecord | None = None
    waiting: bool = False


@dataclass
class ArmCounters:
    """Counts since construction. `limited` leaves out the lead clamp, which is part of the action's law.

    unusable: measurements that are not finite or not credible, or of a dead sensor.
    """

    rejected: int = 0
    limited: int = 0
    holds: int = 0
    unusable: int = 0
