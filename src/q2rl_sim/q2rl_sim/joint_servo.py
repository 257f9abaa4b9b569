# SPDX-License-Identifier: Apache-2.0
"""A joint-level impedance in place of the Cartesian one: what a position-commanded arm that can touch things does.

Each joint is a spring-damper to its set point, at the physics rate, with gravity compensated, as in the joint impedance
mode of torque-controlled arms. Its stiffness is that which the Cartesian law has about the joint at the fixture,
diag(J^T K J), scaled so that a command that leads the tip by all that the task allows presses with no more than the
force and torque at which the task stops. A diagonal stiffness is none that is equal in all directions: across the arm
the tip is softer than the Cartesian law makes it, along it stiffer. Damping over stiffness is as in the Cartesian law.
"""

from __future__ import annotations

import mujoco
import numpy as np

from q2rl_sim.scene import DAMPING_N_S_M
from q2rl_task import TaskSpec


class JointServo:
    """Change the compiled `model` of an arm of n joints, the first ones, from the Cartesian law to the joints' own.

    :param jacobian: of the tip at the nominal fixture, (6, n), linear then angular
    """

    def __init__(self, model: mujoco.MjModel, task: TaskSpec, jacobian: np.ndarray) -> None:
        self._model = model
        self.size = jacobian.shape[1]
        self.stiffness = joint_stiffness(task, jacobian)
        """Of each joint, (n,) [Nm/rad]."""
        for k in range(model.nu):
            if model.actuator(k).name.startswith('impedance_'):
                model.actuator_gainprm[k] = model.actuator_biasprm[k] = 0.0
        posture = model.tendon('posture').id
        model.tendon_stiffness[posture] = model.tendon_damping[posture] = 0.0
        model.jnt_stiffness[: self.size] = self.stiffness
        damping = self.stiffness * (DAMPING_N_S_M / task.limits.stiffness_n_m)
        model.dof_damping[: self.size] = damping

    def drive(self, positions: np.ndarray) -> None:
        """Set the joints' set points (n,) [rad]."""
        self._model.qpos_spring[: self.size] = positions


def joint_stiffness(task: TaskSpec, jacobian: np.ndarray) -> np.ndarray:
    """Return the stiffness of each joint, (n,) [Nm/rad], see above."""
    limits = task.limits
    cartesian = np.array([limits.stiffness_n_m] * 3 + [limits.stiffness_nm_rad] * 3)
    stiffness = np.einsum('ij,i,ij->j', jacobian, cartesian, jacobian)
    force, torque = stiffest(stiffness, jacobian)
    allowed = (limits.force_stop_n / limits.lead_m, limits.torque_stop_nm / limits.lead_rad)
    return stiffness * min(1.0, allowed[0] / force, allowed[1] / torque)


def stiffest(stiffness: np.ndarray, jacobian: np.ndarray) -> tuple[float, float]:
    """Return the tip's stiffness in its stiffest directions, (N/m, Nm/rad), the other three degrees of freedom free."""
    compliance = (jacobian / stiffness) @ jacobian.T
    return tuple(
        1.0 / float(np.linalg.eigvalsh(part)[0])
        for part in (compliance[:3, :3], compliance[3:, 3:])
    )
