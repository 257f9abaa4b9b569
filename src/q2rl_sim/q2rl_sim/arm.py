# SPDX-License-Identifier: Apache-2.0
"""`SimArm`: a simulated torque-controlled arm that tracks target poses of its tip by Cartesian impedance."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from q2rl_sim.placement import Placement, draw_placement
from q2rl_sim.scene import PHYSICS_STEP_S, build_scene
from q2rl_task import InputError, Measurement, Pose, TaskSpec

SUBSTEP_S = 0.01
"""The target moves, and the force-torque sensor is sampled, this often; physics and impedance run at 500 Hz."""
SETTLE_S = 0.3
FORCE_NOISE_N = 0.05
TORQUE_NOISE_NM = 0.002
GRAVITY = np.array([0.0, 0.0, -9.81])


@dataclass(frozen=True)
class ArmState:
    """All that decides what a `SimArm` does next."""

    physics: np.ndarray
    target: Pose
    wrench: np.ndarray
    placement: Placement
    rng: dict

    @property
    def joint_positions(self) -> np.ndarray:
        """Joint positions (7,) [rad], for rendering."""
        return self.physics[1:8]


class SimArm:
    """A Panda with a pipe in its gripper, above a socket; one physics simulation, no ROS.

    Deterministic: the same task, seed and calls give bit-identical measurements. The socket's true pose never enters a
    measurement other than through contact.
    """

    def __init__(self, task: TaskSpec, seed: int) -> None:
        self.task = task
        self.scene = build_scene(task)
        self.model = self.scene.model
        self.data = mujoco.MjData(self.model)
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
        self._samples = np.zeros((self._substeps, 6))
        self._wrench = np.zeros(6)
        self._quaternion = np.zeros(4)
        self._target = task.fixture.nominal.pose
        self.place_fixture_at(Placement(task.fixture.nominal.pose, task.fixture.nominal.pose))
        self.data.qpos[:] = self.scene.home
        nominal = task.fixture.nominal.pose
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_jacSite(
            self.model, self.data, self._jacobian[:3], self._jacobian[3:], self.scene.tip_site
        )
        self._posture_guess = np.linalg.svd(self._jacobian)[2][6]
        self.reset_to(
            nominal @ Pose.of([0.0, 0.0, -max(task.reset.height_m, task.reset.retreat_m)])
        )

    @property
    def fixture_pose(self) -> Pose:
        """The true pose of the fixture in the base frame; only demonstrators and judges may look."""
        return self._placement.truth

    @property
    def time(self) -> float:
        """Simulated time [s]."""
        return float(self.data.time)

    def place_fixture(self, seed: int) -> Pose:
        """Teleport the fixture to the placement that belongs to `seed`; return its estimated pose (base frame)."""
        self.place_fixture_at(draw_placement(self.task, seed))
        return self._placement.estimate

    def place_fixture_at(self, placement: Placement) -> None:
        """Teleport the fixture; nothing else in the world moves."""
        self._placement = placement
        self._truth_matrix = placement.truth.rotation.as_matrix()
        self._set_mocap(
            self.scene.socket_mocap, placement.truth.position, placement.truth.quaternion
        )

    def reset_to(self, pose: Pose) -> None:
        """Put the tip at `pose` (base frame) by inverse kinematics and let the arm settle, at rest.

        :raises ValueError: the pose cannot be reached
        """
        data = self.data
        data.qpos[:] = self.solve_ik(pose)
        data.qvel[:] = 0.0
        data.qacc_warmstart[:] = 0.0
        self._target = pose
        for _ in range(round(SETTLE_S * self.task.rate_hz)):
            self.step(pose)
        data.time = 0.0

    def solve_ik(self, pose: Pose) -> np.ndarray:
        """Return joint positions (7,) [rad] that put the tip at `pose`, by damped least squares from the home posture.

        :raises ValueError: no solution within 0.01 mm and 0.01 mrad in 200 iterations
        """
        model, scene = self.model, self.scene
        data = mujoco.MjData(model)
        data.qpos[:] = scene.home
        jacobian = np.zeros((6, model.nv))
        low, high = model.jnt_range.T
        for _ in range(200):
            mujoco.mj_kinematics(model, data)
            mujoco.mj_comPos(model, data)
            tip = self._site_pose(data)
            error = np.concatenate([pose.position - tip.position, tip.rotation_vector_to(pose)])
            if np.abs(error).max() < 1e-5:
                return data.qpos.copy()
            mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], scene.tip_site)
            pseudo = jacobian.T @ np.linalg.inv(jacobian @ jacobian.T + 1e-5 * np.eye(6))
            posture = 0.1 * (scene.home - data.qpos)
            data.qpos += np.clip(
                pseudo @ error + posture - pseudo @ (jacobian @ posture), -0.3, 0.3
            )
            np.clip(data.qpos, low, high, out=data.qpos)
        raise ValueError(
            f'no joint positions reach the tip position {np.round(pose.position, 4).tolist()}'
        )

    def step(self, target: Pose) -> Measurement:
        """Track `target` (tip pose, base frame) for one control period and return the measurement at its end."""
        model, data, scene = self.model, self.data, self.scene
        self._update_posture()
        before = self._target
        shift = target.position - before.position
        q0, q1 = before.quaternion, target.quaternion
        if q0 @ q1 < 0.0:
            q1 = -q1
        for k in range(self._substeps):
            # A moving target instead of a staircase: what a controller's own target filter does.
            blend = (k + 1) / self._substeps
            self._set_mocap(
                scene.target_mocap, before.position + blend * shift, q0 + blend * (q1 - q0)
            )
            mujoco.mj_step(model, data, self._ticks)
            self._samples[k] = data.sensordata
        self._target = target
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        self._wrench = self._tip_wrench(self._samples.mean(axis=0))
        return self.measure()

    def measure(self) -> Measurement:
        """Return the state of arm and sensors now; calling it again returns the same."""
        data, scene = self.data, self.scene
        mujoco.mj_jacSite(self.model, data, self._jacobian[:3], self._jacobian[3:], scene.tip_site)
        velocities = data.qvel.copy()
        return Measurement(
            stamp=float(data.time),
            joint_positions=data.qpos.copy(),
            joint_velocities=velocities,
            tip_pose=self._site_pose(data),
            tip_twist=self._jacobian @ velocities,
            wrench=self._wrench,
            success_signal=self.insertion_depth()
            >= self.task.fixture.success_depth_fraction * self.task.fixture.depth_m,
        )

    def insertion_depth(self) -> float:
        """How deep the tip is in the hole [m]; zero unless the tip is within the hole's circle (the seat switch)."""
        x, y, z = (
            self.data.site_xpos[self.scene.tip_site] - self._placement.truth.position
        ) @ self._truth_matrix
        inside = x * x + y * y <= (2.0 * self.task.fixture.radial_clearance_m) ** 2
        return max(float(z), 0.0) if inside else 0.0

    def get_state(self) -> ArmState:
        """Return a copy of everything that decides what happens next."""
        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        physics = np.zeros(mujoco.mj_stateSize(self.model, kind))
        mujoco.mj_getState(self.model, self.data, physics, kind)
        return ArmState(
            physics, self._target, self._wrench, self._placement, self._rng.bit_generator.state
        )

    def set_state(self, state: ArmState) -> None:
        """Go back to a state from `get_state` (of any `SimArm` of the same task)."""
        mujoco.mj_setState(
            self.model, self.data, state.physics, mujoco.mjtState.mjSTATE_INTEGRATION
        )
        self._target, self._wrench = state.target, state.wrench
        self.place_fixture_at(state.placement)
        self._rng.bit_generator.state = state.rng
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)

    def _update_posture(self) -> None:
        """Let the posture spring act along the null vector of the tip's Jacobian at the present posture."""
        mujoco.mj_jacSite(
            self.model, self.data, self._jacobian[:3], self._jacobian[3:], self.scene.tip_site
        )
        jacobian = self._jacobian
        null = self._posture_guess - jacobian.T @ np.linalg.solve(
            jacobian @ jacobian.T, jacobian @ self._posture_guess
        )
        null /= np.sqrt(null @ null)
        self.model.wrap_prm[:] = null
        self.model.tendon_lengthspring[0] = null @ self.scene.home

    def _tip_wrench(self, sensed: np.ndarray) -> np.ndarray:
        """Wrench of the environment at the tip, tip axes, from the mount's sensor: tared, weight taken off, moved."""
        scene = self.scene
        weight = self.data.site_xmat[scene.tip_site].reshape(3, 3).T @ (scene.pipe_mass * GRAVITY)
        # MuJoCo reports what the hand exerts on the pipe; at rest that, the weight and the environment sum to zero.
        force = -sensed[:3] - weight
        torque = (
            -sensed[3:]
            - _cross(scene.tip_from_mount + scene.pipe_centre, weight)
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
