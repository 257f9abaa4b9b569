# SPDX-License-Identifier: Apache-2.0
"""Forward kinematics, Jacobian and joint limits of an arm, from its URDF, by Pinocchio."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
from scipy.spatial.transform import Rotation

from q2rl_task import InputError, Pose

WHERE = 'parameter `robot_description`'


class ArmKinematics:
    """An arm from the frame `base` to the frame `tip`; positions and velocities are in the order of `joints`.

    lower, upper: (n,) joint limits [rad or m], infinite where there are none; speed: (n,) velocity limits [rad/s or
    m/s]. Joints that do not move the tip (a gripper's) are left at zero.

    :param description: the URDF as text, or the path of a file with it
    :param joints: names; empty: all movable ones between base and tip, from the base on
    :raises InputError: Pinocchio is missing, or the description has no such arm
    """

    def __init__(self, description: str, base: str, tip: str, joints: Sequence[str] = ()) -> None:
        self._pin = _pinocchio()
        self._model = self._read(description)
        self._base, self._tip = (self._frame(name) for name in (base, tip))
        movable = list(self._model.supports[self._model.frames[self._tip].parentJoint])[1:]
        below = set(self._model.supports[self._model.frames[self._base].parentJoint])
        chain = [self._model.names[k] for k in movable if k not in below]
        self.joints = tuple(joints) or tuple(chain)
        if set(self.joints) != set(chain):
            raise InputError(
                'parameter `joints`',
                f'{", ".join(self.joints)} are not the joints from {base} to {tip}',
                f'name {", ".join(chain)} in the order of the controller, or none for this order',
            )
        parts = [self._model.joints[self._model.getJointId(name)] for name in self.joints]
        if not parts or any(part.nv != 1 for part in parts):
            raise InputError(
                WHERE, 'a joint does not turn or slide about one axis', 'use another arm'
            )
        self._q = [(part.idx_q, part.nq) for part in parts]
        self._v = np.array([part.idx_v for part in parts])
        bounded = np.array([part.nq == 1 for part in parts])
        first = [part.idx_q for part in parts]
        self.lower = np.where(bounded, self._model.lowerPositionLimit[first], -np.inf)
        self.upper = np.where(bounded, self._model.upperPositionLimit[first], np.inf)
        self.speed = self._model.velocityLimit[self._v].copy()
        if not (np.isfinite(self.speed).all() and (self.speed > 0).all()):
            raise InputError(
                WHERE, 'a joint has no velocity limit', 'give each joint a <limit velocity>'
            )
        self._data = self._model.createData()

    def tip_pose(self, positions: np.ndarray) -> Pose:
        """Return the tip's pose in the base frame for joint positions (n,)."""
        self._place(positions)
        placed = self._data.oMf[self._base].actInv(self._data.oMf[self._tip])
        return Pose.from_rotation(placed.translation.copy(), Rotation.from_matrix(placed.rotation))

    def jacobian(self, positions: np.ndarray) -> np.ndarray:
        """Return the tip's Jacobian (6, n): linear then angular velocity of the tip in base axes."""
        whole = self._pin.computeFrameJacobian(
            self._model,
            self._data,
            self._configuration(positions),
            self._tip,
            self._pin.ReferenceFrame.LOCAL_WORLD_ALIGNED,
        )
        self._place(positions)
        turn = self._data.oMf[self._base].rotation.T
        columns = whole[:, self._v]
        return np.concatenate([turn @ columns[:3], turn @ columns[3:]])

    def _place(self, positions: np.ndarray) -> None:
        self._pin.framesForwardKinematics(self._model, self._data, self._configuration(positions))

    def _configuration(self, positions: np.ndarray) -> np.ndarray:
        q = self._pin.neutral(self._model)
        for (at, size), value in zip(self._q, positions, strict=True):
            # A joint without limits is kept as cosine and sine.
            q[at : at + size] = value if size == 1 else (np.cos(value), np.sin(value))
        return q

    def _read(self, description: str):
        if not description:
            raise InputError(WHERE, 'is empty', 'give the URDF, or the path of a file with it')
        try:
            return self._pin.buildModelFromXML(description_text(description))
        except (ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0] if str(error) else 'not a URDF'
            raise InputError(WHERE, reason, 'give a valid URDF') from None

    def _frame(self, name: str) -> int:
        if not self._model.existFrame(name):
            raise InputError(
                WHERE, f'has no link {name!r}', "name the task's frames as the description does"
            )
        return self._model.getFrameId(name)


def description_text(description: str) -> str:
    """Return a URDF that is given as text (empty: none), or as the path of a file with it.

    :raises InputError: the file cannot be read
    """
    if not description or description.lstrip().startswith('<'):
        return description
    try:
        return Path(description).read_text(encoding='utf-8')
    except OSError as error:
        problem = f'{description}: {error.strerror or error}'
        remedy = 'give the URDF, or the path of a file with it'
        raise InputError(WHERE, problem, remedy) from None


def _pinocchio() -> ModuleType:
    try:
        import pinocchio
    except ImportError:
        raise InputError(
            'Pinocchio',
            'is not installed',
            'install it (pip install pin, or ros-jazzy-pinocchio), or choose another command_sink',
        ) from None
    return pinocchio
