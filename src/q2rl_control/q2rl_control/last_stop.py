# SPDX-License-Identifier: Apache-2.0
"""How an arm in motion comes to rest before nobody commands it any more."""

from __future__ import annotations

from collections.abc import Callable
import time

from q2rl_control.arm_command import ArmCommand
from q2rl_task import Pose

STOP_WITHIN_S = 2.0
"""A process that is asked to end must not take longer; no stop from within sensible limits does."""
STEP_S = 0.01


def come_to_rest(
    command: ArmCommand,
    send: Callable[[Pose], None],
    go_on: Callable[[], None],
    period_s: float,
    wait_s: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Play the guard's known stop, one step per period, and a last target at rest; return whether the arm was told so.

    Blocks for as long as that takes, `STOP_WITHIN_S` at most, by the wall clock: a simulation's is not heard meanwhile.

    :param send: commands a target (base frame)
    :param go_on: called every `STEP_S` meanwhile, for a sink that has something to say between two targets
    :param period_s: of the control tick [s]
    :param wait_s: until the first step may follow the last one [s]
    """

    def pass_time(seconds: float) -> None:
        until = clock() + seconds
        while clock() < until:
            sleep(STEP_S)
            go_on()

    if not command.guard.seeded:
        return True
    end, rests = clock() + STOP_WITHIN_S, False
    pass_time(wait_s)
    while not rests and clock() < end:
        rests = command.guard.at_rest
        send(command.coast())
        pass_time(period_s)
    return rests
