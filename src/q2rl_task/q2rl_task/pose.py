# SPDX-License-Identifier: Apache-2.0
"""Rigid poses: position [m] and unit quaternion (x, y, z, w), as in geometry_msgs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation


@dataclass(frozen=True)
class Pose:
    """A pose of a child frame in a parent frame (REP-103: metres, right-handed).

    `position`: (3,) float64 [m]. `quaternion`: (4,) float64, order x, y, z, w, unit length.
    """

    position: np.ndarray
    quaternion: np.ndarray

    @staticmethod
    def of(position, quaternion=(0.0, 0.0, 0.0, 1.0)) -> Pose:
        """Make a pose from any sequences; the quaternion is normalised."""
        q = np.asarray(quaternion, dtype=np.float64)
        return Pose(np.asarray(position, dtype=np.float64), q / np.linalg.norm(q))

    @staticmethod
    def from_rotation(position, rotation: Rotation) -> Pose:
        """Make a pose from a position (3,) [m] and a scipy Rotation."""
        return Pose(np.asarray(position, dtype=np.float64), rotation.as_quat())

    @property
    def rotation(self) -> Rotation:
        """The orientation as a scipy Rotation."""
        return Rotation.from_quat(self.quaternion)

    def __matmul__(self, other: Pose) -> Pose:
        """Compose: (A_T_B @ B_T_C) = A_T_C."""
        r = self.rotation
        return Pose.from_rotation(self.position + r.apply(other.position), r * other.rotation)

    def inverse(self) -> Pose:
        """Return the pose of the parent in the child frame."""
        r = self.rotation.inv()
        return Pose.from_rotation(-r.apply(self.position), r)

    def relative_to(self, frame: Pose) -> Pose:
        """Return this pose expressed in `frame` (both given in the same parent)."""
        return frame.inverse() @ self

    def rotation_vector_to(self, other: Pose) -> np.ndarray:
        """Rotation vector (3,) [rad], parent axes, that turns this orientation into `other`'s."""
        return (other.rotation * self.rotation.inv()).as_rotvec()

    def distance_to(self, other: Pose) -> tuple[float, float]:
        """Distance to `other`: (metres, radians)."""
        angle = (other.rotation * self.rotation.inv()).magnitude()
        return float(np.linalg.norm(other.position - self.position)), float(angle)

    def is_finite(self) -> bool:
        """Whether every number is finite and the quaternion is a unit one (to 1e-3)."""
        return bool(
            np.isfinite(self.position).all()
            and np.isfinite(self.quaternion).all()
            and abs(float(np.linalg.norm(self.quaternion)) - 1.0) < 1e-3
        )
