# SPDX-License-Identifier: Apache-2.0
"""The robot's sensor topics: one measurement as five messages with one stamp, and the five joined again."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NamedTuple

from geometry_msgs.msg import PoseStamped, TwistStamped, WrenchStamped
import numpy as np
from sensor_msgs.msg import JointState

from q2rl_msgs.msg import SuccessSignal
from q2rl_ros.conversions import pose_from_msg, pose_to_msg
from q2rl_ros.errors import MessageError
from q2rl_ros.stamps import stamp_from_msg, stamp_to_msg
from q2rl_task import Measurement, TaskSpec

SENSOR_TOPICS = {
    'joint_states': JointState,
    'current_pose': PoseStamped,
    'current_twist': TwistStamped,
    'force_torque_sensor_broadcaster/wrench': WrenchStamped,
    'success_signal': SuccessSignal,
}
"""Relative topic names and types, in the order of `SensorMessages`."""


class SensorMessages(NamedTuple):
    """One measurement on the wire, in the order of `SENSOR_TOPICS`."""

    joint_states: JointState
    pose: PoseStamped
    twist: TwistStamped
    wrench: WrenchStamped
    success: SuccessSignal


def measurement_to_msgs(
    measurement: Measurement, joint_names: Sequence[str], task: TaskSpec
) -> SensorMessages:
    """Return the sensor messages of a measurement, all with its stamp."""
    frames = task.frames
    pose = pose_to_msg(measurement.tip_pose, frames.base, measurement.stamp)
    stamp = pose.header.stamp
    joints = JointState(name=list(joint_names))
    joints.header.stamp = stamp
    joints.position = array('d', measurement.joint_positions.tobytes())
    joints.velocity = array('d', measurement.joint_velocities.tobytes())
    twist = TwistStamped()
    twist.header.stamp, twist.header.frame_id = stamp, frames.base
    _fill(twist.twist.linear, twist.twist.angular, measurement.tip_twist)
    wrench = wrench_to_msg(measurement, frames.tip)
    success = SuccessSignal(success=bool(measurement.success_signal))
    success.header.stamp, success.header.frame_id = stamp, frames.fixture
    return SensorMessages(joints, pose, twist, wrench, success)


def wrench_to_msg(measurement: Measurement, tip: str) -> WrenchStamped:
    """Return the wrench of a measurement, with its stamp.

    :param tip: name of the frame at the tip, in whose axes it is
    """
    msg = WrenchStamped()
    msg.header.stamp, msg.header.frame_id = stamp_to_msg(measurement.stamp), tip
    _fill(msg.wrench.force, msg.wrench.torque, measurement.wrench)
    return msg


class MeasurementJoiner:
    """Join the sensor topics on equal stamps.

    `incomplete` counts messages that were overtaken by a later stamp before their measurement was whole.
    """

    def __init__(self, task: TaskSpec) -> None:
        self._task = task
        self._slots: dict[str, tuple[tuple[int, int], object]] = {}
        self.incomplete = 0

    def add(self, topic: str, msg) -> Measurement | None:
        """Take a message of one of `SENSOR_TOPICS`; return the measurement when all five of a stamp are in.

        Five messages sent again make the measurement again: a repeat is the receiver's to recognise.

        :raises MessageError: unexpected frame, unequal joint arrays or impossible stamp; that measurement is lost
        """
        key = (msg.header.stamp.sec, msg.header.stamp.nanosec)
        before = self._slots.get(topic)
        if before is not None and before[0] != key:
            self.incomplete += 1
        self._slots[topic] = (key, msg)
        if len(self._slots) < len(SENSOR_TOPICS) or any(
            slot[0] != key for slot in self._slots.values()
        ):
            return None
        whole = SensorMessages(*(self._slots[name][1] for name in SENSOR_TOPICS))
        self._slots.clear()
        return self._build(whole)

    def _build(self, msgs: SensorMessages) -> Measurement:
        joints, frames = msgs.joint_states, self._task.frames
        if len(joints.position) != len(joints.velocity):
            raise MessageError(
                'malformed', 'joint_states with unequal lengths of position and velocity'
            )
        for msg, frame in ((msgs.twist, frames.base), (msgs.wrench, frames.tip)):
            if msg.header.frame_id != frame:
                raise MessageError(
                    'malformed',
                    f'{type(msg).__name__} in frame {msg.header.frame_id!r}, expected {frame!r}',
                )
        return Measurement(
            stamp=stamp_from_msg(joints.header.stamp),
            joint_positions=np.array(joints.position),
            joint_velocities=np.array(joints.velocity),
            tip_pose=pose_from_msg(msgs.pose, frames.base),
            tip_twist=_read(msgs.twist.twist.linear, msgs.twist.twist.angular),
            wrench=_read(msgs.wrench.wrench.force, msgs.wrench.wrench.torque),
            success_signal=msgs.success.success,
            gripper=_opening(joints, self._task),
            joint_names=tuple(joints.name),
        )


def _opening(joints: JointState, task: TaskSpec) -> float:
    """Return the gripper's opening in [0, 1] by its joints; NaN for a task without one."""
    if task.gripper is None:
        return float('nan')
    positions = dict(zip(joints.name, joints.position, strict=False))
    missing = [name for name in task.gripper.joints if name not in positions]
    if missing:
        raise MessageError('malformed', f'joint_states without {", ".join(missing)}')
    mean = sum(positions[name] for name in task.gripper.joints) / len(task.gripper.joints)
    return mean / task.gripper.open_m


def _fill(first, second, values: np.ndarray) -> None:
    first.x, first.y, first.z, second.x, second.y, second.z = values.tolist()


def _read(first, second) -> np.ndarray:
    return np.array([first.x, first.y, first.z, second.x, second.y, second.z])
