# SPDX-License-Identifier: Apache-2.0
"""The scripts that demonstrate on robosuite, and the reader of people's recordings: what needs no simulator."""

from __future__ import annotations

from importlib import resources
import importlib.util
import pickle

import numpy as np
import pytest

DOWN = [1.0, 0.0, 0.0, 0.0]


def module(name):
    path = resources.files('q2rl_lab') / 'suites' / f'{name}.py'
    spec = importlib.util.spec_from_file_location(name, str(path))
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


experts = module('q2rl_robosuite_experts')


def about_z(yaw):
    """Return the quaternion (x, y, z, w) of a turn about the vertical."""
    return [0.0, 0.0, np.sin(0.5 * yaw), np.cos(0.5 * yaw)]


def gripper_at(yaw):
    """Return the quaternion of a gripper that points down and is turned by `yaw`."""
    return [np.cos(0.5 * yaw), np.sin(0.5 * yaw), 0.0, 0.0]


def lift(hand, gap, cube=(0.0, 0.0, 0.82)):
    way = np.subtract(cube, hand)
    parts = hand, DOWN, [0.5 * gap, -0.5 * gap], cube, about_z(0.4), way
    return experts.LiftExpert().get_action(np.concatenate(parts))


def square(hand, gap, nut, yaw=0.0, gripper=0.0):
    parts = hand, gripper_at(gripper), [0.5 * gap, -0.5 * gap], nut, about_z(yaw), np.zeros(7)
    return experts.SquareExpert().get_action(np.concatenate(parts))


def test_the_cube_is_approached_from_above_grasped_and_lifted():
    beside = lift([0.1, 0.0, 0.84], 0.08)
    assert beside[0] < -0.9 and beside[2] > 0.3 and beside[-1] == experts.OPEN
    above = lift([0.0, 0.0, 0.9], 0.08)
    assert above[2] < -0.9 and above[-1] == experts.OPEN
    around = lift([0.0, 0.0, 0.82], 0.08)
    assert around[-1] == experts.CLOSE and abs(around[:3]).max() < 0.1
    closing = lift([0.0, 0.0, 0.82], 0.055)
    held = lift([0.0, 0.0, 0.82], 0.042)
    assert held[-1] == experts.CLOSE and held[2] == 1.0 > closing[2] > 0.0
    missed = lift([0.2, 0.0, 0.9], 0.0)
    assert missed[-1] == experts.OPEN, 'it tries again'


@pytest.mark.parametrize('yaw', [-1.2, 0.0, 0.7])
def test_the_gripper_turns_the_short_way_to_where_it_is_to_point(yaw):
    np.testing.assert_allclose(experts.turn_to(np.array(gripper_at(yaw)), yaw), 0.0, atol=1e-12)
    turn = experts.turn_to(np.array(gripper_at(yaw)), yaw + 0.2)
    np.testing.assert_allclose(turn, [0.0, 0.0, np.sin(0.2)], atol=1e-12)
    assert experts.yaw_of(np.array(gripper_at(yaw))) == pytest.approx(yaw)
    assert experts.nearest(yaw + 3.0, yaw, np.pi) == pytest.approx(yaw + 3.0 - np.pi)


def test_the_nut_is_held_by_its_handle_carried_over_the_peg_and_lowered():
    table = np.array([-0.1, 0.2, 0.83])
    handle = table + np.array([0.0, experts.HANDLE, 0.0])
    grasp = square(handle, 0.08, table, yaw=0.5 * np.pi, gripper=0.5 * np.pi)
    assert grasp[-1] == experts.CLOSE and abs(grasp[:6]).max() < 1e-6
    lifted = square(handle, 0.031, table, yaw=0.5 * np.pi, gripper=0.5 * np.pi)
    np.testing.assert_allclose(lifted[[0, 1, 2, 6]], [0.0, 0.0, 1.0, 1.0])
    hold = np.array([experts.HANDLE, 0.0, 0.0])
    high = np.array([-0.1, 0.2, experts.CLEAR_Z])
    carried = square(high + hold, 0.031, high)
    assert carried[0] == 1.0 and carried[1] < -0.9 and abs(carried[2]) < 1e-6
    over = np.append(experts.PEG, experts.CLEAR_Z)
    askew = square(
        over + np.array([0.06 * np.cos(0.3), 0.06 * np.sin(0.3), 0]), 0.031, over, 0.3, 0.3
    )
    assert askew[5] < -0.4 and abs(askew[2]) < 1e-6, 'first it is turned to fit the peg'
    lowered = square(over + hold, 0.031, over)
    assert lowered[2] < -0.5 and lowered[-1] == experts.CLOSE


def test_recordings_are_read_as_arrays_and_nothing_else(tmp_path):
    adroit = module('q2rl_adroit')
    path = tmp_path / 'door.pickle'
    recordings = [{'actions': np.eye(3), 'init_state_dict': {'qpos': np.arange(4.0)}}]
    path.write_bytes(pickle.dumps(recordings, protocol=2))
    (found,) = adroit.read_recordings(path)
    np.testing.assert_array_equal(found['actions'], np.eye(3))
    np.testing.assert_array_equal(found['init_state_dict']['qpos'], np.arange(4.0))
    path.write_bytes(pickle.dumps([print]))
    with pytest.raises(pickle.UnpicklingError, match='print is no array'):
        adroit.read_recordings(path)


class _Door:
    """Opens when it is pushed hard enough, however often."""

    def reset(self, seed, options):
        self.pushed = options['initial_state_dict']['qpos']
        return np.array([self.pushed]), {}

    def step(self, action):
        assert abs(action).max() <= 1.0
        self.pushed += float(action[0])
        done = np.array([self.pushed >= 2.0])
        return np.array([self.pushed]), np.zeros(1), False, False, {'success': done}


def test_what_was_done_is_done_again_up_to_its_first_success():
    adroit = module('q2rl_adroit')
    push = {'actions': np.full((5, 1), 1.3), 'init_state_dict': {'qpos': 0.0}}
    observations, actions, rewards, success = adroit.act_again(_Door(), push, 0.0, [0, 0])
    assert observations.ravel().tolist() == [0.0, 1.0, 2.0] and actions.ravel().tolist() == [
        1.0,
        1.0,
    ]
    assert success.tolist() == [False, False, True] and len(rewards) == 2
    weak = {**push, 'actions': np.full((5, 1), 0.1)}
    assert adroit.act_again(_Door(), weak, 0.0, [0, 0]) is None
    one, other = (adroit.act_again(_Door(), push, 0.1, [0, k])[1] for k in (1, 2))
    assert not np.array_equal(one, other)
