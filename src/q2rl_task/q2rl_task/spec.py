# SPDX-License-Identifier: Apache-2.0
"""A task as one validated YAML file: `TaskSpec`, and `load_task` that reads it."""

from __future__ import annotations

from functools import cached_property
import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from q2rl_task.observed_blocks import WHOLE, ObservedBlock
from q2rl_task.pose import Pose
from q2rl_task.settings_file import Section, load_settings

OBSERVATION_SIZES = {
    'tip_position': 3,
    'tip_rotation': 3,
    'linear_velocity': 3,
    'angular_velocity': 3,
    'lead_position': 3,
    'lead_rotation': 3,
    'force': 3,
    'torque': 3,
    'gripper': 1,
    'part_position': 3,
    'elapsed': 1,
}


class PoseSpec(Section):
    """A pose in the base frame: position [m], quaternion x, y, z, w."""

    position: tuple[float, float, float]
    quaternion: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 1.0)

    @property
    def pose(self) -> Pose:
        """The same as a `Pose`."""
        return Pose.of(self.position, self.quaternion)


class Frames(Section):
    """Frame names on the wire (REP-103, REP-105)."""

    base: str
    tip: str
    fixture: str


class ObservationField(Section):
    """One block of the observation vector; the raw value is divided by `scale`, then kept to +- `limit`.

    A name may come twice: coarse and whole, then fine and limited.
    """

    name: Literal[
        'tip_position',
        'tip_rotation',
        'linear_velocity',
        'angular_velocity',
        'lead_position',
        'lead_rotation',
        'force',
        'torque',
        'gripper',
        'part_position',
        'elapsed',
    ]
    scale: float = Field(gt=0)
    limit: float | None = Field(default=None, gt=0)


class ObservationSpec(Section):
    """The observation vector: its blocks in order, the ticks stacked, the wrench filter."""

    history: int = Field(default=1, ge=1, le=16)
    wrench_lowpass_hz: float = Field(gt=0)
    fields: tuple[ObservationField, ...] = Field(min_length=1)


class ActionSpec(Section):
    """A Cartesian delta per tick in axes of the estimated fixture frame, each in [-1, 1]."""

    translation_m: float = Field(gt=0)
    rotation_rad: float = Field(gt=0)
    gripper: bool = False


class GripperSpec(Section):
    """A parallel gripper: its joints, each moving by `open_m` from closed to open.

    The last component of an action opens it above `threshold`, closes it below `-threshold`, and leaves it
    in between. `force_n` and `speed_m_s`, of each finger, are those that the controller is set to.
    """

    joints: tuple[str, ...] = Field(min_length=1)
    open_m: float = Field(gt=0)
    threshold: float = Field(gt=0, lt=1)
    force_n: float = Field(gt=0)
    speed_m_s: float = Field(gt=0)


class RewardSpec(Section):
    """Reward per step and on success. A change of it invalidates every fitted value."""

    per_step: float
    success: float
    discount: float = Field(gt=0, lt=1)

    @property
    def step_range(self) -> tuple[float, float] | None:
        """The least and the greatest reward of a step, where it is not one of the two; None: it is."""
        return None


class SuccessSpec(Section):
    """Where success is read from: the fixture's own signal."""

    source: Literal['signal'] = 'signal'


class BoxSpec(Section):
    """A solid box: where its centre is in the frame it belongs to, and its full edge lengths [m]."""

    position: tuple[float, float, float]
    quaternion: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 1.0)
    size: tuple[float, float, float]

    @property
    def pose(self) -> Pose:
        """Where its centre is, as a `Pose`."""
        return Pose.of(self.position, self.quaternion)


class FixtureSpec(Section):
    """The fixture (socket, tray): where it stands, how it varies, how wrong its estimate is.

    What a planned motion keeps away from: a round body of `wall_m` round the hole, from the rim down to `body_m`
    (None: as deep as the hole), and `boxes` in the fixture's frame.
    """

    nominal: PoseSpec
    placement_m: tuple[float, float, float]
    placement_deg: tuple[float, float, float]
    estimate_error_m: float = Field(ge=0)
    estimate_error_deg: float = Field(ge=0)
    depth_m: float = Field(gt=0)
    success_depth_fraction: float = Field(gt=0, le=1)
    radial_clearance_m: float = Field(gt=0)
    insert_radius_m: float = Field(gt=0)
    wall_m: float = Field(default=0.012, gt=0)
    body_m: float | None = Field(default=None, gt=0)
    boxes: tuple[BoxSpec, ...] = ()


class PartSpec(Section):
    """A loose part: where it stands, how that varies, how wrong its estimate is.

    Its frame is where the tip grasps it, z into the table; it reaches `above_m` beyond that and `below_m` down.
    """

    nominal: PoseSpec
    placement_m: tuple[float, float, float]
    placement_deg: tuple[float, float, float]
    estimate_error_m: float = Field(ge=0)
    estimate_error_deg: float = Field(ge=0)
    above_m: float = Field(gt=0)
    below_m: float = Field(gt=0)
    mass_kg: float = Field(gt=0)


class ResetSpec(Section):
    """How an episode starts: retreat along the tool axis, then a start pose above an estimate."""

    above: Literal['fixture', 'part'] = 'fixture'
    retreat_m: float = Field(gt=0)
    height_m: float = Field(gt=0)
    spread_m: tuple[float, float, float]
    spread_deg: tuple[float, float, float]
    speed_m_s: float = Field(gt=0)
    speed_rad_s: float = Field(gt=0)
    timeout_s: float = Field(gt=0)


class Workspace(Section):
    """Box of tip positions in the base frame [m], and the cone around the nominal orientation."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    max_rotation_rad: float = Field(gt=0)

    @model_validator(mode='after')
    def _ordered(self):
        if not all(lo < hi for lo, hi in zip(self.low, self.high, strict=True)):
            raise ValueError('each `low` must be below its `high`')
        return self


class SensorAges(Section):
    """Age [s] at which a stream counts as stale in real time; None: `Limits.observation_max_age_s`."""

    joint_states: float | None = Field(default=None, gt=0)
    pose: float | None = Field(default=None, gt=0)
    twist: float | None = Field(default=None, gt=0)
    wrench: float | None = Field(default=None, gt=0)
    success: float | None = Field(default=None, gt=0)


class Limits(Section):
    """What the guard enforces on every command.

    `stiffness_*` are those of the controller below. `wrench_frozen_s`: time without the least change after
    which the force sensor counts as dead; None trusts it for ever.
    """

    workspace: Workspace
    lead_m: float = Field(gt=0)
    lead_rad: float = Field(gt=0)
    velocity_m_s: float = Field(gt=0)
    velocity_rad_s: float = Field(gt=0)
    acceleration_m_s2: float = Field(gt=0)
    acceleration_rad_s2: float = Field(gt=0)
    jerk_m_s3: float = Field(gt=0)
    jerk_rad_s3: float = Field(gt=0)
    force_soften_n: float = Field(gt=0)
    force_stop_n: float = Field(gt=0)
    torque_stop_nm: float = Field(gt=0)
    stiffness_n_m: float = Field(gt=0)
    stiffness_nm_rad: float = Field(gt=0)
    watchdog_s: float = Field(gt=0)
    observation_max_age_s: float = Field(gt=0)
    sensor_max_age_s: SensorAges = SensorAges()
    wrench_frozen_s: float | None = Field(default=None, gt=0)

    @model_validator(mode='after')
    def _implied_force(self):
        if self.force_soften_n >= self.force_stop_n:
            raise ValueError('`force_soften_n` must be below `force_stop_n`')
        implied = self.stiffness_n_m * self.lead_m
        if implied > self.force_stop_n:
            raise ValueError(
                f'stiffness_n_m x lead_m allows {implied:.0f} N, '
                f'more than force_stop_n {self.force_stop_n:.0f} N'
            )
        implied = self.stiffness_nm_rad * self.lead_rad
        if implied > self.torque_stop_nm:
            raise ValueError(
                f'stiffness_nm_rad x lead_rad allows {implied:.0f} Nm, '
                f'more than torque_stop_nm {self.torque_stop_nm:.0f} Nm'
            )
        return self


class DemonstrationSpec(Section):
    """How many demonstrations a clone gets, and how clumsy the scripted demonstrator is (0: a machine)."""

    count: int = Field(default=40, ge=2)
    noise: float = Field(default=2.0, ge=0)


class LearningSpec(Section):
    """What learns the task unless told otherwise: a preset of the learner, and how long.

    `rollouts`: BC-only episodes before. `online_steps`: transitions to learn from.
    """

    preset: str = 'laptop-long'
    rollouts: int = Field(default=20, ge=2)
    online_steps: int = Field(default=13_000, ge=0)


class TaskSpec(Section):
    """A whole task. `observation_size`, `action_size` and `contract_hash` follow from it.

    `scene`: what stands in for the cell in simulation, a module of q2rl_sim.scenes or a dotted module path;
    empty where there is no simulation. `obstacles`: what of the cell stands still (a table), base frame; planned
    motions keep away from it.
    """

    name: str = Field(pattern=r'^[a-z][a-z0-9_]*$')
    description: str
    version: int = Field(ge=1)
    rate_hz: float = Field(gt=0, le=200)
    max_steps: int = Field(ge=2)
    frames: Frames
    observation: ObservationSpec
    action: ActionSpec
    reward: RewardSpec
    success: SuccessSpec
    fixture: FixtureSpec
    reset: ResetSpec
    limits: Limits
    scene: str = ''
    gripper: GripperSpec | None = None
    part: PartSpec | None = None
    demonstrations: DemonstrationSpec = DemonstrationSpec()
    learning: LearningSpec = LearningSpec()
    obstacles: tuple[BoxSpec, ...] = ()

    @model_validator(mode='after')
    def _whole(self):
        if self.action.gripper != (self.gripper is not None):
            raise ValueError('`action.gripper` and a section `gripper` go together')
        seen = {field.name for field in self.observation.fields}
        if 'gripper' in seen and self.gripper is None:
            raise ValueError('`gripper` is observed, and there is no section `gripper`')
        if self.part is None and ('part_position' in seen or self.reset.above == 'part'):
            raise ValueError('the part is referred to, and there is no section `part`')
        return self

    @property
    def period_s(self) -> float:
        """The control period [s]."""
        return 1.0 / self.rate_hz

    @cached_property
    def frame_size(self) -> int:
        """Length of one tick's observation, before stacking."""
        return sum(OBSERVATION_SIZES[f.name] for f in self.observation.fields)

    @property
    def observation_size(self) -> int:
        """Length O of the observation vector."""
        return self.frame_size * self.observation.history

    @property
    def action_size(self) -> int:
        """Length D of the action vector."""
        return 7 if self.action.gripper else 6

    @property
    def explored_size(self) -> int:
        """How many of the first components exploration may vary: the arm's. A toggled gripper drops its part."""
        return 6

    @property
    def contract_fields(self) -> dict[str, Any]:
        """All that gives observation, action, reward and rate their meaning, as plain data."""
        parts = self.model_dump(
            include={'name', 'version', 'rate_hz', 'max_steps', 'observation', 'action', 'reward'},
            exclude_none=True,
        )
        if self.gripper is not None:
            parts['gripper'] = self.gripper.model_dump(include={'open_m', 'threshold'})
        return parts

    @cached_property
    def contract_hash(self) -> str:
        """16 hex digits over `contract_fields`."""
        fields = json.dumps(self.contract_fields, sort_keys=True)
        return hashlib.sha256(fields.encode()).hexdigest()[:16]

    def observation_limit(self) -> np.ndarray:
        """Largest absolute value of each number of one tick's observation, (frame_size,); inf: none."""
        return np.concatenate(
            [np.full(OBSERVATION_SIZES[f.name], f.limit or np.inf) for f in self.observation.fields]
        )

    def observation_scale(self) -> np.ndarray:
        """Divisors of one tick's observation, (frame_size,)."""
        return np.concatenate(
            [np.full(OBSERVATION_SIZES[f.name], f.scale) for f in self.observation.fields]
        )

    @property
    def observed_blocks(self) -> tuple[ObservedBlock, ...]:
        """The whole observation, then the blocks of its newest tick in order; one may come twice."""
        blocks = [ObservedBlock.as_it_is(WHOLE, 0, self.observation_size, None)]
        at = self.observation_size - self.frame_size
        for field in self.observation.fields:
            size = OBSERVATION_SIZES[field.name]
            blocks.append(ObservedBlock.as_it_is(field.name, at, size, field.scale))
            at += size
        return tuple(blocks)


def load_task(name_or_path: str | Path) -> TaskSpec:
    """Read a task by its name (one shipped with the package) or by the path of a YAML file.

    :raises InputError: no such task, not YAML, or a field that is missing, unknown or out of range
    """
    return load_settings(TaskSpec, 'task', 'q2rl_task', 'tasks', name_or_path)
