# SPDX-License-Identifier: Apache-2.0
"""Joint positions for tip poses: within every limit, seeded by what was measured, without a jump."""

from __future__ import annotations

import sys

import numpy as np
from panda_arm import BASE, POSTURE, TIP, panda_urdf
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip('pinocchio', reason='needs Pinocchio')

from q2rl_control.joint_tracking import (
    BOUND,
    LEAD_RAD,
    SEEDED,
    SLOWED,
    UNFOLLOWED,
    Interpolation,
    JointTracking,
)
from q2rl_control.kinematics import ArmKinematics
from q2rl_task import InputError, Pose

PERIOD_S = 0.05


@pytest.fixture(scope='module')
def arm():
    return ArmKinematics(panda_urdf(), BASE, TIP)


@pytest.fixture
def tracking(arm):
    return JointTracking(arm, PERIOD_S)


def moved(pose: Pose, shift, turn=(0.0, 0.0, 0.0)) -> Pose:
    return Pose.from_rotation(
        pose.position + np.asarray(shift), Rotation.from_rotvec(turn) * pose.rotation
    )


def test_the_jacobian_is_the_derivative_of_the_pose(arm):
    jacobian, step = arm.jacobian(POSTURE), 1e-6
    here = arm.tip_pose(POSTURE)
    for k in range(7):
        there = arm.tip_pose(POSTURE + step * np.eye(7)[k])
        linear = (there.position - here.position) / step
        column = np.concatenate([linear, here.rotation_vector_to(there) / step])
        np.testing.assert_allclose(jacobian[:, k], column, atol=1e-5)


def test_the_order_of_the_joints_is_the_callers(arm):
    names = arm.joints[::-1]
    turned = ArmKinematics(panda_urdf(), BASE, TIP, names)
    distance, angle = turned.tip_pose(POSTURE[::-1]).distance_to(arm.tip_pose(POSTURE))
    assert turned.joints == names and distance < 1e-9 and angle < 1e-7
    np.testing.assert_allclose(turned.jacobian(POSTURE[::-1]), arm.jacobian(POSTURE)[:, ::-1])


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (('/no/such.urdf', BASE, TIP), 'No such file'),
        (('', BASE, TIP), 'robot_description'),
        (('<robot name="r"/>', BASE, TIP), 'robot_description'),
        ((panda_urdf(), BASE, 'tool0'), 'no link'),
        ((panda_urdf(), BASE, TIP, ('panda_joint1',)), 'panda_joint7'),
    ],
)
def test_a_description_that_is_not_of_this_arm_is_refused_in_one_line(arguments, said):
    with pytest.raises(InputError, match=said) as caught:
        ArmKinematics(*arguments)
    assert '\n' not in str(caught.value)


def test_without_pinocchio_the_reason_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, 'pinocchio', None)
    with pytest.raises(InputError, match=r'Pinocchio.*pip install pin'):
        ArmKinematics(panda_urdf(), BASE, TIP)


def test_a_path_of_poses_is_followed_closely(arm, tracking):
    target, joints = arm.tip_pose(POSTURE), POSTURE
    for k in range(80):
        target = moved(target, [0.004 * np.cos(k / 10), 0.004 * np.sin(k / 10), 0.0], [0, 0, 0.01])
        joints = tracking.follow(target, joints)
        distance, angle = arm.tip_pose(joints).distance_to(target)
        assert distance < 1e-4 and angle < 1e-4
        assert tracking.codes == ((SEEDED,) if k == 0 else ())


def test_the_first_command_starts_at_the_measured_joints_and_is_no_jump(arm, tracking):
    target = arm.tip_pose(POSTURE)
    np.testing.assert_allclose(tracking.follow(target, POSTURE), POSTURE, atol=1e-6)
    # The arm is carried off by something else: the command goes on from where it is, at its own pace.
    elsewhere = POSTURE + np.array([0.0, 2.0 * LEAD_RAD, 0.0, 0.0, 0.0, 0.0, 0.0])
    joints = tracking.follow(target, elsewhere)
    assert SEEDED in tracking.codes
    assert (np.abs(joints - elsewhere) <= arm.speed * PERIOD_S + 1e-9).all()


def test_velocity_limits_of_the_joints_hold_for_any_target(arm, tracking):
    rng = np.random.default_rng(0)
    joints = POSTURE
    slowed = 0
    for _ in range(60):
        target = moved(arm.tip_pose(joints), rng.uniform(-0.3, 0.3, 3), rng.uniform(-1, 1, 3))
        before, joints = joints, tracking.follow(target, joints)
        assert (np.abs(joints - before) <= arm.speed * PERIOD_S * (1 + 1e-9)).all()
        slowed += SLOWED in tracking.codes
    assert slowed > 10


@pytest.mark.parametrize('way', [1.0, -1.0])
def test_position_limits_of_the_joints_hold_however_far_the_target_goes(arm, tracking, way):
    joints, bound = POSTURE, 0
    for _ in range(60):  # the tool is turned on and on about its axis
        target = arm.tip_pose(joints) @ Pose.from_rotation(
            [0.0, 0.0, 0.0], Rotation.from_rotvec([0.0, 0.0, 0.2 * way])
        )
        joints = tracking.follow(target, joints)
        assert (joints >= arm.lower).all() and (joints <= arm.upper).all()
        bound += BOUND in tracking.codes
    assert bound > 2


def test_a_target_out_of_reach_is_told_of_and_commands_finite_joints(arm, tracking):
    joints = POSTURE
    target = moved(arm.tip_pose(POSTURE), [3.0, 0.0, 0.0])
    for _ in range(25):
        joints = tracking.follow(target, joints)
        assert np.isfinite(joints).all() and UNFOLLOWED in tracking.codes


def test_a_joint_beyond_its_limit_may_only_come_back(arm, tracking):
    outside = POSTURE.copy()
    outside[3] = arm.upper[3] + 0.02
    joints = tracking.follow(moved(arm.tip_pose(outside), [0.2, 0.0, 0.2]), outside)
    assert joints[3] <= outside[3]


@pytest.mark.parametrize('joints', [POSTURE[:6], np.full(7, np.nan)])
def test_what_is_not_finite_or_of_another_size_commands_nothing(arm, tracking, joints):
    with pytest.raises(ValueError, match='joint positions'):
        tracking.follow(arm.tip_pose(POSTURE), joints)
    with pytest.raises(ValueError, match='not finite'):
        tracking.follow(Pose(np.full(3, np.nan), np.array([0.0, 0.0, 0.0, 1.0])), POSTURE)
    assert tracking.commanded is None


def test_between_two_commands_there_is_no_step():
    between = Interpolation(PERIOD_S)
    assert between.at(0.0) is None
    between.command(np.array([1.0]), 10.0, start=np.array([0.9]))
    assert [float(between.at(10.0 + t)[0]) for t in (0.0, 0.025, 0.05, 9.0)] == pytest.approx(
        [0.9, 0.95, 1.0, 1.0]
    )
    # One that comes early goes on from where the last has got to.
    between.command(np.array([1.2]), 20.0, start=np.array([0.0]))
    between.command(np.array([0.0]), 20.025, start=np.array([0.0]))
    assert float(between.at(20.025)[0]) == pytest.approx(1.1)
