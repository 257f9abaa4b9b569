# SPDX-License-Identifier: Apache-2.0
"""The scripted behaviours: steering, and a demonstrator that is good at the task but only human."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from q2rl_sim.arm import SimArm
from q2rl_sim.demonstrator import Demonstrator
from q2rl_sim.rollout import run_episode
from q2rl_sim.spiral_search import SpiralSearch
from q2rl_sim.steering import in_fixture, steer
from q2rl_task import EndReason, Pose, advance_command, episode_seed, load_task

TASK = load_task('pipe_assembly')
FIXTURE = TASK.fixture.nominal.pose @ Pose.from_rotation(
    [0.01, 0.0, 0.0], Rotation.from_rotvec([0.02, 0.0, 0.3])
)


@pytest.fixture(scope='module')
def arm():
    return SimArm(TASK, seed=0)


def demonstrate(arm, count, noise, run_seed=0):
    episodes, phases = [], []
    for number in range(count):
        behaviour = Demonstrator(TASK, np.random.default_rng([run_seed, number]), noise)
        seen = []

        def watch(*_, behaviour=behaviour, seen=seen):
            seen.append(behaviour.phase)

        seed = episode_seed(run_seed, 'demonstration', number)
        episodes.append(run_episode(arm, behaviour, seed, sees_truth=True, watch=watch))
        phases.append(seen)
    return episodes, phases


def test_steering_reaches_a_near_pose_in_one_action():
    commanded = in_fixture(FIXTURE, np.array([0.0, 0.0, -0.02]))
    wanted = in_fixture(FIXTURE, np.array([0.001, -0.002, -0.018]), np.array([0.01, 0.0, -0.015]))
    action = steer(TASK, commanded, wanted, FIXTURE)
    assert np.abs(action).max() <= 1.0
    reached = advance_command(TASK, commanded, action, commanded, FIXTURE)
    distance, angle = reached.distance_to(wanted)
    assert distance < 1e-9 and angle < 1e-6


def test_steering_keeps_its_direction_when_it_saturates():
    commanded = in_fixture(FIXTURE, np.zeros(3))
    wanted = in_fixture(FIXTURE, np.array([0.03, 0.015, 0.0]))
    action = steer(TASK, commanded, wanted, FIXTURE, speed=0.5)
    np.testing.assert_allclose(action, [0.5, 0.25, 0.0, 0.0, 0.0, 0.0], atol=1e-9)


def test_a_noiseless_demonstrator_is_fast_and_sure(arm):
    episodes, _ = demonstrate(arm, 5, noise=0.0)
    assert all(e.success for e in episodes)
    assert max(e.steps for e in episodes) < 40


def test_the_demonstrator_succeeds_and_shows_human_faults(arm):
    episodes, phases = demonstrate(arm, 12, noise=1.0)
    assert sum(e.success for e in episodes) >= 11
    actions = [np.stack(e.actions) for e in episodes]
    assert all((np.abs(a) <= 1.0).all() for a in actions)
    # corrections: it missed, lifted and tried again
    assert any('lift' in seen for seen in phases)
    # pauses: several ticks in a row with hardly any motion commanded
    still = [np.abs(a[:, :3]).max(axis=1) < 0.2 for a in actions]
    assert any((s[:-1] & s[1:]).any() for s in still)
    # varying speed: durations and mean approach speeds differ widely
    assert np.ptp([e.steps for e in episodes]) > 15
    speeds = [np.abs(a[2:8, :3]).max(axis=1).mean() for a in actions]
    assert max(speeds) > 1.4 * min(speeds)


def test_noise_makes_the_demonstrator_worse(arm):
    calm, _ = demonstrate(arm, 8, noise=0.3)
    wild, _ = demonstrate(arm, 8, noise=1.5)
    assert np.mean([e.steps for e in calm]) < np.mean([e.steps for e in wild])


def test_a_demonstration_is_reproducible():
    first, _ = demonstrate(SimArm(TASK, seed=0), 2, noise=1.0, run_seed=8)
    second, _ = demonstrate(SimArm(TASK, seed=0), 2, noise=1.0, run_seed=8)
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a.actions, b.actions)
        assert np.array_equal(a.observations, b.observations)


def test_an_episode_has_one_more_observation_than_actions(arm):
    (episode,), _ = demonstrate(arm, 1, noise=0.0)
    assert len(episode.observations) == episode.steps + 1 == len(episode.outcomes) + 1
    assert episode.observations[0].shape == (TASK.observation_size,)
    assert [o.final for o in episode.outcomes].count(True) == 1
    assert episode.outcomes[-1].reason is EndReason.SUCCESS


def test_an_idle_arm_runs_into_the_time_limit(arm):
    class Idle:
        def act(self, *_):
            return np.zeros(TASK.action_size)

    episode = run_episode(arm, Idle(), seed=3)
    assert episode.steps == TASK.max_steps and not episode.success
    assert episode.outcomes[-1].reason is EndReason.TIME_LIMIT


def test_the_spiral_search_is_given_the_estimate_only(arm):
    given = []

    class Spy(SpiralSearch):
        def act(self, measurement, fixture, commanded, part=None):
            given.append(fixture)
            return super().act(measurement, fixture, commanded, part)

    run_episode(arm, Spy(TASK, np.random.default_rng(0)), seed=17)
    assert given[0].distance_to(arm.fixture_pose)[0] > 1e-4
    assert arm.place_fixture(17).distance_to(given[0])[0] == 0.0


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_demonstrator_succeeds_in_95_of_100(arm, record_property):
    episodes, _ = demonstrate(arm, 100, noise=1.0, run_seed=1)
    wins = sum(e.success for e in episodes)
    record_property('demonstrator_successes_of_100', wins)
    assert wins >= 95
