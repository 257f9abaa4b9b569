# SPDX-License-Identifier: Apache-2.0
"""A stand-in arm and records for the tests of this package."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from q2rl_task import (
    Decision,
    EndReason,
    ExecutedStep,
    Measurement,
    Mode,
    Pose,
    Reason,
    Source,
    TaskSpec,
)


def measurement(pose: Pose, stamp: float = 0.0, force=(0.0, 0.0, 0.0), **changes) -> Measurement:
    values = {
        'stamp': stamp,
        'joint_positions': np.zeros(7),
        'joint_velocities': np.zeros(7),
        'tip_pose': pose,
        'tip_twist': np.zeros(6),
        'wrench': np.concatenate([np.asarray(force, dtype=np.float64), np.zeros(3)]),
        'success_signal': False,
    }
    return Measurement(**(values | changes))


def above(task: TaskSpec, height: float) -> Pose:
    """Tip pose straight above the nominal rim."""
    return task.fixture.nominal.pose @ Pose.of([0.0, 0.0, -height])


class FollowingArm:
    """A tip that covers a share of the way to its target per tick; `jammed` keeps it where it is."""

    def __init__(self, task: TaskSpec, pose: Pose, share: float = 0.7) -> None:
        self.task = task
        self.pose = pose
        self.share = share
        self.jammed = False
        self.force = np.zeros(3)
        self.success = False
        self.stamp = 0.0

    def measure(self) -> Measurement:
        # The torque trembles: a sensor that always says the same counts as dead.
        wrench = np.concatenate([self.force, [1e-9 * self.stamp, 0.0, 0.0]])
        return measurement(self.pose, self.stamp, wrench=wrench, success_signal=self.success)

    def step(self, target: Pose | None) -> Measurement:
        self.stamp += self.task.period_s
        if target is not None and not self.jammed:
            turns = Rotation.from_quat([self.pose.quaternion, target.quaternion])
            self.pose = Pose.from_rotation(
                self.pose.position + self.share * (target.position - self.pose.position),
                Slerp([0.0, 1.0], turns)(self.share),
            )
        return self.measure()


def decision(action, source: Source = Source.BC, **changes) -> Decision:
    return Decision(source, Reason.MODE, np.asarray(action, dtype=np.float32), **changes)


def step(task: TaskSpec, episode: str, number: int, final: bool = False, **changes) -> ExecutedStep:
    size = task.action_size
    values = {
        'stamp': 0.05 * number,
        'robot': 'arm',
        'contract': task.contract_hash,
        'episode': episode,
        'step': number,
        'mode': Mode.BC,
        'final': final,
        'observation': np.full(task.observation_size, number, dtype=np.float32),
        'reward': -1.0 if number else 0.0,
        'terminated': final,
        'truncated': False,
        'end_reason': EndReason.SUCCESS if final else EndReason.NONE,
        'force': float(number),
        'executed_action': np.zeros(size, dtype=np.float32),
        'interventions': (),
        'decision': decision(np.zeros(size)),
    }
    return ExecutedStep(**(values | changes))
