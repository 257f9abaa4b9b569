# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import asdict, replace

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from q2rl_control.episode_plan import EpisodeResult
from q2rl_control.run_plan import AWAITS_SCENE, Command, LearnerReport, RunPlan
from q2rl_control.run_progress import RunProgress
from q2rl_control.run_settings import RunSettings
from q2rl_task import EndReason, InputError, LearnerState, Mode, Phase
from q2rl_task.episode import LEARNING

GOOD = LearnerReport(LearnerState.READY)
SETTLED = LearnerReport(LearnerState.SETTLED, weights_version=9)


def settings_of(**changes) -> RunSettings:
    values = dict(
        run_id='r', seed=3, rollouts=3, online_steps=100, bc_only_every=4, rl_only_every=4,
        bc_only_every_graduated=8,
        evaluation_episodes=2,
    )  # fmt: skip
    return RunSettings(**(values | changes))


def finish(plan: RunPlan, transitions: int = 10, success: bool = True, version: int = 0):
    episode = plan.next_episode()
    reason = EndReason.SUCCESS if success else EndReason.TIME_LIMIT
    result = EpisodeResult(success, reason, transitions, {'BC': transitions}, 1, 2.5, version)
    plan.episode_finished(episode, result)
    return episode


def helped(ended_well: bool) -> EpisodeResult:
    """Return an episode in which a person acted: no success of the policies, however it ended."""
    reason = EndReason.SUCCESS if ended_well else EndReason.TIME_LIMIT
    return EpisodeResult(False, reason, 10, {'BC': 5, 'HUMAN': 5})


def online(**changes) -> RunPlan:
    plan = RunPlan(settings_of(**changes))
    plan.start()
    while plan.phase is Phase.ESTIMATING:
        finish(plan)
    plan.learner_reported(GOOD)
    assert plan.phase is Phase.ONLINE
    return plan


def taken_up(plan: RunPlan, **changes) -> RunPlan:
    """Return the plan of a process that goes on with the run, told other things perhaps."""
    told = replace(plan.settings, **changes)
    return RunPlan(told, RunProgress.from_dict(plan.progress.to_dict()))


def test_a_whole_run():
    plan = RunPlan(settings_of())
    assert plan.phase is Phase.STARTING and plan.next_episode() is None
    plan.start()
    assert plan.episodes_planned == 3
    rollouts = [finish(plan) for _ in range(3)]
    assert [e.episode for e in rollouts] == ['r-e0001', 'r-e0002', 'r-e0003']
    assert {e.mode for e in rollouts} == {Mode.BC}
    assert plan.phase is Phase.FITTING and plan.next_episode() is None
    for state in (LearnerState.WAITING, LearnerState.FITTING):
        plan.learner_reported(LearnerReport(state))
        assert plan.phase is Phase.FITTING
    plan.learner_reported(GOOD)
    episodes = []
    while plan.phase is Phase.ONLINE:
        assert plan.online_steps < 100
        episodes.append(finish(plan, transitions=13))
    assert plan.online_steps == 104
    assert [e.mode.name for e in episodes] == [
        'GATED', 'RL', 'GATED', 'BC', 'GATED', 'RL', 'GATED', 'BC',
    ]  # fmt: skip
    assert [e.explore for e in episodes] == [e.mode is Mode.GATED for e in episodes]
    assert plan.phase is Phase.SETTLING and plan.next_episode() is None
    for state in (LearnerState.READY, LearnerState.TRAINING):
        plan.learner_reported(LearnerReport(state, weights_version=8))
        assert plan.phase is Phase.SETTLING and plan.progress.last_weights == 0
    plan.learner_reported(SETTLED)
    assert plan.progress.last_weights == 9
    assert plan.phase is Phase.EVALUATING and plan.episodes_planned == 6
    evaluation = [finish(plan) for _ in range(6)]
    assert plan.phase is Phase.FINISHED and plan.next_episode() is None
    for number in (0, 3):
        three = evaluation[number : number + 3]
        assert [e.mode for e in three] == [Mode.BC, Mode.GATED, Mode.RL]
        assert not any(e.explore for e in three)
        assert len({e.seed for e in three}) == 1
    seeds = [e.seed for e in rollouts + episodes + evaluation[::3]]
    assert len(set(seeds)) == len(seeds)
    ids = [e.episode for e in rollouts + episodes + evaluation]
    assert len(set(ids)) == len(ids)
    counts = plan.progress.of(Phase.ONLINE)
    assert counts.by_mode['BC'] == {'episodes': 2, 'successes': 2}
    assert counts.by_source['BC'] == 104 and counts.interventions == 8
    assert counts.robot_time_s == 20.0


def test_a_fit_that_is_no_good_stops_the_run_and_says_why():
    plan = RunPlan(settings_of())
    plan.start()
    for _ in range(3):
        finish(plan, success=False)
    plan.learner_reported(LearnerReport(LearnerState.FAILED, 'none of 3 BC rollouts succeeded'))
    assert plan.phase is Phase.STOPPED and 'none of 3 BC rollouts succeeded' in plan.detail
    assert plan.command(Command.RESUME) is None
    assert plan.phase is Phase.FITTING
    plan.learner_reported(GOOD)
    assert plan.phase is Phase.ONLINE


def test_what_is_found_out_about_a_good_enough_fit_is_kept_for_the_report():
    plan = RunPlan(settings_of())
    plan.start()
    for _ in range(3):
        finish(plan)
    plan.learner_reported(LearnerReport(LearnerState.READY, 'V is unproven'))
    assert plan.phase is Phase.ONLINE and plan.detail == ''
    plan.learner_reported(LearnerReport(LearnerState.TRAINING, 'V is unproven'))
    assert plan.progress.events == [[0, 'V is unproven']]


def unsure(rollouts: int) -> LearnerReport:
    return LearnerReport(LearnerState.UNSURE, 'V explains nothing', rollouts=rollouts)


def test_rollouts_go_on_while_they_tell_too_little():
    plan = RunPlan(settings_of(rollouts=4))
    plan.start()
    for _ in range(4):
        finish(plan, success=False)
    plan.learner_reported(unsure(4))
    assert plan.phase is Phase.ESTIMATING and plan.episodes_planned == 6
    assert '2 more' in plan.detail
    plan = taken_up(plan)
    assert [finish(plan).episode for _ in range(2)] == ['r-e0005', 'r-e0006']
    assert plan.phase is Phase.FITTING
    plan.learner_reported(unsure(4))  # of the fit before
    assert plan.phase is Phase.FITTING
    plan.learner_reported(LearnerReport(LearnerState.READY))
    assert plan.phase is Phase.ONLINE


@pytest.mark.parametrize(('most', 'planned'), [(0, [6, 8, 10, 12]), (7, [6, 7]), (4, [])])
def test_rollouts_that_tell_nothing_come_to_an_end(most, planned):
    plan = RunPlan(settings_of(rollouts=4, most_rollouts=most))
    plan.start()
    seen = []
    while plan.phase is Phase.ESTIMATING:
        seen.append(plan.episodes_planned)
        while plan.phase is Phase.ESTIMATING:
            finish(plan, success=False)
        plan.learner_reported(unsure(seen[-1]))
    assert seen == [4, *planned]
    assert plan.phase is Phase.STOPPED and plan.detail == 'V explains nothing'
    resumed = RunPlan(settings_of(rollouts=20), plan.progress)
    assert resumed.command(Command.RESUME) is None
    assert resumed.phase is Phase.ESTIMATING and resumed.episodes_planned == 20


def test_a_failed_fit_may_be_given_more_rollouts():
    plan = RunPlan(settings_of())
    plan.start()
    for _ in range(3):
        finish(plan)
    plan.learner_reported(LearnerReport(LearnerState.FAILED, 'raise `rollouts`'))
    resumed = RunPlan(settings_of(rollouts=5), plan.progress)
    assert resumed.command(Command.RESUME) is None and resumed.phase is Phase.ESTIMATING
    assert [finish(resumed).episode for _ in range(2)] == ['r-e0004', 'r-e0005']
    assert resumed.phase is Phase.FITTING
    resumed.learner_reported(GOOD)
    assert resumed.phase is Phase.ONLINE


def test_pause_lets_the_episode_finish_and_resume_goes_on():
    plan = online(online_steps=10)
    episode = plan.next_episode()
    assert plan.command(Command.PAUSE) is None
    assert plan.phase is Phase.PAUSED and plan.next_episode() is None
    plan.episode_finished(episode, EpisodeResult(True, EndReason.SUCCESS, 10, {'RL': 10}))
    assert plan.phase is Phase.PAUSED
    assert plan.command(Command.PAUSE) is not None
    assert plan.command(Command.RESUME) is None
    assert plan.phase is Phase.SETTLING  # that episode had spent the budget
    assert plan.command(Command.RESUME) is not None


def paused_for_the_scene(plan: RunPlan) -> bool:
    return (plan.phase, plan.detail) == (Phase.PAUSED, AWAITS_SCENE)


def test_a_run_pauses_after_each_episode_that_another_follows_until_the_scene_is_set_up_again():
    plan = RunPlan(settings_of(online_steps=20, evaluation_episodes=1, pause_after_episode=True))
    plan.start()
    seen = []
    while plan.phase is not Phase.FINISHED:
        seen.append(plan.phase)
        if paused_for_the_scene(plan):
            assert plan.next_episode() is None
            plan = taken_up(plan)
            assert plan.command(Command.RESUME) is None
        elif plan.next_episode() is not None:
            finish(plan)
        plan.learner_reported(GOOD)
        plan.learner_reported(SETTLED)
    # Three rollouts, a fit, two online episodes, and the evaluation; nothing follows the last one.
    episodes = [p for p in seen if p is not Phase.PAUSED]
    assert episodes == [Phase.ESTIMATING] * 3 + [Phase.ONLINE] * 2 + [Phase.EVALUATING] * 3
    assert seen.count(Phase.PAUSED) == len(episodes) - 1


def test_a_pause_for_the_scene_comes_right_before_the_episode_however_long_a_fit_takes():
    plan = RunPlan(settings_of(pause_after_episode=True, evaluation_episodes=1))
    plan.start()
    for _ in range(3):
        plan.command(Command.RESUME)
        finish(plan)
    assert plan.phase is Phase.FITTING  # which waits for nobody
    plan = taken_up(plan)
    plan.scene_used()  # as after a restart of its node
    assert plan.phase is Phase.FITTING
    plan.learner_reported(GOOD)
    assert paused_for_the_scene(plan) and plan.progress.back_to is Phase.ONLINE
    plan.command(Command.RESUME)
    plan.learner_reported(GOOD)  # a status in between changes nothing
    assert plan.phase is Phase.ONLINE
    plan.command(Command.EVALUATE)
    plan.learner_gone('the learner said nothing')
    assert plan.phase is Phase.PAUSED and plan.progress.back_to is Phase.EVALUATING
    assert plan.detail == f'the learner said nothing; {AWAITS_SCENE}'


@pytest.mark.parametrize('stopped', [False, True])
def test_a_run_by_given_weights_that_goes_on_with_a_learner_hears_first_what_it_has(stopped):
    given = dict(rollouts=0, online_steps=0, evaluation_modes=(Mode.RL,))
    plan = RunPlan(settings_of(**given, without_learner=True))
    plan.start()
    finish(plan)
    if stopped:
        plan.command(Command.STOP)
    plan = RunPlan(settings_of(**given), plan.progress)
    if stopped:
        plan.command(Command.RESUME)
    assert plan.phase is Phase.SETTLING
    plan.learner_reported(SETTLED)
    assert plan.phase is Phase.EVALUATING
    assert RunPlan(settings_of(**given), plan.progress).phase is Phase.EVALUATING


def test_an_episode_that_does_not_count_leaves_a_scene_to_set_up_too_and_the_last_one_does_not():
    plan = RunPlan(settings_of(pause_after_episode=True))
    plan.scene_used()
    assert plan.phase is Phase.STARTING
    plan.start()
    cut = EpisodeResult(False, EndReason.LOST, 4, {'BC': 4})
    assert not plan.episode_finished(plan.next_episode(), cut) and paused_for_the_scene(plan)
    plan.command(Command.RESUME)
    assert plan.next_episode().episode == 'r-e0001-1'
    plan.command(Command.STOP)
    plan.scene_used()
    assert plan.phase is Phase.STOPPED
    last = online(online_steps=10, evaluation_episodes=0)
    last.settings = replace(last.settings, pause_after_episode=True)
    finish(last)
    assert last.phase is Phase.SETTLING


def test_a_run_that_reached_its_goal_learns_no_longer():
    plan = online(online_steps=10**6, goal=90, drift_evidence=0)
    outcomes = iter([False] * 10 + [True] * 200)
    gated = 0
    while plan.phase in LEARNING:
        episode = plan.next_episode()
        success = next(outcomes) if episode.explore else False
        gated += episode.explore
        finish(plan, success=success)
    # Of the last 50 the first five are the last failures.
    assert gated == 55 and plan.phase is Phase.SETTLING
    assert plan.detail == '45 of the last 50 gated episodes succeeded: learned enough'
    assert plan.progress.events[-1][1] == plan.detail
    again = taken_up(plan)
    again.command(Command.STOP)
    again.command(Command.RESUME)
    assert again.phase is Phase.SETTLING


def to_the_end(plan: RunPlan) -> list:
    """Run a plan that is online to its end; return the episodes of its evaluation."""
    while plan.phase in LEARNING:
        finish(plan)
    plan.learner_reported(SETTLED)
    evaluation = []
    while plan.phase is Phase.EVALUATING:
        evaluation.append(finish(plan))
    assert plan.phase is Phase.FINISHED
    return evaluation


def test_a_finished_run_that_is_given_more_steps_learns_on_and_is_evaluated_on_other_scenes():
    plan = online()
    first = to_the_end(plan)
    assert taken_up(plan).phase is Phase.FINISHED
    more = taken_up(plan, online_steps=200)
    assert more.phase is Phase.ONLINE and more.progress.last_weights == 0
    assert more.next_episode().number == 11
    second = to_the_end(more)
    assert more.online_steps == 200 and more.progress.superseded == [[6, 100]]
    assert [e.mode for e in second] == [e.mode for e in first]
    assert len({e.seed for e in second}) == 2
    for name in ('seed', 'episode'):
        assert not {getattr(e, name) for e in first} & {getattr(e, name) for e in second}
    assert taken_up(more, online_steps=150).phase is Phase.FINISHED  # it has them already
    third = taken_up(more, online_steps=300)
    to_the_end(third)
    assert third.progress.superseded == [[6, 100], [12, 200]]


def test_an_evaluation_that_is_given_up_for_more_steps_begins_anew_with_its_first_policy():
    plan = online()
    while plan.phase is Phase.ONLINE:
        finish(plan)
    assert taken_up(plan, online_steps=200).phase is Phase.ONLINE
    plan.learner_reported(SETTLED)
    cut = [finish(plan) for _ in range(2)]
    plan.command(Command.STOP)
    more = taken_up(plan, online_steps=200)
    assert more.phase is Phase.STOPPED
    more.command(Command.RESUME)
    assert more.phase is Phase.ONLINE
    evaluation = to_the_end(more)
    assert [e.mode for e in evaluation] == [Mode.BC, Mode.GATED, Mode.RL] * 2
    assert cut[0].seed not in {e.seed for e in evaluation}


def test_a_run_that_reached_its_goal_learns_on_for_another_goal():
    plan = online(online_steps=10**6, goal=90, rl_only_every=0, bc_only_every=0, drift_evidence=0)
    to_the_end(plan)
    assert taken_up(plan, online_steps=2 * 10**6).phase is Phase.FINISHED
    assert taken_up(plan, goal=0).phase is Phase.ONLINE


def test_a_run_that_was_sent_to_its_evaluation_early_stays_there():
    plan = online()
    plan.command(Command.EVALUATE)
    assert taken_up(plan).phase is Phase.SETTLING
    assert (
        taken_up(taken_up(plan, online_steps=0)).phase is Phase.SETTLING
    )  # only evaluated between
    assert taken_up(plan, online_steps=200).phase is Phase.ONLINE


def test_a_persons_successes_reach_no_goal():
    plan = online(online_steps=10**6, goal=50, bc_only_every=0, rl_only_every=0, drift_evidence=0)
    for number in range(100):  # where nobody helps, every episode succeeds
        if number % 5 < 3:
            plan.episode_finished(plan.next_episode(), helped(True))
        else:
            finish(plan)
    assert plan.phase is Phase.ONLINE and sum(plan.progress.recent) == 20


def test_stop_and_evaluate():
    plan = online()
    assert plan.command(Command.STOP) is None
    assert plan.phase is Phase.STOPPED and plan.command(Command.STOP) is not None
    assert plan.command(Command.EVALUATE) is not None
    plan.command(Command.RESUME)
    assert plan.phase is Phase.ONLINE
    assert plan.command(Command.EVALUATE) is None
    assert plan.phase is Phase.SETTLING and plan.command(Command.EVALUATE) is not None
    plan.learner_reported(SETTLED)
    assert plan.phase is Phase.EVALUATING
    plan.fail('the cell burns')
    assert plan.phase is Phase.STOPPED and plan.detail == 'the cell burns'
    paused = online()
    paused.command(Command.PAUSE)
    paused.command(Command.STOP)
    paused.command(Command.RESUME)
    assert paused.phase is Phase.ONLINE


def test_a_run_settles_through_a_stop_and_without_a_learner_that_is_gone():
    plan = online(online_steps=10)
    plan.learner_gone('too early to say')
    assert plan.phase is Phase.ONLINE
    finish(plan)
    plan.command(Command.STOP)
    plan.learner_reported(SETTLED)
    assert plan.phase is Phase.STOPPED
    plan.command(Command.RESUME)
    assert plan.phase is Phase.SETTLING
    plan.learner_gone('nobody there')
    assert (plan.phase, plan.detail) == (Phase.EVALUATING, 'nobody there')
    assert plan.progress.last_weights == 0
    failed = online(online_steps=10)
    finish(failed)
    failed.learner_reported(LearnerReport(LearnerState.FAILED, 'out of memory'))
    assert failed.phase is Phase.STOPPED and 'out of memory' in failed.detail


def test_phases_of_no_length_are_left_out():
    plan = RunPlan(settings_of(online_steps=0, evaluation_episodes=0))
    plan.start()
    for _ in range(3):
        finish(plan)
    plan.learner_reported(GOOD)
    assert plan.phase is Phase.SETTLING
    plan.learner_reported(SETTLED)
    assert plan.phase is Phase.FINISHED
    plan = online(bc_only_every=0, rl_only_every=0)
    assert {finish(plan, 10).mode for _ in range(10)} == {Mode.GATED}


@pytest.mark.parametrize('mode', [Mode.GATED, Mode.RL])
def test_where_the_weights_are_given_no_learner_is_waited_for(mode):
    given = settings_of(rollouts=0, online_steps=0, evaluation_modes=(mode,), without_learner=True)
    assert not given.needs_learner
    plan = RunPlan(given)
    plan.start()
    assert plan.phase is Phase.EVALUATING
    assert [finish(plan).mode for _ in range(2)] == [mode, mode]
    assert plan.phase is Phase.FINISHED


def test_a_run_that_only_evaluates_bc_does_so_from_the_first_episode_on():
    plan = RunPlan(settings_of(rollouts=0, online_steps=0, evaluation_modes=(Mode.BC,)))
    assert not plan.settings.needs_learner
    plan.start()
    assert plan.phase is Phase.EVALUATING
    assert finish(plan, success=False).episode == 'r-v0001'
    finish(plan, success=False)
    assert plan.phase is Phase.FINISHED


def test_where_only_bc_was_evaluated_nothing_can_be_learned_and_all_else_goes_on():
    bc = RunPlan(settings_of(rollouts=0, online_steps=0, evaluation_modes=(Mode.BC,)))
    assert taken_up(bc, rollouts=3, online_steps=100).phase is Phase.STARTING
    bc.start()
    for _ in range(3):  # at it, over, and stopped
        assert taken_up(bc).phase is bc.phase
        taken_up(bc, evaluation_modes=(Mode.RL,))
        taken_up(bc, rollouts=3)
        with pytest.raises(InputError, match=r'without rollouts.*name another run_dir'):
            taken_up(bc, rollouts=3, online_steps=100)
        if bc.phase is Phase.EVALUATING:
            finish(bc), finish(bc)
        else:
            bc.progress.phase, bc.progress.back_to = Phase.STOPPED, Phase.EVALUATING
    learned = online(online_steps=10)
    evaluated = taken_up(learned, rollouts=0, online_steps=0, evaluation_modes=(Mode.RL,))
    assert taken_up(evaluated, rollouts=3, online_steps=100).phase is Phase.ONLINE
    begun = RunPlan(settings_of())
    begun.start()
    begun.command(Command.PAUSE)
    assert taken_up(begun).phase is Phase.PAUSED


def test_a_run_that_only_evaluates_what_was_learned_waits_for_it_and_says_where_it_belongs():
    plan = RunPlan(settings_of(rollouts=0, online_steps=0, evaluation_modes=(Mode.RL,)))
    plan.start()
    assert plan.phase is Phase.SETTLING and plan.next_episode() is None
    plan.learner_reported(LearnerReport(LearnerState.FAILED, 'rollouts: too few'))
    assert plan.phase is Phase.STOPPED and 'the folder learner/' in plan.detail
    plan.command(Command.RESUME)
    plan.learner_reported(SETTLED)
    assert plan.phase is Phase.EVALUATING and plan.progress.last_weights == 9


def test_a_dropped_episode_is_tried_again_under_a_fresh_id():
    plan = online()
    first = plan.next_episode()
    plan.episode_dropped()
    again = plan.next_episode()
    assert again.seed == first.seed and again.number == first.number
    assert again.episode != first.episode
    finish(plan)
    assert plan.next_episode().number == 2
    assert plan.progress.of(Phase.ONLINE).episodes == 1


@settings(max_examples=50)
@given(
    st.lists(
        st.sampled_from([*Command, 'finish', 'report', 'settled', 'drop', 'fail']), max_size=40
    )
)
def test_no_order_of_events_breaks_a_plan_and_every_state_can_be_saved(events):
    plan = RunPlan(settings_of(online_steps=20, evaluation_episodes=1))
    plan.start()
    for event in events:
        if event == 'finish':
            if plan.next_episode():
                finish(plan)
        elif event == 'report':
            plan.learner_reported(GOOD)
        elif event == 'settled':
            plan.learner_reported(SETTLED)
        elif event == 'drop':
            plan.episode_dropped()
        elif event == 'fail':
            plan.fail('x')
        else:
            plan.command(event)
        assert (plan.next_episode() is not None) == (
            plan.phase in (Phase.ESTIMATING, Phase.ONLINE, Phase.EVALUATING)
        )
        saved = RunProgress.from_dict(plan.progress.to_dict())
        assert saved == plan.progress
        assert RunPlan(plan.settings, saved).next_episode() == plan.next_episode()


def test_settings_and_saved_progress_are_checked():
    for change in (
        {'run_id': ''}, {'rollouts': 0}, {'rollouts': -1}, {'online_steps': -1}, {'evaluation_modes': ()}
    ):  # fmt: skip
        with pytest.raises(InputError):
            settings_of(**change)
    with pytest.raises(InputError, match='another run'):
        RunPlan(settings_of(), RunProgress('r', 4))


def graduated(**changes) -> RunPlan:
    """Return a run in which RL alone succeeded and BC failed until that was evidence enough."""
    plan = online(online_steps=10000, **changes)
    while plan.phase is Phase.ONLINE:
        assert plan.online_steps < 1000
        finish(plan, success=plan.next_episode().mode is not Mode.BC, version=plan.online_steps)
    assert plan.phase is Phase.GRADUATED
    return plan


def test_a_run_graduates_once_rl_alone_surely_beats_bc():
    plan = graduated()
    # 7 to 0 is an e-value of 31.9, 6 to 0 one of 18.1
    assert (plan.progress.watch.wins, plan.progress.watch.losses) == (7, 0)
    assert plan.progress.graduated_at == 28 and 'RL alone beats BC' in plan.detail
    following = [finish(plan) for _ in range(8)]
    assert [e.number for e in following] == [29, 30, 31, 32, 33, 34, 35, 36]
    assert {e.phase for e in following} == {Phase.ONLINE}
    half = ['GATED', 'RL', 'GATED']
    assert [e.mode.name for e in following] == [*half, 'BC', *half, 'GATED']


@pytest.mark.parametrize(
    ('bc', 'rl'), [(10, 10), (5, 10), (5, 30), (3, 6), (4, 7), (1, 10), (0, 4)]
)
def test_bc_and_rl_are_both_measured_at_their_rates(bc, rl):
    plan = online(
        online_steps=10000,
        bc_only_every=bc,
        rl_only_every=rl,
        graduation_evidence=0,
        drift_evidence=0,
    )
    modes = [finish(plan).mode.name for _ in range(600)]
    assert modes.count('BC') == (600 // bc if bc else 0)
    assert abs(modes.count('RL') - (600 // rl if bc != 1 else 0)) <= 1


def test_bc_is_dropped_only_where_asked_and_still_measured():
    plan = graduated(drop_bc=True)
    following = [finish(plan) for _ in range(4)]
    assert [e.mode.name for e in following] == ['RL', 'RL', 'RL', 'BC']
    assert [e.explore for e in following] == [True, False, True, False]


def doubted(**changes) -> RunPlan:
    """Return a run that had graduated with good weights, and whose success then fell below BC's."""
    plan = graduated(drop_bc=True, **changes)
    while not plan.progress.watch.best_version > 1:
        finish(plan, success=True, version=plan.online_steps)
    for _ in range(12):
        episode = plan.next_episode()
        finish(plan, success=episode.mode is Mode.BC or episode.explore, version=plan.online_steps)
    while not plan.progress.watch.in_doubt:
        assert plan.online_steps < 5000
        finish(plan, success=plan.next_episode().mode is Mode.BC, version=9999)
    return plan


def test_success_below_bcs_lets_bc_act_alone_and_its_success_asks_for_the_best_weights():
    plan = doubted()
    assert plan.phase is Phase.ONLINE and plan.progress.graduated_at == 0
    assert plan.progress.rollbacks == 0 and 'BC, which acts alone' in plan.detail
    best = plan.progress.watch.best_version
    assert [finish(plan, success=s).mode for s in (False, True, False)] == [Mode.BC] * 3
    assert plan.command(Command.PAUSE) is None and plan.command(Command.RESUME) is None
    assert finish(plan, success=True).mode is Mode.BC
    assert plan.progress.rollbacks == 1 and plan.progress.rollback_version == best > 1
    assert f'weights {best}' in plan.detail and plan.progress.events[-1][1] == plan.detail
    assert {finish(plan).mode for _ in range(4)} == {Mode.GATED, Mode.BC, Mode.RL}
    assert RunProgress.from_dict(plan.progress.to_dict()) == plan.progress


def test_weights_that_fail_again_are_not_gone_back_to_twice():
    plan = doubted()
    for _ in range(2):
        finish(plan, success=True)
    while plan.progress.rollbacks == 1:
        assert plan.online_steps < 9000
        finish(plan, success=plan.next_episode().mode is Mode.BC, version=9999)
    assert plan.progress.rollback_version == 1


def test_where_bc_fails_as_well_the_world_has_changed_and_what_bc_was_is_forgotten():
    plan = doubted()
    watch = plan.progress.watch
    while watch.in_doubt:
        assert plan.next_episode().mode is Mode.BC
        finish(plan, success=False)
    assert plan.progress.rollbacks == 1 and plan.progress.rollback_version == 0
    assert 'BC fails as well' in plan.detail and plan.phase is Phase.ONLINE
    assert watch.bc_successes == 0 and watch.bc_episodes >= 2 and watch.bc_level == 0.0
    while plan.phase is Phase.ONLINE:  # nothing is below a BC that never succeeds: no alarm
        assert plan.progress.rollbacks == 1
        finish(plan, success=False)
    assert plan.phase is Phase.SETTLING


@pytest.mark.parametrize('reason', [EndReason.REQUESTED, EndReason.LOST])
def test_an_interrupted_episode_is_done_again_on_the_same_seed_where_policies_are_measured(reason):
    plan = RunPlan(settings_of(online_steps=0))
    plan.start()
    while plan.phase in (Phase.ESTIMATING, Phase.FITTING, Phase.SETTLING, Phase.EVALUATING):
        plan.learner_reported(GOOD)
        plan.learner_reported(SETTLED)
        before, counts = plan.next_episode(), plan.progress.of(plan.phase).episodes
        assert not plan.episode_finished(before, EpisodeResult(False, reason, 4, {'BC': 4}))
        again = plan.next_episode()
        assert (again.seed, again.mode, again.number) == (before.seed, before.mode, before.number)
        assert again.episode != before.episode
        assert plan.progress.of(plan.phase).episodes == counts
        finish(plan)
        if plan.phase is Phase.FITTING:
            plan.learner_reported(GOOD)
    assert plan.phase is Phase.FINISHED


def test_a_rollout_that_the_learner_has_in_part_only_is_done_again():
    plan = RunPlan(settings_of())
    plan.start()
    before = plan.next_episode()
    in_part = EpisodeResult(True, EndReason.SUCCESS, 9, {'BC': 10}, whole=False)
    assert not plan.episode_finished(before, in_part)
    again = plan.next_episode()
    assert (again.seed, again.number) == (before.seed, before.number)
    assert again.episode != before.episode
    while plan.phase is Phase.ESTIMATING:
        finish(plan)
    plan.learner_reported(GOOD)
    assert plan.episode_finished(plan.next_episode(), in_part), 'online it was what it was'


@pytest.mark.parametrize('reason', [EndReason.REQUESTED, EndReason.LOST])
def test_an_interrupted_online_episode_spends_its_steps_and_is_kept_from_graduation_and_drift(
    reason,
):
    plan = online(online_steps=10000)
    watch = asdict(plan.progress.watch)
    for number in range(1, 9):  # gated, BC-only and RL-only ones
        assert plan.episode_finished(
            plan.next_episode(), EpisodeResult(False, reason, 4, {'BC': 4})
        )
        assert plan.online_steps == 4 * number
    assert asdict(plan.progress.watch) == watch
    assert plan.progress.of(Phase.ONLINE).by_mode == {}


def test_a_bc_only_episode_that_a_person_helped_in_does_not_measure_bc():
    plan = doubted()
    for ended_well in (True, False):
        plan.episode_finished(plan.next_episode(), helped(ended_well))
    assert plan.progress.watch.doubt_episodes == 0 and plan.progress.rollbacks == 0


def test_help_where_rl_fails_does_not_make_an_equal_policy_graduate():
    """RL and BC succeed half of the time each; a person rescues nine tenths of RL's failures."""
    rng = np.random.default_rng(4)
    graduations = 0
    for _ in range(20):
        plan = online(online_steps=10**6, drift_evidence=0, bc_only_every=2, rl_only_every=2)
        while plan.phase is Phase.ONLINE and plan.next_episode().number <= 120:
            episode = plan.next_episode()
            success = rng.random() < 0.5
            if episode.mode is Mode.RL and not success and rng.random() < 0.9:
                plan.episode_finished(episode, helped(True))
            else:
                finish(plan, success=success)
        assert plan.progress.watch.bc_episodes > 20 or plan.phase is Phase.GRADUATED
        graduations += plan.phase is Phase.GRADUATED
    assert graduations <= 3  # expected: 1 at most


def test_a_helped_episode_of_rl_alone_is_one_that_failed():
    plan = online(online_steps=30000)
    while plan.next_episode().mode is not Mode.RL:
        finish(plan)
    plan.episode_finished(plan.next_episode(), helped(True))
    watch = plan.progress.watch
    assert watch.unpaired is False and watch.rl_alone == [False]
    while plan.next_episode().mode is not Mode.BC:
        finish(plan)
    finish(plan)
    assert (watch.wins, watch.losses) == (0, 1)


def test_graduation_is_taken_back_when_rl_alone_falls_below_bc():
    plan = online(online_steps=30000)
    for _ in range(40):  # BC is known to succeed half of the time
        finish(plan, success=plan.next_episode().number % 8 != 4)
    while plan.phase is Phase.ONLINE:
        mode = plan.next_episode().mode
        finish(plan, success=mode is not Mode.BC, version=1)
    assert plan.phase is Phase.GRADUATED and plan.progress.watch.bc_level > 0.1
    while plan.phase is Phase.GRADUATED:
        assert plan.online_steps < 20000
        mode = plan.next_episode().mode
        finish(plan, success=mode is not Mode.RL, version=1)
    assert plan.phase is Phase.ONLINE and 'RL alone' in plan.detail
    assert plan.progress.graduated_at == 0 and plan.progress.rollbacks == 0
    assert plan.progress.watch.evidence == 1.0
    # Its second time it has to be shown twice as surely: 7 to 0 is an e-value of 31.9.
    watch = plan.progress.watch
    while watch.wins < 7:
        finish(plan, success=plan.next_episode().mode is not Mode.BC, version=1)
        assert plan.phase is Phase.ONLINE
    while plan.phase is Phase.ONLINE:
        finish(plan, success=plan.next_episode().mode is not Mode.BC, version=1)
    assert (watch.wins, watch.losses, watch.graduations) == (8, 0, 2)


def test_neither_is_judged_where_it_is_switched_off():
    plan = online(online_steps=900, graduation_evidence=0.0, drift_evidence=0.0)
    while plan.phase is Phase.ONLINE:
        finish(plan, success=plan.next_episode().mode is Mode.RL)
    assert plan.phase is Phase.SETTLING and plan.progress.rollbacks == 0


def test_a_graduated_run_goes_on_as_one_after_a_pause_and_ends_when_its_steps_are_done():
    plan = graduated()
    plan.command(Command.PAUSE)
    assert plan.command(Command.RESUME) is None and plan.phase is Phase.GRADUATED
    assert plan.command(Command.EVALUATE) is None and plan.phase is Phase.SETTLING
