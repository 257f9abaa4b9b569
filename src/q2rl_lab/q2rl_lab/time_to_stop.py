# SPDX-License-Identifier: Apache-2.0
"""How long the simulated arm takes to come to rest once something says stop.

A trial: the arm logic of the nodes runs an episode in free space, a policy pushes one way at full action for a few
ticks, and the event comes at a random moment of a tick. The time runs from the event until the tip is slower than
`REST_M_S` and stays so; the tip's speed is sampled every 10 ms. Commands are computed in no time and nothing crosses
a network: with nodes, their latency comes on top.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from q2rl_bringup.robot_description import robot_urdf
from q2rl_bringup.robots import ROBOTS
from q2rl_control.arm_logic import ArmLogic
from q2rl_control.arm_state import ArmState
from q2rl_control.joint_tracking import JointTracking
from q2rl_control.kinematics import ArmKinematics
from q2rl_sim.arm import SUBSTEP_S, SimArm
from q2rl_task import Decision, Measurement, Mode, Pose, Reason, Source, TaskSpec

REST_M_S = 0.005
WATCH_TICKS = 14
CLEAR_M = 0.05
"""Height of the tip above the rim [m] from which trials start."""


@dataclass(frozen=True)
class StopTimes:
    """Of one kind of event, by trial: seconds to rest, metres covered until then, speed at the event [m/s]."""

    seconds: np.ndarray
    metres: np.ndarray
    speeds: np.ndarray

    def as_dict(self) -> dict[str, float]:
        """Return trials, p50, p99 and maximum of the times [ms], the longest way [mm], and the median speed [mm/s]."""
        p50, p99 = np.percentile(self.seconds, [50, 99]) * 1e3
        return {
            'trials': len(self.seconds),
            'p50_ms': float(p50),
            'p99_ms': float(p99),
            'max_ms': float(self.seconds.max() * 1e3),
            'max_mm': float(self.metres.max() * 1e3),
            'speed_mm_s': float(np.median(self.speeds) * 1e3),
        }


class WatchedArm(SimArm):
    """A `SimArm` commanded in poses that keeps its tip's position at the beginning of every 10 ms.

    :param joints: whether poses become joint positions on the way, as the sink `joint_position` makes them
    """

    def __init__(self, task: TaskSpec, seed: int, joints: bool = False) -> None:
        self.trace: list[np.ndarray] = []
        self._tracking = None
        super().__init__(task, seed, joint_servo=joints)
        if joints:
            frames = task.frames
            arm = ArmKinematics(robot_urdf(task, ROBOTS['panda']), frames.base, frames.tip)
            self._tracking = JointTracking(arm, task.period_s)

    def reset_to(self, pose: Pose) -> None:
        """Put the tip at `pose`, see `SimArm.reset_to`."""
        super().reset_to(pose)
        if self._tracking is not None:
            self._tracking.forget()

    def command(self, target: Pose) -> Measurement:
        """Follow a pose for one control period; return the measurement at its end."""
        if self._tracking is None:
            return self.step(target)
        return self.step(self._tracking.follow(target, self.measure().joint_positions))

    def _towards_pose(self, target: Pose) -> Callable[[float], None]:
        return self._watched(super()._towards_pose(target))

    def _towards_joints(self, target: np.ndarray) -> Callable[[float], None]:
        return self._watched(super()._towards_joints(target))

    def _watched(self, track: Callable[[float], None]) -> Callable[[float], None]:
        def watched(blend: float) -> None:
            self.trace.append(self.data.site_xpos[self.scene.tip_site].copy())
            track(blend)

        return watched


Event = Callable[[ArmLogic], None]
"""What the event does to the arm logic; what else changes is by the name of the event."""

EVENTS: dict[str, Event] = {
    'no decision': lambda logic: None,
    'actions that are not finite': lambda logic: None,
    'measurements that are not finite': lambda logic: None,
    "operator's hold": lambda logic: logic.latch.hold('benchmark'),
    'emergency stop': lambda logic: logic.emergency_stop('benchmark'),
    'node killed': lambda logic: None,
}


def measure(
    task: TaskSpec, event: str, trials: int, seed: int = 0, joints: bool = False
) -> StopTimes:
    """Stop the simulated arm `trials` times by an event of `EVENTS`; `joints`: see `WatchedArm`."""
    rng = np.random.default_rng([seed, list(EVENTS).index(event)])
    arm = WatchedArm(task, seed, joints)
    rows = [_trial(task, arm, event, rng) for _ in range(trials)]
    return StopTimes(*np.array(rows).T)


def _trial(
    task: TaskSpec, arm: WatchedArm, event: str, rng: np.random.Generator
) -> tuple[float, float, float]:
    arm.reset_to(task.fixture.nominal.pose @ Pose.of([0.0, 0.0, -CLEAR_M]))
    logic, measured = ArmLogic(task), arm.measure()
    logic.retreat()
    push = rng.normal(size=task.action_size)
    push[2] = -abs(push[2])  # away from the fixture
    push /= np.abs(push).max()
    start, pushes = False, int(rng.integers(3, 9))
    while pushes:
        if logic.state is ArmState.READY and not start:
            start = logic.start_episode('e', Mode.RL, int(rng.integers(2**31)), logic.fixture)
        target, acted = _tick(logic, measured, push)
        pushes -= acted
        measured = arm.command(target)
    phase = rng.uniform(0.0, task.period_s)
    EVENTS[event](logic)
    arm.trace.clear()
    last = target
    for _ in range(WATCH_TICKS):
        if event == 'measurements that are not finite':
            measured = replace(measured, wrench=np.full(6, np.nan))
        if event != 'node killed':
            action = None if event == 'no decision' else push
            if event == 'actions that are not finite':
                action = np.full(task.action_size, np.nan)
            last = _tick(logic, measured, action)[0]
        measured = arm.command(last)
    steps = np.linalg.norm(np.diff(arm.trace, axis=0), axis=1)
    moving = np.flatnonzero(steps / SUBSTEP_S > REST_M_S)
    if len(moving) and moving[-1] == len(steps) - 1:
        raise RuntimeError(f'{event}: the arm still moves after {WATCH_TICKS} ticks')
    rest = int(moving[-1]) + 1 if len(moving) else 0
    return phase + rest * SUBSTEP_S, float(steps[:rest].sum()), float(steps[0] / SUBSTEP_S)


def _tick(logic: ArmLogic, measured: Measurement, action: np.ndarray | None) -> tuple[Pose, bool]:
    """Return the target of one tick, and whether an observation was answered."""
    tick = logic.tick(measured)
    if tick.observation is None:
        return tick.target, False
    decision = None
    if action is not None:
        decision = Decision(Source.RL, Reason.MODE, action.astype(np.float32))
    return logic.execute(decision)[0], True


def measure_all(
    task: TaskSpec, trials: int, seed: int = 0, joints: bool = False
) -> dict[str, dict[str, float]]:
    """Return the figures of every event, see `measure` and `StopTimes.as_dict`."""
    return {event: measure(task, event, trials, seed, joints).as_dict() for event in EVENTS}


def as_table(figures: dict[str, dict[str, float]]) -> str:
    """Return the figures as a Markdown table."""
    lines = [
        '| event | trials | p50 [ms] | p99 [ms] | max [ms] | longest way [mm] |',
        '|---|---|---|---|---|---|',
    ]
    lines += [
        f'| {event} | {row["trials"]} | {row["p50_ms"]:.0f} | {row["p99_ms"]:.0f} '
        f'| {row["max_ms"]:.0f} | {row["max_mm"]:.1f} |'
        for event, row in figures.items()
    ]
    return '\n'.join(lines)
