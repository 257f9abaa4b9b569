# SPDX-License-Identifier: Apache-2.0
"""Where the robot's state comes from: the topics of its drivers, TF, or the joints through its description.

Whatever the source, each stream arrives as the message of `SENSOR_TOPICS` that it stands for, so joins by stamp and
checks of age are the same for all.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable

from geometry_msgs.msg import Pose as PoseMsg
from geometry_msgs.msg import PoseStamped, TwistStamped, WrenchStamped
import numpy as np
from sensor_msgs.msg import JointState

from q2rl_control.frame_tree import FrameTree
from q2rl_control.gripper_joints import make_gripper_joints
from q2rl_control.kinematics import ArmKinematics
from q2rl_control.rigid_frames import RigidFrames
from q2rl_control.sensor_watch import RepeatWatch
from q2rl_control.tip_velocity import PoseDifference
from q2rl_control.wrench_frames import WrenchFrames
from q2rl_control.wrench_tare import Payload, WrenchTare
from q2rl_msgs.msg import SuccessSignal
from q2rl_ros.conversions import pose_from_msg, pose_to_msg
from q2rl_ros.errors import MessageError
from q2rl_ros.node import Q2rlNode
from q2rl_ros.sensors import SENSOR_TOPICS
from q2rl_ros.stamps import stamp_from_msg
from q2rl_task import InputError, Pose

JOINTS, POSE, TWIST, WRENCH, SUCCESS = SENSOR_TOPICS
TOPIC_PARAMETERS = {
    'joint_topic': JOINTS,
    'pose_topic': POSE,
    'twist_topic': TWIST,
    'wrench_topic': WRENCH,
}
POSE_AGE_S = 0.1
"""A wrench in base axes is turned by a pose that is at most this much older or newer."""


def declare_sensor_parameters(node: Q2rlNode) -> None:
    """Declare what `SensorInputs` reads."""
    node.declare(
        'pose_source',
        'topic',
        "Where the tip's pose comes from: topic (pose_topic), tf, or joints (robot_description).",
        choices=('topic', 'tf', 'joints'),
    )
    node.declare(
        'twist_source',
        'topic',
        "Where the tip's twist comes from: topic (twist_topic), joints (the Jacobian of robot_description times "
        'the joint velocities), or poses (their difference).',
        choices=('topic', 'joints', 'poses'),
    )
    node.declare(
        'success_source',
        'topic',
        'Where success comes from: topic (success_signal), or operator (episode labels alone).',
        choices=('topic', 'operator'),
    )
    node.declare('joint_topic', JOINTS, 'Topic of the joint state broadcaster.')
    node.declare(
        'joints_frozen_after',
        0.0,
        'Time [s] without the least change in positions and velocities after which joint_topic counts as silent: its '
        'publisher repeats itself. 0: never, as in simulation, where an arm at rest does not flicker.',
        low=0.0,
        high=60.0,
    )
    node.declare('pose_topic', POSE, 'Topic of the pose broadcaster.')
    node.declare('twist_topic', TWIST, "Topic of the tip's twist.")
    node.declare(
        'wrench_topic',
        WRENCH,
        "Topic of the force-torque sensor broadcaster. A wrench in another frame than the tip's is brought there: from "
        'the base frame by the pose, from a link on the tool by robot_description, or by TF (pose_source tf).',
    )
    node.declare(
        'wrench_frame',
        '',
        'Frame that the wrench is in, for a driver whose header does not tell the truth; empty: the one of the header.',
    )
    node.declare(
        'wrench_about',
        'frame',
        "The point that the torque of a wrench in another frame than the tip's is about: frame (its origin), or tip "
        '(only the axes differ).',
        choices=('frame', 'tip'),
    )
    node.declare(
        'wrench_reversed',
        False,
        'Whether the wrench is what the robot does to the environment: then its sign is turned.',
    )


class SensorInputs:
    """Subscribe the streams and hand each message on under its name in `SENSOR_TOPICS`.

    :param receive: `receive(name, msg)`; may raise `MessageError`
    :param kinematics: of the arm; needed for sources that are computed from the joints, and then the arm's joints
        come first in every measurement, in its order
    :param links: where a wrench may come from beside tip and base
    :param tare: takes the sensor's offset off every wrench
    :param payload: whose weight is taken off every wrench
    :raises InputError: TF is wanted and tf2_msgs is not there
    """

    def __init__(
        self,
        node: Q2rlNode,
        receive: Callable[[str, object], None],
        kinematics: ArmKinematics | None,
        links: RigidFrames | None = None,
        tare: WrenchTare | None = None,
        payload: Payload | None = None,
    ) -> None:
        self._receive, self._kinematics = receive, kinematics
        self._tare, self._payload = tare, payload
        self._frames = node.task.frames
        self._gripper = make_gripper_joints(node, sorted_out=kinematics is not None)
        self._pose_source = node.value('pose_source')
        self._twist_source = node.value('twist_source')
        self._success_source = node.value('success_source')
        self._difference = PoseDifference()
        self._joint_watch = RepeatWatch(node.value('joints_frozen_after') or None)
        self._tree = FrameTree()
        self._tf_stamp: float | None = None
        self._last_pose: tuple[float, PoseMsg] | None = None
        self._wrench_frames = WrenchFrames(
            self._frames.base,
            self._frames.tip,
            links,
            self._tree if self._pose_source == 'tf' else None,
            about_tip=node.value('wrench_about') == 'tip',
        )
        self._wrench_frame = node.value('wrench_frame')
        self._sign = -1.0 if node.value('wrench_reversed') else 1.0
        self._wrench: tuple[np.ndarray, np.ndarray] | None = None
        heard = {JOINTS: self._on_joints, WRENCH: self._on_wrench}
        if self._pose_source == 'topic':
            heard[POSE] = self._on_pose
        if self._twist_source == 'topic':
            heard[TWIST] = lambda msg: receive(TWIST, msg)
        if self._success_source == 'topic':
            heard[SUCCESS] = lambda msg: receive(SUCCESS, msg)
        topics = {name: node.value(parameter) for parameter, name in TOPIC_PARAMETERS.items()}
        for name, handler in heard.items():
            topic = topics.get(name, name)
            node.subscribe(SENSOR_TOPICS[name], topic, handler, node.qos.sensors)
        if self._pose_source == 'tf':
            kind = _tf_message()
            node.subscribe(kind, '/tf', lambda msg: self.on_tf(msg, False), node.qos.events)
            node.subscribe(
                kind,
                '/tf_static',
                lambda msg: self.on_tf(msg, True),
                node.qos.weights,  # latched, with room for several publishers
                while_inactive=True,
            )

    def on_tf(self, msg, static: bool) -> None:
        """Take a TFMessage; hand on the tip's pose where its stamp is new."""
        for each in msg.transforms:
            shift, turn = each.transform.translation, each.transform.rotation
            pose = Pose(
                np.array([shift.x, shift.y, shift.z]), np.array([turn.x, turn.y, turn.z, turn.w])
            )
            parent, child = each.header.frame_id.lstrip('/'), each.child_frame_id.lstrip('/')
            stamp = None if static else stamp_from_msg(each.header.stamp)
            self._tree.set(parent, child, pose, stamp)
        if static:
            return
        try:
            pose, stamp = self._tree.lookup(self._frames.base, self._frames.tip)
        except LookupError:
            return  # other publishers speak first; the stream counts as stale until the chain is there
        if stamp is not None and stamp != self._tf_stamp:
            self._tf_stamp = stamp
            self._on_pose(pose_to_msg(pose, self._frames.base, stamp))

    def _on_joints(self, msg: JointState) -> None:
        if self._gripper is not None and not self._gripper.take_out(msg):
            return
        if self._kinematics is not None and not self._arrange(msg):
            return
        values = np.array([*msg.position, *msg.velocity])
        if self._joint_watch.repeats(values, stamp_from_msg(msg.header.stamp)):
            raise MessageError(
                'joints_frozen', 'joint_states that repeat themselves to the last bit'
            )
        if self._gripper is not None:
            self._gripper.append(msg)
        self._receive(JOINTS, msg)
        if self._success_source == 'operator':
            success = SuccessSignal()
            success.header.stamp, success.header.frame_id = msg.header.stamp, self._frames.fixture
            self._receive(SUCCESS, success)
        if self._kinematics is None:
            return
        size = len(self._kinematics.joints)
        positions = np.array(msg.position[:size])
        if self._pose_source == 'joints':
            pose = pose_to_msg(self._kinematics.tip_pose(positions), self._frames.base, 0.0)
            pose.header.stamp = msg.header.stamp
            self._on_pose(pose)
        if self._twist_source == 'joints':
            velocities = np.array(msg.velocity[:size])
            self._send_twist(self._kinematics.jacobian(positions) @ velocities, msg.header.stamp)

    def _on_wrench(self, msg: WrenchStamped) -> None:
        force, torque = msg.wrench.force, msg.wrench.torque
        raw = self._sign * np.array([force.x, force.y, force.z, torque.x, torque.y, torque.z])
        # The same reading gives the same wrench to the last bit, however the tip has moved on: a dead sensor shows.
        if self._wrench is None or not np.array_equal(raw, self._wrench[0]):
            self._wrench = raw, self._at_tip(msg, raw)
        wrench = self._wrench[1]
        if self._tare is not None:
            wrench = self._tare.add(stamp_from_msg(msg.header.stamp), wrench)
        force.x, force.y, force.z, torque.x, torque.y, torque.z = wrench.tolist()
        msg.header.frame_id = self._frames.tip
        self._receive(WRENCH, msg)

    def _at_tip(self, msg: WrenchStamped, raw: np.ndarray) -> np.ndarray:
        """Return a wrench at the tip, in its axes, without the weight of the payload.

        :raises MessageError: it is in a frame of which nobody says where it is, or the pose to turn it by is missing
        """
        try:
            frame = self._wrench_frame or msg.header.frame_id
            wrench = self._wrench_frames.at_tip(frame, raw, lambda: self._pose_at(msg))
        except LookupError as error:
            raise MessageError('wrench_frame', str(error)) from None
        if self._payload is None:
            return wrench
        pose = self._pose_at(msg)
        if pose is None:
            raise MessageError(
                'wrench_weight', 'no pose of the tip by which to take the weight off'
            )
        return wrench - self._payload.weight(pose)

    def _pose_at(self, msg: WrenchStamped) -> Pose | None:
        """Return the tip's last pose in the base frame, None if there is none near the message's stamp."""
        if self._last_pose is None:
            return None
        stamp, pose = self._last_pose
        if abs(stamp_from_msg(msg.header.stamp) - stamp) > POSE_AGE_S:
            return None
        at, turn = pose.position, pose.orientation
        pose = Pose(np.array([at.x, at.y, at.z]), np.array([turn.x, turn.y, turn.z, turn.w]))
        return pose if pose.is_finite() else None

    def _on_pose(self, msg: PoseStamped) -> None:
        self._receive(POSE, msg)
        pose = pose_from_msg(msg, self._frames.base)
        if not pose.is_finite():
            return  # the measurement that it makes is not used
        self._last_pose = stamp_from_msg(msg.header.stamp), msg.pose
        if self._twist_source == 'poses':
            twist = self._difference.add(stamp_from_msg(msg.header.stamp), pose)
            self._send_twist(twist, msg.header.stamp)

    def _send_twist(self, twist: np.ndarray, stamp) -> None:
        msg = TwistStamped()
        msg.header.stamp, msg.header.frame_id = stamp, self._frames.base
        linear, angular = msg.twist.linear, msg.twist.angular
        linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = twist.tolist()
        self._receive(TWIST, msg)

    def _arrange(self, msg: JointState) -> bool:
        """Leave the arm's joints alone in a message, in their order; False: it has none of them.

        :raises MessageError: some of the arm's are there and others are not, or without velocity
        """
        arm = self._kinematics.joints
        order, missing = self._kinematics.among(msg.name)
        if len(missing) == len(arm):
            return False
        if missing or min(len(msg.position), len(msg.velocity)) < len(msg.name):
            lacks = ', '.join(missing) or 'positions or velocities'
            raise MessageError('malformed', f'{JOINTS} without {lacks}')
        msg.position, msg.velocity = (
            array('d', [field[k] for k in order]) for field in (msg.position, msg.velocity)
        )
        msg.name = list(arm)
        return True


def _tf_message() -> type:
    try:
        from tf2_msgs.msg import TFMessage
    except ImportError:
        raise InputError(
            'parameter `pose_source`',
            'tf needs tf2_msgs, which is not installed',
            'install ros-jazzy-tf2-msgs, or choose topic or joints',
        ) from None
    return TFMessage
