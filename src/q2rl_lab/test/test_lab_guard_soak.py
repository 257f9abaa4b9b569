# SPDX-License-Identifier: Apache-2.0
"""The guarded arm in simulation under everything at once, for long."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
import resource

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from q2rl_control.arm_logic import ArmLogic
from q2rl_control.arm_state import ArmState
from q2rl_control.guard import answer_fault
from q2rl_sim.arm import SimArm
from q2rl_task import Decision, Mode, ObservationRecord, Reason, Source, load_task

TASK = load_task('pipe_assembly')
SIZE = TASK.action_size


class Trouble:
    """Pushes into things, babbles, falls silent, lies about numbers, answers what nobody asked (any more); people press
    buttons at random.
    """

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.push = np.zeros(SIZE)
        self.seen: Counter[str] = Counter()
        self.stopped = self.held = 0

    def answer(self, pending: ObservationRecord) -> Decision | None:
        """The decision, or None where it answers another step or episode, or comes too late."""
        step, episode, age = pending.step, pending.episode, 0.0
        kind = self.rng.random()
        if kind < 0.01:
            step -= 1  # the last answer once more
        elif kind < 0.02:
            episode = 'another'
        elif kind < 0.03:
            age = 1.0
        fault = answer_fault(pending, episode, step, age, TASK.limits.observation_max_age_s)
        if fault is not None:
            self.seen[fault] += 1
            return None
        return self.decision()

    def decision(self) -> Decision | None:
        rng, kind = self.rng, self.rng.random()
        if kind < 0.05:
            self.push = rng.choice([-1.0, 0.0, 1.0], SIZE) * rng.uniform(0.2, 1.0)
        if kind < 0.1:
            self.seen['silent'] += 1
            return None
        action = np.clip(self.push + 0.3 * rng.normal(size=SIZE), -1.0, 1.0)
        if kind > 0.95:
            self.seen['not finite'] += 1
            action[rng.integers(SIZE)] = rng.choice([np.nan, np.inf, 1e30])
        elif kind > 0.94:
            self.seen['wrong size'] += 1
            action = action[: rng.integers(SIZE)]
        source = Source.RL if rng.random() < 0.5 else Source.BC
        return Decision(source, Reason.MODE, action.astype(np.float32))

    def people(self, logic: ArmLogic, stamp: float) -> None:
        rng = self.rng
        if logic.latch.stopped:
            self.stopped += 1
            if self.stopped > 20 and not logic.reset_emergency_stop():
                self.stopped = 0
        elif logic.latch.held:
            self.held += 1
            if self.held > 10:
                self.held = 0
                logic.latch.release()
        elif rng.random() < 0.002:
            self.seen['stop'] += 1
            logic.emergency_stop('soak')
        elif rng.random() < 0.005:
            self.seen['hold'] += 1
            logic.latch.hold('soak')
        elif rng.random() < 0.05:
            self.seen['human'] += 1
            logic.right_of_way.human(rng.uniform(-1.0, 1.0, SIZE), stamp)

    def sensors(self, measured):
        if self.rng.random() < 0.01:
            self.seen['blind'] += 1
            return replace(measured, wrench=np.full(6, np.nan))
        return measured


def soak(ticks: int, seed: int) -> tuple[np.ndarray, np.ndarray, Trouble, ArmLogic, Counter]:
    """Return targets (n, 7), forces at the tip (n,), and how it came to that."""
    trouble, arm, logic = Trouble(seed), SimArm(TASK, seed), ArmLogic(TASK)
    measured, targets, forces, ends = arm.measure(), [], [], Counter()
    episode = 0
    while len(targets) < ticks:
        if logic.state in (ArmState.IDLE, ArmState.STOPPED):
            logic.retreat()
        elif logic.state is ArmState.READY:
            episode += 1
            logic.start_episode(f'e{episode}', Mode.GATED, episode, arm.place_fixture(episode))
        trouble.people(logic, measured.stamp)
        tick = logic.tick(trouble.sensors(measured))
        target = tick.target
        if tick.observation is not None:
            target, step = logic.execute(trouble.answer(tick.observation))
            if step.final:
                ends[step.end_reason.name] += 1
        if target is None:  # blind from the very first
            target = measured.tip_pose
        measured = arm.step(target)
        assert measured.is_finite()
        targets.append(np.concatenate([target.position, target.quaternion]))
        forces.append(measured.force)
    return np.array(targets), np.array(forces), trouble, logic, ends


def check(targets: np.ndarray, forces: np.ndarray) -> None:
    limits, period = TASK.limits, TASK.period_s
    positions, turns = targets[:, :3], Rotation.from_quat(targets[:, 3:])
    assert (positions >= np.array(limits.workspace.low) - 1e-8).all()
    assert (positions <= np.array(limits.workspace.high) + 1e-8).all()
    lean = (turns * TASK.fixture.nominal.pose.rotation.inv()).magnitude()
    assert lean.max() <= limits.workspace.max_rotation_rad + 1e-7
    linear = np.diff(positions, axis=0) / period
    angular = (turns[1:] * turns[:-1].inv()).as_rotvec() / period
    bounds = (
        (linear, limits.velocity_m_s, limits.acceleration_m_s2, limits.jerk_m_s3),
        (angular, limits.velocity_rad_s, limits.acceleration_rad_s2, limits.jerk_rad_s3),
    )
    for velocity, *most in bounds:
        for order, limit in enumerate(most):
            value = np.diff(velocity, order, axis=0) / period**order
            assert np.linalg.norm(value, axis=1).max() <= limit * (1.0 + 1e-4), order
    # A softened command still has the arm's own weight behind it: the force may pass the stop, for moments.
    assert forces.max() < 2.0 * limits.force_stop_n
    assert np.mean(forces > limits.force_stop_n) < 0.01


def test_a_short_soak():
    targets, forces, trouble, logic, ends = soak(700, seed=0)
    check(targets, forces)
    assert all(trouble.seen[k] for k in ('not finite', 'wrong size', 'step', 'episode', 'late'))
    assert trouble.seen['human'] and logic.counters.rejected
    assert sum(ends.values()) >= 2


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_half_an_hour_of_the_robots_time():
    soak(1000, seed=1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    targets, forces, trouble, logic, ends = soak(36_000, seed=1)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f'force: p99 {np.percentile(forces, 99):.1f} N, max {forces.max():.1f} N; {dict(ends)}')
    print(f'{dict(trouble.seen)} {dict(logic.command.codes)} grown by {grown / 1024:.1f} MB')
    check(targets, forces)
    assert min(trouble.seen.values()) > 30, trouble.seen
    assert sum(ends.values()) > 150
    assert grown < 64 * 1024
