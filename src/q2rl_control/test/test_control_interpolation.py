# SPDX-License-Identifier: Apache-2.0
"""What is commanded between two ticks: no jump in position or velocity, and nothing beyond what the ticks commanded."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from q2rl_control.interpolation import Interpolation, PoseInterpolation
from q2rl_task import Pose

PERIOD_S = 0.05
FINE_S = PERIOD_S / 50


def sampled(between, commands, start, until: int):
    """Return what is said at every `FINE_S` (t,), one command a period and then none."""
    said = []
    for k in range(50 * until):
        if k % 50 == 0 and k // 50 < len(commands):
            between.command(commands[k // 50], k * FINE_S, start)
        said.append(between.at(k * FINE_S))
    return said


def test_a_command_is_reached_and_kept_for_good():
    between = Interpolation(PERIOD_S)
    assert between.at(0.0) is None
    between.command(np.array([1.0]), 10.0, start=np.array([0.9]))
    assert [float(between.at(10.0 + t)[0]) for t in (0.0, 0.05, 0.1, 9.0)] == pytest.approx(
        [0.9, 0.95, 1.0, 1.0]
    )
    between.forget()
    assert between.at(20.0) is None


def test_between_two_commands_there_is_no_step_and_no_kink():
    rng = np.random.default_rng(0)
    commands = np.cumsum(rng.uniform(-0.1, 0.1, (12, 3)), axis=0)
    said = np.array(sampled(Interpolation(PERIOD_S), commands, np.zeros(3), 15))
    steps = np.diff(np.concatenate([[np.zeros(3)] * 2, commands, [commands[-1]] * 2]), axis=0)
    velocity = np.diff(said, axis=0) / FINE_S
    acceleration = np.diff(velocity, axis=0) / FINE_S
    # Never faster than the commands from tick to tick, and never harder.
    assert np.abs(velocity).max() <= np.abs(steps).max() / PERIOD_S + 1e-9
    hardest = np.abs(np.diff(steps, axis=0)).max() / PERIOD_S**2
    assert np.abs(acceleration).max() <= hardest * (1 + 1e-6)
    np.testing.assert_allclose(said[-1], commands[-1], atol=1e-12)
    # What is on the way lies within what was commanded.
    assert (said.min(axis=0) >= np.minimum(commands.min(axis=0), 0.0) - 1e-12).all()
    assert (said.max(axis=0) <= np.maximum(commands.max(axis=0), 0.0) + 1e-12).all()


def test_a_command_that_comes_early_or_late_makes_no_step_either():
    between, rng, now = Interpolation(PERIOD_S), np.random.default_rng(1), 0.0
    goal, last = 0.0, 0.0
    for _ in range(40):
        goal += 0.004
        between.command(np.array([goal]), now, np.array([0.0]))
        assert float(between.at(now)[0]) == pytest.approx(last, abs=1e-12)
        now += PERIOD_S * rng.uniform(0.7, 1.3)
        last = float(between.at(now)[0])
        assert 0.0 <= goal - last < 0.01


def test_poses_turn_as_evenly_as_they_move():
    start = Pose.of([0.5, 0.0, 0.2], [1.0, 0.0, 0.0, 0.0])
    commands = [
        Pose.from_rotation(
            start.position + np.array([0.004 * k, 0.0, 0.0]),
            Rotation.from_rotvec([0.0, 0.03 * k, 0.0]) * start.rotation,
        )
        for k in range(1, 11)
    ]
    between = PoseInterpolation(PERIOD_S)
    said = sampled(between, commands, start, 13)
    moved = [a.distance_to(b) for a, b in pairwise(said)]
    assert max(m for m, _ in moved) <= 0.004 / 50 * (1 + 1e-6)
    assert max(turn for _, turn in moved) <= 0.03 / 50 * (1 + 1e-6)
    distance, angle = said[-1].distance_to(commands[-1])
    assert distance < 1e-12 and angle < 1e-7
    between.forget()
    assert between.at(0.0) is None
