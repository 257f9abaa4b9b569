# SPDX-License-Identifier: Apache-2.0
"""The simulated arm: tracking, sensing, determinism, the seat switch."""

import importlib.metadata

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from q2rl_sim import panda
from q2rl_sim.arm import SimArm
from q2rl_task import InputError, Pose, load_task

TASK = load_task('pipe_assembly')
NOMINAL = TASK.fixture.nominal.pose


@pytest.fixture(scope='module')
def arm():
    return SimArm(TASK, seed=0)


def at(x=0.0, y=0.0, z=0.0, rotation_vector=(0.0, 0.0, 0.0)) -> Pose:
    """Pose in the nominal socket's frame: z into the hole."""
    return NOMINAL @ Pose.from_rotation([x, y, z], Rotation.from_rotvec(rotation_vector))


def hold(arm, pose, steps):
    for _ in range(steps):
        measurement = arm.step(pose)
    return measurement


def test_starts_at_rest_above_the_socket(arm):
    fresh = SimArm(TASK, seed=0)
    measurement = fresh.measure()
    distance, angle = measurement.tip_pose.distance_to(at(z=-TASK.reset.retreat_m))
    assert distance < 1e-4 and angle < 1e-3
    assert np.abs(measurement.tip_twist).max() < 1e-3
    assert measurement.is_finite() and measurement.stamp == 0.0
    assert not measurement.success_signal


def test_tracks_a_pose_in_free_space(arm):
    arm.reset_to(at(z=-0.03))
    target = at(0.01, -0.008, -0.045, (0.03, -0.02, 0.05))
    measurement = hold(arm, target, 40)
    distance, angle = measurement.tip_pose.distance_to(target)
    assert distance < 3e-4 and angle < 3e-3


def test_twist_is_the_derivative_of_the_pose(arm):
    arm.reset_to(at(z=-0.03))
    before = arm.measure()
    hold(arm, at(0.01, 0.0, -0.03, (0.0, 0.05, 0.0)), 2)
    before = arm.measure()
    arm.step(at(0.01, 0.0, -0.03, (0.0, 0.05, 0.0)))
    after = arm.measure()
    linear = (after.tip_pose.position - before.tip_pose.position) / TASK.period_s
    angular = before.tip_pose.rotation_vector_to(after.tip_pose) / TASK.period_s
    mean = (before.tip_twist + after.tip_twist) / 2.0
    np.testing.assert_allclose(mean, np.concatenate([linear, angular]), atol=0.01)


@pytest.mark.parametrize('turn', [(0.0, 0.0, 0.0), (0.3, 0.0, 0.0), (0.0, -0.3, 0.1)])
def test_wrench_is_tared_in_any_orientation(arm, turn):
    arm.reset_to(at(z=-0.06, rotation_vector=turn))
    wrenches = np.array([arm.step(at(z=-0.06, rotation_vector=turn)).wrench for _ in range(20)])
    assert np.abs(wrenches.mean(axis=0)[:3]).max() < 0.05
    assert np.abs(wrenches.mean(axis=0)[3:]).max() < 0.005


def test_pressing_on_the_rim_is_felt_as_the_spring_says(arm):
    arm.reset_to(at(0.006, z=-0.002))
    measurement = hold(arm, at(0.006, z=0.008), 40)
    lead = 0.008 - measurement.tip_pose.relative_to(NOMINAL).position[2]
    # the rim pushes the tip back out: -z of the tip; the torque is about the tip itself
    assert measurement.wrench[2] == pytest.approx(-TASK.limits.stiffness_n_m * lead, rel=0.05)
    assert measurement.wrench[2] < -8.0
    assert np.abs(measurement.wrench[:2]).max() < 1.0


def test_a_wall_pushes_back_sideways(arm):
    arm.reset_to(at(z=-0.002))
    hold(arm, at(z=0.012), 25)
    measurement = hold(arm, at(0.01, 0.0, 0.012), 25)
    in_fixture = measurement.tip_pose.relative_to(NOMINAL)
    force = in_fixture.rotation.apply(measurement.wrench[:3])
    assert force[0] < -8.0 and abs(force[1]) < 1.5
    # pushed at the tip's side, the torque about the tip stays small against force times pipe length
    assert measurement.torque < 0.2


def test_posture_stays_near_home_over_wide_moves(arm):
    arm.reset_to(at(z=-0.03))
    joints = arm.measure().joint_positions
    for k in range(100):
        arm.step(at(0.04 * np.sin(k / 8), 0.06 * np.cos(k / 8) - 0.06, -0.05))
    hold(arm, at(z=-0.03), 60)
    np.testing.assert_allclose(arm.measure().joint_positions, joints, atol=0.02)


def test_same_seed_and_calls_give_identical_measurements():
    def run(seed):
        arm = SimArm(TASK, seed)
        arm.place_fixture(11)
        return [arm.step(at(0.004, 0.0, -0.02 + 0.002 * k)) for k in range(25)]

    first, second, other = run(3), run(3), run(4)
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a.joint_positions, b.joint_positions)
        assert np.array_equal(a.wrench, b.wrench)
    assert not np.array_equal(first[-1].wrench, other[-1].wrench)


def test_an_episode_measures_the_same_whatever_was_before_it():
    def episode(seed, placement, steps_before):
        arm = SimArm(TASK, seed)
        for _ in range(steps_before):
            arm.step(arm.measure().tip_pose)
        estimate = arm.place_fixture(placement)
        arm.reset_to(estimate @ Pose.of([0.0, 0.0, -0.03]))
        target = estimate @ Pose.of([0.0, 0.0, -0.02])
        return np.array([arm.step(target).wrench for _ in range(4)])

    first = episode(5, 11, steps_before=0)
    assert np.array_equal(first, episode(5, 11, steps_before=7))
    assert not np.array_equal(first, episode(5, 12, steps_before=0))
    assert not np.array_equal(first, episode(6, 11, steps_before=0))


def test_a_restored_state_continues_identically(arm):
    arm.place_fixture(5)
    arm.reset_to(at(0.004, z=-0.004))
    hold(arm, at(0.006, z=0.005), 8)
    state = arm.get_state()
    targets = [at(0.006 - 0.001 * k, 0.0, 0.006) for k in range(15)]
    first = [arm.step(t) for t in targets]
    arm.place_fixture(6)
    arm.reset_to(at(z=-0.05))
    arm.set_state(state)
    assert np.array_equal(state.joint_positions, arm.measure().joint_positions)
    again = [arm.step(t) for t in targets]
    elsewhere = SimArm(TASK, seed=99)
    elsewhere.set_state(state)
    third = [elsewhere.step(t) for t in targets]
    for a, b, c in zip(first, again, third, strict=True):
        assert np.array_equal(a.joint_positions, b.joint_positions)
        assert np.array_equal(a.wrench, b.wrench)
        assert np.array_equal(a.joint_positions, c.joint_positions)
        assert np.array_equal(a.wrench, c.wrench)


def test_measuring_twice_gives_the_same(arm):
    first, second = arm.measure(), arm.measure()
    assert np.array_equal(first.wrench, second.wrench) and first.stamp == second.stamp


def test_time_advances_by_the_control_period(arm):
    before = arm.time
    measurement = arm.step(arm.measure().tip_pose)
    assert measurement.stamp - before == pytest.approx(TASK.period_s)


@pytest.mark.parametrize(
    ('where', 'seated'),
    [
        ((0.0, 0.0, 0.0195), False),
        ((0.0, 0.0, 0.0205), True),
        ((0.0009, 0.0, 0.021), True),
        ((0.045, 0.0, 0.03), False),  # just as deep, but beside the collar
    ],
)
def test_seat_switch_needs_depth_inside_the_hole(where, seated):
    arm = SimArm(TASK, seed=0)
    arm.data.qpos[:] = arm.solve_ik(at(*where))
    state = arm.get_state()
    arm.set_state(state)
    assert arm.measure().success_signal is seated


def test_an_unreachable_pose_is_refused(arm):
    with pytest.raises(ValueError, match='reach'):
        arm.solve_ik(Pose.of([2.0, 0.0, 0.2], [1.0, 0.0, 0.0, 0.0]))


def test_a_rate_off_the_physics_grid_is_refused():
    task = TASK.model_copy(update={'rate_hz': 30.0})
    with pytest.raises(InputError, match='rate_hz'):
        SimArm(task, seed=0)


def test_missing_robot_description_is_named(monkeypatch):
    def missing(_name):
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(panda.importlib.metadata, 'files', missing)
    with pytest.raises(InputError, match='example-robot-data'):
        panda.panda_urdf()
