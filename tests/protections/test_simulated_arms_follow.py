# SPDX-License-Identifier: Apache-2.0
"""Simulated arms through scripted episodes: those that follow are never taken for stopped ones, and a stopped one is.

The arm is watched as in real time, in the simulation's own time.
"""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from q2rl_bringup.robot_description import robot_urdf
from q2rl_control.arm_logic import ArmLogic
from q2rl_control.arm_state import ArmState
from q2rl_control.follow_watch import Follower
from q2rl_control.joint_tracking import JointTracking
from q2rl_control.kinematics import ArmKinematics
from q2rl_sim.arm import SimArm
from q2rl_task import Decision, EndReason, Mode, Pose, Reason, Source, load_task

ARM = 7


class Cell:
    """A simulated arm under the watched logic, and a scripted policy with noise that also presses beside the hole."""

    def __init__(self, name: str, joints: bool = False, noise: float = 2.0) -> None:
        self.task = task = load_task(name)
        scene = importlib.import_module(f'q2rl_sim.scenes.{task.scene}')
        self.arm, self.logic = SimArm(task, 0, joint_servo=joints), ArmLogic(task)
        self.demonstrator = scene.Demonstrator(task, np.random.default_rng(1), noise)
        self.tracking = None
        if joints:
            urdf = robot_urdf(task)
            kinematics = ArmKinematics(urdf, task.frames.base, task.frames.tip)
            self.tracking = JointTracking(kinematics, task.period_s)
        self.reasons, self.forces, self.ends, self.stopped_at = [], [], [], None
        self.follower = Follower(self.logic, lambda: '', self.hold, 1.0)
        self.measured = self.arm.measure()

    def hold(self, reason: str) -> None:
        self.reasons.append(reason)
        self.logic.halt(reason)

    def step(self) -> None:
        logic, measured = self.logic, self.measured
        self.follower.check(measured, measured.stamp)
        tick = logic.tick(measured)
        target = tick.target
        if tick.observation is not None:
            action = self.demonstrator.act(
                measured, self.arm.fixture_pose, logic.guard.commanded, self.arm.part_pose
            )
            action = np.clip(action, -1.0, 1.0).astype(np.float32)
            target, step = logic.execute(Decision(Source.BC, Reason.MODE, action))
            if step.final:
                self.ends.append(step.end_reason)
        command: Pose | np.ndarray = self.stopped_at or target
        if self.tracking is not None:
            command = self.tracking.follow(target, measured.joint_positions[:ARM])
        self.measured = self.arm.step(command, logic.gripper)
        self.forces.append(self.measured.force)

    def until(self, *states: ArmState) -> None:
        for _ in range(400):
            if self.logic.state in states:
                return
            self.step()
        raise AssertionError(f'stays {self.logic.state.name}: {self.reasons}')

    def start(self, seed: int) -> None:
        if self.logic.state is not ArmState.READY:
            self.logic.retreat()
        self.until(ArmState.READY)
        fixture = self.arm.place_fixture(seed)
        assert self.logic.start_episode(
            f'e{seed}', Mode.GATED, seed, fixture, part=self.arm.part_estimate
        )
        self.until(ArmState.RUNNING, ArmState.READY)


@pytest.mark.parametrize(
    ('name', 'joints', 'noise', 'episodes'),
    [
        ('pipe_assembly', False, 2.0, 6),
        ('pipe_assembly', True, 2.0, 4),
        ('kitting', False, 1.0, 2),
    ],
    ids=['poses', 'joint positions', 'kitting'],
)
def test_no_arm_that_follows_is_taken_for_one_that_stopped(name, joints, noise, episodes):
    cell = Cell(name, joints, noise)
    for seed in range(episodes):
        cell.start(seed)
        cell.until(ArmState.RETREATING)
    cell.until(ArmState.READY)
    assert not cell.reasons
    assert EndReason.SUCCESS in cell.ends and EndReason.LOST not in cell.ends
    if not joints:
        assert max(cell.forces) > 10.0  # there was pressing


@pytest.mark.parametrize('tick', [3, 8])
def test_an_arm_whose_controller_stops_is_held_and_its_episode_has_no_result(tick):
    cell = Cell('pipe_assembly')
    cell.start(0)
    for _ in range(tick):
        cell.step()
    cell.stopped_at = cell.logic.guard.commanded  # the controller goes on with what it got last
    cell.until(ArmState.RETREATING)
    for _ in range(20):
        cell.step()
    assert len(cell.reasons) == 1 and cell.ends == [EndReason.LOST] and cell.logic.latch.held
    # Somebody presses play: nothing moves.
    before, cell.stopped_at = cell.measured.tip_pose, None
    for _ in range(10):
        cell.step()
    assert cell.measured.tip_pose.distance_to(before)[0] < 2e-3
    assert cell.logic.latch.release()
    cell.until(ArmState.READY)
