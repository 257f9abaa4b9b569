# SPDX-License-Identifier: Apache-2.0
"""`tip_state` and `gazebo_scene`: what a cell of ros2_control needs beside its controllers."""

from __future__ import annotations

from geometry_msgs.msg import PoseStamped, TwistStamped
import numpy as np
import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import String

pytest.importorskip('pinocchio', reason='Pinocchio is not installed')

from q2rl_bringup.robot_description import robot_urdf
from q2rl_control.kinematics import ArmKinematics
from q2rl_control.tip_state_node import TipState
from q2rl_msgs.msg import SuccessSignal
from q2rl_msgs.srv import PrepareScene
from q2rl_ros.conversions import pose_from_msg, pose_to_msg
from q2rl_ros.qos import profiles
from q2rl_ros.stamps import stamp_to_msg
from q2rl_sim.arm import SimArm
from q2rl_sim.gazebo_scene_node import GazeboScene
from q2rl_sim.placement import draw_placement
from q2rl_task import InputError, Pose, load_task

TASK = load_task('pipe_assembly')
QOS = profiles(False, TASK.period_s)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
ANSWER = {'yes': 'data: true', 'no': 'data: false'}


@pytest.fixture(scope='module')
def urdf():
    return robot_urdf(TASK)


def test_pose_and_twist_are_those_of_the_simulated_arm(urdf):
    arm = SimArm(TASK, 0)
    kinematics = ArmKinematics(urdf, TASK.frames.base, TASK.frames.tip)
    names = [arm.model.joint(k).name for k in range(7)]
    target = arm.measure().tip_pose
    for k in range(12):
        measured = arm.measure()
        order = np.random.default_rng(k).permutation(7)
        heard, missing = kinematics.among([*(names[i] for i in order), 'someone_elses_joint'])
        assert not missing
        positions, velocities = (
            np.append(values[order], 1.0)[heard]
            for values in (measured.joint_positions, measured.joint_velocities)
        )
        twist = kinematics.jacobian(positions) @ velocities
        distance, angle = kinematics.tip_pose(positions).distance_to(measured.tip_pose)
        assert distance < 1e-6 and angle < 1e-6
        np.testing.assert_allclose(twist, measured.tip_twist, atol=1e-6)
        arm.step(
            Pose.of(target.position + np.array([0.002 * k, 0.001 * k, 0.0]), target.quaternion),
            np.nan,
        )
    assert np.abs(twist).max() > 1e-3, 'nothing moved: this compares zeros'
    assert kinematics.among(names[1:])[1] == names[:1]


@pytest.mark.parametrize(('text', 'tip'), [('no urdf', 'pipe_tip'), (None, 'no_such_link')])
def test_a_description_that_is_none_is_refused_in_one_line(urdf, text, tip):
    with pytest.raises(InputError, match='robot_description'):
        ArmKinematics(urdf if text is None else text, TASK.frames.base, tip)


def test_tip_state_says_pose_and_twist_with_the_stamps_of_the_joints_and_not_too_often(bench, urdf):
    node = bench.start(TipState, lockstep=False, max_rate=20.0)
    poses = bench.listen(PoseStamped, 'current_pose', QOS.sensors)
    twists = bench.listen(TwistStamped, 'current_twist', QOS.sensors)
    joints = bench.talk(JointState, 'joint_states', QOS.sensors)
    arm = SimArm(TASK, 0)
    names = [arm.model.joint(k).name for k in range(7)]
    measured = arm.measure()

    def say(stamp, bad=False):
        positions = measured.joint_positions.copy()
        positions[0] = np.nan if bad else positions[0]
        msg = JointState(name=names, position=positions, velocity=measured.joint_velocities)
        msg.header.stamp = stamp_to_msg(stamp)
        joints.publish(msg)

    say(1.0)
    bench.until(lambda: node.counters['no_description'] == 1)
    description = bench.probe.create_publisher(String, 'robot_description', LATCHED)
    description.publish(String(data=urdf))
    bench.until(lambda: node.diagnose()['description'])
    say(2.0)
    bench.until(lambda: len(poses) == len(twists) == 1)
    say(2.01)  # too soon after the last
    say(2.5, bad=True)
    bench.until(lambda: node.counters['not_finite'] == 1)
    say(3.0)
    bench.until(lambda: len(poses) == len(twists) == 2)
    assert [msg.header.stamp.sec for msg in poses] == [2, 3]
    assert poses[0].header.frame_id == twists[0].header.frame_id == TASK.frames.base
    distance, _ = pose_from_msg(poses[0], TASK.frames.base).distance_to(measured.tip_pose)
    assert distance < 1e-6


def test_tip_state_takes_what_the_arm_says_whatever_another_joint_does_not_measure(bench, urdf):
    """joint_state_broadcaster fills with NaN what a joint has no interface for."""
    node = bench.start(TipState, lockstep=False, robot_description=urdf)
    poses = bench.listen(PoseStamped, 'current_pose', QOS.sensors)
    joints = bench.talk(JointState, 'joint_states', QOS.sensors)
    measured = SimArm(TASK, 0).measure()
    names = ['rail', *(f'panda_joint{k}' for k in range(7, 0, -1))]

    def say(stamp, position, velocity):
        msg = JointState(name=names, position=position, velocity=velocity)
        msg.header.stamp = stamp_to_msg(stamp)
        joints.publish(msg)

    nan, positions = float('nan'), measured.joint_positions[::-1]
    say(1.0, [nan, *positions], [nan] + [0.0] * 7)
    bench.until(lambda: len(poses) == 1)
    assert pose_from_msg(poses[0], TASK.frames.base).distance_to(measured.tip_pose)[0] < 1e-6
    # Of the arm itself both must be there.
    say(2.0, [0.0, *positions], [0.0, nan] + [0.0] * 6)
    bench.until(lambda: node.counters['not_finite'] == 1)
    say(3.0, [nan, *positions], [])
    bench.until(lambda: node.counters['malformed'] == 1)
    assert len(poses) == 1


def test_tip_state_takes_the_description_with_the_tool_where_the_driver_has_one_without(
    bench, urdf, tmp_path, capfd
):
    file = tmp_path / 'arm.urdf'
    file.write_text(urdf)
    bench.start(
        TipState, lockstep=False, robot_description=str(file), joint_topic='franka/joint_states'
    )
    poses = bench.listen(PoseStamped, 'current_pose', QOS.sensors)
    joints = bench.talk(JointState, 'franka/joint_states', QOS.sensors)
    measured = SimArm(TASK, 0).measure()
    names = [f'panda_joint{k}' for k in range(1, 8)]
    msg = JointState(name=names, position=measured.joint_positions, velocity=[0.0] * 7)
    msg.header.stamp = stamp_to_msg(2.0)
    joints.publish(msg)
    bench.until(lambda: poses)
    pose = pose_from_msg(poses[0], TASK.frames.base)
    assert pose.distance_to(measured.tip_pose)[0] < 1e-6
    file.write_text(urdf.replace('"pipe_tip"', '"other_tip"'))
    node = bench.start(TipState, lockstep=False, robot_description=str(file), activate=False)
    assert node.start() == 2 and 'pipe_tip' in capfd.readouterr().err


class Gazebo:
    """A `gz` on the path that records what it is told and answers as the file `answer` says."""

    def __init__(self, folder, monkeypatch):
        self.told, self.answer = folder / 'told', folder / 'answer'
        program = folder / 'gz'
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> {self.told}\ncat {self.answer}\n')
        program.chmod(0o755)
        monkeypatch.setenv('PATH', f'{folder}:/usr/bin:/bin')
        self.answer.write_text(ANSWER['yes'])


@pytest.fixture
def gazebo(tmp_path, monkeypatch):
    return Gazebo(tmp_path, monkeypatch)


def tip_over(pose, height):
    return pose_to_msg(pose @ Pose.of([0.0, 0.0, -height]), TASK.frames.base, 5.0)


def test_gazebo_scene_moves_the_socket_to_where_mujoco_would_and_presses_its_switch(bench, gazebo):
    bench.start(GazeboScene, lockstep=False)
    signals = bench.listen(SuccessSignal, 'success_signal', QOS.sensors)
    poses = bench.talk(PoseStamped, 'current_pose', QOS.sensors)
    poses.publish(tip_over(TASK.fixture.nominal.pose, 0.05))
    bench.until(lambda: len(signals) == 1)
    response = bench.call(PrepareScene, 'prepare_scene', PrepareScene.Request(seed=11))
    assert response.success, response.message
    placement = draw_placement(TASK, 11)
    estimate = pose_from_msg(response.estimate, TASK.frames.base)
    assert estimate.distance_to(placement.estimate)[0] < 1e-9
    told = gazebo.told.read_text()
    assert f'/world/{TASK.name}/set_pose' in told and 'name: "socket"' in told
    x, y, _ = placement.truth.position
    assert f'x: {x:.9g} y: {y:.9g}' in told
    poses.publish(tip_over(placement.truth, -TASK.fixture.depth_m))
    bench.until(lambda: len(signals) == 2)
    poses.publish(tip_over(placement.truth, 0.05))
    bench.until(lambda: len(signals) == 3)
    assert [signal.success for signal in signals] == [False, True, False]
    assert {signal.header.stamp.sec for signal in signals} == {5}
    assert {signal.header.frame_id for signal in signals} == {TASK.frames.fixture}


def test_gazebo_scene_refuses_what_it_cannot_do_and_says_why(bench, gazebo, monkeypatch):
    node = bench.start(GazeboScene, lockstep=False)
    poses = bench.talk(PoseStamped, 'current_pose', QOS.sensors)

    def prepare():
        response = bench.call(PrepareScene, 'prepare_scene', PrepareScene.Request(seed=1))
        assert not response.success
        return response.message

    assert 'not been seen' in prepare()
    poses.publish(tip_over(TASK.fixture.nominal.pose, 0.0))
    bench.until(lambda: node._tip is not None)
    assert 'not clear' in prepare() and not gazebo.told.exists()
    before = node._tip
    poses.publish(tip_over(TASK.fixture.nominal.pose, 0.05))
    bench.until(lambda: node._tip is not before)
    gazebo.answer.write_text(ANSWER['no'])
    assert 'set_pose' in prepare()
    monkeypatch.setenv('PATH', '/nowhere')
    assert 'gz is not there' in prepare()
    assert node.counters['gazebo'] == 2
    np.testing.assert_array_equal(node._socket.position, TASK.fixture.nominal.pose.position)
