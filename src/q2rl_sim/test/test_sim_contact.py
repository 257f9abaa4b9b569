# SPDX-License-Identifier: Apache-2.0
"""The contact model: no penetration, no clamping normals, no frozen tip, and insertion by feel alone."""

import mujoco
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from q2rl_sim.arm import SimArm
from q2rl_sim.contact_audit import ContactAudit
from q2rl_sim.rollout import run_episode
from q2rl_sim.round_insert import COLLAR_WALL_M, FRICTION, make_contact
from q2rl_sim.scenes import pipe_assembly
from q2rl_sim.scenes.pipe_assembly import BOARD_BELOW_RIM_M
from q2rl_sim.spiral_search import SpiralSearch
from q2rl_task import Pose, episode_seed, load_task

TASK = load_task('pipe_assembly')
NOMINAL = TASK.fixture.nominal.pose
LEAD = TASK.limits.lead_m
PIPE, HOLE = (
    TASK.fixture.insert_radius_m,
    TASK.fixture.insert_radius_m + TASK.fixture.radial_clearance_m,
)
MAX_PENETRATION_M = 0.0005
DIRECTIONS = np.arange(8) * np.pi / 4 + 0.1


@pytest.fixture(scope='module')
def arm():
    return SimArm(TASK, seed=0)


def at(x=0.0, y=0.0, z=0.0, rotation_vector=(0.0, 0.0, 0.0)) -> Pose:
    return NOMINAL @ Pose.from_rotation([x, y, z], Rotation.from_rotvec(rotation_vector))


def tip(arm) -> np.ndarray:
    return arm.measure().tip_pose.relative_to(NOMINAL).position


def go(arm, audit, start, end, steps) -> None:
    """Move the target from start to end (socket frame, [m]) and judge every step."""
    for k in range(steps):
        blend = min(1.0, 2.0 * (k + 1) / steps)
        arm.step(at(*(start + blend * (end - start))))
        audit(arm)


def assert_sound(audit) -> None:
    assert audit.contacts > 0
    assert audit.wrong_normals == 0
    assert audit.worst_penetration < MAX_PENETRATION_M


@pytest.mark.parametrize('depth', [0.002, 0.010, 0.020])
def test_pushing_against_the_walls_from_inside(arm, depth):
    audit = ContactAudit(arm)
    for angle in DIRECTIONS:
        arm.reset_to(at(z=-0.003))
        inside = np.array([0.0, 0.0, depth])
        go(arm, audit, np.array([0.0, 0.0, -0.003]), inside, 12)
        sideways = np.append(LEAD * np.array([np.cos(angle), np.sin(angle)]), depth)
        go(arm, audit, inside, sideways, 12)
        assert np.hypot(*tip(arm)[:2]) < HOLE - PIPE + MAX_PENETRATION_M
    assert_sound(audit)


def test_pushing_against_the_collar_from_outside(arm):
    audit = ContactAudit(arm)
    clear = HOLE + COLLAR_WALL_M + PIPE
    for angle in DIRECTIONS:
        out = np.array([np.cos(angle), np.sin(angle), 0.0])
        beside = (clear + 0.004) * out + np.array([0.0, 0.0, 0.015])
        arm.reset_to(at(*beside))
        go(arm, audit, beside, (clear - LEAD) * out + np.array([0.0, 0.0, 0.015]), 16)
        assert np.hypot(*tip(arm)[:2]) > clear - MAX_PENETRATION_M
    assert_sound(audit)


def test_pushing_down_on_the_rim(arm):
    audit = ContactAudit(arm)
    for radius in (0.0025, 0.006, 0.012, 0.020):
        for angle in DIRECTIONS[::2]:
            x, y = radius * np.cos(angle), radius * np.sin(angle)
            arm.reset_to(at(x, y, -0.002))
            go(arm, audit, np.array([x, y, -0.002]), np.array([x, y, LEAD]), 14)
            assert tip(arm)[2] < 0.001
    assert_sound(audit)


def test_pushing_down_on_the_board_beside_the_collar(arm):
    audit = ContactAudit(arm)
    beside = np.array([HOLE + COLLAR_WALL_M + PIPE + 0.01, 0.0, BOARD_BELOW_RIM_M - 0.004])
    arm.reset_to(at(*beside))
    go(arm, audit, beside, beside + np.array([0.0, 0.0, 0.004 + LEAD]), 14)
    assert tip(arm)[2] == pytest.approx(BOARD_BELOW_RIM_M, abs=MAX_PENETRATION_M)
    assert_sound(audit)


def test_the_floor_of_the_socket_stops_the_pipe_at_full_depth(arm):
    audit = ContactAudit(arm)
    arm.reset_to(at(z=-0.003))
    go(arm, audit, np.array([0.0, 0.0, -0.003]), np.array([0.0, 0.0, 0.025 + LEAD]), 50)
    assert tip(arm)[2] == pytest.approx(TASK.fixture.depth_m, abs=MAX_PENETRATION_M)
    assert arm.measure().success_signal
    assert_sound(audit)


def test_stirring_while_tilted_and_pressed(arm):
    """Every lead and tilt at once, in and above the hole; the worst a policy can do."""
    audit = ContactAudit(arm)
    rng = np.random.default_rng(0)
    for depth in (-0.001, 0.008, 0.02):
        arm.reset_to(at(z=-0.003))
        go(arm, audit, np.array([0.0, 0.0, -0.003]), np.array([0.0, 0.0, max(depth, -0.002)]), 20)
        for _ in range(25):
            shift = rng.uniform(-1.0, 1.0, 3) * LEAD / 1.8
            turn = rng.uniform(-1.0, 1.0, 3) * TASK.limits.lead_rad / 1.8
            target = at(*(tip(arm) + shift), turn)
            for _ in range(3):
                arm.step(target)
                audit(arm)
    assert_sound(audit)


def test_the_tip_slides_when_the_lead_exceeds_friction(arm):
    """Pressed on the rim by 6 N, friction explains 1.2 N; a lead of 5 mm pulls with 7.5 N and must win."""
    for radius in (0.006,):
        for start_angle in DIRECTIONS[::2]:
            start = radius * np.array([np.cos(start_angle), np.sin(start_angle)])
            for angle in DIRECTIONS:
                arm.reset_to(at(*start, -0.001))
                for _ in range(8):
                    arm.step(at(*start, 0.004))
                before = tip(arm)
                end = before[:2] + 0.005 * np.array([np.cos(angle), np.sin(angle)])
                for _ in range(25):
                    measurement = arm.step(at(*end, 0.004))
                after = tip(arm)
                if after[2] > 0.0005:
                    continue  # it fell into the hole: not frozen
                stuck = TASK.limits.stiffness_n_m * np.linalg.norm(end - after[:2])
                assert stuck < 1.5 * FRICTION * measurement.force + 0.75
                assert np.linalg.norm(after[:2] - before[:2]) > 0.003


def test_the_audit_sees_a_pipe_inside_a_wall(arm):
    audit = ContactAudit(arm)
    arm.data.qpos[:] = arm.solve_ik(at(0.004, 0.0, 0.010))
    assert audit.penetration(arm) > 0.002
    arm.data.qpos[:] = arm.solve_ik(at(0.0, 0.0, 0.010))
    assert audit.penetration(arm) == 0.0


def test_the_audit_sees_a_flipped_normal(arm, monkeypatch):
    audit = ContactAudit(arm)
    sound = ContactAudit.normals
    arm.reset_to(at(0.006, z=-0.001))
    for _ in range(10):
        arm.step(at(0.006, z=0.006))
    audit(arm)
    assert audit.contacts > 0 and audit.wrong_normals == 0
    monkeypatch.setattr(
        ContactAudit, 'normals', staticmethod(lambda a: [(-n, p) for n, p in sound(a)])
    )
    audit(arm)
    assert audit.wrong_normals > 0


def cylinder_end(pipe, radius, *_) -> None:
    half = 0.0225
    cylinder = pipe.add_geom(
        type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=[radius, half, 0.0], pos=[0.0, 0.0, -half]
    )
    make_contact(cylinder, 1, 0)


def test_the_audit_convicts_a_cylinder_among_boxes(monkeypatch):
    """The model that the barrel of capsules replaces: clamped by normals that point out of the pipe."""
    monkeypatch.setattr(pipe_assembly, 'add_barrel', cylinder_end)
    arm = SimArm(TASK, seed=0)
    audit, _ = search(arm, 8, run_seed=1)
    assert audit.wrong_normals > 20


def search(arm, episodes, run_seed):
    audit, wins = ContactAudit(arm), 0
    for number in range(episodes):
        behaviour = SpiralSearch(TASK, np.random.default_rng([run_seed, number]))
        seed = episode_seed(run_seed, 'evaluating', number)
        wins += run_episode(arm, behaviour, seed, watch=audit).success
    return audit, wins


def test_spiral_search_by_feel_alone(arm):
    # A success rate of 0.95 falls below 13 of 15 in 3.6 % of draws, 0.75 (a sharp edge) is at 13 or more in 24 %.
    # Seeds are fixed, so this flags a change; the rate itself is measured by the long test.
    audit, wins = search(arm, 15, run_seed=0)
    assert wins >= 13
    assert_sound(audit)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_spiral_search_by_feel_alone_succeeds_in_95_of_100(arm, record_property):
    audit, wins = search(arm, 100, run_seed=1)
    record_property('spiral_search_successes_of_100', wins)
    record_property('worst_penetration_mm', 1e3 * audit.worst_penetration)
    assert wins >= 95
    assert_sound(audit)
