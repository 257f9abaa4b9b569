# SPDX-License-Identifier: Apache-2.0
"""Where the tip is and how it moves, from joint readings and the robot's description, by Pinocchio."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from q2rl_task import InputError, Pose


class TipMotion:
    """Forward kinematics of one arm.

    :param description: the URDF as text
    :param base: link that pose and twist are told in
    :param tip: link whose motion is told
    :raises InputError: Pinocchio is missing, the text is no URDF, or it lacks one of the links
    """

    def __init__(self, description: str, base: str, tip: str) -> None:
        where = 'robot_description'
        try:
            import pinocchio
        except ImportError:
            raise InputError(
                'Pinocchio', 'is not installed', 'pip install pin, or ros-jazzy-pinocchio'
            ) from None
        self._pin = pinocchio
        try:
            self._model = pinocchio.buildModelFromXML(description)
        except (ValueError, RuntimeError) as error:
            raise InputError(where, str(error).splitlines()[0], 'publish a valid URDF') from None
        for link in (base, tip):
            if not self._model.existFrame(link):
                raise InputError(where, f'has no link {link!r}', "name links as the task's frames")
        self._base, self._tip = (self._model.getFrameId(link) for link in (base, tip))
        self._data = self._model.createData()
        self._index = {
            name: (self._model.joints[k].idx_q, self._model.joints[k].idx_v)
            for k, name in enumerate(self._model.names)
            if k and self._model.joints[k].nq == self._model.joints[k].nv == 1
        }
        chain = [self._model.names[k] for k in self._model.supports[self._tip_joint] if k]
        self.needs = frozenset(chain)
        """Joints without whose readings the tip's motion is unknown."""

    @property
    def _tip_joint(self) -> int:
        return self._model.frames[self._tip].parentJoint

    def of(
        self, names: Sequence[str], positions: np.ndarray, velocities: np.ndarray
    ) -> tuple[Pose, np.ndarray] | None:
        """Return the tip's pose in the base frame, and its twist (6,) [m/s, rad/s] in base axes; None if joints lack.

        :param positions: (n,) [rad or m], of the joints `names`, in any order; other joints are ignored
        :param velocities: (n,)
        """
        if not self.needs <= set(names):
            return None
        q, v = self._pin.neutral(self._model), np.zeros(self._model.nv)
        for name, position, velocity in zip(names, positions, velocities, strict=True):
            if name in self._index:
                at_q, at_v = self._index[name]
                q[at_q], v[at_v] = position, velocity
        pin, model, data = self._pin, self._model, self._data
        pin.forwardKinematics(model, data, q, v)
        pin.updateFramePlacements(model, data)
        placed = data.oMf[self._base].actInv(data.oMf[self._tip])
        aligned = pin.ReferenceFrame.LOCAL_WORLD_ALIGNED
        moving = pin.getFrameVelocity(model, data, self._tip, aligned)
        turn = data.oMf[self._base].rotation.T
        twist = np.concatenate([turn @ moving.linear, turn @ moving.angular])
        pose = Pose.from_rotation(placed.translation.copy(), Rotation.from_matrix(placed.rotation))
        return pose, twist
