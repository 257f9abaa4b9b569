# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from itertools import pairwise

from control_helpers import above, measurement
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from q2rl_control.guard import CARRIED_M, CARRIED_RAD, Guard, action_fault, answer_fault, is_limited
from q2rl_control.motion_limits import LimitedMotion
from q2rl_task import Mode, ObservationRecord, Pose, load_task

TASK = load_task('pipe_assembly')
FIXTURE = TASK.fixture.nominal.pose
START = above(TASK, 0.02)
SIZE = TASK.action_size


def with_limits(task, **changes):
    """The task with other limits; not validated, so that limits can be made to bind."""
    return task.model_copy(update={'limits': task.limits.model_copy(update=changes)})


SLUGGISH = with_limits(TASK, acceleration_m_s2=0.3, acceleration_rad_s2=1.5)
"""Braking from full speed takes twenty ticks: the workspace needs braking distance."""
SMOOTH = with_limits(TASK, jerk_m_s3=8.0, jerk_rad_s3=40.0)
"""Here jerk binds before acceleration does."""
CREEPING = with_limits(
    TASK, acceleration_m_s2=0.3, acceleration_rad_s2=1.5, jerk_m_s3=1.0, jerk_rad_s3=5.0
)
"""And here both."""

numbers = st.one_of(
    st.floats(-1.0, 1.0), st.sampled_from([1.0, -1.0, 0.0, np.nan, np.inf, -np.inf, 1e300, 5e-324])
)
actions = st.one_of(
    st.none(),
    st.lists(st.floats(-1.0, 1.0), min_size=SIZE, max_size=SIZE),
    st.sampled_from([[1.0] * SIZE, [-1.0] * SIZE]),
    st.lists(numbers, max_size=SIZE + 2),
)
offsets = st.lists(st.floats(-0.05, 0.05), min_size=6, max_size=6)


def beyond(guard_task, pose) -> np.ndarray:
    """How far a pose is outside the box [m] and the cone [rad]; zeros inside."""
    space = guard_task.limits.workspace
    position = np.maximum(np.array(space.low) - pose.position, pose.position - np.array(space.high))
    angle = pose.distance_to(FIXTURE)[1] - space.max_rotation_rad
    return np.maximum(0.0, [position.max(), angle])


def check_limits(guard_task, before, target, velocities, period, carried=(0.0, 0.0)):
    """Assert that one tick kept to box, cone, velocity, acceleration and jerk; return its velocities.

    :param velocities: (linear, angular, change of linear, change of angular) of the tick before
    :param carried: how far out of box [m] and cone [rad] something else has carried the arm by now
    """
    limits = guard_task.limits
    assert (
        beyond(guard_task, target) <= np.minimum(carried, [CARRIED_M, CARRIED_RAD]) + 1e-7
    ).all()
    linear = (target.position - before.position) / period
    angular = before.rotation_vector_to(target) / period
    assert np.linalg.norm(linear) <= limits.velocity_m_s + 1e-6
    assert np.linalg.norm(angular) <= limits.velocity_rad_s + 1e-6
    # Angular velocities of successive ticks are compared as the guard defines them, in base axes.
    changes = linear - velocities[0], angular - velocities[1]
    assert np.linalg.norm(changes[0]) / period <= limits.acceleration_m_s2 + 1e-5
    assert np.linalg.norm(changes[1]) / period <= limits.acceleration_rad_s2 + 1e-4
    jumps = changes[0] - velocities[2], changes[1] - velocities[3]
    assert np.linalg.norm(jumps[0]) / period**2 <= limits.jerk_m_s3 + 1e-3
    assert np.linalg.norm(jumps[1]) / period**2 <= limits.jerk_rad_s3 + 1e-2
    return linear, angular, *changes


AT_REST = (np.zeros(3),) * 4


@pytest.mark.parametrize(
    'guard_task',
    [TASK, SLUGGISH, SMOOTH, CREEPING],
    ids=['task', 'sluggish', 'smooth', 'creeping'],
)
@settings(max_examples=30)
@given(
    sequence=st.lists(
        st.tuples(actions, offsets, st.floats(0.0, 100.0), st.integers(1, 10)), max_size=8
    ),
    start=st.lists(st.floats(-0.02, 0.02), min_size=3, max_size=3),
)
def test_no_sequence_leaves_the_limits(guard_task, sequence, start):
    guard = Guard(guard_task)
    pose = Pose(START.position + start, START.quaternion)
    guard.reset(pose)
    velocities, before, carried = AT_REST, guard.commanded, np.zeros(2)
    for action, offset, force, repeats in sequence:
        vector = None if action is None else np.array(action)
        for _ in range(repeats):
            # The arm is wherever it likes: the limits hold for the command whatever is measured.
            tip = Pose.from_rotation(
                before.position + offset[:3], Rotation.from_rotvec(offset[3:]) * before.rotation
            )
            command = guard.command(vector, measurement(tip, force=(0.0, 0.0, -force)), FIXTURE)
            carried = np.maximum(carried, beyond(guard_task, tip))
            velocities = check_limits(
                guard_task, before, command.target, velocities, TASK.period_s, carried
            )
            assert np.isfinite(command.executed).all() and command.executed.shape == (SIZE,)
            before = command.target


@settings(max_examples=30)
@given(goals=st.lists(st.tuples(offsets, st.integers(1, 8)), min_size=1, max_size=8))
def test_reset_motions_keep_the_same_limits_and_their_own_speed(goals):
    guard = Guard(TASK)
    guard.reset(START)
    velocities, before = AT_REST, START
    for offset, repeats in goals:
        goal = Pose.from_rotation(
            START.position + 4.0 * np.array(offset[:3]),
            Rotation.from_rotvec(10.0 * np.array(offset[3:])) * START.rotation,
        )
        for _ in range(repeats):
            command = guard.move(goal, measurement(before), 0.1, 0.5)
            velocities = check_limits(TASK, before, command.target, velocities, TASK.period_s)
            assert np.linalg.norm(velocities[0]) <= 0.1 + 1e-9
            before = command.target


@pytest.mark.parametrize('guard_task', [TASK, SLUGGISH, SMOOTH, CREEPING])
def test_a_reset_motion_arrives_under_any_limits(guard_task):
    guard = Guard(guard_task)
    guard.reset(START)
    goal = Pose.from_rotation(
        START.position + np.array([0.03, -0.02, -0.04]),
        Rotation.from_rotvec([0.1, 0.0, 0.1]) * START.rotation,
    )
    left = []
    for _ in range(200):
        guard.move(goal, measurement(guard.commanded), 0.25, 1.0)
        left.append(guard.commanded.distance_to(goal))
    assert left[-1][0] < 1e-5 and left[-1][1] < 1e-4
    # And without running far past it and back again.
    closest = np.minimum.accumulate([distance for distance, _ in left])
    assert np.max(np.array([distance for distance, _ in left]) - closest) < 0.006


def test_any_action_of_a_policy_passes_unchanged_in_free_space():
    guard, rng = Guard(TASK), np.random.default_rng(1)
    guard.reset(START)
    for k in range(200):
        # Full reversals are the hardest that a policy can ask for; the walk stays near the start.
        if k % 4 == 0:
            guard.reset(START)
            action = np.where(rng.uniform(size=SIZE) > 0.5, 1.0, -1.0)
        else:
            action = -action if k % 4 < 3 else rng.uniform(-1.0, 1.0, SIZE)
        before = guard.commanded
        command = guard.command(action, measurement(before), FIXTURE)
        assert command.interventions == ()
        np.testing.assert_array_equal(command.executed, action.astype(np.float32))
        shift = FIXTURE.rotation.apply(action[:3] * TASK.action.translation_m)
        np.testing.assert_allclose(command.target.position - before.position, shift, atol=1e-12)


@pytest.mark.parametrize(
    ('action', 'fault'),
    [
        (np.full(SIZE, np.nan), 'not_finite'),
        ([np.inf] + [0.0] * (SIZE - 1), 'not_finite'),
        (np.zeros(SIZE - 1), 'size'),
        (np.zeros((1, SIZE)), 'size'),
        ([1.01] + [0.0] * (SIZE - 1), 'out_of_range'),
        (['a'] * SIZE, 'not_finite'),
    ],
)
def test_a_bad_action_is_rejected_as_a_whole_and_holds(action, fault):
    assert action_fault(action, SIZE) == fault
    guard = Guard(TASK)
    guard.reset(START)
    command = guard.command(action, measurement(START), FIXTURE)
    assert command.interventions == (f'rejected:{fault}',)
    np.testing.assert_array_equal(command.target.position, START.position)
    np.testing.assert_array_equal(command.executed, np.zeros(SIZE, np.float32))
    assert action_fault(np.full(SIZE, 1.00001), SIZE) is None


def test_only_the_answer_to_the_pending_observation_is_accepted():
    pending = ObservationRecord(
        1.0, TASK.contract_hash, 'e1', 3, Mode.BC, False, np.zeros(TASK.observation_size)
    )

    def fault(episode='e1', step=3, age=0.0, of=pending):
        return answer_fault(of, episode, step, age, 0.1)

    assert fault() is None
    assert fault(episode='e0') == 'episode'
    assert fault(step=2) == 'step'
    assert fault(step=4) == 'step'
    assert fault(age=0.2) == 'late'
    assert fault(age=float('nan')) == 'late'
    assert fault(of=None) == 'late'


def test_a_blocked_arm_leads_to_the_clamp_and_to_no_other_intervention():
    guard = Guard(TASK)
    guard.reset(START)
    push = np.array([0.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    codes, executed = [], []
    for _ in range(10):
        command = guard.command(push, measurement(START), FIXTURE)
        codes.append(command.interventions)
        executed.append(command.executed[2])
    assert codes[:4] == [(), (), (), ()]
    assert set(codes[4:]) == {('lead',)}
    assert not is_limited(codes[-1])
    lead = np.linalg.norm(command.target.position - START.position)
    assert lead == pytest.approx(TASK.limits.lead_m, abs=1e-9)
    assert executed[0] == 1.0 and executed[-1] == pytest.approx(0.0, abs=1e-6)


def test_the_command_slides_along_the_boundary():
    guard = Guard(TASK)
    corner = np.array([TASK.limits.workspace.high[0] - 0.001, 0.0, 0.2])
    guard.reset(Pose(corner, START.quaternion))
    # Fixture axes: x as the base's, y and z turned round.
    action = np.array([1.0, -1.0, 0.0, 0.0, 0.0, 0.0])
    for _ in range(5):
        before = guard.commanded
        command = guard.command(action, measurement(before), FIXTURE)
    assert 'workspace' in command.interventions and is_limited(command.interventions)
    assert command.target.position[0] == pytest.approx(TASK.limits.workspace.high[0], abs=1e-9)
    assert command.target.position[1] - before.position[1] == pytest.approx(
        TASK.action.translation_m
    )
    assert command.executed[0] == pytest.approx(0.0, abs=1e-5)


def test_the_orientation_stays_within_its_cone():
    guard = Guard(TASK)
    guard.reset(START)
    spin = np.array([0.0, 0.0, 0.0, 1.0, 0.0, 0.0])
    for _ in range(40):
        command = guard.command(spin, measurement(guard.commanded), FIXTURE)
    assert 'workspace' in command.interventions
    angle = command.target.distance_to(FIXTURE)[1]
    assert angle == pytest.approx(TASK.limits.workspace.max_rotation_rad, abs=1e-7)


def test_from_outside_the_workspace_the_command_only_moves_inward():
    guard = Guard(TASK)
    outside = Pose(np.array([0.63, 0.0, 0.2]), START.quaternion)
    guard.reset(outside)
    xs = [outside.position[0]]
    for action in (0.0, 1.0, 0.3, -1.0, 1.0):  # along x
        for _ in range(8):
            vector = np.array([action, 0.3, 0.0, 0.0, 0.0, 0.0])
            command = guard.command(vector, measurement(guard.commanded), FIXTURE)
            xs.append(command.target.position[0])
    assert (np.diff(xs) <= 1e-9).all()
    assert xs[-1] == pytest.approx(0.63 - 8 * TASK.action.translation_m, abs=1e-8)
    assert 'workspace' in command.interventions


def test_force_softens_the_pressing_part_and_only_that():
    limits = TASK.limits
    middle = 0.5 * (limits.force_soften_n + limits.force_stop_n)
    pushing = np.array([1.0, 0.0, 1.0, 0.0, 0.0, 0.0])

    def shift(force):
        guard = Guard(TASK)
        guard.reset(START)
        # The contact pushes the tip out of the hole: along the tip's -z.
        command = guard.command(pushing, measurement(START, force=(0.0, 0.0, -force)), FIXTURE)
        moved = FIXTURE.rotation.inv().apply(command.target.position - START.position)
        return moved / TASK.action.translation_m, command.interventions

    free, codes = shift(limits.force_soften_n)
    np.testing.assert_allclose(free, [1.0, 0.0, 1.0], atol=1e-9)
    assert codes == ()
    soft, codes = shift(middle)
    np.testing.assert_allclose(soft, [1.0, 0.0, 0.5], atol=1e-9)
    assert codes == ('force',)
    none, _ = shift(limits.force_stop_n + 10.0)
    np.testing.assert_allclose(none, [1.0, 0.0, 0.0], atol=1e-9)
    back = Guard(TASK)
    back.reset(START)
    command = back.command(
        np.array([0.0, 0.0, -1.0, 0.0, 0.0, 0.0]),
        measurement(START, force=(0.0, 0.0, -50.0)),
        FIXTURE,
    )
    assert command.interventions == ()


def moving_guard(task=TASK):
    guard = Guard(task)
    guard.reset(START)
    for _ in range(3):
        guard.command(np.ones(SIZE), measurement(guard.commanded), FIXTURE)
    return guard


@pytest.mark.parametrize('field', ['tip_twist', 'wrench', 'joint_positions'])
def test_a_measurement_that_is_not_finite_brakes(field):
    guard = moving_guard(SLUGGISH)
    bad = measurement(guard.commanded, **{field: np.full(6, np.nan)})
    before, command = guard.commanded, None
    for _ in range(30):
        command = guard.command(np.ones(SIZE), bad, FIXTURE)
    assert command.interventions == ('rejected:measurement',)
    assert guard.at_rest
    assert 0.0 < before.distance_to(command.target)[0] < 0.02


def test_coasting_comes_to_rest_without_a_measurement():
    guard = moving_guard(SLUGGISH)
    assert not guard.at_rest
    poses = [guard.coast() for _ in range(30)]
    assert guard.at_rest
    steps = [a.distance_to(b)[0] for a, b in pairwise(poses)]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(steps))


def test_the_final_check_catches_what_the_limits_let_through(monkeypatch):
    guard = moving_guard()
    monkeypatch.setattr(
        LimitedMotion, 'plan', lambda self, wanted, speed: (np.array([[9.0, 0.0, 0.0]]), ())
    )
    before = guard.commanded
    command = guard.command(np.zeros(SIZE), measurement(before), FIXTURE)
    assert 'final_check' in command.interventions
    assert before.distance_to(command.target)[0] < 1e-9
    monkeypatch.setattr(
        LimitedMotion, 'plan', lambda self, wanted, speed: (np.full((1, 3), np.nan), ())
    )
    assert guard.command(None, measurement(before), FIXTURE).target.is_finite()


def test_a_guard_is_seeded_from_a_finite_pose_only():
    guard = Guard(TASK)
    assert not guard.seeded
    with pytest.raises(ValueError, match='finite'):
        guard.reset(Pose(np.array([np.nan, 0.0, 0.0]), START.quaternion))
    guard.reset(START)
    assert guard.seeded and guard.at_rest
