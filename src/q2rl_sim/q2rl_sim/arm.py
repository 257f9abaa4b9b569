# SPDX-License-Identifier: Apache-2.0
"""`SimArm`: a simulated torque-controlled arm that tracks poses of its tip, or joint positions, by impedance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mujoco
import numpy as np

from q2rl_sim.joint_servo import JointServo
from q2rl_sim.panda import ARM_JOINTS
from q2rl_sim.placement import Placement, draw_placement
from q2rl_sim.scene import PHYSICS_STEP_S, build_scene, scene_module
from q2rl_task import InputError, Measurement, Pose, TaskSpec

ARM = len(ARM_JOINTS)
SUBSTEP_S = 0.01
"""The target moves, and the force-torque sensor is sampled, this often; physics and impedance run at 500 Hz."""
SETTLE_S = 0.3
FORCE_NOISE_N = 0.05
TORQUE_NOISE_NM = 0.002
NOISE_STREAM = 3
GRAVITY = np.array([0.0, 0.0, -9.81])


@dataclass(frozen=True)
class ArmState:
    """All that decides what a `SimArm` does next."""

    physics: np.ndarray
    target: Pose | np.ndarray
    opening: float
    wrench: np.ndarray
    placement: Placement
    rng: dict

    @property
    def joint_positions(self) -> np.ndarray:
        """Joint positions (7,) [rad] of the arm."""
        return self.physics[1:8]


class SimArm:
    """A Panda in the scene of a task; one physics simulation, no ROS.

    Deterministic: the same task, seed and calls give bit-identical measurements. The true poses of fixture and part
    never enter a measurement other than through contact.

    :param joint_servo: whether targets are joint positions (7,) instead of poses, see `JointServo`
    """

    def __init__(self, task: TaskSpec, seed: int, joint_servo: bool = False) -> None:
        self.task = task
        self.scene = build_scene(task)
        self._seated = scene_module(task).seated
        self.model = self.scene.model
        self.data = mujoco.MjData(self.model)
        self._seed = seed
        self._rng = np.random.default_rng(seed)
        self._substeps = max(1, round(task.period_s / SUBSTEP_S))
        ticks = task.period_s / (self._substeps * PHYSICS_STEP_S)
        if abs(ticks - round(ticks)) > 1e-6:
            raise InputError(
                f'task {task.name}: field `rate_hz`',
                f'{task.rate_hz} Hz is no multiple of the physics step',
                'choose a rate whose period is a multiple of 10 ms',
            )
        self._ticks = round(ticks)
        self._jacobian = np.zeros((6, self.model.nv))
        self._samples = np.zeros((self._substeps, self.model.nsensordata))
        self._wrench = np.zeros(6)
        self._quaternion = np.zeros(4)
        self._servo: JointServo | None = None
        self._target: Pose | np.ndarray = task.fixture.nominal.pose
        self._opening = 1.0
        part = task.part.nominal.pose if task.part else None
        self.place_fixture_at(
            Placement(task.fixture.nominal.pose, task.fixture.nominal.pose, part, part)
        )
        self.data.qpos[:ARM] = self.scene.home
        nominal = task.fixture.nominal.pose
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_jacSite(
            self.model, self.data, self._jacobian[:3], self._jacobian[3:], self.scene.tip_site
        )
        self._posture_guess = np.linalg.svd(self._jacobian[:, :ARM])[2][6]
        if joint_servo:
            self._servo = JointServo(self.model, task, self._jacobian_at(nominal))
        self.reset_to(
            nominal @ Pose.of([0.0, 0.0, -max(task.reset.height_m, task.reset.retreat_m)])
        )

    @property
    def fixture_pose(self) -> Pose:
        """The true pose of the fixture in the base frame; only demonstrators and judges may look."""
        return self._placement.truth

    @property
    def part_estimate(self) -> Pose | None:
        """Where the loose part was believed to stand when it was placed; None without one."""
        return self._placement.part_estimate

    @property
    def part_pose(self) -> Pose | None:
        """The true pose of the loose part now, held or not; only demonstrators and judges may look."""
        if not self.scene.loose:
            return None
        x, y, z, qw, qx, qy, qz = self.data.qpos[-7:]
        return Pose(np.array([x, y, z]), np.array([qx, qy, qz, qw]))

    @property
    def target(self) -> Pose | np.ndarray:
        """What the arm tracks: a pose of the tip (base frame), or joint positions (7,)."""
        return self._target

    @property
    def time(self) -> float:
        """Simulated time [s]."""
        return float(self.data.time)

    def place_fixture(self, seed: int) -> Pose:
        """Teleport fixture and part to the placement of `seed`; return the fixture's estimate (base frame).

        The noise of the sensors starts anew: what an episode measures depends on its seed and where the arm is, not on
        what the arm did before, nor on how often this simulation was started.
        """
        self._rng = np.random.default_rng([self._seed, seed, NOISE_STREAM])
        self.place_fixture_at(draw_placement(self.task, seed))
        return self._placement.estimate

    def place_fixture_at(self, placement: Placement) -> None:
        """Teleport the fixture and the loose part, which stands still then; nothing else in the world moves."""
        self._believe(placement)
        if placement.part is not None:
            x, y, z, w = placement.part.quaternion
            self.data.qpos[-7:] = [*placement.part.position, w, x, y, z]
            self.data.qvel[-6:] = 0.0

    def _believe(self, placement: Placement) -> None:
        self._placement = placement
        self._truth_matrix = placement.truth.rotation.as_matrix()
        self._set_mocap(
            self.scene.fixture_mocap, placement.truth.position, placement.truth.quaternion
        )

    def reset_to(self, pose: Pose) -> None:
        """Put the tip at `pose` (base frame) by inverse kinematics, the gripper open, and let it settle, at rest.

        :raises InputError: the pose cannot be reached
        """
        data = self.data
        data.qpos[:ARM] = self.solve_ik(pose)
        if self.scene.fingers:
            data.qpos[ARM : self.scene.joints] = self.task.gripper.open_m
            data.ctrl[-self.scene.fingers :] = self.task.gripper.open_m
        data.qvel[:] = 0.0
        data.qacc_warmstart[:] = 0.0
        mujoco.mj_kinematics(self.model, data)
        mujoco.mj_comPos(self.model, data)
        target = data.qpos[:ARM].copy() if self._servo else pose
        self._target = target
        for _ in range(round(SETTLE_S * self.task.rate_hz)):
            self.step(target, 1.0)
        data.time = 0.0

    def solve_ik(self, pose: Pose) -> np.ndarray:
        """Return joint positions (7,) [rad] that put the tip at `pose`, by damped least squares from the home posture.

        :raises InputError: no solution within 0.01 mm and 0.01 mrad in 200 iterations
        """
        model, scene = self.model, self.scene
        data = mujoco.MjData(model)
        joints = data.qpos[:ARM]
        joints[:] = scene.home
        whole = np.zeros((6, model.nv))
        low, high = model.jnt_range[:ARM].T
        for _ in range(200):
            mujoco.mj_kinematics(model, data)
            mujoco.mj_comPos(model, data)
            tip = self._site_pose(data)
            error = np.concatenate([pose.position - tip.position, tip.rotation_vector_to(pose)])
            if np.abs(error).max() < 1e-5:
                return joints.copy()
            mujoco.mj_jacSite(model, data, whole[:3], whole[3:], scene.tip_site)
            jacobian = whole[:, :ARM]
            pseudo = jacobian.T @ np.linalg.inv(jacobian @ jacobian.T + 1e-5 * np.eye(6))
            posture = 0.1 * (scene.home - joints)
            joints += np.clip(pseudo @ error + posture - pseudo @ (jacobian @ posture), -0.3, 0.3)
            np.clip(joints, low, high, out=joints)
        raise InputError(
            f'task {self.task.name}: field `fixture.nominal`',
            f'the arm does not reach {np.round(pose.position, 4).tolist()}, which comes of it',
            'place the fixture within reach, or correct `part`, `reset` or the orientation',
        )

    def _jacobian_at(self, pose: Pose) -> np.ndarray:
        """Return the tip's Jacobian (6, 7) in the posture that `solve_ik` finds for a pose."""
        data, whole = mujoco.MjData(self.model), np.zeros((6, self.model.nv))
        data.qpos[:ARM] = self.solve_ik(pose)
        mujoco.mj_kinematics(self.model, data)
        mujoco.mj_comPos(self.model, data)
        mujoco.mj_jacSite(self.model, data, whole[:3], whole[3:], self.scene.tip_site)
        return whole[:, :ARM]

    def step(self, target: Pose | np.ndarray, opening: float = float('nan')) -> Measurement:
        """Track `target` for one control period and return the measurement at its end.

        :param target: tip pose (base frame), or joint positions (7,) [rad] with a joint servo
        :param opening: where the gripper is to go, from 0 (closed) to 1 (open); NaN: where it was told to go before
        """
        model, data = self.model, self.data
        track = self._towards_joints(target) if self._servo else self._towards_pose(target)
        if self.scene.fingers and opening == opening:
            self._opening = opening
        for k in range(self._substeps):
            if self.scene.fingers:
                self._drive_fingers()
            # A moving target instead of a staircase: what a controller's own target filter does.
            track((k + 1) / self._substeps)
            mujoco.mj_step(model, data, self._ticks)
            self._samples[k] = data.sensordata
        self._target = target
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        self._wrench = self._tip_wrench(self._samples.mean(axis=0))
        return self.measure()

    def _towards_pose(self, target: Pose) -> Callable[[float], None]:
        """Return what moves the spring's end a share of the way from the last target to this one."""
        self._update_posture()
        before, mocap = self._target, self.scene.target_mocap
        shift = target.position - before.position
        q0, q1 = before.quaternion, target.quaternion
        if q0 @ q1 < 0.0:
            q1 = -q1

        def track(blend: float) -> None:
            self._set_mocap(mocap, before.position + blend * shift, q0 + blend * (q1 - q0))

        return track

    def _towards_joints(self, target: np.ndarray) -> Callable[[float], None]:
        """Return what moves the joints' set points a share of the way from the last target to this one."""
        before = self._target
        shift = target - before
        return lambda blend: self._servo.drive(before + blend * shift)

    def measure(self) -> Measurement:
        """Return the state of arm and sensors now; calling it again returns the same."""
        data, scene = self.data, self.scene
        mujoco.mj_jacSite(self.model, data, self._jacobian[:3], self._jacobian[3:], scene.tip_site)
        joints = scene.joints
        return Measurement(
            stamp=float(data.time),
            joint_positions=data.qpos[:joints].copy(),
            joint_velocities=data.qvel[:joints].copy(),
            tip_pose=self._site_pose(data),
            tip_twist=self._jacobian @ data.qvel,
            wrench=self._wrench,
            success_signal=bool(self._seated(self.task, self.insert_position(), self.gripper)),
            gripper=self.gripper,
        )

    @property
    def gripper(self) -> float:
        """The gripper's opening, from 0 (closed) to 1 (open); NaN without one."""
        if not self.scene.fingers:
            return float('nan')
        return float(self.data.qpos[ARM : self.scene.joints].mean()) / self.task.gripper.open_m

    def insert_position(self) -> np.ndarray:
        """Position (3,) [m] of the end that goes in first, in the true fixture frame (z into the hole)."""
        end = self.data.site_xpos[self.scene.insert_site]
        return (end - self._placement.truth.position) @ self._truth_matrix

    def get_state(self) -> ArmState:
        """Return a copy of everything that decides what happens next."""
        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        physics = np.zeros(mujoco.mj_stateSize(self.model, kind))
        mujoco.mj_getState(self.model, self.data, physics, kind)
        return ArmState(
            physics,
            self._target,
            self._opening,
            self._wrench,
            self._placement,
            self._rng.bit_generator.state,
        )

    def set_state(self, state: ArmState) -> None:
        """Go back to a state from `get_state` (of any `SimArm` of the same task)."""
        mujoco.mj_setState(
            self.model, self.data, state.physics, mujoco.mjtState.mjSTATE_INTEGRATION
        )
        self._target, self._opening, self._wrench = state.target, state.opening, state.wrench
        self._believe(state.placement)
        self._rng.bit_generator.state = state.rng
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)

    def _drive_fingers(self) -> None:
        """Move the fingers' set points towards the wanted opening, as fast as the gripper goes in a substep."""
        gripper, setpoints = self.task.gripper, self.data.ctrl[-self.scene.fingers :]
        reach = gripper.speed_m_s * SUBSTEP_S
        setpoints += np.clip(self._opening * gripper.open_m - setpoints, -reach, reach)

    def _update_posture(self) -> None:
        """Let the posture spring act along the null vector of the tip's Jacobian at the present posture."""
        mujoco.mj_jacSite(
            self.model, self.data, self._jacobian[:3], self._jacobian[3:], self.scene.tip_site
        )
        jacobian = self._jacobian[:, :ARM]
        null = self._posture_guess - jacobian.T @ np.linalg.solve(
            jacobian @ jacobian.T, jacobian @ self._posture_guess
        )
        null /= np.sqrt(null @ null)
        self.model.wrap_prm[:] = null
        self.model.tendon_lengthspring[0] = null @ self.scene.home

    def _tip_wrench(self, sensed: np.ndarray) -> np.ndarray:
        """Wrench of the environment at the tip, tip axes, from the mount's sensor: tared, weight taken off, moved."""
        scene = self.scene
        if len(sensed) > 6:
            # An accelerometer beside the sensor: weight and inertia of the payload are taken off together.
            weight = -scene.payload.mass * sensed[6:9]
        else:
            to_tip = self.data.site_xmat[scene.tip_site].reshape(3, 3).T
            weight = to_tip @ (scene.payload.mass * GRAVITY)
        # MuJoCo reports what holds the payload; at rest that, the weight and the environment sum to zero.
        force = -sensed[:3] - weight
        torque = (
            -sensed[3:6]
            - _cross(scene.payload.centre, weight)
            - _cross(scene.tip_from_mount, force)
        )
        noise = self._rng.normal(size=6)
        return np.concatenate(
            [force + FORCE_NOISE_N * noise[:3], torque + TORQUE_NOISE_NM * noise[3:]]
        )

    def _site_pose(self, data: mujoco.MjData) -> Pose:
        mujoco.mju_mat2Quat(self._quaternion, data.site_xmat[self.scene.tip_site])
        w, x, y, z = self._quaternion
        return Pose(data.site_xpos[self.scene.tip_site].copy(), np.array([x, y, z, w]))

    def _set_mocap(self, index: int, position: np.ndarray, quaternion: np.ndarray) -> None:
        x, y, z, w = quaternion
        self.data.mocap_pos[index] = position
        norm = (x * x + y * y + z * z + w * w) ** 0.5
        self.data.mocap_quat[index] = (w / norm, x / norm, y / norm, z / norm)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """np.cross of two (3,) vectors, without its overhead."""
    return np.array(
        [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
    )
