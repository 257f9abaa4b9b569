# SPDX-License-Identifier: Apache-2.0
"""Where the other links of a robot are that move with its tip, or stand with its base, by its URDF."""

from __future__ import annotations

from scipy.spatial.transform import Rotation

from q2rl_control.kinematics import frame_of, read_model
from q2rl_task import Pose


class RigidFrames:
    """The links of a description that have no joint between them and the tip, or the base.

    :param description: the URDF as text, or the path of a file with it
    :raises InputError: Pinocchio is missing, the text is no URDF, or it lacks base or tip
    """

    def __init__(self, description: str, base: str, tip: str) -> None:
        self._model = read_model(description)
        self._base, self._tip = (frame_of(self._model, name) for name in (base, tip))

    def in_tip(self, name: str) -> Pose | None:
        """Return the pose of a link in the tip frame; None if it is unknown or moves against the tip."""
        return self._between(self._tip, name)

    def in_base(self, name: str) -> Pose | None:
        """Return the pose of a link in the base frame; None if it is unknown or moves against the base."""
        return self._between(self._base, name)

    def _between(self, parent: int, name: str) -> Pose | None:
        if not self._model.existFrame(name):
            return None
        frame, above = self._model.frames[self._model.getFrameId(name)], self._model.frames[parent]
        if frame.parentJoint != above.parentJoint:
            return None
        placed = above.placement.actInv(frame.placement)
        return Pose.from_rotation(placed.translation.copy(), Rotation.from_matrix(placed.rotation))
