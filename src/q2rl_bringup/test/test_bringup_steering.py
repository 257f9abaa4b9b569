# SPDX-License-Identifier: Apache-2.0
"""What a dragged gizmo asks of the arm, and when it asks for nothing."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from q2rl_bringup.steering import REST_S, SETTLE_TICKS, SIMULATION_SILENT_S, SPEED, Steering
from q2rl_control.arm_state import MAY_BEGIN, ArmState
from q2rl_task import Pose, load_task

SILENT_S = 2.0
PAGE, OTHER = 1, 2
START = Pose.of([0.5, 0.02, 0.2], [1.0, 0.0, 0.0, 0.0])


def moved(shift, turn=(0.0, 0.0, 0.0)):
    """Return START shifted [m] and turned [rad] in the axes of the base."""
    return Pose.from_rotation(START.position + shift, Rotation.from_rotvec(turn) * START.rotation)


def ready(task, lockstep=True):
    steering = Steering(task, SILENT_S, lockstep)
    steering.hear_truth([task.fixture.nominal.pose], 0.0)
    steering.commanded = START
    steering.hear_arm(ArmState.RESETTING, MAY_BEGIN, 'r-d0001')
    return steering


@pytest.fixture
def task():
    return load_task('pipe_assembly')


@pytest.fixture
def fixture(task):
    return task.fixture.nominal.pose


@pytest.fixture
def steering(task):
    return ready(task)


def drag(steering, pose, now=0.0, client=PAGE):
    steering.grab(client, now)
    steering.move(client, pose, now)


def test_nobody_acts_before_the_gizmo_is_grabbed_and_dragged(steering, fixture):
    assert steering.offered(0.0) == 'r-d0001' and steering.action(fixture, 0.0) is None
    steering.move(PAGE, moved([0.0, 0.0, -0.01]), 0.0)
    assert steering.action(fixture, 0.0) is None
    steering.grab(PAGE, 0.0)
    assert steering.held and steering.action(fixture, 0.0) is None
    steering.move(PAGE, moved([0.0, 0.0, -0.01]), 0.0)
    assert steering.action(fixture, 0.0)[2] == pytest.approx(SPEED)


@pytest.mark.parametrize('lockstep', [True, False])
def test_the_command_goes_where_the_gizmo_is_in_the_axes_of_the_fixture(task, fixture, lockstep):
    steering = ready(task, lockstep)
    wanted = moved([0.004, -0.003, -0.012], [0.0, 0.05, -0.08])
    drag(steering, wanted)
    steps = 0
    while (action := steering.action(fixture, REST_S)) is not None:
        steps += 1
        assert (
            steps < (9 if lockstep else 25)
            and action.shape == (6,)
            and np.abs(action).max() <= SPEED + 1e-6
        )
        # What an action means, written out: a step of the command in the fixture's axes.
        at = steering.commanded
        shift = fixture.rotation.apply(action[:3] * task.action.translation_m)
        turn = fixture.rotation.apply(action[3:] * task.action.rotation_rad)
        steering.commanded = Pose.from_rotation(
            at.position + shift, Rotation.from_rotvec(turn) * at.rotation
        )
    metres, radians = steering.commanded.distance_to(wanted)
    assert metres < 1e-4 and radians < 1e-3


def test_a_far_gizmo_saturates_and_keeps_its_direction(steering, fixture):
    drag(steering, moved([0.06, -0.03, -0.06]))
    action = steering.action(fixture, 0.0)
    direction = fixture.rotation.inv().apply([0.06, -0.03, -0.06])
    np.testing.assert_allclose(action[:3], SPEED * direction / np.abs(direction).max(), atol=1e-6)


def test_it_acts_in_the_box_whatever_the_page_sends(task, fixture):
    rng = np.random.default_rng(3)
    steering = ready(task)
    steering.grab(PAGE, 0.0)
    for _ in range(300):
        wild = Pose(rng.normal(size=3) * 10.0 ** rng.uniform(-6, 6), START.quaternion)
        steering.move(PAGE, wild, 0.0)
        action = steering.action(fixture, 0.0)
        assert action is None or (np.isfinite(action).all() and np.abs(action).max() <= 1.0)
    for bad in (np.nan, np.inf):
        steering.move(PAGE, Pose(np.array([bad, 0.0, 0.2]), START.quaternion), 0.0)
        action = steering.action(fixture, 0.0)
        assert action is None or np.isfinite(action).all()


def test_let_go_or_gone_stops_at_once(steering, fixture):
    far = moved([0.0, 0.0, -0.05])
    drag(steering, far)
    assert steering.action(fixture, 0.0) is not None
    steering.let_go(OTHER)
    assert steering.action(fixture, 0.0) is not None
    steering.let_go(PAGE)
    assert steering.action(fixture, 0.0) is None
    # What a page sends after it has let go counts for nothing.
    steering.move(PAGE, far, 0.0)
    assert steering.action(fixture, 0.0) is None


def test_a_gizmo_that_does_not_move_falls_silent_and_one_that_moves_again_acts(steering, fixture):
    far = moved([0.0, 0.0, -0.05])
    drag(steering, far)
    assert steering.action(fixture, SILENT_S - 0.01) is not None
    steering.hear_truth([], SILENT_S)
    assert steering.action(fixture, SILENT_S + 0.01) is None
    steering.move(PAGE, far, SILENT_S + 0.1)
    assert steering.action(fixture, SILENT_S + 0.1) is not None


def test_no_step_is_spent_on_a_hand_that_trembles_nor_once_the_command_is_there(steering, fixture):
    drag(steering, moved([0.0, 0.0002, 0.0]))
    assert steering.action(fixture, 0.0) is None and steering.action(fixture, REST_S) is None
    # A small way waits for the hand to rest, a larger one does not.
    steering.move(PAGE, moved([0.0, 0.001, 0.0]), 1.0)
    assert steering.action(fixture, 1.0) is None
    assert steering.action(fixture, 1.01 + REST_S) is not None
    steering.commanded = moved([0.0, 0.001, 0.0])
    said = [steering.action(fixture, 1.01 + REST_S) for _ in range(SETTLE_TICKS + 1)]
    assert sum(action is not None for action in said) == SETTLE_TICKS and said[-1] is None
    steering.move(PAGE, moved([0.0, 0.003, 0.0]), 1.2)
    assert steering.action(fixture, 1.2) is not None


def test_the_first_page_keeps_the_gizmo(steering, fixture):
    drag(steering, moved([0.0, 0.0, -0.05]))
    before = steering.action(fixture, 0.0)
    drag(steering, moved([0.0, 0.0, 0.05]), client=OTHER)
    np.testing.assert_array_equal(steering.action(fixture, 0.0), before)


@pytest.mark.parametrize(
    'said',
    [
        (ArmState.RETREATING, '', 'r-d0001'),
        (ArmState.RESETTING, '', 'r-d0001'),
        (ArmState.STOPPED, 'emergency stop', 'r-d0001'),
        (ArmState.RUNNING, '', 'r-d0002'),
    ],
)
def test_an_episode_that_is_over_takes_the_gizmo_out_of_the_hand(steering, fixture, said):
    drag(steering, moved([0.0, 0.0, -0.05]))
    steering.hear_arm(ArmState.RUNNING, '', 'r-d0001')
    assert steering.action(fixture, 0.0) is not None
    steering.hear_arm(*said)
    assert steering.action(fixture, 0.0) is None
    steering.hear_arm(ArmState.RESETTING, MAY_BEGIN, 'r-d0002')
    steering.move(PAGE, moved([0.0, 0.0, -0.05]), 0.0)
    assert steering.action(fixture, 0.0) is None and not steering.held


def test_nothing_is_offered_where_no_simulation_tells_the_truth(task, fixture):
    steering = Steering(task, SILENT_S, lockstep=True)
    steering.commanded = START
    steering.hear_arm(ArmState.RESETTING, MAY_BEGIN, 'r-d0001')
    drag(steering, moved([0.0, 0.0, -0.05]))
    assert steering.offered(0.0) == '' and steering.action(fixture, 0.0) is None
    # Nor where it has fallen silent in the middle of a drag.
    steering = ready(task)
    drag(steering, moved([0.0, 0.0, -0.05]))
    steering.move(PAGE, moved([0.0, 0.0, -0.05]), SIMULATION_SILENT_S + 0.1)
    assert steering.action(fixture, SIMULATION_SILENT_S + 0.1) is None and not steering.held


def test_the_grippers_buttons_act_for_a_moment_with_or_without_the_gizmo():
    task = load_task('kitting')
    fixture = task.fixture.nominal.pose
    steering = ready(task)
    steering.press(-1.0, 0.0)
    np.testing.assert_array_equal(steering.action(fixture, 0.0), [0, 0, 0, 0, 0, 0, -1])
    assert steering.action(fixture, 0.5) is None
    steering.grab(PAGE, 1.0)
    steering.move(PAGE, moved([0.0, 0.0, 0.02]), 1.0)
    assert steering.action(fixture, 1.0)[6] == 0.0
    steering.press(1.0, 1.0)
    action = steering.action(fixture, 1.0)
    assert action[6] == 1.0 and np.abs(action[:3]).max() > 0.1


def test_a_task_without_a_gripper_has_no_such_button(steering, fixture):
    steering.press(1.0, 0.0)
    assert steering.action(fixture, 0.0) is None
