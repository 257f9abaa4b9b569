# SPDX-License-Identifier: Apache-2.0
"""Random actions, good and bad, by the thousand: no command ever leaves a limit.

What is checked is computed from the commanded poses alone, in one go at the end, with scipy's rotations.
"""

from __future__ import annotations

from control_helpers import above, measurement
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from q2rl_control.guard import CARRIED_M, CARRIED_RAD, Guard, answer_fault
from q2rl_task import Mode, ObservationRecord, Pose, TaskSpec, load_task
from q2rl_task.rotations import from_vector, product

TASK = load_task('pipe_assembly')
FIXTURE = TASK.fixture.nominal.pose
START = above(TASK, 0.02)
SIZE = TASK.action_size
NO_NUMBERS = (np.nan, np.inf, -np.inf, 1e300, -1e300)
WRONG_SIZES = (
    [],
    [0.5] * (SIZE - 1),
    [0.5] * (SIZE + 1),
    np.zeros((1, SIZE)),
    'action',
    [None] * SIZE,
)
LIFE_TICKS = 500
"""Then the guard is seeded anew, elsewhere."""


def with_limits(**changes) -> TaskSpec:
    return TASK.model_copy(update={'limits': TASK.limits.model_copy(update=changes)})


TASKS = {
    'task': TASK,
    'accelerates slowly': with_limits(acceleration_m_s2=0.3, acceleration_rad_s2=1.5),
    'jerks little': with_limits(jerk_m_s3=8.0, jerk_rad_s3=40.0),
    'both': with_limits(
        acceleration_m_s2=0.3, acceleration_rad_s2=1.5, jerk_m_s3=1.0, jerk_rad_s3=5.0
    ),
}


class Policy:
    """Wanders, pushes one way for a while, flips, falls silent, and says what no policy should."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._push = np.zeros(SIZE)
        self.bad = 0

    def act(self):
        rng = self._rng
        kind = rng.random()
        if kind < 0.02:
            self._push = rng.choice([-1.0, 0.0, 1.0], SIZE)
        if kind < 0.10:
            self.bad += 1
            if kind < 0.06:
                action = rng.uniform(-1.0, 1.0, SIZE)
                action[rng.integers(SIZE)] = NO_NUMBERS[rng.integers(len(NO_NUMBERS))]
                return action
            return WRONG_SIZES[rng.integers(len(WRONG_SIZES))]
        if kind < 0.15:
            return None
        if kind < 0.30:
            return np.where(rng.random(SIZE) < 0.5, -1.0, 1.0)
        return np.clip(self._push + 0.5 * rng.normal(size=SIZE), -1.0, 1.0)


def answered(rng: np.random.Generator, action, pending: ObservationRecord):
    """The action, or None where its answer belongs to another step or episode, or is too old."""
    kind = rng.random()
    step = pending.step - (kind < 0.03) + (0.03 <= kind < 0.05)
    episode = pending.episode if kind < 0.97 else 'another'
    age = 10.0 if 0.05 < kind < 0.07 else 0.0
    fault = answer_fault(pending, episode, step, age, 0.1)
    assert (fault is None) == (0.07 <= kind < 0.97)
    return None if fault else action


def wander(task: TaskSpec, ticks: int, seed: int) -> tuple[np.ndarray, ...]:
    """Run a guard; return commanded positions (n, 3), orientations (n, 4), where lives begin (n,), how far outside box
    and cone the arm has been in its life so far (n, 2) [m, rad], and bad actions.

    In every other life the arm stays in the workspace.
    """
    rng = np.random.default_rng(seed)
    policy, guard = Policy(rng), Guard(task)
    low, high = np.array(task.limits.workspace.low), np.array(task.limits.workspace.high)
    positions, quaternions = np.empty((ticks, 3)), np.empty((ticks, 4))
    begins = np.zeros(ticks, dtype=bool)
    carried, most, stays = np.zeros((ticks, 2)), task.limits.workspace.max_rotation_rad, False
    goal = START
    for k in range(ticks):
        if k % LIFE_TICKS == 0:
            guard.reset(Pose(rng.uniform(low, high), START.quaternion))
            begins[k], stays = True, not stays
            target = guard.commanded
        else:
            here = guard.commanded
            # The arm is wherever it likes, and feels what it likes.
            offset = rng.normal(size=6) * rng.choice([0.0, 0.001, 0.02])
            tip = Pose(
                here.position + offset[:3], product(from_vector(2.0 * offset[3:]), here.quaternion)
            )
            lean = tip.distance_to(FIXTURE)[1]
            if stays:
                turned = here.quaternion if lean > most else tip.quaternion
                tip = Pose(np.clip(tip.position, low, high), turned)
            else:
                out = np.maximum(low - tip.position, tip.position - high).max()
                carried[k] = np.maximum(carried[k - 1], [out, lean - most])
            force = rng.normal(size=3) * rng.choice([0.0, 1.0, 40.0])
            if rng.random() < 0.01:
                force[0] = np.nan
            measured = measurement(tip, 0.05 * k, force)
            kind = rng.random()
            if kind < 0.02:
                target = guard.coast()
            elif kind < 0.22:
                if rng.random() < 0.05:
                    goal = Pose(
                        rng.uniform(low - 0.1, high + 0.1),
                        product(from_vector(rng.normal(size=3)), START.quaternion),
                    )
                target = guard.move(
                    goal, measured, rng.uniform(0.01, 1.0), rng.uniform(0.1, 3.0)
                ).target
            else:
                pending = ObservationRecord(
                    0.0, TASK.contract_hash, 'e', k, Mode.RL, False, positions[:0]
                )
                action = answered(rng, policy.act(), pending)
                command = guard.command(action, measured, FIXTURE)
                target = command.target
                assert np.isfinite(command.executed).all()
        positions[k], quaternions[k] = target.position, target.quaternion
    return positions, quaternions, begins, carried, policy.bad


def assert_within_limits(task, positions, quaternions, begins, carried) -> None:
    """Check box, cone, velocity, acceleration and jerk of commanded poses; a life begins at rest.

    Box and cone are left only after an arm that something else carried out, and no further than that.
    """
    limits, period = task.limits, task.period_s
    assert np.isfinite(positions).all() and np.isfinite(quaternions).all()
    out = np.minimum(carried, [CARRIED_M, CARRIED_RAD])
    assert (positions >= np.array(limits.workspace.low) - out[:, :1] - 1e-8).all()
    assert (positions <= np.array(limits.workspace.high) + out[:, :1] + 1e-8).all()
    turns = Rotation.from_quat(quaternions)
    lean = (turns * FIXTURE.rotation.inv()).magnitude()
    assert (lean <= limits.workspace.max_rotation_rad + out[:, 1] + 1e-7).all()
    linear = np.diff(positions, axis=0, prepend=positions[:1]) / period
    angular = np.zeros_like(linear)
    angular[1:] = (turns[1:] * turns[:-1].inv()).as_rotvec() / period
    for velocity, most in (
        (linear, (limits.velocity_m_s, limits.acceleration_m_s2, limits.jerk_m_s3)),
        (angular, (limits.velocity_rad_s, limits.acceleration_rad_s2, limits.jerk_rad_s3)),
    ):
        velocity[begins] = 0.0
        acceleration = np.diff(velocity, axis=0, prepend=velocity[:1]) / period
        acceleration[begins] = 0.0
        jerk = np.diff(acceleration, axis=0, prepend=acceleration[:1]) / period
        jerk[begins] = 0.0
        for name, value, limit in zip(
            ('velocity', 'acceleration', 'jerk'), (velocity, acceleration, jerk), most, strict=True
        ):
            worst = np.linalg.norm(value, axis=1).max()
            assert worst <= limit * (1.0 + 1e-4), f'{name}: {worst:.4g} > {limit:.4g}'


@pytest.mark.parametrize('name', TASKS)
def test_random_actions_keep_every_limit(name):
    task = TASKS[name]
    *path, bad = wander(task, 1500 if task is TASK else 800, seed=1)
    assert bad > 30
    assert_within_limits(task, *path)


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize('seed', range(10))
def test_a_million_random_actions_keep_every_limit(seed):
    """1e5 each: seven times on the task's own limits, three on those that bind."""
    task = list(TASKS.values())[max(0, seed - 6)]
    *path, bad = wander(task, 100_000, seed=100 + seed)
    assert bad > 5000
    assert_within_limits(task, *path)


def test_the_check_itself_finds_what_it_looks_for():
    *path, _ = wander(TASK, 200, seed=2)
    shaking = np.zeros(200)
    shaking[100:104:2] = 0.0115  # there and back and there and back
    for change, said in (
        (np.where(np.arange(200) == 100, 0.02, 0.0), 'velocity'),
        (np.where(np.arange(200) == 100, 0.014, 0.0), 'acceleration'),
        (shaking, 'jerk'),
    ):
        positions = np.tile(START.position, (200, 1))
        positions[:, 0] += change
        with pytest.raises(AssertionError, match=f'^{said}'):
            assert_within_limits(TASK, positions, *path[1:])
    outside = path[0].copy()
    outside[50, 2] = TASK.limits.workspace.low[2] - 1e-6
    with pytest.raises(AssertionError):
        assert_within_limits(TASK, outside, *path[1:])
