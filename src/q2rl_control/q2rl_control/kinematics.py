# SPDX-License-Identifier: Apache-2.0
"""An arm's kinematics from its URDF, by Pinocchio: its joints, the tip's pose and Jacobian, joints for a tip pose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from q2rl_task import InputError, Pose
from q2rl_task.errors import one_line

WHERE = 'robot_description'
ITERATIONS = 200
DAMPING = 1e-4
LARGEST_STEP_RAD = 0.2
STALLED = 12
"""So many steps of `ArmKinematics.solve` without coming nearer end the search."""
REACHED_M = 1e-5
REACHED_RAD = 1e-4


class ArmKinematics:
    """The joints that move the frame `tip` against the frame `base`; all others (a gripper's) stand still.

    Vectors of joints (n,) [rad or m] are in the order of `joints`; poses and twists are the tip's, in the base frame.
    One caller at a time: Pinocchio computes in one scratch space.

    joints: names. lower, upper: (n,) limits, infinite where there are none. speed: (n,) velocity limits [rad/s or m/s].
    model, data: Pinocchio's, of these joints alone, in the frame of the URDF's root. tip: id of the tip's frame there.
    base: the base frame's placement there (SE3).

    :param description: the URDF as text, or the path of a file with it
    :param joints: the names in the caller's order; empty: from the base on
    :param others: where joints that stand still do so [rad or m]; by default at zero
    :raises InputError: Pinocchio is missing, or the description has no such arm
    """

    def __init__(
        self,
        description: str,
        base: str,
        tip: str,
        joints: Sequence[str] = (),
        others: Mapping[str, float] | None = None,
    ) -> None:
        self._pin = _pinocchio()
        self._urdf = description_text(description)
        self._whole = read_model(self._urdf)
        chain = self._chain(base, tip)
        self.joints = tuple(joints) or chain
        if sorted(self.joints) != sorted(chain):
            raise InputError(
                'parameter `joints`',
                f'{", ".join(self.joints)} are not the joints from {base} to {tip}',
                f'name {", ".join(chain)} in the order of the controller, or none for this order',
            )
        self._locked = [k for k, name in enumerate(self._whole.names) if k and name not in chain]
        self._stance = self._at_rest(others or {})
        self.model = self._pin.buildReducedModel(self._whole, self._locked, self._stance)
        self.data = self.model.createData()
        self.tip = self.model.getFrameId(tip)
        self._pin.framesForwardKinematics(self.model, self.data, self._pin.neutral(self.model))
        self.base = self.data.oMf[self.model.getFrameId(base)].copy()
        parts = [self.model.joints[self.model.getJointId(name)] for name in self.joints]
        if not parts or any(part.nv != 1 for part in parts):
            raise InputError(
                WHERE,
                f'from {base} to {tip} not every joint turns about or slides along one axis',
                "name an arm's base and tip in the task's `frames`",
            )
        self._q = [(part.idx_q, part.nq) for part in parts]
        self._v = np.array([part.idx_v for part in parts])
        bounded = np.array([part.nq == 1 for part in parts])
        first = [part.idx_q for part in parts]
        self.lower = np.where(bounded, self.model.lowerPositionLimit[first], -np.inf)
        self.upper = np.where(bounded, self.model.upperPositionLimit[first], np.inf)
        self.speed = self.model.velocityLimit[self._v].copy()

    def tip_pose(self, positions: np.ndarray) -> Pose:
        """Return the tip's pose for joint positions (n,)."""
        self._pin.forwardKinematics(self.model, self.data, self.configuration(positions))
        placed = self.base.actInv(self._pin.updateFramePlacement(self.model, self.data, self.tip))
        # (x, y, z, w)
        quaternion = self._pin.Quaternion(placed.rotation).coeffs()
        return Pose.of(np.array(placed.translation), quaternion)

    def jacobian(self, positions: np.ndarray) -> np.ndarray:
        """Return the tip's Jacobian (6, n): times joint velocities (n,) it is the twist, linear then angular."""
        whole = self._pin.computeFrameJacobian(
            self.model,
            self.data,
            self.configuration(positions),
            self.tip,
            self._pin.ReferenceFrame.LOCAL_WORLD_ALIGNED,
        )
        columns, turn = whole[:, self._v], self.base.rotation.T
        return np.concatenate([turn @ columns[:3], turn @ columns[3:]])

    def error(self, positions: np.ndarray, target: Pose) -> np.ndarray:
        """Return what the tip lacks to `target`, (6,): the shift [m], then the rotation vector [rad]."""
        tip = self.tip_pose(positions)
        return np.concatenate([target.position - tip.position, tip.rotation_vector_to(target)])

    def solve(self, target: Pose, seed: np.ndarray) -> np.ndarray | None:
        """Return joints (n,) within their limits that put the tip at `target`, near `seed` (n,); None: not found.

        Damped least squares from `seed`: what it finds is the near solution, not every one.
        """
        joints = np.clip(seed, self.lower, self.upper)
        nearest, stalled = float('inf'), 0
        for _ in range(ITERATIONS):
            error = self.error(joints, target)
            if np.linalg.norm(error[:3]) < REACHED_M and np.linalg.norm(error[3:]) < REACHED_RAD:
                return joints
            distance = float(np.linalg.norm(error))
            nearest, stalled = (
                (distance, 0) if distance < 0.99 * nearest else (nearest, stalled + 1)
            )
            if stalled == STALLED:
                return None
            step = damped_step(self.jacobian(joints), error, DAMPING)
            largest = float(np.abs(step).max())
            step *= min(1.0, LARGEST_STEP_RAD / max(largest, 1e-12))
            joints = np.clip(joints + step, self.lower, self.upper)
        return None

    def among(self, names: Sequence[str]) -> tuple[list[int], list[str]]:
        """Return where in `names` the arm's joints are, in their order, and which of them are not there."""
        at = {name: k for k, name in enumerate(names)}
        return (
            [at[name] for name in self.joints if name in at],
            [name for name in self.joints if name not in at],
        )

    def configuration(self, positions: np.ndarray) -> np.ndarray:
        """Return joint positions (n,) as Pinocchio's model takes them."""
        q = np.empty(self.model.nq)
        for (at, size), value in zip(self._q, positions, strict=True):
            # A joint without limits is kept as cosine and sine.
            q[at : at + size] = value if size == 1 else (np.cos(value), np.sin(value))
        return q

    def collision_geometry(self):
        """Return Pinocchio's collision geometry of the links, placed by `model`.

        :raises InputError: a mesh cannot be read
        """
        try:
            geometry = self._pin.buildGeomFromUrdfString(
                self._whole, self._urdf, self._pin.GeometryType.COLLISION
            )
        except (RuntimeError, ValueError) as error:
            problem = one_line(error)
            raise InputError(
                WHERE, f'its meshes cannot be read: {problem}', 'name them by their absolute paths'
            ) from None
        return self._pin.buildReducedModel(self._whole, geometry, self._locked, self._stance)[1]

    def _chain(self, base: str, tip: str) -> tuple[str, ...]:
        """Return the joints between two links, from the base on."""
        above, below = (
            list(self._whole.supports[self._whole.frames[frame_of(self._whole, link)].parentJoint])
            for link in (tip, base)
        )
        return tuple(self._whole.names[k] for k in above if k and k not in below)

    def _at_rest(self, others: Mapping[str, float]) -> np.ndarray:
        """Return a configuration of the whole description with `others` where they stand."""
        q = self._pin.neutral(self._whole)
        for name, value in others.items():
            if not self._whole.existJointName(name):
                raise InputError(
                    WHERE, f'has no joint {name!r}', 'give the description of this robot'
                )
            q[self._whole.joints[self._whole.getJointId(name)].idx_q] = value
        return q


def damped_step(jacobian: np.ndarray, error: np.ndarray, damping: float) -> np.ndarray:
    """Return the damped least-squares step (n,) of joints with the Jacobian (6, n) for a tip error (6,)."""
    square = jacobian @ jacobian.T + damping**2 * np.eye(6)
    return jacobian.T @ np.linalg.solve(square, error)


def read_model(description: str):
    """Return the Pinocchio model of a URDF that is given as text, or as the path of a file with it.

    :raises InputError: Pinocchio is missing, or that is no URDF
    """
    pinocchio, urdf = _pinocchio(), description_text(description)
    if not urdf:
        raise InputError(WHERE, 'is empty', 'give the URDF, or the path of a file with it')
    try:
        return pinocchio.buildModelFromXML(urdf)
    except (RuntimeError, ValueError) as error:
        reason = ' '.join(str(error).split()) or 'it cannot be read'
        raise InputError(WHERE, f'is no URDF: {reason}', 'give one, not a xacro') from None


def frame_of(model, name: str) -> int:
    """Return the id of a link in a Pinocchio model.

    :raises InputError: there is none
    """
    if not model.existFrame(name):
        raise InputError(
            WHERE, f'has no link {name!r}', "name the task's frames as the description does"
        )
    return model.getFrameId(name)


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
            'Pinocchio', 'is not installed', 'pip install pin, or apt install ros-jazzy-pinocchio'
        ) from None
    return pinocchio
