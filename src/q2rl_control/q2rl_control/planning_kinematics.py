# SPDX-License-Identifier: Apache-2.0
"""An arm's kinematics from its URDF, by Pinocchio: the tip's pose, its Jacobian, joints that put it somewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import xml.etree.ElementTree as ElementTree

import numpy as np

from q2rl_task import InputError, Pose

try:
    import pinocchio
except ImportError:  # only planners and joint commands need it: `load_arm` says so
    pinocchio = None

ITERATIONS = 200
DAMPING = 1e-4
LARGEST_STEP_RAD = 0.2
STALLED = 12
"""So many steps without coming nearer end the search."""
REACHED_M = 1e-5
REACHED_RAD = 1e-4
WHERE = 'robot description'


class Arm:
    """A chain of joints with a tip; what else moves (fingers) stands still.

    One caller at a time: Pinocchio computes in one scratch space.

    joints: their names, in the order of every joint vector (n,) [rad or m]. low, high: (n,) their limits.
    model, data: of Pinocchio. tip: id of the tip's frame in them.
    """

    def __init__(self, model, tip_frame: str) -> None:
        self.model = model
        self.data = model.createData()
        self.tip = model.getFrameId(tip_frame)
        self.joints = tuple(model.names)[1:]
        self.low = np.array(model.lowerPositionLimit)
        self.high = np.array(model.upperPositionLimit)

    def tip_pose(self, joints: np.ndarray) -> Pose:
        """Return the tip's pose in the base frame."""
        pinocchio.forwardKinematics(self.model, self.data, joints)
        placement = pinocchio.updateFramePlacement(self.model, self.data, self.tip)
        # (x, y, z, w)
        quaternion = pinocchio.Quaternion(placement.rotation).coeffs()
        return Pose.of(placement.translation, quaternion)

    def jacobian(self, joints: np.ndarray) -> np.ndarray:
        """Return the tip's Jacobian (6, n): linear [m] then angular [rad], base axes, at the tip."""
        frame = pinocchio.ReferenceFrame.LOCAL_WORLD_ALIGNED
        return pinocchio.computeFrameJacobian(self.model, self.data, joints, self.tip, frame)

    def solve(self, pose: Pose, seed: np.ndarray) -> np.ndarray | None:
        """Return joints (n,) within their limits that put the tip at `pose` (base frame), near `seed`; None: not found.

        Damped least squares from `seed`: what it finds is the near solution, not every one.
        """
        joints = np.clip(seed, self.low, self.high)
        nearest, stalled = float('inf'), 0
        for _ in range(ITERATIONS):
            here = self.tip_pose(joints)
            error = np.concatenate([pose.position - here.position, here.rotation_vector_to(pose)])
            if np.linalg.norm(error[:3]) < REACHED_M and np.linalg.norm(error[3:]) < REACHED_RAD:
                return joints
            distance = float(np.linalg.norm(error))
            nearest, stalled = (
                (distance, 0) if distance < 0.99 * nearest else (nearest, stalled + 1)
            )
            if stalled == STALLED:
                return None
            jacobian = self.jacobian(joints)
            square = jacobian @ jacobian.T + DAMPING**2 * np.eye(6)
            step = jacobian.T @ np.linalg.solve(square, error)
            largest = float(np.abs(step).max())
            step *= min(1.0, LARGEST_STEP_RAD / max(largest, 1e-12))
            joints = np.clip(joints + step, self.low, self.high)
        return None


def load_arm(
    urdf_text: str,
    joints: Sequence[str] | None,
    tip_frame: str,
    others: Mapping[str, float] | None = None,
) -> Arm:
    """Build the arm of a URDF.

    :param joints: the joints that move; None: those between the root and the tip
    :param tip_frame: a link of the URDF; its root is the base frame
    :param others: where the other joints stand [rad or m]; by default at zero
    :raises InputError: Pinocchio is not installed, or the URDF lacks the tip or a joint
    """
    model = _whole_model(urdf_text, tip_frame)
    joints = chain_joints(urdf_text, tip_frame) if joints is None else tuple(joints)
    reference = pinocchio.neutral(model)
    for name in (*joints, *(others or {})):
        if not model.existJointName(name):
            raise InputError(WHERE, f'has no joint {name!r}', 'give the description of this robot')
    for name, value in (others or {}).items():
        reference[model.joints[model.getJointId(name)].idx_q] = value
    locked = [k for k, name in enumerate(model.names) if k and name not in joints]
    return Arm(pinocchio.buildReducedModel(model, locked, reference), tip_frame)


def load_geometry(urdf_text: str, arm: Arm, others: Mapping[str, float] | None = None):
    """Return Pinocchio's collision geometry of the URDF's links, for the joints of `arm`.

    :raises InputError: Pinocchio is not installed, or a mesh cannot be read
    """
    model = _whole_model(urdf_text, arm.model.frames[arm.tip].name)
    try:
        geometry = pinocchio.buildGeomFromUrdfString(
            model, urdf_text, pinocchio.GeometryType.COLLISION
        )
    except (RuntimeError, ValueError) as error:
        problem = ' '.join(str(error).split())
        raise InputError(
            WHERE, f'its meshes cannot be read: {problem}', 'name them by their absolute paths'
        ) from None
    reference = pinocchio.neutral(model)
    for name, value in (others or {}).items():
        reference[model.joints[model.getJointId(name)].idx_q] = value
    locked = [k for k, name in enumerate(model.names) if k and name not in arm.joints]
    return pinocchio.buildReducedModel(model, geometry, locked, reference)[1]


def chain_joints(urdf_text: str, tip_frame: str) -> tuple[str, ...]:
    """Return the moving joints of a URDF between its root and a link, from the root on."""
    parents = {
        joint.find('child').get('link'): joint
        for joint in ElementTree.fromstring(urdf_text).findall('joint')
    }
    chain, link = [], tip_frame
    while link in parents:
        joint = parents[link]
        if joint.get('type') != 'fixed':
            chain.append(joint.get('name'))
        link = joint.find('parent').get('link')
    return tuple(reversed(chain))


def _whole_model(urdf_text: str, tip_frame: str):
    if pinocchio is None:
        raise InputError(
            'pinocchio',
            'is not installed',
            'pip install pin, or on a robot apt install ros-jazzy-pinocchio',
        )
    try:
        model = pinocchio.buildModelFromXML(urdf_text)
    except (RuntimeError, ValueError) as error:
        problem = ' '.join(str(error).split())
        raise InputError(WHERE, f'is no URDF: {problem}', 'give one, not a xacro') from None
    if not model.existFrame(tip_frame):
        raise InputError(
            WHERE,
            f'has no link {tip_frame!r}',
            "add it, or name the tip in the task's `frames.tip`",
        )
    return model
