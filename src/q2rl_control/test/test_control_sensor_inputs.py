# SPDX-License-Identifier: Apache-2.0
"""The sources of the robot's state: whatever they are, the same five streams come out, with the stamps that went in."""

from __future__ import annotations

from types import SimpleNamespace

from geometry_msgs.msg import TransformStamped, WrenchStamped
import numpy as np
from panda_arm import BASE, POSTURE, TIP, panda_urdf
import pytest
from sensor_msgs.msg import JointState

pytest.importorskip('q2rl_msgs', reason='needs the built workspace')
pytest.importorskip('pinocchio', reason='needs Pinocchio')

from q2rl_control import gripper_joints
from q2rl_control.frame_tree import FrameTree
from q2rl_control.kinematics import ArmKinematics
from q2rl_control.sensor_inputs import JOINTS, POSE, SUCCESS, TWIST, WRENCH, SensorInputs
from q2rl_control.tip_velocity import PoseDifference
from q2rl_ros.conversions import pose_from_msg, pose_to_msg
from q2rl_ros.errors import MessageError
from q2rl_ros.stamps import stamp_from_msg, stamp_to_msg
from q2rl_task import InputError, Pose, load_task

FRAMES = load_task('pipe_assembly').frames
GRIPPER = SimpleNamespace(joints=('finger',), open_m=0.04)
QUARTER = (0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5))


class FakeNode:
    """As much of a `Q2rlNode` as the inputs use."""

    def __init__(self, gripper=None, lockstep=False, **sources) -> None:
        self.lockstep = lockstep
        self.task = SimpleNamespace(frames=FRAMES, gripper=gripper)
        self.qos = SimpleNamespace(sensors=None, events=None, weights=None)
        self.handlers = {}
        topics = {'joint_topic': 'joint_states', 'pose_topic': 'tcp', 'twist_topic': 'tcp_twist'}
        usual = dict.fromkeys(('pose_source', 'twist_source', 'success_source'), 'topic')
        wrench = {'wrench_topic': 'ft/wrench', 'wrench_about': 'frame', 'wrench_reversed': False}
        more = {'wrench_frame': '', 'joints_frozen_after': 0.0}
        hand = {'gripper_joints': [''], 'gripper_topic': ''}
        hand |= {'gripper_open_position': 0.0, 'gripper_closed_position': 0.0}
        self.value = {**topics, **wrench, **more, **usual, **hand, **sources}.__getitem__

    def subscribe(self, kind, topic, handler, qos, while_inactive=False) -> None:
        self.handlers[topic] = handler


@pytest.fixture(scope='module')
def arm():
    return ArmKinematics(panda_urdf(), BASE, TIP)


def joints(arm, positions, velocities, stamp=3.0, extra=()) -> JointState:
    """The message of a broadcaster that sorts by name from the end, with joints of others among them."""
    values = dict(zip(arm.joints, zip(positions, velocities, strict=True), strict=True))
    values |= {name: (0.02, 0.0) for name in extra}
    names = sorted(values, reverse=True)
    msg = JointState(name=names)
    msg.header.stamp = stamp_to_msg(stamp)
    msg.position, msg.velocity = ([values[n][k] for n in names] for k in (0, 1))
    return msg


def inputs(arm, **kwargs):
    node, received = FakeNode(**kwargs), []
    made = SensorInputs(node, lambda name, msg: received.append((name, msg)), arm)
    return node, received, made


def test_topics_have_the_names_that_the_cell_gives_them():
    node, received, _ = inputs(None)
    assert set(node.handlers) == {'joint_states', 'tcp', 'tcp_twist', 'ft/wrench', 'success_signal'}
    node.handlers['tcp'](pose_to_msg(Pose.of([0, 0, 1]), FRAMES.base, 1.0))
    assert [name for name, _ in received] == [POSE]


def test_pose_and_twist_come_from_the_joints_with_their_stamp(arm):
    sources = {'pose_source': 'joints', 'twist_source': 'joints', 'success_source': 'operator'}
    node, received, _ = inputs(arm, **sources)
    assert set(node.handlers) == {'joint_states', 'ft/wrench'}
    speeds = np.linspace(-0.3, 0.3, 7)
    node.handlers['joint_states'](joints(arm, POSTURE, speeds))
    by_name = dict(received)
    assert set(by_name) == {JOINTS, POSE, TWIST, SUCCESS} and not by_name[SUCCESS].success
    assert {stamp_from_msg(msg.header.stamp) for msg in by_name.values()} == {3.0}
    pose = pose_from_msg(by_name[POSE], FRAMES.base)
    assert pose.distance_to(arm.tip_pose(POSTURE))[0] < 1e-12
    linear = by_name[TWIST].twist.linear
    expected = arm.jacobian(POSTURE) @ speeds
    np.testing.assert_allclose([linear.x, linear.y, linear.z], expected[:3])
    np.testing.assert_allclose(by_name[JOINTS].position, POSTURE)
    assert by_name[JOINTS].name == list(arm.joints)


def test_the_arms_joints_come_first_and_a_gripper_may_be_told_of_apart(arm):
    node, received, _ = inputs(arm, gripper=GRIPPER)
    hear = node.handlers['joint_states']
    hear(JointState(name=['finger'], position=[0.03], velocity=[0.0]))
    assert not received  # it is no state of the arm
    hear(joints(arm, POSTURE, np.zeros(7), extra=('other',)))
    ((name, msg),) = received
    assert name == JOINTS and msg.name == [*arm.joints, 'finger'] and msg.position[7] == 0.03
    assert len(msg.velocity) == 8


@pytest.mark.parametrize('sorted_out', [True, False])
def test_a_hand_that_its_driver_measures_otherwise_comes_out_as_the_task_has_it(arm, sorted_out):
    # A Robotiq: one angle, which grows as it closes.
    node, received, _ = inputs(
        arm if sorted_out else None,
        gripper=GRIPPER,
        gripper_joints=['knuckle'],
        gripper_closed_position=0.8,
    )
    hear, closed = node.handlers['joint_states'], []
    for angle in (0.0, 0.2, 0.8, 0.81):
        msg = joints(arm, POSTURE, np.zeros(7), extra=('knuckle',))
        msg.position[msg.name.index('knuckle')] = angle
        hear(msg)
        name, out = received[-1]
        assert name == JOINTS and out.name.count('knuckle') == 0 and out.name[-1] == 'finger'
        assert len(out.name) == len(out.position) == len(out.velocity) == 8
        np.testing.assert_allclose(sorted(out.position[:7]), sorted(POSTURE))
        closed.append(1.0 - out.position[-1] / GRIPPER.open_m)
    assert closed == pytest.approx([0.0, 0.25, 1.0, 1.0])


def test_a_hand_on_a_topic_of_its_own_that_falls_silent_takes_the_joints_with_it(arm, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(gripper_joints, 'time', SimpleNamespace(monotonic=lambda: now[0]))
    node, received, _ = inputs(
        None, gripper=GRIPPER, gripper_topic='hand/joint_states', gripper_joints=['left', 'right']
    )

    def hear():
        # Somebody goes on repeating the hand's last state among the arm's: it does not count.
        node.handlers['joint_states'](joints(arm, POSTURE, np.zeros(7), extra=('left', 'right')))

    with pytest.raises(MessageError, match='no word of left, right'):
        hear()
    node.handlers['hand/joint_states'](JointState(name=['left', 'right'], position=[0.01, 0.03]))
    hear()
    msg = received[-1][1]
    assert msg.name[7:] == ['finger'] and msg.position[7] == pytest.approx(0.02)
    now[0] += 0.6
    with pytest.raises(MessageError, match='no word of left, right') as caught:
        hear()
    assert caught.value.kind == 'gripper_silent' and len(received) == 1


def test_a_simulation_in_lockstep_has_the_grippers_joints_as_the_task_does():
    node, received, _ = inputs(
        None, lockstep=True, gripper=GRIPPER, gripper_topic='hand', gripper_joints=['left']
    )
    assert 'hand' not in node.handlers
    node.handlers['joint_states'](JointState(name=['finger'], position=[0.01], velocity=[0.5]))
    assert received[0][1].velocity[0] == 0.5


@pytest.mark.parametrize('opened, closed', [(0.3, 0.3), (float('nan'), 0.0)])
def test_a_gripper_that_is_open_where_it_is_closed_is_refused(opened, closed):
    with pytest.raises(InputError, match='gripper_open_position'):
        inputs(
            None,
            gripper=GRIPPER,
            gripper_open_position=opened,
            gripper_closed_position=closed,
        )


@pytest.mark.parametrize('fault', ['a joint is missing', 'no velocities'])
def test_joint_states_that_are_not_whole_are_malformed(arm, fault):
    node, received, _ = inputs(arm)
    msg = joints(arm, POSTURE, np.zeros(7))
    if fault == 'no velocities':
        msg.velocity = []
    else:
        msg.name[2] = 'other'
    with pytest.raises(MessageError):
        node.handlers['joint_states'](msg)
    assert not received


def test_the_twist_may_be_the_difference_of_poses():
    node, received, _ = inputs(None, twist_source='poses')
    assert 'tcp_twist' not in node.handlers
    for k in range(3):
        node.handlers['tcp'](pose_to_msg(Pose.of([0.01 * k, 0, 0]), FRAMES.base, 1.0 + 0.1 * k))
    twists = [msg for name, msg in received if name == TWIST]
    assert [m.twist.linear.x for m in twists] == pytest.approx([0.0, 0.1, 0.1])
    assert stamp_from_msg(twists[-1].header.stamp) == 1.2


def test_a_difference_of_poses_starts_anew_after_a_gap_and_takes_no_repetition():
    difference = PoseDifference()
    assert not difference.add(1.0, Pose.of([0, 0, 0])).any()
    turned = difference.add(1.1, Pose.of([0, 0, 0], [0.0, 0.0, np.sin(0.05), np.cos(0.05)]))
    np.testing.assert_allclose(turned, [0, 0, 0, 0, 0, 1.0], atol=1e-9)
    np.testing.assert_array_equal(difference.add(1.1, Pose.of([9, 9, 9])), turned)
    assert not difference.add(3.0, Pose.of([1, 0, 0])).any()


def test_a_chain_of_transforms_is_composed_up_and_down():
    tree = FrameTree()
    tree.set('world', 'base', Pose.of([1.0, 0.0, 0.0], QUARTER), None)
    tree.set('world', 'link', Pose.of([1.0, 2.0, 0.0]), 5.0)
    tree.set('link', 'tip', Pose.of([0.0, 0.0, 0.3]), 4.0)
    pose, stamp = tree.lookup('base', 'tip')
    np.testing.assert_allclose(pose.position, [2.0, 0.0, 0.3], atol=1e-12)
    assert stamp == 4.0  # the oldest on the way
    tree.set('link', 'tip', Pose.of([0.0, 0.0, 9.0]), 3.9)
    assert tree.lookup('base', 'tip')[1] == 4.0  # a late one is left out
    tree.set('link', 'tip', Pose(np.zeros(3), np.zeros(4)), 4.5)
    assert tree.lookup('base', 'tip')[1] == 4.0  # and one that is none
    with pytest.raises(LookupError, match='no transform from base to camera'):
        tree.lookup('base', 'camera')
    tree.set('tip', 'world', Pose.of([0.0, 0.0, 0.0]), 6.0)  # a loop ends nobody's process
    with pytest.raises(LookupError):
        tree.lookup('base', 'camera')


def test_the_pose_from_tf_is_told_once_per_stamp(monkeypatch):
    import sys
    from types import ModuleType

    with pytest.raises(InputError, match='tf2_msgs'):
        monkeypatch.setitem(sys.modules, 'tf2_msgs', None)
        inputs(None, pose_source='tf')
    module = ModuleType('tf2_msgs.msg')  # of TFMessage the inputs use the field `transforms` alone
    module.TFMessage = SimpleNamespace
    monkeypatch.setitem(sys.modules, 'tf2_msgs', ModuleType('tf2_msgs'))
    monkeypatch.setitem(sys.modules, 'tf2_msgs.msg', module)
    node, received, _ = inputs(None, pose_source='tf')

    def tell(topic, parent, child, z, stamp):
        each = TransformStamped(child_frame_id=child)
        each.header.frame_id, each.header.stamp = parent, stamp_to_msg(stamp)
        each.transform.translation.z = z
        node.handlers[topic](SimpleNamespace(transforms=[each]))

    tell('/tf', FRAMES.base, 'flange', 0.5, 1.0)
    assert not received
    tell('/tf_static', 'flange', FRAMES.tip, 0.1, 0.0)
    for stamp in (1.0, 1.05, 1.05):
        tell('/tf', FRAMES.base, 'flange', 0.5, stamp)
    assert [stamp_from_msg(m.header.stamp) for _, m in received] == [1.0, 1.05]
    assert pose_from_msg(received[0][1], FRAMES.base).position[2] == pytest.approx(0.6)


def wrench(frame, *values, stamp=1.0) -> WrenchStamped:
    msg = WrenchStamped()
    msg.header.frame_id, msg.header.stamp = frame, stamp_to_msg(stamp)
    force, torque = msg.wrench.force, msg.wrench.torque
    force.x, force.y, force.z, torque.x, torque.y, torque.z = (float(v) for v in values)
    return msg


def heard(received) -> list[float]:
    """What the last wrench says, after a look at its name and frame."""
    name, msg = received[-1]
    assert name == WRENCH and msg.header.frame_id == FRAMES.tip
    force, torque = msg.wrench.force, msg.wrench.torque
    return [force.x, force.y, force.z, torque.x, torque.y, torque.z]


def test_a_wrench_in_base_axes_comes_out_at_the_tip_by_the_pose_of_that_time():
    node, received, _ = inputs(None)
    hear = node.handlers['ft/wrench']
    with pytest.raises(MessageError, match='no pose of the tip'):
        hear(wrench(FRAMES.base, 0, 0, 10, 0, -5, 0))
    node.handlers['tcp'](pose_to_msg(Pose.of([0.5, 0, 0.3], [1.0, 0, 0, 0]), FRAMES.base, 1.02))
    hear(wrench(FRAMES.base, 0, 0, 10, 0, -5, 0))
    np.testing.assert_allclose(heard(received), [0, 0, -10, 0, 0, 0], atol=1e-12)
    with pytest.raises(MessageError, match='no pose of the tip'):
        hear(wrench(FRAMES.base, 0, 0, 11, 0, -5, 0, stamp=2.0))  # that pose is old by now
    node, received, _ = inputs(None, wrench_about='tip')
    node.handlers['tcp'](pose_to_msg(Pose.of([0.5, 0, 0.3], [1.0, 0, 0, 0]), FRAMES.base, 1.0))
    node.handlers['ft/wrench'](wrench(FRAMES.base, 0, 0, 10, 0, 0.2, 0))
    np.testing.assert_allclose(heard(received), [0, 0, -10, 0, -0.2, 0], atol=1e-12)


def test_a_driver_whose_header_does_not_tell_the_truth_is_told_better():
    node, received, _ = inputs(None, wrench_frame=FRAMES.tip)
    node.handlers['ft/wrench'](wrench('tool0_controller', 1, 2, 3, 4, 5, 6))
    assert heard(received) == [1, 2, 3, 4, 5, 6]


def test_joints_that_repeat_themselves_with_fresh_stamps_are_no_state_of_the_arm(arm):
    node, received, _ = inputs(arm, joints_frozen_after=0.5)
    hear = node.handlers['joint_states']
    for stamp in (1.0, 1.25, 1.5):
        hear(joints(arm, POSTURE, np.zeros(7), stamp))
    with pytest.raises(MessageError, match='repeat') as caught:
        hear(joints(arm, POSTURE, np.zeros(7), 1.75))
    assert caught.value.kind == 'joints_frozen' and len(received) == 3
    hear(joints(arm, POSTURE, np.full(7, 1e-9), 2.0))  # an encoder flickers: it lives
    assert len(received) == 4
    node, received, _ = inputs(arm)  # a simulation at rest does not, and is believed
    for stamp in (1.0, 100.0):
        node.handlers['joint_states'](joints(arm, POSTURE, np.zeros(7), stamp))
    assert len(received) == 2


def test_a_driver_that_tells_the_other_side_of_a_contact_is_turned_round():
    node, received, _ = inputs(None, wrench_reversed=True)
    node.handlers['ft/wrench'](wrench(FRAMES.tip, 1, 2, 3, 4, 5, 6))
    assert heard(received) == [-1, -2, -3, -4, -5, -6]


def test_a_sensor_that_repeats_itself_does_so_at_the_tip_too_while_the_arm_moves():
    node, received, _ = inputs(None)
    said = []
    for k in range(3):
        pose = Pose.of([0.5, 0, 0.3], [1.0, 0.01 * k, 0, 0])
        node.handlers['tcp'](pose_to_msg(pose, FRAMES.base, 1.0 + 0.02 * k))
        node.handlers['ft/wrench'](wrench(FRAMES.base, 1, 2, 3, 0, 0, 0, stamp=1.0 + 0.02 * k))
        said.append(heard(received))
    assert said[0] == said[1] == said[2]
    node.handlers['ft/wrench'](wrench(FRAMES.base, 1, 2, 3.001, 0, 0, 0, stamp=1.05))
    assert heard(received) != said[0]


def test_a_wrench_of_a_link_on_the_tool_needs_the_description():
    from q2rl_control.rigid_frames import RigidFrames

    node, received, _ = inputs(None)
    with pytest.raises(MessageError, match=r"'panda_link7'.*robot_desc") as caught:
        node.handlers['ft/wrench'](wrench('panda_link7', 0, 0, 10, 0, 0, 2))
    assert caught.value.kind == 'wrench_frame' and not received
    node.task.frames = FRAMES.model_copy(update={'tip': TIP})
    links = RigidFrames(panda_urdf(), BASE, TIP)
    SensorInputs(node, lambda *it: received.append(it), None, links)
    node.handlers['ft/wrench'](wrench('panda_link7', 0, 0, 10, 0, 0, 2))
    ((_, msg),) = received
    assert msg.header.frame_id == TIP and msg.wrench.force.z == pytest.approx(10)
    assert msg.wrench.torque.z == pytest.approx(2)


def test_offset_and_weight_are_taken_off_before_anybody_hears_the_wrench():
    from q2rl_control.wrench_tare import Payload, WrenchTare

    node, received, _ = inputs(None)
    tare = WrenchTare(0.5, 50.0)
    payload = Payload(1.0, np.zeros(3), np.array([0.0, 0.0, -9.0]))
    SensorInputs(node, lambda *it: received.append(it), None, None, tare, payload)
    with pytest.raises(MessageError, match='weight'):
        node.handlers['ft/wrench'](wrench(FRAMES.tip, 0, 0, 10, 0, 0, 0))
    node.handlers['tcp'](pose_to_msg(Pose.of([0.5, 0, 0.3], [1.0, 0, 0, 0]), FRAMES.base, 1.0))
    tare.offset = np.array([0.5, 0, 0, 0, 0, 0])
    node.handlers['ft/wrench'](wrench(FRAMES.tip, 0, 0, 10, 0, 0, 0))
    np.testing.assert_allclose(heard(received), [-0.5, 0, 1, 0, 0, 0], atol=1e-12)
