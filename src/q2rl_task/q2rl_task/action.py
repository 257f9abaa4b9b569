# SPDX-License-Identifier: Apache-2.0
"""What an action does: a Cartesian delta on the last *commanded* pose, never on the achieved one.

Deltas on the achieved pose lose against stiction; deltas on the commanded pose need a clamp on how far the command may
lead the arm, or the stored spring force grows without bound.
"""

from __future__ import annotations

import math

import numpy as np

from q2rl_task.pose import Pose
from q2rl_task.rotations import from_vector, inverse, product, rotate, to_vector
from q2rl_task.spec import TaskSpec


def advance_command(
    task: TaskSpec, commanded: Pose, action: np.ndarray, measured: Pose, fixture: Pose
) -> Pose:
    """Return the next commanded tip pose in the base frame.

    :param commanded: last commanded tip pose, base frame
    :param action: (D,) in [-1, 1]; translation then rotation vector, axes of the estimated fixture
        frame
    :param measured: measured tip pose, base frame
    :param fixture: estimated fixture pose, base frame
    """
    delta, axes = np.asarray(action, dtype=np.float64), fixture.quaternion
    shift = rotate(axes, delta[:3] * task.action.translation_m)
    turn = rotate(axes, delta[3:6] * task.action.rotation_rad)
    target = Pose(commanded.position + shift, product(from_vector(turn), commanded.quaternion))
    return clamp_lead(target, measured, task.limits.lead_m, task.limits.lead_rad)[0]


def clamp_lead(target: Pose, measured: Pose, lead_m: float, lead_rad: float) -> tuple[Pose, bool]:
    """Pull `target` back to within `lead_m` and `lead_rad` of `measured`.

    Also tell whether that was needed.
    """
    shift = target.position - measured.position
    turn = to_vector(product(target.quaternion, inverse(measured.quaternion)))
    distance, angle = math.sqrt(shift @ shift), math.sqrt(turn @ turn)
    if distance <= lead_m and angle <= lead_rad:
        return target, False
    shift = shift * min(1.0, lead_m / max(distance, 1e-12))
    turn = turn * min(1.0, lead_rad / max(angle, 1e-12))
    return Pose(measured.position + shift, product(from_vector(turn), measured.quaternion)), True


def advance_gripper(task: TaskSpec, commanded: float, action: np.ndarray) -> float:
    """Return the gripper's next commanded opening: 1 (open), 0 (closed), or `commanded` as it was.

    :param action: (D,) in [-1, 1]; the last component of a task with a gripper is the gripper's
    """
    if task.gripper is None:
        return commanded
    wish = float(action[6])
    if abs(wish) <= task.gripper.threshold:
        return commanded
    return 1.0 if wish > 0.0 else 0.0
