# SPDX-License-Identifier: Apache-2.0
"""From measurements to the observation vector that every policy, critic and log shares."""

from __future__ import annotations

from collections import deque

import numpy as np

from q2rl_task.measurement import Measurement
from q2rl_task.pose import Pose
from q2rl_task.spec import TaskSpec


class ObservationBuilder:
    """Build observations of one robot; `reset` at every episode start clears filter and history.

    All quantities are in the axes of the *estimated* fixture frame (origin at the rim's centre, z
    into the hole):
    tip position [m] and rotation vector [rad], tip velocity, the command's lead over the tip, the low-passed contact
    wrench at the tip, the time since the episode began [s]; each divided by the scale of the task.
    """

    def __init__(self, task: TaskSpec) -> None:
        self._task = task
        self._scale = task.observation_scale()
        self._limit = task.observation_limit()
        self._blend = 1.0 - float(
            np.exp(-2.0 * np.pi * task.observation.wrench_lowpass_hz * task.period_s)
        )
        self.reset()

    def reset(self, part: Pose | None = None) -> None:
        """Forget filter state and history.

        :param part: estimated pose of the loose part as it was presented, base frame; only for a task with one
        """
        self._part = part
        self._wrench: np.ndarray | None = None
        self._ticks = 0
        self._frames: deque[np.ndarray] = deque(maxlen=self._task.observation.history)

    def build(self, measurement: Measurement, commanded: Pose, fixture: Pose) -> np.ndarray:
        """Return the next observation, (observation_size,) float32, oldest tick first.

        :param commanded: last commanded tip pose, base frame
        :param fixture: estimated fixture pose, base frame
        """
        to_fixture = fixture.rotation.inv()
        tip = measurement.tip_pose
        wrench = measurement.wrench
        self._wrench = (
            wrench if self._wrench is None else self._wrench + self._blend * (wrench - self._wrench)
        )
        tip_to_fixture = to_fixture * tip.rotation
        values = {
            'tip_position': to_fixture.apply(tip.position - fixture.position),
            'tip_rotation': tip_to_fixture.as_rotvec(),
            'linear_velocity': to_fixture.apply(measurement.tip_twist[:3]),
            'angular_velocity': to_fixture.apply(measurement.tip_twist[3:]),
            'lead_position': to_fixture.apply(commanded.position - tip.position),
            'lead_rotation': to_fixture.apply(tip.rotation_vector_to(commanded)),
            'force': tip_to_fixture.apply(self._wrench[:3]),
            'torque': tip_to_fixture.apply(self._wrench[3:]),
            'gripper': np.array([measurement.gripper]),
            'elapsed': np.array([self._ticks * self._task.period_s]),
        }
        self._ticks += 1
        if self._part is not None:
            values['part_position'] = to_fixture.apply(tip.position - self._part.position)
        raw = np.concatenate([values[f.name] for f in self._task.observation.fields]) / self._scale
        frame = np.clip(raw, -self._limit, self._limit).astype(np.float32)
        while len(self._frames) < self._task.observation.history:
            self._frames.append(frame)
        self._frames.append(frame)
        return np.concatenate(self._frames)
