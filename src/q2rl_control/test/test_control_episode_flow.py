# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

from control_helpers import decision, step
import numpy as np
import pytest

from q2rl_control.arm_state import ArmState
from q2rl_control.episode_flow import (
    BACK_OFF_S,
    OLD_WEIGHTS_RETRIES,
    REFUSALS,
    ArmView,
    EpisodeFlow,
    Stage,
)
from q2rl_control.episode_tally import EpisodeTally
from q2rl_control.run_plan import Command, RunPlan
from q2rl_control.run_settings import RunSettings
from q2rl_task import EndReason, Mode, Phase, Source, load_task

TASK = load_task('pipe_assembly')


class FakeCell:
    """Remember what was asked; the test answers."""

    def __init__(self) -> None:
        self.asked = []
        self.scene_done = self.start_done = None

    def prepare_scene(self, plan, done):
        self.asked.append(('scene', plan.episode))
        self.scene_done = done

    def start_episode(self, plan, estimate, done):
        self.asked.append(('start', plan.episode, estimate))
        self.start_done = done

    def retreat(self):
        self.asked.append(('retreat',))

    def end_episode(self):
        self.asked.append(('end',))

    def cancel(self):
        self.scene_done = self.start_done = None


class FakeSession:
    """A run without a directory."""

    def __init__(self) -> None:
        modes = (Mode.GATED,)
        self.plan = RunPlan(RunSettings('r', 0, rollouts=50, evaluation_modes=modes))
        self.plan.start()
        self.begun, self.records, self.abandoned = [], [], 0

    def begin(self, plan):
        self.begun.append(plan.episode)

    def finish(self, tally):
        if not self.plan.episode_finished(tally.plan, tally.result(1)):
            return None
        self.records.append(tally.record())
        return self.records[-1]

    def abandon(self):
        self.abandoned += 1
        self.plan.episode_dropped()


class Bench:
    def __init__(self) -> None:
        self.cell, self.session, self.now = FakeCell(), FakeSession(), 0.0
        self.flow = EpisodeFlow(
            self.cell, self.session, 'arm', lambda: 10.0 + self.now, lambda: self.now, 3.0
        )

    def arm(self, state: ArmState, episode: str = '', detail: str = '') -> None:
        self.flow.heard_arm(ArmView(state, episode, detail))
        self.flow.step_on('')

    def started(self) -> str:
        self.arm(ArmState.READY)
        self.cell.scene_done(True, '', 'estimate')
        self.cell.start_done(True, '')
        episode = self.session.begun[-1]
        self.arm(ArmState.RUNNING, episode)
        return episode


def test_one_episode_after_another():
    bench = Bench()
    assert 'arm_interface' in bench.flow.step_on('')
    bench.arm(ArmState.IDLE)
    bench.arm(ArmState.RETREATING)
    assert bench.cell.asked == [('retreat',)]
    bench.arm(ArmState.READY)
    assert bench.flow.stage is Stage.SCENE
    bench.cell.scene_done(True, '', 'estimate')
    # The steps are expected before the arm is asked: they may come before its answer does.
    assert bench.session.begun == ['r-e0001']
    bench.cell.start_done(True, '')
    assert bench.flow.stage is Stage.RUNNING and bench.flow.under_way.episode == 'r-e0001'
    bench.arm(ArmState.RUNNING, 'r-e0001')
    assert bench.flow.heard_step(step(TASK, 'r-e0001', 0)) is None
    record = bench.flow.heard_step(step(TASK, 'r-e0001', 1, final=True))
    assert record.success and record.steps == 1 and bench.flow.under_way is None
    bench.flow.step_on('')
    bench.arm(ArmState.RETREATING, 'r-e0001')
    bench.arm(ArmState.READY, 'r-e0001')
    assert bench.cell.asked[1:] == [
        ('scene', 'r-e0001'), ('start', 'r-e0001', 'estimate'), ('scene', 'r-e0002'),
    ]  # fmt: skip


def test_a_scene_is_set_up_again_only_after_an_episode_that_had_begun():
    bench = Bench()
    plan = bench.session.plan
    plan.settings = replace(plan.settings, pause_after_episode=True)
    bench.arm(ArmState.READY)
    bench.cell.scene_done(True, '', 'estimate')
    bench.cell.start_done(False, 'refused')
    assert bench.session.abandoned == 1 and plan.phase is Phase.ESTIMATING
    bench.now += BACK_OFF_S
    episode = bench.started()
    bench.flow.heard_step(step(TASK, episode, 0))
    bench.arm(ArmState.READY)
    bench.now += 4.0
    bench.flow.step_on('')
    assert bench.session.abandoned == 2 and plan.phase is Phase.PAUSED
    asked = list(bench.cell.asked)
    bench.now += BACK_OFF_S
    bench.flow.step_on('')
    assert bench.cell.asked == asked
    plan.command(Command.RESUME)
    bench.flow.step_on('')
    assert bench.cell.asked[-1] == ('scene', 'r-e0001-2')


def test_a_blocked_run_waits_with_the_arm_ready():
    bench = Bench()
    bench.flow.heard_arm(ArmView(ArmState.READY))
    assert bench.flow.step_on('waiting for the learner') == 'waiting for the learner'
    assert bench.cell.asked == []
    bench.flow.step_on('')
    assert bench.cell.asked == [('scene', 'r-e0001')]


def test_a_start_whose_answer_was_lost_counts_when_the_arm_is_at_it():
    bench = Bench()
    bench.arm(ArmState.READY)
    bench.cell.scene_done(True, '', 'estimate')
    bench.arm(ArmState.RESETTING, 'r-e0001')
    bench.cell.start_done(False, 'refused: the arm is RESETTING')
    assert bench.flow.stage is Stage.RUNNING and bench.session.abandoned == 0


def test_a_refused_start_is_tried_again_after_a_while_under_a_fresh_id():
    bench = Bench()
    bench.arm(ArmState.READY)
    bench.cell.scene_done(True, '', 'estimate')
    bench.cell.start_done(False, 'refused')
    assert bench.session.abandoned == 1
    assert 'refused' in bench.flow.step_on('')
    assert len(bench.cell.asked) == 2
    bench.now += BACK_OFF_S
    bench.flow.step_on('')
    assert bench.cell.asked[-1] == ('scene', 'r-e0001-1')


def test_failures_in_a_row_stop_the_run_and_resume_goes_on():
    bench = Bench()
    bench.arm(ArmState.READY)
    for _ in range(REFUSALS):
        bench.cell.scene_done(False, 'no light', None)
        bench.now += BACK_OFF_S
        bench.flow.step_on('')
    assert bench.session.plan.phase is Phase.STOPPED
    assert 'no light' in bench.session.plan.detail
    asked = len(bench.cell.asked)
    bench.flow.step_on('')
    assert len(bench.cell.asked) == asked
    bench.session.plan.command(Command.RESUME)
    bench.flow.step_on('')
    assert len(bench.cell.asked) == asked + 1


def test_a_restarted_arm_drops_the_episode_and_goes_on():
    bench = Bench()
    episode = bench.started()
    bench.flow.heard_step(step(TASK, episode, 0))
    bench.arm(ArmState.IDLE)
    assert bench.flow.stage is Stage.RUNNING  # the final step may still be on its way
    bench.now += 3.5
    bench.flow.step_on('')
    assert bench.session.abandoned == 1 and bench.flow.under_way is None
    assert bench.flow.heard_step(step(TASK, episode, 1, final=True)) is None
    bench.now += BACK_OFF_S
    bench.flow.step_on('')
    assert bench.cell.asked[-1] == ('retreat',)


def test_an_episode_of_an_earlier_life_is_ended():
    bench = Bench()
    bench.arm(ArmState.RUNNING, 'r-e0009')
    assert bench.cell.asked == [('end',)]


def test_an_evaluation_episode_on_old_weights_is_ended_and_tried_again_a_few_times():
    bench = Bench()
    progress = bench.session.plan.progress
    progress.phase, progress.last_weights = Phase.EVALUATING, 9

    def begin(actor: int, critic: int) -> bool:
        episode = bench.started()
        acts = decision(np.zeros(TASK.action_size), actor_version=actor, critic_version=critic)
        bench.flow.heard_step(step(TASK, episode, 0, decision=acts))
        return bench.flow.under_way is not None

    def again() -> None:
        bench.now += BACK_OFF_S
        bench.arm(ArmState.RETREATING)

    assert begin(actor=9, critic=10)
    bench.flow.abandon('for the test')
    again()
    assert begin(actor=0, critic=9)  # without weights RL abstains: nothing to wait for
    bench.flow.abandon('for the test')
    again()
    assert not begin(actor=9, critic=8)
    assert bench.flow.last_problem.endswith('q_gate is at weights 8, not yet at 9')
    bench.now += BACK_OFF_S
    bench.flow.step_on('')
    assert bench.cell.asked[-1] == ('end',)
    for _ in range(OLD_WEIGHTS_RETRIES - 1):
        again()
        assert not begin(actor=8, critic=9)
    again()
    assert begin(actor=8, critic=9)  # they may have been refused: better an evaluation than none


def test_a_late_step_of_an_episode_that_was_dropped_ends_no_other():
    bench = Bench()
    progress = bench.session.plan.progress
    progress.phase, progress.last_weights = Phase.EVALUATING, 9
    old = decision(np.zeros(TASK.action_size), actor_version=8, critic_version=9)
    before = bench.started()
    bench.flow.abandon('for the test')
    bench.now += BACK_OFF_S
    bench.arm(ArmState.RETREATING)
    bench.started()
    bench.flow.heard_step(step(TASK, before, 0, decision=old))
    assert bench.flow.under_way is not None


def test_stop_ends_the_episode_under_way_and_pause_does_not():
    bench = Bench()
    episode = bench.started()
    bench.session.plan.command(Command.PAUSE)
    bench.flow.step_on('')
    assert ('end',) not in bench.cell.asked
    bench.session.plan.command(Command.STOP)
    bench.flow.step_on('')
    assert bench.cell.asked[-1] == ('end',)
    bench.flow.heard_step(step(TASK, episode, 0))
    assert bench.flow.heard_step(step(TASK, episode, 1, final=True)) is not None
    assert len(bench.session.records) == 1


def test_an_episode_that_nobody_knows_is_ended_in_a_pause_too():
    bench = Bench()
    bench.session.plan.command(Command.PAUSE)
    bench.flow.step_on('')
    bench.arm(ArmState.RUNNING, 'of an earlier life')
    assert bench.cell.asked == [('end',)]


def interrupted(bench: Bench, reason: EndReason) -> None:
    episode = bench.started()
    bench.flow.heard_step(step(TASK, episode, 0))
    end = dict(final=True, terminated=False, truncated=True, end_reason=reason)
    assert bench.flow.heard_step(step(TASK, episode, 1, **end)) is None
    bench.now += BACK_OFF_S


def test_an_episode_that_an_operator_stops_is_no_result_and_is_done_again():
    bench = Bench()
    episode = bench.started()
    bench.session.plan.command(Command.STOP)
    bench.flow.step_on('')
    end = dict(final=True, terminated=False, truncated=True, end_reason=EndReason.REQUESTED)
    bench.flow.heard_step(step(TASK, episode, 0))
    assert bench.flow.heard_step(step(TASK, episode, 1, **end)) is None
    assert bench.session.plan.detail == 'stopped by an operator'
    assert bench.session.plan.progress.of(Phase.ESTIMATING).episodes == 0
    bench.session.plan.command(Command.RESUME)
    bench.now += BACK_OFF_S
    assert bench.started() == 'r-e0001-1'


def test_sensors_that_are_lost_in_every_episode_stop_the_run_and_say_so():
    bench = Bench()
    for _ in range(REFUSALS - 1):
        interrupted(bench, EndReason.LOST)
    assert bench.session.plan.phase is Phase.ESTIMATING and bench.session.records == []
    interrupted(bench, EndReason.LOST)
    assert bench.session.plan.phase is Phase.STOPPED
    assert 'sensors or measurements were lost' in bench.session.plan.detail


def test_a_rollout_that_lost_steps_on_the_way_is_done_again_and_in_the_end_stops_the_run():
    bench = Bench()
    for _ in range(REFUSALS):
        episode = bench.started()
        bench.flow.heard_step(step(TASK, episode, 0))
        assert bench.flow.heard_step(step(TASK, episode, 3, final=True)) is None
        bench.now += BACK_OFF_S
    assert bench.session.plan.phase is Phase.STOPPED
    assert 'steps of it were lost' in bench.session.plan.detail


def test_a_whole_episode_starts_the_count_of_interrupted_ones_anew():
    bench = Bench()
    for _ in range(REFUSALS - 1):
        interrupted(bench, EndReason.LOST)
    episode = bench.started()
    bench.flow.heard_step(step(TASK, episode, 0))
    assert bench.flow.heard_step(step(TASK, episode, 1, final=True)).number == 1
    interrupted(bench, EndReason.LOST)
    assert bench.session.plan.phase is Phase.ESTIMATING


def test_a_stopped_arm_is_asked_to_retreat_and_counts_once():
    bench = Bench()
    bench.arm(ArmState.STOPPED, detail='stuck')
    assert bench.flow.problems['refused'] == 1
    for _ in range(5):
        bench.arm(ArmState.STOPPED, detail='stuck')
    assert bench.flow.problems['refused'] == 1
    bench.now += BACK_OFF_S
    bench.flow.step_on('')
    assert bench.cell.asked == [('retreat',)]


def test_a_tally_adds_up_what_happened():
    plan = FakeSession().plan.next_episode()
    tally = EpisodeTally(plan, 'arm', started=1.0)
    with pytest.raises(ValueError, match='not over'):
        tally.record()
    act = np.zeros(TASK.action_size)
    for number, (source, codes, q_rl) in enumerate(
        [
            (Source.BC, (), float('nan')),
            (Source.RL, ('lead',), 2.0),
            (Source.RL, ('lead', 'workspace'), 4.0),
            (Source.HOLD, ('rejected:size',), float('nan')),
        ]
    ):
        chosen = decision(act, source, q_rl=q_rl, actor_version=number)
        tally.add(step(TASK, plan.episode, number, interventions=codes, decision=chosen))
    tally.add(step(TASK, plan.episode, 2))
    tally.add(step(TASK, 'other', 9, final=True))
    assert not tally.over
    tally.add(
        step(
            TASK, plan.episode, 4, final=True, terminated=False, truncated=True, stamp=6.0,
            end_reason=EndReason.TIME_LIMIT,
        )
    )  # fmt: skip
    record = tally.record()
    assert record.human_steps == 0
    assert (record.bc_steps, record.rl_steps, record.hold_steps, record.steps) == (1, 2, 1, 4)
    assert (record.guard_interventions, record.lead_steps) == (2, 2)
    assert record.episode_return == -4.0 and record.peak_force == 4.0
    assert record.mean_q_rl == 3.0 and np.isnan(record.mean_q_bc)
    assert record.duration == 5.0 and record.weights_version == 3
    assert not record.success and record.end_reason == 'TIME_LIMIT'
    assert tally.result(4).by_source == {'BC': 1, 'RL': 2, 'HOLD': 1}


def test_a_success_with_a_persons_help_is_told_and_is_none_of_the_policies():
    plan = FakeSession().plan.next_episode()
    tally = EpisodeTally(plan, 'arm', started=0.0)
    act = np.zeros(TASK.action_size)
    tally.add(step(TASK, plan.episode, 0))
    tally.add(step(TASK, plan.episode, 1, decision=decision(act, Source.HUMAN)))
    tally.add(step(TASK, plan.episode, 2, final=True))
    record = tally.record()
    assert record.success and record.human_steps == 1
    assert not tally.result(2).success
