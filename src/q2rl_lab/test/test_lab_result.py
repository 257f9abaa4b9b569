# SPDX-License-Identifier: Apache-2.0
"""The numbers of a run from a folder made up for it."""

from __future__ import annotations

from dataclasses import replace
import json

import numpy as np
import pytest

from q2rl_lab.report import render_report
from q2rl_lab.result import build_result, short_result, write_result
from q2rl_lab.run_data import read_run, source_counts
from q2rl_lab.statistics import wilson
from q2rl_task import EndReason, InputError, Mode, Phase


def test_the_numbers_of_a_run_that_learned(learned):
    result = build_result(read_run(learned.write()))
    assert result['bc'] == {
        'success': 0.35, 'n': 20, 'wilson': list(wilson(7, 20)), 'measured_on': 'evaluation',
    }  # fmt: skip
    assert result['gated'] == {'success': 1.0, 'n': 20, 'wilson': list(wilson(20, 20))}
    assert result['rl']['success'] == 0.9
    assert result['bc_in_band']['holds'] is True
    # 30 failures, then successes: the window of 50 holds 10 failures at most from episode 70 on, 2 from 78 on.
    assert result['episodes_to_80']['episodes'] == 70
    assert result['failures_to_95'] == {
        'failures': 30, 'censored': False, 'level': 0.95, 'window': 50, 'failures_seen': 30,
    }  # fmt: skip
    # After the first 20 the window of 30 lies below 35 % until 11 successes are in it: episodes 21 to 40.
    assert result['below_bc_after_20']['episodes'] == 20
    assert result['episodes'] == {
        'all': 171, 'estimating': 10, 'online_gated': 100, 'online_bc': 1,
        'evaluating_bc': 20, 'evaluating_gated': 20, 'evaluating_rl': 20,
    }  # fmt: skip
    assert result['robot_time_s'] == 3.0 * 171
    assert result['gradient_steps'] == 2 * 4 * 101
    assert result['update_ratio']['achieved'] == 2.0
    assert result['demo_fraction'] == 0.5
    assert result['wall_s'] == 300.0
    assert result['restarts'] == {'learner': 1}
    assert (result['drops']['rejected'], result['arm_counters']) == (2, {'overtaken': 5})
    assert (result['run'], result['seed'], result['preset']) == ('made_up', 3, 'laptop-long')
    assert result['finished'] is True
    assert result['notes'] == []


def test_what_was_evaluated_before_a_run_learned_on_is_told_apart(learned):
    for _ in range(10):
        learned.add(Phase.EVALUATING, Mode.BC, False, logged=False)
        learned.add(Phase.EVALUATING, Mode.GATED, True, logged=False)
        learned.add(Phase.EVALUATING, Mode.RL, True, logged=False)
    folder = learned.write()
    state = json.loads(folder.state.read_text())
    state['progress']['superseded'] = [[60, 400]]
    folder.state.write_text(json.dumps(state))
    data = read_run(folder)
    result = build_result(data)
    assert [(result[mode]['success'], result[mode]['n']) for mode in ('bc', 'gated', 'rl')] == [
        (0.0, 10), (1.0, 10), (1.0, 10),
    ]  # fmt: skip
    (before,) = result['evaluated_before']
    assert (before['online_steps'], before['bc']['success'], before['rl']['n']) == (400, 0.35, 20)
    told = list(short_result(result))
    assert told[:4] == ['run', 'BC alone', 'after 400 steps', 'gated']
    assert 'RL alone 90.0 % of 20' in short_result(result)['after 400 steps']
    assert 'after 400 online steps, before it learned on' in render_report(data, result, [], '')


def test_an_interrupted_episode_is_neither_a_success_nor_a_failure(run):
    for k in range(60):
        run.add(Phase.ONLINE, Mode.GATED, k % 10 != 0)
        run.add(Phase.ONLINE, Mode.GATED, False, EndReason.LOST)
        run.add(Phase.ONLINE, Mode.BC, k % 2 == 0)
        run.add(Phase.ONLINE, Mode.BC, False, EndReason.REQUESTED)
    result = build_result(read_run(run.write()))
    assert result['episodes_to_80'] == {'episodes': 50, 'level': 0.8, 'window': 50, 'of': 60}
    assert result['failures_to_95']['failures_seen'] == 6
    assert (result['bc']['success'], result['bc']['n']) == (0.5, 60)
    assert result['episodes']['all'] == 240


def test_steps_and_acknowledgements_come_from_different_files(run):
    for _ in range(5):
        run.add(Phase.ONLINE, Mode.GATED, True)
    run.add(Phase.ONLINE, Mode.GATED, True, logged=False)
    result = build_result(read_run(run.write()))
    assert (result['env_steps'], result['acknowledged']) == (24, 20)
    assert result['steps_all_acknowledged'] is False


def test_sources_and_depth_come_from_the_transitions(run):
    run.add(Phase.ONLINE, Mode.GATED, True)
    run.add(Phase.ONLINE, Mode.BC, True)
    data = read_run(run.write())
    assert source_counts(data.ticks) == {'hold': 0, 'bc': 6, 'rl': 2, 'human': 0}
    np.testing.assert_allclose(data.ticks.depth[:4], [-0.01, -0.01, 0.01, 0.01], atol=1e-6)


def test_a_level_never_reached_is_censored(run):
    for k in range(60):
        run.add(Phase.ONLINE, Mode.GATED, k % 2 == 0)
    result = build_result(read_run(run.write(Phase.STOPPED)))
    assert result['episodes_to_80']['episodes'] is None
    assert result['failures_to_95'] | {'window': 0} == {
        'failures': None, 'censored': True, 'level': 0.95, 'window': 0, 'failures_seen': 30,
    }  # fmt: skip
    assert result['finished'] is False
    assert result['gated'] == {'success': None, 'n': 0, 'wilson': [0.0, 1.0]}


def test_without_an_evaluation_bc_is_measured_on_its_rollouts(run):
    for k in range(4):
        run.add(Phase.ESTIMATING, Mode.BC, k == 0)
    run.add(Phase.ONLINE, Mode.BC, True)
    bc = build_result(read_run(run.write()))['bc']
    assert (bc['success'], bc['n'], bc['measured_on']) == (0.4, 5, 'rollouts')


def test_before_the_first_online_episode_nothing_is_counted_that_was_not(run):
    for k in range(6):
        run.add(Phase.ESTIMATING, Mode.BC, k < 2)
    short = short_result(build_result(read_run(run.write(Phase.STOPPED))))
    assert short['BC alone'] == '33.3 % of 6 (95 %: 9.7 to 70.0), from rollouts'
    assert short['episodes to 80 %'] == short['failures to 95 %'] == 'no online episode yet'
    assert short['gradient steps'] == '0 (no online step yet, 4 per step configured)'


def test_fewer_episodes_than_the_window_are_no_failure_to_get_there(run):
    for k in range(40):
        run.add(Phase.ONLINE, Mode.GATED, k > 3)
    data = read_run(run.write())
    short = short_result(build_result(data))
    few = 'unknown: 40 of the 50 episodes that it takes'
    assert short['episodes to 80 %'] == short['failures to 95 %'] == few
    assert '>never<' not in render_report(data, build_result(data), [])


def test_a_run_that_nobody_listened_to_says_so(run):
    folder = run.learn().write()
    (folder.timeline).unlink()
    short = short_result(build_result(read_run(folder)))
    assert short['gradient steps'] == '- (not recorded, 4 per step configured)'


@pytest.mark.parametrize(
    ('successes', 'n', 'named'), [(0, 4, False), (2, 20, False), (0, 20, True), (14, 20, True)]
)
def test_a_clone_is_outside_the_band_where_its_whole_interval_is(run, successes, n, named):
    for k in range(n):
        run.add(Phase.ESTIMATING, Mode.BC, k < successes)
    result = build_result(read_run(run.write()))
    assert result['bc_in_band']['holds'] is not named
    assert ('outside 25 to 45 %: a start' in short_result(result)['BC alone']) is named


def test_force_stops_and_peaks_are_counted(run):
    run.add(Phase.ONLINE, Mode.GATED, False, reason=EndReason.FORCE_LIMIT, peak_force=61.0)
    run.add(Phase.ONLINE, Mode.GATED, True)
    result = build_result(read_run(run.write()))
    assert (result['force_stops'], result['peak_force_n'], result['guard_interventions']) == (
        1,
        61.0,
        2,
    )


def test_a_repeated_episode_counts_once_and_a_torn_line_is_noted(run):
    run.add(Phase.ONLINE, Mode.GATED, True)
    folder = run.write()
    line = folder.episodes.read_text()
    folder.episodes.write_text(line + line + line[:40])
    data = read_run(folder)
    assert len(data.episodes) == 1
    assert any('line 3' in note for note in data.notes)


def test_what_comes_before_a_damage_of_the_log_counts_and_the_damage_is_noted(run):
    for _ in range(300):
        run.add(Phase.ONLINE, Mode.GATED, True)
    folder = run.write()
    content = bytearray(folder.transitions.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 8192] = b'\xa5' * 8192
    folder.transitions.write_bytes(content)
    data = read_run(folder)
    assert data.ticks is not None and len(data.ticks.depth) < data.ticks.count
    assert any('transitions.db' in note for note in data.notes)
    assert build_result(data)['episodes']['all'] == 300


def test_enums_may_be_numbers(run):
    run.add(Phase.ONLINE, Mode.GATED, True)
    folder = run.write()
    line = json.loads(folder.episodes.read_text())
    line |= {'phase': 3, 'mode': 0, 'end_reason': 1}
    folder.episodes.write_text(json.dumps(line) + '\n')
    row = read_run(folder).episodes[0]
    assert (row.phase, row.mode, row.end_reason) == (Phase.ONLINE, Mode.GATED, EndReason.SUCCESS)


def test_a_run_with_nothing_in_it_yet(run):
    data = read_run(run.folder)
    result = build_result(data)
    assert (result['env_steps'], result['finished_episode_steps']) == (None, 0)
    assert result['acknowledged'] is None
    assert len(result['notes']) == 5
    assert short_result(result)['gated'] == 'not measured'


def test_the_file_is_strict_json_and_equals_the_result(learned):
    folder = learned.write()
    data = read_run(folder)
    result = build_result(data)
    write_result(data, result)

    def refuse(text):
        raise AssertionError(text)

    assert json.loads(folder.result.read_text(), parse_constant=refuse) == result


def test_the_short_result_words_the_numbers(learned):
    short = short_result(build_result(read_run(learned.write())))
    assert short['BC alone'].startswith('35.0 % of 20 (95 %: 18.')
    assert short['episodes to 80 %'] == '70'
    assert short['failures to 95 %'] == '30'
    assert short['wall time'] == '5.0 min'


@pytest.mark.parametrize(
    ('asked', 'named'),
    [({}, True), ({'bc': 'bc.yaml'}, False), ({'demonstrations': 5}, False)],
)
def test_the_band_is_meant_for_clones_of_the_tasks_own_demonstrations(run, asked, named):
    for _ in range(20):
        run.add(Phase.ESTIMATING, Mode.BC, False)
    folder = run.write()
    folder.write_config(replace(folder.read_config(), **asked), {})
    result = build_result(read_run(folder))
    assert result['adopted'] == asked.get('bc')
    assert ('outside' in short_result(result)['BC alone']) is named


def test_a_folder_that_is_no_run(tmp_path):
    from q2rl_lab.run_folder import RunFolder

    with pytest.raises(InputError, match='is not the folder of a run'):
        read_run(RunFolder(tmp_path))
