# SPDX-License-Identifier: Apache-2.0
"""An arm in motion is braked before nobody commands it any more."""

from __future__ import annotations

from itertools import pairwise

from arm_bench import FIXTURE, TASK, Bench
from control_helpers import measurement
import numpy as np

from q2rl_control.arm_command import ArmCommand
from q2rl_control.last_stop import STEP_S, STOP_WITHIN_S, come_to_rest
from q2rl_task import Pose

PERIOD = TASK.period_s


def moving(**limits) -> ArmCommand:
    """A command on its way through the box, under other limits."""
    task = TASK.model_copy(update={'limits': TASK.limits.model_copy(update=limits)})
    command, low = ArmCommand(task), np.array(task.limits.workspace.low)
    start = Pose(low + 0.02, FIXTURE.quaternion)
    goal = Pose(np.array(task.limits.workspace.high) - 0.02, FIXTURE.quaternion)
    command.seed(measurement(start))
    while command.guard.commanded.distance_to(start)[0] < 0.1:
        command.move(goal, measurement(command.guard.commanded), 0.3, 1.0)
    assert not command.guard.at_rest
    return command


class Clock:
    """Time that passes only where one sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def play(command: ArmCommand, wait_s: float = 0.0):
    """Return whether it rests, the targets with their times, and the times at which the sink went on."""
    clock, sent, between = Clock(), [], []
    rests = come_to_rest(
        command,
        lambda target: sent.append((clock.now, target)),
        lambda: between.append(clock.now),
        PERIOD,
        wait_s,
        clock,
        clock.sleep,
    )
    return rests, sent, between


def test_an_arm_in_motion_is_braked_step_by_step_and_told_to_rest():
    command = moving(acceleration_m_s2=1.0, jerk_m_s3=50.0)
    before = command.guard.commanded
    rests, sent, between = play(command, wait_s=0.03)
    assert rests and command.guard.at_rest
    times, targets = zip(*sent, strict=True)
    steps = [a.distance_to(b)[0] for a, b in pairwise([before, *targets])]
    assert len(steps) > 3 and steps[0] > 0.003 and steps[-1] == 0.0
    assert max(np.diff(steps)) < 1e-9
    assert times[0] >= 0.03 and min(np.diff(times)) >= PERIOD - 1e-9
    # A sink that interpolates arrives at the last one too.
    assert between[-1] >= times[-1] + PERIOD - 1e-9
    assert max(np.diff(between)) <= STEP_S + 1e-9


def test_an_arm_at_rest_is_told_so_once_and_one_that_was_never_commanded_nothing():
    bench = Bench()
    bench.advance()
    rests, sent, _ = play(bench.logic.command)
    assert rests and len(sent) == 1
    assert sent[0][1].distance_to(bench.arm.pose)[0] < 1e-9
    rests, sent, between = play(ArmCommand(TASK))
    assert rests and not sent and not between


def test_a_stop_that_takes_too_long_is_given_up():
    rests, sent, _ = play(moving(acceleration_m_s2=0.05, jerk_m_s3=0.5))
    assert not rests and len(sent) > 20
    assert sent[-1][0] <= STOP_WITHIN_S
