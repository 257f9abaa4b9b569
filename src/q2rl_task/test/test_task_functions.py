# SPDX-License-Identifier: Apache-2.0
"""Observations, actions, episode ends and seeds of a task, as pure functions."""

from __future__ import annotations

import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from q2rl_task import (
    Decision,
    EndReason,
    ExecutedStep,
    Measurement,
    Mode,
    ObservationBuilder,
    Phase,
    Pose,
    advance_command,
    draw_start,
    episode_name,
    episode_seed,
    episode_stream,
    judge_step,
    load_task,
    pair_steps,
)

TASK = load_task('pipe_assembly')
FIXTURE = TASK.fixture.nominal.pose


def measurement(tip: Pose, wrench=(0.0,) * 6, success=False, twist=(0.0,) * 6) -> Measurement:
    return Measurement(
        0.0, np.zeros(7), np.zeros(7), tip, np.array(twist), np.array(wrench), success
    )


def poses():
    numbers = st.floats(-0.5, 0.5)
    return st.builds(
        lambda p, r: Pose.from_rotation(p, Rotation.from_rotvec(r)),
        st.tuples(numbers, numbers, numbers),
        st.tuples(numbers, numbers, numbers),
    )


@given(poses(), poses())
def test_a_relative_pose_composes_back(a, b):
    again = a @ b.relative_to(a)
    assert again.distance_to(b) == (pytest.approx(0, abs=1e-9), pytest.approx(0, abs=1e-6))


def test_at_rest_on_the_rim_the_observation_is_zero():
    observation = ObservationBuilder(TASK).build(measurement(FIXTURE), FIXTURE, FIXTURE)
    assert observation.dtype == np.float32
    np.testing.assert_allclose(observation, np.zeros(TASK.observation_size), atol=1e-6)


def test_the_observation_is_expressed_in_the_estimated_fixture_frame():
    deeper = FIXTURE @ Pose.of((0.001, 0.002, 0.01))
    lead = deeper @ Pose.of((0.0, 0.0, 0.006))
    observation = ObservationBuilder(TASK).build(
        measurement(deeper, (1, 2, 3, 0, 0, 0)), lead, FIXTURE
    )
    np.testing.assert_allclose(observation[:3], [0.2, 0.4, 2.0], atol=1e-5)
    np.testing.assert_allclose(observation[9:12], [0.0, 0.0, 1.0], atol=1e-5)
    np.testing.assert_allclose(observation[15:18], [0.1, 0.2, 0.3], atol=1e-5)


def test_the_observation_does_not_change_when_robot_and_fixture_move_together():
    tip = FIXTURE @ Pose.of((0.001, -0.002, -0.01))
    move = Pose.from_rotation((0.02, -0.01, 0.03), Rotation.from_euler('xyz', [0.1, 0.05, 1.0]))
    here = ObservationBuilder(TASK).build(measurement(tip), tip, FIXTURE)
    there = ObservationBuilder(TASK).build(measurement(move @ tip), move @ tip, move @ FIXTURE)
    np.testing.assert_allclose(here, there, atol=1e-5)


def test_the_wrench_is_low_passed_and_reset_forgets_it():
    builder = ObservationBuilder(TASK)
    builder.build(measurement(FIXTURE), FIXTURE, FIXTURE)
    pushed = measurement(FIXTURE, (10, 0, 0, 0, 0, 0))
    first = builder.build(pushed, FIXTURE, FIXTURE)[15]
    second = builder.build(pushed, FIXTURE, FIXTURE)[15]
    assert 0.0 < first < second < 1.0
    builder.reset()
    assert builder.build(pushed, FIXTURE, FIXTURE)[15] == pytest.approx(1.0)


def test_history_stacks_ticks_oldest_first():
    task = TASK.model_copy(
        update={'observation': TASK.observation.model_copy(update={'history': 2})}
    )
    builder = ObservationBuilder(task)
    first = builder.build(measurement(FIXTURE), FIXTURE, FIXTURE)
    moved = FIXTURE @ Pose.of((0.01, 0, 0))
    second = builder.build(measurement(moved), moved, FIXTURE)
    assert first.shape == second.shape == (44,)
    assert second[0] == pytest.approx(0.0, abs=1e-6)
    assert second[TASK.frame_size] == pytest.approx(2.0, abs=1e-5)


def test_an_action_adds_to_the_commanded_pose_in_fixture_axes():
    target = advance_command(TASK, FIXTURE, np.array([0, 0, 1, 0, 0, 0]), FIXTURE, FIXTURE)
    np.testing.assert_allclose(target.position - FIXTURE.position, [0, 0, -0.003], atol=1e-12)
    turned = advance_command(TASK, FIXTURE, np.array([0, 0, 0, 0, 0, 1]), FIXTURE, FIXTURE)
    np.testing.assert_allclose(FIXTURE.rotation_vector_to(turned), [0, 0, -0.02], atol=1e-9)


@settings(max_examples=50)
@given(st.lists(st.tuples(*[st.floats(-1, 1)] * 6), min_size=1, max_size=30))
def test_the_command_never_leads_a_blocked_arm_by_more_than_the_clamp(actions):
    commanded = FIXTURE
    for action in actions:
        commanded = advance_command(TASK, commanded, np.array(action), FIXTURE, FIXTURE)
        distance, angle = FIXTURE.distance_to(commanded)
        assert distance <= TASK.limits.lead_m + 1e-9
        assert angle <= TASK.limits.lead_rad + 1e-6


@pytest.mark.parametrize(
    ('step', 'success', 'force', 'requested', 'terminated', 'truncated', 'reason'),
    [
        (0, True, 0.0, False, False, False, EndReason.NONE),
        (1, False, 0.0, False, False, False, EndReason.NONE),
        (1, True, 99.0, True, True, False, EndReason.SUCCESS),
        (100, True, 0.0, False, True, False, EndReason.SUCCESS),
        (5, False, 99.0, True, False, True, EndReason.FORCE_LIMIT),
        (5, False, 0.0, True, False, True, EndReason.REQUESTED),
        (100, False, 0.0, False, False, True, EndReason.TIME_LIMIT),
    ],
)
def test_only_success_terminates(step, success, force, requested, terminated, truncated, reason):
    outcome = judge_step(
        TASK, step, measurement(FIXTURE, (force, 0, 0, 0, 0, 0), success), requested
    )
    assert (outcome.terminated, outcome.truncated, outcome.reason) == (
        terminated,
        truncated,
        reason,
    )
    assert outcome.reward == (0.0 if terminated or step == 0 else -1.0)


def test_training_and_evaluation_never_share_a_seed():
    seeds = {
        episode_seed(run, stream, number)
        for run in range(5)
        for stream in ('estimating', 'online', 'evaluating')
        for number in range(200)
    }
    assert len(seeds) == 5 * 3 * 200
    assert episode_seed(0, 'online', 7) == episode_seed(0, 'online', 7)


def test_start_poses_are_above_the_estimate_spread_and_of_their_seed():
    reset, fixture = TASK.reset, Pose.of([0.3, -0.2, 0.1], [0.9, 0.1, -0.2, 0.3])
    starts = [draw_start(TASK, fixture, [seed, 1]).relative_to(fixture) for seed in range(200)]
    offsets = np.array([s.position for s in starts]) + np.array([0.0, 0.0, reset.height_m])
    assert (np.abs(offsets) <= np.array(reset.spread_m) + 1e-12).all()
    assert (np.ptp(offsets, axis=0) > 1.8 * np.array(reset.spread_m)).all()
    turns = np.degrees([s.rotation.as_rotvec() for s in starts])
    assert (np.abs(turns) <= np.array(reset.spread_deg) + 1e-9).all()
    assert (np.ptp(turns, axis=0) > 1.8 * np.array(reset.spread_deg)).all()


@pytest.mark.parametrize(
    'seed, position',
    [(7, [0.50125095, -0.00397214, 0.16724314]), ([7, 1], [0.50270141, 0.00388073, 0.17310902])],
)
def test_the_start_poses_of_recorded_runs_come_again(seed, position):
    np.testing.assert_allclose(draw_start(TASK, FIXTURE, seed).position, position, atol=1e-8)


def executed(step: int, final: bool = False) -> ExecutedStep:
    return ExecutedStep(
        stamp=0.05 * step,
        robot='arm',
        contract=TASK.contract_hash,
        episode='e',
        step=step,
        mode=Mode.GATED,
        final=final,
        observation=np.full(22, step, np.float32),
        reward=-float(step),
        terminated=final,
        truncated=False,
        end_reason=EndReason.SUCCESS if final else EndReason.NONE,
        force=0.0,
        executed_action=np.zeros(6),
        interventions=(),
        decision=dataclasses.replace(Decision.hold(6), bc_log_prob=float(step)),
    )


def test_a_transition_takes_action_from_the_first_step_and_reward_from_the_second():
    transition = pair_steps(executed(3), executed(4, final=True), 9, Phase.ONLINE)
    assert (transition.step, transition.sequence, transition.reward) == (3, 9, -4.0)
    assert (transition.terminated, transition.end_reason) == (True, EndReason.SUCCESS)
    assert (transition.bc_log_prob, transition.next_bc_log_prob) == (3.0, 4.0)
    assert transition.next_observation[0] == 4


@pytest.mark.parametrize('pair', [(3, 5), (4, 3), (3, 3)])
def test_steps_that_do_not_follow_are_refused(pair):
    with pytest.raises(ValueError, match='do not follow'):
        pair_steps(executed(pair[0]), executed(pair[1]), 1, Phase.ONLINE)
    with pytest.raises(ValueError, match='do not follow'):
        pair_steps(executed(3, final=True), executed(4), 1, Phase.ONLINE)


def test_what_makes_an_id_unique_changes_nothing_that_is_drawn():
    assert episode_name('run-o0012-1@arm.3fa94c') == 'run-o0012-1' == episode_name('run-o0012-1')
    streams = [
        episode_stream(3, f'run-o0012{life}') for life in ('', '@arm.3fa94c', '@left.00aa11')
    ]
    assert len(set(streams)) == 1
    assert episode_stream(3, 'run-o0013') != streams[0]
