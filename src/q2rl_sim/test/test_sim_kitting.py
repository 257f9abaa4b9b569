# SPDX-License-Identifier: Apache-2.0
"""Kitting: the gripper holds, the pocket's walls and floor hold, the switch wants the part down and let go."""

from __future__ import annotations

import numpy as np
import pytest

from q2rl_sim.arm import SimArm
from q2rl_sim.contact_audit import ContactAudit
from q2rl_sim.placement import Placement, draw_placement
from q2rl_sim.rollout import run_episode
from q2rl_sim.scene import build_scene, configuration_size, scene_module
from q2rl_sim.scenes.kitting import Demonstrator, seated
from q2rl_task import InputError, Pose, episode_seed, load_task

TASK = load_task('kitting')
POCKET = TASK.fixture.nominal.pose
PART = TASK.part.nominal.pose
SEATED_TIP_M = TASK.part.below_m - TASK.fixture.depth_m
"""Height of the tip over the rim when the part that it holds is down."""
MAX_PENETRATION_M = 0.0005
WEIGHT_N = 9.81 * TASK.part.mass_kg


@pytest.fixture(scope='module')
def arm():
    return SimArm(TASK, seed=0)


def over(pose: Pose, x=0.0, y=0.0, height=0.0) -> Pose:
    return pose @ Pose.of([x, y, -height])


def go(arm, target: Pose, opening: float, ticks: int, watch=lambda arm: None):
    """Move the target to `target` in half of the time; return the last measurement."""
    start = arm.get_state().target
    for k in range(ticks):
        blend = min(1.0, 2.0 * (k + 1) / ticks)
        place = start.position + blend * (target.position - start.position)
        measurement = arm.step(Pose.of(place, target.quaternion), opening)
        watch(arm)
    return measurement


def grasp(arm, x=0.0, y=0.0):
    """Put everything at its nominal place and take the part, gripped off its middle by x, y [m]."""
    arm.place_fixture_at(Placement(POCKET, POCKET, PART, PART))
    arm.reset_to(over(PART, x, y, 0.02))
    go(arm, over(PART, x, y), 1.0, 16)
    go(arm, over(PART, x, y), 0.0, 10)
    return go(arm, over(PART, x, y, 0.04), 0.0, 20)


def held_over_pocket(arm, x=0.0, y=0.0, height=0.006):
    """Hold the part's end over the pocket's rim, off its middle by x, y [m]."""
    grasp(arm)
    go(arm, over(POCKET, x, y, TASK.part.below_m + 0.02), 0.0, 50)
    return go(arm, over(POCKET, x, y, TASK.part.below_m + height), 0.0, 12)


def in_hand(arm) -> np.ndarray:
    return arm.part_pose.relative_to(arm.measure().tip_pose).position


def test_the_part_stands_still_and_its_joints_are_not_the_robots(arm):
    fresh = SimArm(TASK, seed=0)
    before = fresh.part_pose
    measurement = go(fresh, fresh.measure().tip_pose, 1.0, 20)
    distance, angle = fresh.part_pose.distance_to(before)
    assert distance < 2e-4 and angle < 2e-3
    assert measurement.joint_positions.shape == measurement.joint_velocities.shape == (9,)
    assert len(fresh.data.qpos) == configuration_size(TASK)
    assert measurement.gripper == pytest.approx(1.0, abs=0.01)


def test_the_fingers_close_no_faster_than_the_gripper_goes(arm):
    arm.reset_to(over(POCKET, height=0.1))
    open_m, reach = TASK.gripper.open_m, TASK.gripper.speed_m_s * TASK.period_s
    openings = [1.0] + [arm.step(over(POCKET, height=0.1), 0.0).gripper for _ in range(15)]
    steps = -np.diff(openings) * open_m
    assert steps.max() < 1.1 * reach and steps[1] > 0.5 * reach
    assert openings[-1] == pytest.approx(0.0, abs=0.01)
    assert arm.step(over(POCKET, height=0.1)).gripper < 0.01  # told nothing, it stays


@pytest.mark.parametrize(('x', 'y'), [(0.0, 0.0), (0.003, 0.004), (-0.004, -0.003)])
def test_a_part_gripped_off_its_middle_is_centred_between_the_fingers_only(arm, x, y):
    measurement = grasp(arm, x, y)
    assert arm.part_pose.position[2] - PART.position[2] > 0.035
    off = in_hand(arm)
    assert abs(off[1]) < 3e-4  # the fingers close along y of the hand
    assert off[0] == pytest.approx(-x, abs=6e-4)
    assert measurement.gripper * TASK.gripper.open_m == pytest.approx(0.012, abs=4e-4)


def test_the_wrist_feels_the_part_it_holds_and_not_its_own_hand(arm):
    arm.reset_to(over(POCKET, height=0.1))
    empty = np.mean([arm.step(over(POCKET, height=0.1), 1.0).wrench for _ in range(20)], axis=0)
    assert np.abs(empty[:3]).max() < 0.06 and np.abs(empty[3:]).max() < 0.01
    grasp(arm)
    held = np.mean([arm.step(over(PART, height=0.04), 0.0).wrench for _ in range(20)], axis=0)
    assert held[2] == pytest.approx(WEIGHT_N, abs=0.1)  # z of the tip points down
    moving = [arm.step(over(PART, height=0.04 + 0.004 * k), 0.0).wrench[:3] for k in range(8)]
    assert np.abs(np.array(moving) - held[:3]).max() < 1.5  # an arm that accelerates hits nothing


def test_a_held_part_does_not_creep_out_of_the_fingers(arm):
    grasp(arm)
    before = in_hand(arm)
    go(arm, over(PART, height=0.04), 0.0, 100)
    assert np.abs(in_hand(arm) - before).max() < 5e-4


def test_pressing_the_part_on_the_rim_and_sliding_keeps_it_out_of_the_walls(arm):
    audit = ContactAudit(arm)
    for angle in (0.1, 1.7, 3.3, 4.9):
        x, y = 0.006 * np.cos(angle), 0.006 * np.sin(angle)
        held_over_pocket(arm, x, y)
        press = TASK.part.below_m - 0.008
        go(arm, over(POCKET, x, y, press), 0.0, 14, audit)
        assert arm.insert_position()[2] < 0.001
        go(arm, over(POCKET, 1.6 * x, 1.6 * y, press), 0.0, 10, audit)
    assert audit.contacts > 100 and audit.wrong_normals == 0
    assert audit.worst_penetration < MAX_PENETRATION_M


def test_pushing_a_part_against_the_walls_and_the_floor_of_the_pocket(arm):
    audit = ContactAudit(arm)
    clearance = TASK.fixture.radial_clearance_m
    for angle in (0.4, 2.0, 3.6, 5.2):
        held_over_pocket(arm)
        go(arm, over(POCKET, height=SEATED_TIP_M + 0.005), 0.0, 16, audit)
        x, y = 0.008 * np.cos(angle), 0.008 * np.sin(angle)
        go(arm, over(POCKET, x, y, SEATED_TIP_M + 0.005), 0.0, 14, audit)
        assert np.hypot(*arm.insert_position()[:2]) < clearance + MAX_PENETRATION_M
        go(arm, over(POCKET, x, y, SEATED_TIP_M - 0.008), 0.0, 14, audit)
        assert arm.insert_position()[2] < TASK.fixture.depth_m + MAX_PENETRATION_M
    assert audit.contacts > 100 and audit.wrong_normals == 0
    assert audit.worst_penetration < MAX_PENETRATION_M


def test_fingertips_do_not_go_through_table_and_rim(arm):
    arm.place_fixture_at(Placement(POCKET, POCKET, over(PART, 0.04), PART))
    reach = 0.009
    table = PART.position[2] - TASK.part.below_m
    for place, surface in ((over(PART, -0.03), table), (over(POCKET, 0.018), POCKET.position[2])):
        arm.reset_to(Pose.of([*place.position[:2], surface + reach + 0.01], place.quaternion))
        low = Pose.of([*place.position[:2], surface + reach - 0.008], place.quaternion)
        measurement = go(arm, low, 0.0, 24)
        assert measurement.tip_pose.position[2] > surface + reach - 0.001
        assert measurement.wrench[2] < -5.0


def test_a_part_that_fell_over_lies_on_the_table(arm):
    arm.reset_to(over(POCKET, height=0.1))
    fallen = Pose.of([0.50, -0.03, 0.17], [0.0, 0.7071068, 0.0, 0.7071068])
    arm.place_fixture_at(Placement(POCKET, POCKET, fallen, PART))
    go(arm, over(POCKET, height=0.1), 1.0, 20)
    table = PART.position[2] - TASK.part.below_m
    assert arm.part_pose.position[2] == pytest.approx(
        table + TASK.fixture.insert_radius_m, abs=0.002
    )


@pytest.mark.parametrize(
    ('insert', 'opening', 'pressed'),
    [
        ((0.0, 0.0, 0.0113), 1.0, True),
        ((0.0, 0.0, 0.0111), 1.0, False),
        ((0.0, 0.0, 0.0140), 0.54, False),  # still held
        ((0.05, 0.0, 0.0140), 1.0, False),  # on the table beside the tray
    ],
)
def test_the_switch_wants_the_part_down_and_let_go(insert, opening, pressed):
    assert seated(TASK, np.array(insert), opening) is pressed


def test_letting_go_over_the_pocket_seats_the_part_and_ends_with_the_switch(arm):
    held_over_pocket(arm)
    assert not go(arm, over(POCKET, height=SEATED_TIP_M + 0.001), 0.0, 24).success_signal
    assert go(arm, over(POCKET, height=SEATED_TIP_M + 0.001), 1.0, 10).success_signal


def test_only_part_and_tray_are_moved_between_episodes(arm):
    grasp(arm)
    before = arm.measure()
    estimate = arm.place_fixture(4)
    placement = draw_placement(TASK, 4)
    after = arm.measure()
    assert np.array_equal(before.joint_positions, after.joint_positions)
    assert arm.part_pose.distance_to(placement.part)[0] < 1e-12
    assert estimate.distance_to(placement.estimate)[0] == 0.0
    assert arm.part_estimate.distance_to(placement.part_estimate)[0] == 0.0


def test_estimates_of_part_and_pocket_err_within_bounds_and_apart_from_one_another():
    many = [draw_placement(TASK, seed) for seed in range(300)]
    part = np.array([p.part_estimate.position - p.part.position for p in many])
    pocket = np.array([p.estimate.position - p.truth.position for p in many])
    for errors, spec in ((part, TASK.part), (pocket, TASK.fixture)):
        length = np.linalg.norm(errors, axis=1)
        assert 0.9 * spec.estimate_error_m < length.max() <= spec.estimate_error_m
    assert abs(np.corrcoef(part[:, 0], pocket[:, 0])[0, 1]) < 0.2


def test_a_state_is_taken_up_again_with_the_part_in_the_hand(arm):
    grasp(arm)
    state = arm.get_state()
    first = [arm.step(over(PART, height=0.04 + 0.002 * k)) for k in range(8)]
    arm.place_fixture(9)
    arm.set_state(state)
    again = [arm.step(over(PART, height=0.04 + 0.002 * k)) for k in range(8)]
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a.joint_positions, b.joint_positions)
        assert np.array_equal(a.wrench, b.wrench)


def test_observations_show_estimates_only(arm):
    """Other true poses under the same estimates: the first observation is the same to the digit."""
    placement = draw_placement(TASK, 5)
    seen = []
    for shift in (0.0, 0.002):
        moved = Placement(
            placement.truth @ Pose.of([shift, 0.0, 0.0]),
            placement.estimate,
            placement.part @ Pose.of([0.0, shift, 0.0]),
            placement.part_estimate,
        )
        fresh = SimArm(TASK, seed=0)
        fresh.place_fixture = lambda _, arm=fresh, placed=moved: (
            arm.place_fixture_at(placed),
            placed.estimate,
        )[1]
        still = type('Still', (), {'act': lambda *_: np.zeros(7)})()
        seen.append(run_episode(fresh, still, 5).observations[:3])
    assert np.array_equal(*seen)


def test_the_demonstrator_grasps_and_seats_the_part(arm):
    wins, phases = 0, set()
    for number in range(8):
        behaviour = Demonstrator(TASK, np.random.default_rng([1, number]), 1.0)
        seed = episode_seed(1, 'demonstration', number)
        episode = run_episode(
            arm,
            behaviour,
            seed,
            sees_truth=True,
            watch=lambda *_, b=behaviour: phases.add(b.phase),
        )
        wins += episode.success
        assert all(abs(a[6]) == 1.0 for a in episode.actions)
    assert wins >= 7
    assert {'reach', 'close', 'lift', 'carry', 'lower', 'release'} <= phases


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_demonstrator_succeeds_in_95_of_100(arm, record_property):
    wins = sum(
        run_episode(
            arm,
            Demonstrator(TASK, np.random.default_rng([2, number]), 1.0),
            episode_seed(2, 'demonstration', number),
            sees_truth=True,
        ).success
        for number in range(100)
    )
    record_property('demonstrator_successes_of_100', wins)
    assert wins >= 95


def test_a_scene_is_chosen_by_name_or_by_module():
    assert scene_module(TASK).__name__ == 'q2rl_sim.scenes.kitting'
    dotted = TASK.model_copy(update={'scene': 'q2rl_sim.scenes.pipe_assembly'})
    assert scene_module(dotted).__name__ == 'q2rl_sim.scenes.pipe_assembly'


@pytest.mark.parametrize('scene', ['', 'no_such_scene', 'no.such.module'])
def test_a_task_without_a_scene_is_refused_in_one_line(scene):
    with pytest.raises(InputError, match='`scene`'):
        SimArm(TASK.model_copy(update={'scene': scene}), 0)


def test_a_scene_says_what_the_task_lacks():
    with pytest.raises(InputError, match='`gripper`'):
        SimArm(load_task('pipe_assembly').model_copy(update={'scene': 'kitting'}), 0)


def test_a_hand_that_is_not_the_pandas_is_refused_in_one_line_with_what_to_do():
    for joints in (('finger_joint',), ('fr3_finger_joint1', 'fr3_finger_joint2')):
        gripper = TASK.gripper.model_copy(update={'joints': joints})
        other = TASK.model_copy(update={'gripper': gripper})
        with pytest.raises(InputError, match=r'`gripper\.joints`.*`scene: ""`') as error:
            build_scene(other)
        assert '\n' not in str(error.value)
