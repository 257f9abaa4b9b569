# SPDX-License-Identifier: Apache-2.0
"""A run in which a person demonstrates: its course, the arm that waits for nobody but them, and what counts."""

from __future__ import annotations

from control_helpers import FollowingArm, above, decision, step
import numpy as np
import pytest

from q2rl_control.arm_logic import PERSON_PERIODS, ArmLogic
from q2rl_control.arm_state import ArmState
from q2rl_control.episode_plan import EpisodeResult
from q2rl_control.episode_reports import run_state_to_msg
from q2rl_control.episode_tally import EpisodeTally
from q2rl_control.run_plan import Command, RunPlan
from q2rl_control.run_progress import RunProgress
from q2rl_control.run_settings import RunSettings
from q2rl_control.transition_assembler import TransitionAssembler
from q2rl_task import (
    EndReason,
    InputError,
    Mode,
    Phase,
    Pose,
    Source,
    draw_start,
    episode_seed,
    load_task,
)

TASK = load_task('pipe_assembly')
FIXTURE = TASK.fixture.nominal.pose
PUSH = np.array([0.5, 0.0, 0.0, 0.0, 0.0, 0.0], dtype=np.float32)


def plan_of(wanted: int = 2, progress: RunProgress | None = None) -> RunPlan:
    return RunPlan(RunSettings(run_id='r', seed=3, demonstrations=wanted), progress)


def finish(plan: RunPlan, success: bool = True):
    episode = plan.next_episode()
    reason = EndReason.SUCCESS if success else EndReason.TIME_LIMIT
    plan.episode_finished(episode, EpisodeResult(success, reason, 10, {'HUMAN': 10}))
    return episode


def test_a_person_demonstrates_until_they_succeeded_so_often_and_nothing_else_runs():
    plan = plan_of()
    plan.start()
    assert plan.phase is Phase.DEMONSTRATING
    episodes = [finish(plan, success) for success in (False, True, False)]
    assert [e.episode for e in episodes] == ['r-d0001', 'r-d0002', 'r-d0003']
    assert {e.mode for e in episodes} == {Mode.HUMAN} and not any(e.explore for e in episodes)
    assert [e.seed for e in episodes] == [episode_seed(3, 'demonstration', k) for k in (1, 2, 3)]
    said = run_state_to_msg('arm', plan, TransitionAssembler('arm'), None, 0, 'all is well')
    assert said.detail == '1 of 2 demonstrations: all is well'
    assert plan.phase is Phase.DEMONSTRATING
    finish(plan)
    assert plan.phase is Phase.FINISHED and plan.next_episode() is None


def test_a_run_of_demonstrations_goes_on_where_it_stopped():
    plan = plan_of()
    plan.command(Command.PAUSE)
    plan.command(Command.RESUME)
    assert plan.phase is Phase.DEMONSTRATING
    finish(plan)
    plan.command(Command.STOP)
    again = plan_of(progress=RunProgress.from_dict(plan.progress.to_dict()))
    again.command(Command.RESUME)
    assert again.phase is Phase.DEMONSTRATING and again.next_episode().number == 2
    finish(again)
    assert again.phase is Phase.FINISHED
    saved = again.progress.to_dict()
    assert plan_of(2, RunProgress.from_dict(saved)).phase is Phase.FINISHED
    more = plan_of(3, RunProgress.from_dict(saved))
    assert more.phase is Phase.DEMONSTRATING and more.next_episode().number == 3


def test_a_run_is_of_a_person_or_of_policies_and_stays_so():
    other = RunPlan(RunSettings(run_id='r', seed=3))
    plan = plan_of()
    for run in (other, plan):
        run.start()
    with pytest.raises(InputError, match='policies act'):
        plan_of(progress=other.progress)
    with pytest.raises(InputError, match='a person demonstrates'):
        RunPlan(other.settings, plan.progress)
    plan.command(Command.PAUSE)
    with pytest.raises(InputError, match='a person demonstrates'):
        RunPlan(other.settings, plan.progress)
    assert plan_of(progress=plan.progress).phase is Phase.PAUSED


@pytest.mark.parametrize(
    ('source', 'transitions', 'counts'),
    [(Source.HUMAN, 2, True), (Source.HUMAN, 1, False), (Source.RL, 2, False)],
)
def test_only_a_whole_success_of_the_persons_own_counts(source, transitions, counts):
    plan = plan_of()
    plan.start()
    episode = plan.next_episode()
    tally = EpisodeTally(episode, 'arm', started=0.0)
    acts = decision(PUSH, Source.HUMAN)
    tally.add(step(TASK, episode.episode, 0, decision=acts))
    tally.add(step(TASK, episode.episode, 1, decision=decision(PUSH, source)))
    tally.add(step(TASK, episode.episode, 2, final=True, decision=acts))
    assert tally.record().success
    assert tally.result(transitions).success is counts


class Bench:
    """`ArmLogic` on an arm that follows, at the start pose of an episode of a person's."""

    def __init__(self) -> None:
        self.logic = ArmLogic(TASK)
        self.arm = FollowingArm(TASK, above(TASK, 0.05))
        self.measurement = self.arm.measure()
        assert self.logic.retreat()
        self.until(lambda: self.logic.state is ArmState.READY)
        assert self.logic.start_episode('d1', Mode.HUMAN, 1, FIXTURE)
        self.until(lambda: self.logic.detail)

    def tick(self):
        tick = self.logic.tick(self.measurement)
        if tick.observation is None:
            self.measurement = self.arm.step(tick.target)
        return tick

    def until(self, condition) -> None:
        for _ in range(300):
            if condition():
                return
            self.tick()
        raise AssertionError('in vain')

    def push(self) -> None:
        assert self.logic.right_of_way.human(PUSH, self.measurement.stamp) is None


def test_the_arm_waits_at_the_start_pose_for_the_person_however_long_that_takes():
    bench = Bench()
    ticks = int(3 * TASK.reset.timeout_s * TASK.rate_hz)
    for _ in range(ticks):
        assert bench.tick().observation is None
    assert bench.logic.state is ArmState.RESETTING and 'may begin' in bench.logic.detail
    start = draw_start(TASK, FIXTURE, 1)
    assert start.distance_to(bench.arm.pose)[0] < 2e-3
    bench.arm.pose = bench.arm.pose @ Pose.of([0.01, 0.0, 0.0])
    bench.measurement = bench.arm.measure()
    bench.tick()  # pushed off the start pose: the time of the way back begins only now
    assert bench.logic.state is ArmState.RESETTING
    bench.until(lambda: start.distance_to(bench.arm.pose)[0] < 2e-3)
    bench.tick()
    bench.push()
    observed = bench.tick().observation
    assert observed.step == 0 and observed.mode is Mode.HUMAN
    assert bench.logic.detail == ''


def test_someone_who_let_go_has_not_begun():
    bench = Bench()
    bench.push()
    for _ in range(PERSON_PERIODS + 1):
        bench.measurement = bench.arm.step(bench.arm.pose)
    assert bench.tick().observation is None


def test_a_person_needs_no_gate_and_a_patient_arm_waits_for_what_they_do_about_each_observation():
    bench = Bench()
    bench.push()
    observed = bench.tick().observation
    right = bench.logic.right_of_way
    assert right.needs_no_gate(observed, patient=True)
    target, done = bench.logic.execute(None)
    assert done.decision.source is Source.HUMAN
    np.testing.assert_array_equal(done.decision.action, PUSH)
    bench.measurement = bench.arm.step(target)
    observed = bench.tick().observation
    assert right.needs_no_gate(observed, patient=False)
    assert not right.needs_no_gate(observed, patient=True)
    bench.push()
    assert right.needs_no_gate(observed, patient=True)
    bench.logic.execute(None)


def test_where_policies_act_the_gate_is_waited_for_whatever_a_person_does():
    bench = Bench()
    bench.logic.request_end()
    bench.until(lambda: bench.logic.state is ArmState.READY)
    assert bench.logic.start_episode('e1', Mode.GATED, 1, FIXTURE)
    bench.until(lambda: bench.logic.state is ArmState.RUNNING)
    bench.push()
    assert not bench.logic.right_of_way.needs_no_gate(bench.logic.pending, patient=False)
