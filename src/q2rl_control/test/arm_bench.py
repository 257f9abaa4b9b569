# SPDX-License-Identifier: Apache-2.0
"""An arm that follows its commands, and the logic over it, for the tests of this package."""

from __future__ import annotations

from control_helpers import FollowingArm, above, decision
import numpy as np

from q2rl_control.arm_logic import ArmLogic
from q2rl_control.arm_state import ArmState
from q2rl_control.safety_latch import SafetyLatch
from q2rl_task import Mode, Pose, Source, TaskSpec, load_task

TASK = load_task('pipe_assembly')
FIXTURE = TASK.fixture.nominal.pose
STILL = np.zeros(TASK.action_size)


class Bench:
    """ArmLogic on a `FollowingArm`, in lockstep."""

    def __init__(
        self,
        pose: Pose | None = None,
        robot: str = 'arm',
        task: TaskSpec = TASK,
        latch: SafetyLatch | None = None,
    ) -> None:
        self.task = task
        self.logic = ArmLogic(task, robot, latch)
        self.arm = FollowingArm(task, pose or above(task, -0.02))
        self.measurement = self.arm.measure()
        self.steps = []
        self.ticks = 0

    def advance(self, action=STILL, source: Source = Source.BC):
        """One tick: answer an observation if there is one, and move the arm."""
        tick = self.logic.tick(self.measurement)
        target = tick.target
        if tick.observation is not None:
            answer = None if action is None else decision(action, source)
            target, step = self.logic.execute(answer)
            self.steps.append(step)
        self.measurement = self.arm.step(target)
        self.ticks += 1
        return tick

    def until(self, *states: ArmState, limit: int = 300, **kwargs) -> int:
        """Advance until one of `states`; return how many ticks that took."""
        before = self.ticks
        while self.logic.state not in states:
            assert self.ticks - before < limit, f'stays {self.logic.state.name}'
            self.advance(**kwargs)
        return self.ticks - before

    def running(self, seed: int = 1, episode: str = 'e1', fixture: Pose = FIXTURE) -> Bench:
        """Bring the arm to the first observation of an episode."""
        assert self.logic.retreat()
        self.until(ArmState.READY)
        assert self.logic.start_episode(episode, Mode.GATED, seed, fixture)
        self.until(ArmState.RUNNING)
        return self
