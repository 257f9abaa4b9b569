# SPDX-License-Identifier: Apache-2.0
"""What a watcher shows of a run, from messages made up for it."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from q2rl_lab.display import LiveDisplay, PlainDisplay, open_display
from q2rl_lab.run_view import Plan, RunView, clock_text
from q2rl_task import EndReason, Mode, Phase

NAN = float('nan')


def run_state(phase, **more):
    return SimpleNamespace(**{
        'phase': int(phase), 'detail': '', 'episode_number': 7, 'episodes_planned': 20, 'mode': 0,
        'sequence': 1000, 'acknowledged': 990, 'online_steps': 500, 'online_steps_planned': 4000,
        'rollbacks': 0, 'rollback_version': 0,
        **more,
    })  # fmt: skip


def episode(number, success, **more):
    return SimpleNamespace(**{
        'episode': f'r-o{number:04d}', 'phase': int(Phase.ONLINE), 'mode': int(Mode.GATED),
        'success': success, 'explored': True, 'end_reason': 1 if success else 2,
        'steps': 50, 'rl_steps': 30, 'bc_steps': 20, 'hold_steps': 0,
        'mean_q_bc': -30.0, 'mean_q_rl': -20.0, 'peak_force': 12.0, 'guard_interventions': 1, **more,
    })  # fmt: skip


def learner(**more):
    return SimpleNamespace(**{
        'state': 3, 'detail': '', 'updates_per_second': 210.4, 'gradient_steps': 1000,
        'weights_version': 9, 'value_version': 1, 'credit': 1025, **more,
    })  # fmt: skip


def arm(rejected=0, **counts):
    return SimpleNamespace(
        state=4, detail='', rejected=rejected, counted=list(counts), counts=list(counts.values())
    )


@pytest.fixture
def view():
    view = RunView(Plan(20, 4000, 300), started=100.0)
    view.hear_run(run_state(Phase.ONLINE, sequence=900), 110.0)
    view.hear_run(run_state(Phase.ONLINE), 120.0)
    for number in range(4):
        view.hear_episode(episode(number, number > 0))
    view.learner = learner()
    view.alive = {'arm': True, 'learner': False}
    return view


def test_the_line_says_what_matters(view):
    assert view.line(165.0) == (
        '[1:05] online 500 of 4000 steps, episode 7 (gated), gated success 75 % of last 4, RL 60 %, '
        '210 updates/s, weights v9, about 30:50 left'
    )


def test_a_fit_is_told_step_by_step(view):
    view.hear_run(run_state(Phase.FITTING), 125.0)
    view.learner.detail = 'critics, step 300 of at most 5000'
    assert 'fitting critics, step 300 of at most 5000' in view.line(165.0)


def test_the_table_says_all(view):
    rows = dict(view.rows(165.0))
    assert rows['success, last 4'] == 'gated 75 %  (95 %: 30 to 95)'
    assert rows['actions by RL'] == '60 %'
    assert rows['Q_BC / Q_RL'] == '-30.0 / -20.0'
    assert 'weights v9, value v1' in rows['learner']
    assert rows['steps'] == '1000 taken, 990 acknowledged, credit 1025, 10 per second'
    assert rows['nodes'] == '1 of 2 running'
    assert rows['time'] == '1:05 gone, about 30:50 left'


def test_a_state_has_its_name_a_strange_one_its_number_and_each_its_detail(view):
    view.learner, view.arm = learner(detail='late'), arm()
    rows = dict(view.rows(165.0))
    assert rows['learner'].startswith('training: late, ') and rows['arm'] == 'running'
    view.learner.state = view.arm.state = 99
    rows = dict(view.rows(165.0))
    assert rows['learner'].startswith('99: late, ') and rows['arm'] == '99'


def test_the_table_tells_that_a_run_was_turned_back(view):
    assert 'turned back' not in dict(view.rows(165.0))
    view.hear_run(run_state(Phase.ONLINE, rollbacks=1, rollback_version=37), 125.0)
    assert dict(view.rows(165.0))['turned back'] == 'once, the last time to weights v37'
    view.hear_run(run_state(Phase.ONLINE, rollbacks=2), 130.0)
    assert dict(view.rows(165.0))['turned back'].startswith('2 times, the last time because BC')


def test_before_anything_was_heard():
    view = RunView(Plan(20, 4000, 300), started=100.0)
    assert view.line(103.0) == '[0:03] starting the nodes'
    assert dict(view.rows(103.0)) == {'phase': 'starting the nodes', 'time': '0:03 gone'}
    assert math.isnan(view.seconds_left())


def test_a_repeated_summary_counts_once(view):
    view.hear_episode(episode(3, True))
    assert len(view.episodes) == 4


def test_what_was_evaluated_before_a_run_learned_on_is_not_counted_with_what_is_now(view):
    for number in (20, 21):
        view.hear_episode(episode(number, False, phase=int(Phase.EVALUATING), explored=False))
    assert len(view.telling(Phase.EVALUATING)) == 2
    view.hear_episode(episode(22, True))
    view.hear_episode(episode(23, True, phase=int(Phase.EVALUATING), explored=False))
    assert [e.success for e in view.telling(Phase.EVALUATING)] == [True]


def test_only_the_last_fifty_gated_episodes_of_the_phase_count(view):
    for number in range(10, 80):
        view.hear_episode(episode(number, True))
        view.hear_episode(episode(1000 + number, False, mode=int(Mode.BC), explored=False))
    assert len(view.recent()) == 50
    assert all(e.success for e in view.recent())


def test_what_was_interrupted_is_neither_a_success_nor_a_failure(view):
    shown = len(view.recent())
    for number, reason in enumerate((EndReason.LOST, EndReason.REQUESTED)):
        view.hear_episode(episode(500 + number, False, end_reason=int(reason)))
    assert len(view.recent()) == shown


def test_rollouts_are_shown_until_there_are_gated_episodes():
    view = RunView(Plan(20, 4000, 300), started=0.0)
    view.hear_run(run_state(Phase.ESTIMATING), 1.0)
    view.hear_episode(
        episode(1, True, phase=int(Phase.ESTIMATING), mode=int(Mode.BC), mean_q_rl=NAN, rl_steps=0)
    )
    rows = dict(view.rows(1.0))
    assert rows['phase'] == 'estimating episode 7 of 20'
    assert rows['success, last 1'].startswith('BC 100 %')
    assert rows['Q_BC / Q_RL'] == '-30.0 / -'


def test_the_success_says_whose_it_is_and_mixes_no_phases():
    view = RunView(Plan(6, 300, 20), started=0.0)
    alone = {'mode': int(Mode.BC), 'explored': False}
    for number in range(6):
        view.hear_episode(episode(number, number < 2, phase=int(Phase.ESTIMATING), **alone))
    view.hear_run(run_state(Phase.SETTLING), 1.0)
    assert 'BC success 33 % of last 6' in view.line(2.0)
    view.hear_run(run_state(Phase.EVALUATING), 3.0)
    for number in range(10, 13):
        view.hear_episode(episode(number, True, phase=int(Phase.EVALUATING), **alone))
    assert 'BC success 100 % of last 3' in view.line(4.0)
    view.hear_episode(episode(20, False, phase=int(Phase.EVALUATING), explored=False))
    assert 'gated success 0 % of last 1' in view.line(5.0)


@pytest.mark.parametrize(
    'phase, left',
    [
        (Phase.ONLINE, 3500 + 300 * 50),
        (Phase.SETTLING, 300 * 50),
        (Phase.EVALUATING, 13 * 50),
        (Phase.FINISHED, 0),
    ],
)
def test_the_time_left_covers_what_is_to_come(view, phase, left):
    view.run = run_state(phase)
    assert view.seconds_left() == pytest.approx(left / 10.0)


def test_the_time_left_is_told_once_learning_has_a_pace_of_its_own():
    view = RunView(Plan(20, 4000, 300), started=0.0)
    for second, phase, sequence in (
        (0, Phase.ESTIMATING, 100),
        (10, Phase.ESTIMATING, 500),
        (20, Phase.FITTING, 900),
        (30, Phase.ONLINE, 900),
        (31, Phase.ONLINE, 920),
    ):
        view.hear_run(run_state(phase, sequence=sequence), float(second))
        assert math.isnan(view.seconds_left())
    view.hear_run(run_state(Phase.ONLINE, sequence=1100), 40.0)
    assert view.seconds_left() == pytest.approx((3500 + 300 * 80) / 20.0)


def test_without_learning_the_pace_of_the_rollouts_tells_the_time_left():
    view = RunView(Plan(20, 0, 300), started=0.0)
    view.hear_run(run_state(Phase.ESTIMATING, sequence=100), 0.0)
    view.hear_run(run_state(Phase.ESTIMATING, sequence=500), 10.0)
    assert view.seconds_left() == pytest.approx((13 * 80 + 300 * 80) / 40.0)


def test_a_stop_says_why(view):
    view.run = run_state(Phase.STOPPED, detail='the learner failed')
    assert dict(view.rows(165.0))['phase'] == 'stopped: the learner failed'
    assert 'left' not in view.line(165.0)
    assert dict(view.rows(165.0))['time'] == '1:05 gone'


def test_credit_is_shown_where_it_limits(view):
    view.learner = learner(credit=2**62)
    assert 'credit' not in dict(view.rows(165.0))['steps']


def test_the_pace_is_that_of_the_last_minute(view):
    for second in range(130, 400, 10):
        view.hear_run(run_state(Phase.ONLINE, sequence=1000), float(second))
    assert view.steps_per_second() == 0.0
    assert math.isnan(view.seconds_left())


def test_nodes_that_start_are_no_measure_of_the_pace():
    view = RunView(Plan(20, 1000, 100), started=0.0)
    for second in range(0, 50, 10):
        view.hear_run(run_state(Phase.ONLINE, sequence=1000), float(second))
    assert math.isnan(view.seconds_left())
    view.hear_run(run_state(Phase.ONLINE, sequence=1100), 50.0)
    assert view.steps_per_second() == 10.0


@pytest.mark.parametrize('seconds, text', [(0, '0:00'), (65.4, '1:05'), (3723, '1:02:03')])
def test_durations(seconds, text):
    assert clock_text(seconds) == text


def test_plain_lines_are_few(view, capsys):
    display = PlainDisplay()
    for second in range(120, 150):
        display.update(view, float(second))
    view.hear_episode(episode(9, True))
    for second in range(150, 161):
        display.update(view, float(second))
    view.run = run_state(Phase.EVALUATING)
    display.update(view, 161.0)
    display.note('a note')
    display.close()
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ''
    assert [line[:20] for line in lines] == [
        '[0:20] online 500 of', '[0:50] online 500 of', '[1:01] evaluating ep', 'a note',
    ]  # fmt: skip


def test_what_is_to_be_known_of_a_run_that_learns_is_said_once(view, capsys):
    display = PlainDisplay()
    for second, detail in (
        (0, 'RL alone beats BC'),
        (20, 'RL alone beats BC'),
        (40, 'BC acts alone'),
    ):
        view.hear_run(run_state(Phase.ONLINE, detail=detail), 125.0 + second)
        display.update(view, 165.0 + second)
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if not line.startswith('[')] == [
        '  RL alone beats BC',
        '  BC acts alone',
    ]
    assert dict(view.rows(205.0))['to know'] == 'BC acts alone'
    assert dict(view.rows(205.0))['phase'].startswith('online 500')
    view.hear_run(run_state(Phase.STOPPED, detail='the learner failed'), 225.0)
    assert 'stopped: the learner failed' in view.line(225.0) and not view.remark(225.0)


@pytest.mark.parametrize('phase', [Phase.ESTIMATING, Phase.ONLINE, Phase.EVALUATING])
def test_what_every_episode_waits_for_is_told_once_it_takes_long(view, capsys, phase):
    display = PlainDisplay()
    view.hear_run(run_state(phase, detail='waiting for the arm'), 200.0)
    display.update(view, 201.0)
    assert 'waiting' not in capsys.readouterr().err
    assert 'to know' not in dict(view.rows(201.0))
    view.hear_run(run_state(phase, detail='waiting for the arm'), 202.0)
    display.update(view, 212.0)
    assert 'waiting for the arm' in capsys.readouterr().err
    assert 'waiting for the arm' in str(view.rows(212.0))


def test_a_finished_run_shows_what_was_measured_last(view):
    view.hear_run(run_state(Phase.FINISHED), 200.0)
    assert 'gated success 75 % of last 4' in view.line(201.0)
    for number in range(10, 13):
        view.hear_episode(episode(number, True, phase=int(Phase.EVALUATING), explored=False))
    assert 'gated success 100 % of last 3' in view.line(201.0)


def test_the_live_table_shows_the_rows_and_notes(view, capsys):
    display = LiveDisplay('a run')
    display.update(view, 165.0)
    display.note('learner ended (SIGKILL)')
    display.close()
    out, err = capsys.readouterr()
    assert out == ''
    for text in ('a run', 'gated 75 %', 'learner ended (SIGKILL)'):
        assert text in err


def test_the_display_fits_the_terminal():
    assert isinstance(open_display('', live=False), PlainDisplay)
    display = open_display('', live=True)
    assert isinstance(display, LiveDisplay)
    display.close()


def test_fitting_keeps_the_pace_of_the_rollouts_and_learning_has_its_own(view):
    view.hear_run(run_state(Phase.FITTING), 121.0)
    for second in range(130, 200, 10):
        view.hear_run(run_state(Phase.FITTING), float(second))
    assert view.steps_per_second() == 10.0
    view.hear_run(run_state(Phase.ONLINE, sequence=1000), 200.0)
    view.hear_run(run_state(Phase.ONLINE, sequence=1001), 201.0)
    assert math.isnan(view.steps_per_second())
    view.hear_run(run_state(Phase.ONLINE, sequence=1300), 210.0)
    assert view.steps_per_second() == 30.0


def test_what_an_arm_counted_before_it_was_started_again_is_kept(view):
    assert view.arm_counters == {}
    view.hear_arm(arm(1, joints_seeded=1, overtaken=2))
    view.hear_arm(arm(1, joints_seeded=1, overtaken=5))
    assert view.arm_counters == {'rejected': 1, 'joints_seeded': 1, 'overtaken': 5}
    view.hear_arm(arm(0, joints_seeded=1))  # started again
    view.hear_arm(arm(0, joints_seeded=2, joints_unfollowed=7))
    assert view.arm_counters == {
        'rejected': 1, 'joints_seeded': 3, 'overtaken': 5, 'joints_unfollowed': 7,
    }  # fmt: skip
    assert dict(view.rows(165.0))['arm'] == 'running'
