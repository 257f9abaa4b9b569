# SPDX-License-Identifier: Apache-2.0
"""Joint positions for tip poses: within every limit, seeded by what was measured, without a jump."""

from __future__ import annotations

import sys

import numpy as np
from panda_arm import BASE, POSTURE, TIP, panda_urdf, ur5_urdf
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip('pinocchio', reason='needs Pinocchio')

from q2rl_control.joint_tracking import (
    BEHIND,
    BOUND,
    CAUGHT_UP_RAD,
    LEAD_RAD,
    NEARLY_SINGULAR,
    SEEDED,
    SINGULAR,
    SLOWED,
    SOFTENED,
    UNFOLLOWED,
    JointTracking,
)
from q2rl_control.kinematics import ArmKinematics
from q2rl_task import InputError, Pose

PERIOD_S = 0.05
SPEED, ACCELERATION = 0.5, 20.0


@pytest.fixture(scope='module')
def arm():
    return ArmKinematics(panda_urdf(), BASE, TIP)


@pytest.fixture
def tracking(arm):
    return JointTracking(arm, PERIOD_S, SPEED, ACCELERATION)


@pytest.fixture(scope='module')
def ur5():
    return ArmKinematics(ur5_urdf(), 'base_link', 'tool0')


def check(commands, speed) -> None:
    """Judge commanded positions (t, n), the first of them at rest, by velocity and acceleration."""
    velocity = np.diff(np.array(commands), axis=0, prepend=[commands[0]]) / PERIOD_S
    assert (np.abs(velocity) <= SPEED * speed * (1 + 1e-9)).all()
    assert np.abs(np.diff(velocity, axis=0)).max() / PERIOD_S <= ACCELERATION * (1 + 1e-6)


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
    target = moved(arm.tip_pose(POSTURE), [0.05, 0.0, 0.0])
    joints = tracking.follow(target, POSTURE)
    assert tracking.codes[0] == SEEDED
    assert np.abs(joints - POSTURE).max() <= ACCELERATION * PERIOD_S**2 + 1e-9
    assert SEEDED not in (tracking.follow(target, POSTURE), tracking.codes)[1]


def test_velocity_limits_of_the_joints_hold_for_any_target(arm, tracking):
    rng = np.random.default_rng(0)
    commands, slowed = [POSTURE], 0
    for _ in range(20):
        way = moved(Pose.of([0.0, 0.0, 0.0]), rng.uniform(-0.3, 0.3, 3), rng.uniform(-1, 1, 3))
        for _ in range(4):
            target = arm.tip_pose(commands[-1]) @ way
            commands.append(tracking.follow(target, commands[-1]))
            slowed += SLOWED in tracking.codes
    check(commands, arm.speed)
    assert slowed > 10


def test_the_joints_come_to_rest_at_the_target_and_not_beyond_it(arm, tracking):
    goal = moved(arm.tip_pose(POSTURE), [0.0, 0.25, 0.1], [0.0, 0.0, 0.6])
    commands, softened = [POSTURE], 0
    for _ in range(40):
        commands.append(tracking.follow(goal, commands[-1]))
        softened += SOFTENED in tracking.codes
    check(commands, arm.speed)
    assert softened and arm.tip_pose(commands[-1]).distance_to(goal)[0] < 1e-4
    ways = np.abs(np.array(commands) - commands[-1])
    assert (np.diff(ways, axis=0) < 2e-3).all()  # but for the posture, which goes its own way


def test_a_command_never_jumps_however_the_arm_is_moved(arm, tracking):
    rng = np.random.default_rng(2)
    commands, measured, target, behind = [POSTURE], POSTURE.copy(), arm.tip_pose(POSTURE), 0
    for k in range(200):
        if k % 25 == 24:
            measured = POSTURE + rng.uniform(-0.4, 0.4, 7)  # carried off by something else
        target = moved(target, rng.uniform(-0.01, 0.01, 3))
        commands.append(tracking.follow(target, measured))
        behind += BEHIND in tracking.codes
    check(commands, arm.speed)
    assert behind > 20


def test_an_arm_that_is_left_behind_is_not_waited_for(arm, tracking):
    target, commands = arm.tip_pose(POSTURE), [POSTURE]
    while not tracking.behind:  # the arm stands still
        target = moved(target, [0.01, 0.0, 0.0])
        commands.append(tracking.follow(target, POSTURE))
        assert len(commands) < 100
    assert f'{LEAD_RAD:.1f}' in tracking.behind and 'panda_joint' in tracking.behind
    furthest = np.abs(commands[-1] - POSTURE).max()
    while tracking.behind:
        commands.append(tracking.follow(target, POSTURE))
        assert len(commands) < 200
    assert np.abs(commands[-1] - POSTURE).max() < CAUGHT_UP_RAD
    check(commands, arm.speed)
    # It brakes before it comes back, and not later than it must.
    brakes = (SPEED * arm.speed.max()) ** 2 / (
        2 * ACCELERATION
    ) + SPEED * arm.speed.max() * PERIOD_S
    assert np.abs(np.array(commands) - POSTURE).max() < furthest + brakes


def test_an_elbow_that_others_turn_while_the_tip_rests_stays_where_they_leave_it(arm, tracking):
    target, commands = arm.tip_pose(POSTURE), [POSTURE]
    *_, elbow = np.linalg.svd(arm.jacobian(POSTURE))[2]
    turned = arm.solve(target, POSTURE + 0.15 * elbow / np.abs(elbow).max())
    assert 0.1 < np.abs(turned - POSTURE).max() < LEAD_RAD
    for _ in range(2):
        tracking.follow(target, POSTURE)
    for _ in range(100):
        commands.append(tracking.follow(target, turned))
        assert arm.tip_pose(commands[-1]).distance_to(target)[0] < 1e-3 and not tracking.behind
    check(commands, arm.speed)
    assert np.abs(commands[-1] - turned).max() < 0.02


@pytest.mark.parametrize('most', [0.015, 0.05])
def test_an_arm_that_sags_is_not_gone_after(arm, tracking, most):
    *_, elbow = np.linalg.svd(arm.jacobian(POSTURE))[2]
    target, sag = arm.tip_pose(POSTURE), most * elbow / np.abs(elbow).max()
    joints = tracking.follow(target, POSTURE)
    for _ in range(100):
        joints = tracking.follow(target, joints - sag)
    np.testing.assert_allclose(joints, POSTURE, atol=1e-6)


def test_near_a_wrist_singularity_the_joints_do_not_race(ur5):
    """A UR with its wrist all but stretched, whose tip is told to move across it."""
    tracking = JointTracking(ur5, PERIOD_S, SPEED, ACCELERATION)
    joints = np.array([0.0, -1.2, 1.6, -1.9, -0.05, 0.3])
    target, commands = ur5.tip_pose(joints), [joints]
    for _ in range(60):
        target = moved(target, [0.0, 0.005, 0.0], [0.0, 0.0, 0.02])
        commands.append(tracking.follow(target, commands[-1]))
    check(commands, ur5.speed)


def test_the_way_into_a_singularity_is_held_and_the_way_out_is_free(ur5):
    tracking = JointTracking(ur5, PERIOD_S, SPEED, ACCELERATION)
    joints = np.array([0.0, -1.2, 1.6, -1.9, -0.8, 0.3])
    aim = np.array([0.0, -1.2, 1.6, -1.9, 0.0, 0.3])
    commands, held = [joints], 0

    def condition(at) -> float:
        values = np.linalg.svd(ur5.jacobian(at), compute_uv=False)
        return values[0] / values[-1]

    for k in range(80):
        target = ur5.tip_pose(joints + min(1.0, k / 60) * (aim - joints))
        commands.append(tracking.follow(target, commands[-1]))
        held += NEARLY_SINGULAR in tracking.codes
    assert held > 10 and UNFOLLOWED in tracking.codes
    assert condition(commands[-1]) < 1.2 * SINGULAR
    np.testing.assert_allclose(commands[-1], commands[-10], atol=1e-3)
    for k in range(60):
        target = ur5.tip_pose(aim + min(1.0, k / 40) * (joints - aim))
        commands.append(tracking.follow(target, commands[-1]))
    assert ur5.tip_pose(commands[-1]).distance_to(target)[0] < 1e-3
    check(commands, ur5.speed)


@pytest.mark.parametrize('way', [1.0, -1.0])
def test_position_limits_of_the_joints_hold_however_far_the_target_goes(arm, tracking, way):
    joints, bound = POSTURE, 0
    for _ in range(120):  # the tool is turned on and on about its axis
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
