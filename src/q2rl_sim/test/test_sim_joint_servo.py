# SPDX-License-Identifier: Apache-2.0
"""The arm that is commanded by joint positions: it follows, yields, presses no harder than the task allows."""

from __future__ import annotations

import numpy as np
import pytest

from q2rl_sim.arm import SimArm
from q2rl_sim.joint_servo import stiffest
from q2rl_task import Pose, load_task

TASK = load_task('pipe_assembly')
NOMINAL = TASK.fixture.nominal.pose


@pytest.fixture(scope='module')
def arm():
    return SimArm(TASK, seed=0, joint_servo=True)


def at(x=0.0, z=0.0) -> Pose:
    return NOMINAL @ Pose.of([x, 0.0, z])


def test_it_rests_and_follows_in_free_space(arm):
    arm.reset_to(at(z=-0.05))
    assert arm.measure().tip_pose.distance_to(at(z=-0.05))[0] < 1e-4
    goal = arm.solve_ik(at(0.02, -0.04))
    for _ in range(60):
        measured = arm.step(goal)
    np.testing.assert_allclose(measured.joint_positions, goal, atol=1e-3)
    assert measured.tip_pose.distance_to(at(0.02, -0.04))[0] < 1e-3


def test_a_command_that_leads_by_all_that_is_allowed_presses_gently(arm):
    limits = TASK.limits
    arm.reset_to(at(0.006, -0.002))
    for z in np.linspace(-0.002, limits.lead_m, 10):  # onto the rim
        measured = arm.step(arm.solve_ik(at(0.006, z)))
    for _ in range(20):
        measured = arm.step(arm.solve_ik(at(0.006, limits.lead_m)))
    assert 1.0 < measured.force < limits.force_stop_n
    force, torque = stiffest(arm._servo.stiffness, arm._jacobian[:, :7])
    assert force * limits.lead_m < 1.3 * limits.force_stop_n
    assert torque * limits.lead_rad < 1.3 * limits.torque_stop_nm


def test_the_same_calls_give_the_same_measurements_and_a_state_goes_on_as_before(arm):
    def run(of, steps):
        return [of.step(of.target + 0.001 * k).joint_positions for k in range(steps)]

    arm.reset_to(at(z=-0.05))
    state = arm.get_state()
    first = run(arm, 5)
    arm.set_state(state)
    np.testing.assert_array_equal(run(arm, 5), first)
