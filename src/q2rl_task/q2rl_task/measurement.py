# SPDX-License-Identifier: Apache-2.0
"""What the robot reports at one instant, before any of it becomes an observation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from q2rl_task.pose import Pose


@dataclass(frozen=True)
class Measurement:
    """One synchronous reading of the robot's state streams.

    stamp: seconds on the node's clock. joint_positions, joint_velocities: (n,) [rad, rad/s].
    tip_pose: tool tip in the base frame. tip_twist: (6,) linear [m/s] then angular [rad/s], base
    axes.
    wrench: (6,) force [N] then torque [Nm] that the environment exerts on the tool, at the tip, tip
    axes.
    success_signal: the fixture's own signal (a seat switch, for instance). gripper: opening in [0,
    1], NaN without one. joint_names: of the joints, in their order; empty where nobody says.
    """

    stamp: float
    joint_positions: np.ndarray
    joint_velocities: np.ndarray
    tip_pose: Pose
    tip_twist: np.ndarray
    wrench: np.ndarray
    success_signal: bool
    gripper: float = float('nan')
    joint_names: tuple[str, ...] = ()

    @property
    def force(self) -> float:
        """Magnitude of the contact force [N]."""
        return float(np.linalg.norm(self.wrench[:3]))

    @property
    def torque(self) -> float:
        """Magnitude of the contact torque [Nm]."""
        return float(np.linalg.norm(self.wrench[3:]))

    def is_finite(self) -> bool:
        """Whether pose, twist, wrench and joints hold finite numbers only."""
        return self.tip_pose.is_finite() and all(
            bool(np.isfinite(a).all())
            for a in (self.tip_twist, self.wrench, self.joint_positions, self.joint_velocities)
        )
