# SPDX-License-Identifier: Apache-2.0
"""Where the fixture stands, where it is believed to stand, and that only contact tells the two apart."""

from hypothesis import given
from hypothesis import strategies as st
import numpy as np

from q2rl_sim.arm import SimArm
from q2rl_sim.placement import CLEARANCE_M, Placement, draw_placement, placement_refusal
from q2rl_task import Pose, load_task

TASK = load_task('pipe_assembly')
FIXTURE = TASK.fixture


@given(st.integers(min_value=0, max_value=2**63 - 1))
def test_placements_stay_within_the_bounds_of_the_task(seed):
    placement = draw_placement(TASK, seed)
    offset = placement.truth.relative_to(FIXTURE.nominal.pose)
    assert (np.abs(offset.position) <= np.array(FIXTURE.placement_m) + 1e-12).all()
    turn = np.degrees(np.abs(offset.rotation.as_rotvec()))
    assert (turn <= np.array(FIXTURE.placement_deg) + 1e-9).all()
    distance, angle = placement.truth.distance_to(placement.estimate)
    assert distance <= FIXTURE.estimate_error_m + 1e-12
    assert np.degrees(angle) <= FIXTURE.estimate_error_deg + 1e-9


def test_a_fixture_is_moved_only_while_the_tip_is_clear_of_its_nominal_rim():
    for above, refused in ((-0.02, True), (0.5 * CLEARANCE_M, True), (2.0 * CLEARANCE_M, False)):
        tip = FIXTURE.nominal.pose @ Pose.of((0.0, 0.0, -above))
        assert bool(placement_refusal(TASK, tip)) == refused


def test_placements_are_fresh_seeded_and_spread():
    again = draw_placement(TASK, 7)
    first = draw_placement(TASK, 7)
    assert np.array_equal(first.truth.position, again.truth.position)
    assert np.array_equal(first.estimate.quaternion, again.estimate.quaternion)
    many = [draw_placement(TASK, seed) for seed in range(400)]
    errors = np.array([p.estimate.relative_to(p.truth).position for p in many])
    lengths = np.linalg.norm(errors, axis=1)
    assert lengths.max() > 0.95 * FIXTURE.estimate_error_m
    assert abs(lengths.mean() - FIXTURE.estimate_error_m / 2) < 0.1 * FIXTURE.estimate_error_m
    assert np.abs(errors.mean(axis=0)).max() < 0.0005
    shifts = np.array([p.truth.position - FIXTURE.nominal.pose.position for p in many])
    assert np.abs(shifts[:, :2]).max() > 0.019


def test_the_error_is_independent_of_the_truth():
    many = [draw_placement(TASK, seed) for seed in range(800)]
    shifts = np.array([p.truth.relative_to(FIXTURE.nominal.pose).position[:2] for p in many])
    errors = np.array([p.estimate.relative_to(p.truth).position for p in many])
    correlation = np.corrcoef(np.hstack([shifts, errors]).T)[:2, 2:]
    assert np.abs(correlation).max() < 0.125  # 3.5 standard errors of n = 800


def test_moving_the_socket_changes_no_measurement_before_contact():
    """Keep the estimate, move the truth: until they touch, nothing the policies see may differ."""

    def run(shift):
        arm = SimArm(TASK, seed=1)
        placement = draw_placement(TASK, 21)
        truth = placement.truth @ Pose.of(shift)
        arm.place_fixture_at(Placement(truth, placement.estimate))
        arm.reset_to(placement.estimate @ Pose.of([0.0, 0.0, -0.02]))
        readings, touched = [], []
        for k in range(30):
            reading = arm.step(placement.estimate @ Pose.of([0.0, 0.0, -0.02 + 0.001 * k]))
            readings.append(reading)
            touched.append(arm.data.ncon > 0)
        return readings, touched

    (near, near_touched), (far, far_touched) = run([0.0, 0.0, 0.0]), run([0.006, 0.0, 0.002])
    free = next(k for k in range(30) if near_touched[k] or far_touched[k])
    assert free > 10
    for a, b in zip(near[:free], far[:free], strict=True):
        assert np.array_equal(a.joint_positions, b.joint_positions)
        assert np.array_equal(a.joint_velocities, b.joint_velocities)
        assert np.array_equal(a.wrench, b.wrench)
        assert np.array_equal(a.tip_twist, b.tip_twist)
        assert a.success_signal == b.success_signal
    assert not np.array_equal(near[-1].wrench, far[-1].wrench)


def test_only_the_socket_is_moved_between_episodes():
    arm = SimArm(TASK, seed=1)
    before = arm.measure()
    estimate = arm.place_fixture(4)
    after = arm.measure()
    assert np.array_equal(before.joint_positions, after.joint_positions)
    assert np.array_equal(before.tip_pose.position, after.tip_pose.position)
    assert arm.fixture_pose.distance_to(estimate)[0] > 0.0
    assert arm.fixture_pose.distance_to(FIXTURE.nominal.pose)[0] > 0.0
