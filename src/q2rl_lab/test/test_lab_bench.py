# SPDX-License-Identifier: Apache-2.0
"""The bench around its runs: the task in numpy, the results file, resuming, the numbers and the page."""

from __future__ import annotations

from contextlib import nullcontext
import dataclasses
import json
import multiprocessing
import os
from pathlib import Path
import re
import signal
import socket
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from q2rl_lab import bench_pool, bench_suites
from q2rl_lab.bench_page import render_bench_page
from q2rl_lab.bench_pool import run_here, run_on_ray
from q2rl_lab.bench_report import (
    build_bench_result,
    course_of,
    meanings,
    notes,
    start_words,
    table_rows,
)
from q2rl_lab.bench_results import append_line, finished_runs, read_lines, refuse_other_settings
from q2rl_lab.bench_run import Job
from q2rl_lab.bench_suites import SUITES, bench_task, find_suite, parse_seeds, pick_tasks
from q2rl_lab.cli import app
from q2rl_lab.suite_file import shipped_suites
from q2rl_lab.tiny_task import DEPTH, SLOT, Slot, TinyCell, tiny_demonstrations, tiny_task
from q2rl_task import Decision, EndReason, InputError, Mode, Reason, Source, TaskSpec, load_task

runner = CliRunner()
TASK = tiny_task()


def action(x=0.0, y=0.0, z=0.0) -> np.ndarray:
    return np.array([x, y, z, 0.0, 0.0, 0.0], dtype=np.float32)


def test_the_table_holds_the_point_and_the_slot_lets_it_through():
    slot = Slot(0)
    assert np.hypot(*slot.position[:2]) > SLOT
    for _ in range(8):
        slot.move(action(z=-1.0))
    assert slot.position[2] == 0.0 and not slot.done
    assert slot.force == pytest.approx(40.0)
    slot.position[:2] = (0.5 * SLOT, 0.0)
    slot.move(action(x=1.0, z=-0.1))
    slot.position[:2] = (0.5 * SLOT, 0.0)
    slot.move(action(z=-1.0))
    assert slot.position[2] < 0.0 and slot.force == 0.0
    slot.move(action(x=1.0))
    assert np.hypot(*slot.position[:2]) <= SLOT + 1e-9, 'the wall of the slot holds it'
    slot.move(action(z=-1.0))
    slot.move(action(z=-1.0))
    assert slot.done and slot.position[2] == -DEPTH


def test_friction_on_the_table():
    above, below = Slot(3), Slot(3)
    below.position[2] = 0.0
    for slot in (above, below):
        slot.move(action(x=1.0))
    start = Slot(3).position[0]
    assert above.position[0] - start == pytest.approx(4 * (below.position[0] - start))


def steps_of(act, seed=1):
    def decide(record):
        return Decision(Source.BC, Reason.MODE, act(record.observation))

    return list(TinyCell(TASK, 0, 'arm').run_episode('e', Mode.BC, seed, decide))


def test_an_episode_ends_with_success_or_the_time_limit_and_is_repeatable():
    def well(observation):
        x, y, _ = observation[:3]
        return action(*np.clip([-10 * x, -10 * y, -1.0 if np.hypot(x, y) < SLOT else 0.0], -1, 1))

    done = steps_of(well)
    assert (done[-1].terminated, done[-1].end_reason) == (True, EndReason.SUCCESS)
    assert [s.step for s in done] == list(range(len(done))) and len(done) < TASK.max_steps
    cut = steps_of(lambda _: action())
    assert (cut[-1].truncated, cut[-1].end_reason) == (True, EndReason.TIME_LIMIT)
    assert len(cut) == TASK.max_steps + 1
    for one, two in zip(done, steps_of(well), strict=True):
        np.testing.assert_array_equal(one.observation, two.observation)


def test_demonstrations_succeed_fit_the_task_and_follow_from_the_seed():
    demos = tiny_demonstrations(TASK, 3, seed=0)
    for demo in demos:
        assert demo.success and len(demo) <= TASK.max_steps
        assert demo.observations.shape == (len(demo) + 1, TASK.observation_size)
        assert np.abs(demo.actions).max() <= 1.0
    np.testing.assert_array_equal(demos[0].actions, tiny_demonstrations(TASK, 1, 0)[0].actions)
    assert not np.array_equal(demos[0].actions[0], tiny_demonstrations(TASK, 1, 1)[0].actions[0])


@pytest.mark.parametrize(
    ('text', 'seeds'), [('0-2', (0, 1, 2)), ('3', (3,)), ('0,2,5-6,2', (0, 2, 5, 6))]
)
def test_lists_of_seeds(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize('text', ['', 'a', '1-', '-3', '3-1'])
def test_what_is_no_list_of_seeds_is_said_so(text):
    with pytest.raises(InputError, match='seeds'):
        parse_seeds(text)


def test_some_of_a_suites_tasks_can_be_picked_and_no_others():
    suite = find_suite('metaworld')
    assert pick_tasks(suite, [' door_open', 'peg_insert_side', 'door_open']) == (
        'door_open',
        'peg_insert_side',
    )
    with pytest.raises(InputError, match='peg_insert_side') as caught:
        pick_tasks(suite, ['peg'])
    assert caught.value.where == '--tasks peg'


def line(method='q2rl', seed=0, final=True, attempt=None, success=0.9, outcomes='', **more):
    count = len(outcomes)
    training = {
        'outcomes': outcomes,
        'rollouts': '0010',
        'peak_force_n': [50.0 if o == '0' else 10.0 for o in outcomes],
        'end_reasons': ['SUCCESS' if o == '1' else 'FORCE_LIMIT' for o in outcomes],
    }
    return {
        'format': 1, 'suite': 'tiny', 'task': 'tiny', 'method': method, 'seed': seed,
        'settings': 'abc', 'attempt': attempt or f'{method}{seed}', 'final': final,
        'online_steps': 10 * count, 'online_episodes': count, 'success': success, 'n': 20,
        'bc': {'success': 0.3, 'n': 20}, 'wall_s': 1.0, 'device': 'cpu', 'code': 'abc1234', 'stopped': '',
        'force_soften_n': 40.0, 'training': training, **more,
    }  # fmt: skip


def test_lines_survive_a_writer_that_died_in_the_middle(tmp_path):
    path = tmp_path / 'deep' / 'r.jsonl'
    append_line(path, line(seed=0))
    with path.open('a') as file:
        file.write('{"format": 1, "half')
    append_line(path, line(seed=1, success=float('nan')))
    assert [found['seed'] for found in read_lines(path)] == [0, 1]
    assert read_lines(path)[1]['success'] is None


@pytest.mark.parametrize('room', [20, 10**6])
def test_lines_are_written_whole_or_not_at_all(tmp_path, monkeypatch, room):
    path = tmp_path / 'r.jsonl'
    append_line(path, line(seed=0))
    before, write = path.read_bytes(), os.write

    def write_a_part(file, data):
        nonlocal room
        if not room:
            raise OSError(28, 'No space left on device')
        written = write(file, data[: min(room, 7)])
        room -= written
        return written

    fails = room < 100
    with monkeypatch.context() as patched:
        patched.setattr(os, 'write', write_a_part)
        with pytest.raises(OSError, match='No space left') if fails else nullcontext():
            append_line(path, line(seed=1))
    assert (path.read_bytes() == before) is fails
    assert [found['seed'] for found in read_lines(path)] == ([0] if fails else [0, 1])


def test_what_holds_no_results_is_said_so(tmp_path):
    path = tmp_path / 'r.jsonl'
    with pytest.raises(InputError, match='cannot be read'):
        read_lines(path)
    path.write_text('hello\n')
    with pytest.raises(InputError, match='no results'):
        read_lines(path)


def test_a_run_counts_once_it_is_final_and_with_the_lines_of_that_attempt():
    lines = [
        line(seed=0, final=False, attempt='cut off'),
        line(seed=1, final=False, attempt='cut off too'),
        line(seed=0, final=False, attempt='again'),
        line(seed=0, attempt='again'),
    ]
    runs = finished_runs(lines)
    assert [(run.seed, len(run.evaluations)) for run in runs] == [(0, 2)]


def test_results_of_other_settings_are_not_mixed_in(tmp_path):
    path = tmp_path / 'r.jsonl'
    refuse_other_settings(path, {('tiny', 'q2rl', 0): 'xyz'})
    append_line(path, line())
    refuse_other_settings(path, {('tiny', 'q2rl', 0): 'abc', ('tiny', 'ibrl', 0): 'xyz'})
    with pytest.raises(InputError, match='other settings'):
        refuse_other_settings(path, {('tiny', 'q2rl', 0): 'xyz'})


def test_settings_tell_methods_and_budgets_apart(tmp_path):
    tiny = SUITES['tiny']
    job = Job(tiny, 'tiny', 'q2rl', 0, tmp_path)
    others = [
        dataclasses.replace(job, method='ibrl'),
        dataclasses.replace(job, suite=dataclasses.replace(tiny, online_steps=7)),
    ]
    assert len({job.settings(), *(other.settings() for other in others)}) == 3
    assert job.settings() == dataclasses.replace(job, seed=5).settings()


def test_a_task_that_was_changed_beside_its_contract_is_another_comparison(tmp_path, monkeypatch):
    job = Job(SUITES['pipe'], 'pipe_assembly', 'q2rl', 0, tmp_path)
    before = job.settings(), job.start_content()
    task = load_task('pipe_assembly').model_dump(mode='json')
    task['limits']['force_soften_n'] -= 1.0
    changed = TaskSpec.model_validate(task)
    assert changed.contract_hash == job.case.spec.contract_hash
    monkeypatch.setattr(bench_suites, 'load_task', lambda name: changed)
    assert job.settings() != before[0] and job.start_content() != before[1]


def test_recordings_of_other_content_are_another_start(tmp_path):
    file = tmp_path / 'people.hdf5'
    case = dataclasses.replace(bench_task('tiny'), recordings=file)
    found = []
    for content in (b'one', b'two'):
        file.write_bytes(content)
        found.append(case.content()['recordings'])
    assert '' not in found and found[0] != found[1]
    file.unlink()
    assert case.content()['recordings'] == ''


def fake_run(fails=()):
    def run_job(job, emit):
        if job.name in fails:
            raise RuntimeError('no luck')
        emit(line(job.method, job.seed, settings=job.settings(), outcomes='0' * 5 + '1' * 20))

    return run_job


def test_what_is_finished_is_not_run_again_and_one_failure_does_not_stop_the_rest(
    tmp_path, monkeypatch
):
    out = tmp_path / 'r.jsonl'
    command = ['bench', 'learning', '--methods', 'q2rl,ibrl', '--seeds', '0-1', '--jobs', '1']
    command += ['--out', str(out)]
    monkeypatch.setattr(bench_pool, 'run_job', fake_run(fails=['tiny ibrl seed 1']))
    first = runner.invoke(app, command)
    assert first.exit_code == 1 and '4 of 4 runs to do' in first.stderr
    assert 'tiny ibrl seed 1: RuntimeError: no luck' in first.stderr
    monkeypatch.setattr(bench_pool, 'run_job', fake_run())
    second = runner.invoke(app, [*command, '--json'])
    assert second.exit_code == 0 and '1 of 4 runs to do' in second.stderr
    assert json.loads(second.stdout)['methods']['ibrl']['runs'] == 2
    assert len(out.read_text().splitlines()) == 4
    third = runner.invoke(app, command)
    assert '0 of 4 runs to do' in third.stderr and third.exit_code == 0
    other = runner.invoke(app, [*command, '--steps', '50'])
    assert other.exit_code == 2 and 'other settings' in other.stderr


def test_another_preset_is_another_comparison_in_a_file_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = []

    def run_job(job, emit):
        ran.append(job)
        fake_run()(job, emit)

    monkeypatch.setattr(bench_pool, 'run_job', run_job)
    command = ['bench', 'learning', '--methods', 'q2rl', '--seeds', '0', '--jobs', '1']
    for more in ([], ['--preset', 'laptop']):
        assert runner.invoke(app, [*command, *more]).exit_code == 0
    assert [job.suite.preset for job in ran] == ['tiny', 'laptop']
    assert ran[0].settings() != ran[1].settings()
    assert {f.name for f in Path('bench').glob('*.jsonl')} == {'tiny.jsonl', 'tiny-laptop.jsonl'}


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['learning', '--suite', 'huge'], 'name one of tiny, pipe'),
        (['learning', '--methods', 'magic'], 'no such method'),
        (['learning', '--seeds', 'all'], 'no list of seeds'),
        (['drift', '--suite', 'pipe', '--disturbance', 'moved'], 'the slot of tiny'),
        (['drift', '--suite', 'huge'], 'name one of tiny, pipe'),
        (['learning', '--preset', 'desktop'], 'no such preset'),
        (['learning', '--preset', 'laptop+ibrl'], 'name it in --methods'),
        (['learning', '--device', 'gpu'], 'device gpu'),
        (['updates', '--devices', 'cpu,gpu'], 'device gpu'),
        (['updates', '--presets', 'tiny,laptop+bc'], 'laptop+bc: learns nothing online'),
        (['report', 'nothing.jsonl'], 'cannot be read'),
        (
            ['report', 'nothing.jsonl', '--html', '/dev/null/page.html'],
            'page.html: cannot be written',
        ),
        (['learning', '--out', '/dev/null/r.jsonl'], 'r.jsonl: cannot be written'),
    ],
)
def test_bad_input_is_one_line(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = runner.invoke(app, ['bench', *arguments])
    assert result.exit_code == 2 and said in result.stderr
    assert len(result.stderr.splitlines()) == 1 and list(tmp_path.iterdir()) == []


def test_a_learner_tells_how_fast_it_learns():
    command = ['bench', 'updates', '--presets', 'tiny', '--seconds', '0.2', '--json']
    result = runner.invoke(app, command)
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told['preset'] == 'tiny' and told['device'] == 'cpu' and told['env_steps_per_s'] > 0


def test_a_worker_process_runs_a_job_and_says_what_went_wrong(tmp_path):
    """In a process of its own, with a task that is not there, so that nothing has to be learned."""
    told = []
    job = Job(SUITES['tiny'], 'nowhere', 'q2rl', 0, tmp_path)
    run_here([job, job], 2, tmp_path / 'r.jsonl', lambda j, problem: told.append((j, problem)))
    assert len(told) == 2
    assert all(j == job and 'nowhere: no such task' in problem for j, problem in told)


class Deadly:
    """Ends the process that it comes to, as the kernel does where memory runs out."""

    def __reduce__(self):
        return os._exit, (9,)


@pytest.mark.timeout(120)
def test_a_worker_that_is_killed_ends_only_what_was_under_way(tmp_path):
    jobs = [Job(SUITES['tiny'], 'nowhere', 'q2rl', seed, tmp_path) for seed in range(8)]
    for seed in (0, 4):
        jobs[seed] = dataclasses.replace(jobs[seed], suite=Deadly())
    told = []
    run_here(jobs, 2, tmp_path / 'r.jsonl', lambda job, problem: told.append((job.seed, problem)))
    assert sorted(seed for seed, _ in told) == list(range(8))
    killed = {seed for seed, problem in told if 'was killed' in problem}
    assert {0, 4} <= killed and len(killed) <= 4, 'each, and the one beside it'
    assert all('nowhere: no such task' in problem for seed, problem in told if seed not in killed)


def interrupt():
    raise KeyboardInterrupt


def terminate():
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    signal.raise_signal(signal.SIGTERM)


@pytest.mark.timeout(120)
@pytest.mark.parametrize('end', [interrupt, terminate])
def test_an_interrupt_ends_runs_that_are_under_way(tmp_path, end):
    """Beside a job that fails at once, one of thousands of minutes."""
    endless = dataclasses.replace(SUITES['tiny'], online_steps=10**9)
    jobs = [Job(SUITES['tiny'], 'nowhere', 'q2rl', 0, tmp_path)]
    jobs += [Job(endless, 'tiny', 'q2rl', seed, tmp_path) for seed in range(4)]
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        run_here(jobs, 2, tmp_path / 'r.jsonl', lambda *_: end())
    assert not multiprocessing.active_children()
    assert signal.getsignal(signal.SIGTERM) is before


def test_ray_is_asked_for_only_with_an_address(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'ray', None)
    with pytest.raises(InputError, match='Ray is not installed'):
        run_on_ray([], 'auto', 1, tmp_path / 'r.jsonl', lambda *_: None)


def test_jobs_on_ray_bring_their_lines_home(tmp_path, monkeypatch):
    """Against a stand-in with Ray's calls: what is sent, awaited and appended."""
    calls = []

    def remote(**options):
        calls.append(options)
        return lambda function: SimpleNamespace(remote=lambda job: (function, job))

    ray = SimpleNamespace(
        init=lambda **given: calls.append(given),
        remote=remote,
        wait=lambda pending, num_returns: (pending[:1], pending[1:]),
        get=lambda task: task[0](task[1]),
        shutdown=lambda: calls.append('shutdown'),
    )
    monkeypatch.setitem(sys.modules, 'ray', ray)
    monkeypatch.setattr(bench_pool, 'run_job', fake_run(fails=['tiny q2rl seed 1']))
    jobs = [Job(SUITES['tiny'], 'tiny', 'q2rl', seed, tmp_path) for seed in range(3)]
    told = {}
    out = tmp_path / 'r.jsonl'
    with socket.create_server(('127.0.0.1', 0)) as listener:
        address = f'127.0.0.1:{listener.getsockname()[1]}'
        run_on_ray(jobs, address, 2, out, lambda job, problem: told.update({job.seed: problem}))
    assert calls[0]['address'] == address and calls[-1] == 'shutdown'
    assert 'num_cpus' not in calls[0]  # a cluster knows its cores
    assert told == {0: '', 1: 'RuntimeError: no luck', 2: ''}
    assert sorted(found['seed'] for found in read_lines(out)) == [0, 2]


def test_ray_on_this_machine_starts_with_the_cores_asked_for_and_reports_to_nobody(
    tmp_path, monkeypatch
):
    monkeypatch.setenv(
        'RAY_USAGE_STATS_ENABLED', '0'
    )  # so that it is put back, even where it was not set
    monkeypatch.delenv('RAY_USAGE_STATS_ENABLED')
    started = []
    ray = SimpleNamespace(
        init=lambda **given: started.append((given, os.environ['RAY_USAGE_STATS_ENABLED'])),
        remote=lambda **_: lambda function: None,
        shutdown=lambda: None,
    )
    monkeypatch.setitem(sys.modules, 'ray', ray)
    run_on_ray([], 'local', 3, tmp_path / 'r.jsonl', lambda *_: None)
    ((given, reports),) = started
    assert (given['address'], given['num_cpus'], reports) == ('local', 3, '0')


@pytest.mark.parametrize('address', ['127.0.0.1:PORT', 'ray://127.0.0.1:PORT', '127.0.0.1:70000'])
def test_a_cluster_that_does_not_listen_is_said_so_at_once(address, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'ray', SimpleNamespace(init=pytest.fail))
    with socket.create_server(('127.0.0.1', 0)) as listener:
        free = listener.getsockname()[1]
    address = address.replace('PORT', str(free))
    with pytest.raises(InputError, match='no Ray cluster answers'):
        run_on_ray([], address, 1, tmp_path / 'r.jsonl', lambda *_: None)


LEARNS = '0' * 6 + '1' * 24
"""80 % of the last ten after 14 episodes; 95 % (all ten) after 16, with six failures."""
NEVER = '0' * 20 + '10' * 5


def results():
    return [
        line('ibrl', 0, success=0.5, outcomes=NEVER),
        line('ibrl', 1, success=0.7, outcomes=NEVER),
        line('q2rl', 0, final=False, success=0.6, outcomes='0'),
        line('q2rl', 0, success=0.9, outcomes=LEARNS),
        line('q2rl', 1, success=1.0, outcomes=LEARNS),
        line('bc', 0, final=False),
    ]


def test_the_course_of_a_run():
    reached, never = (course_of(run, 10) for run in finished_runs([results()[3], results()[0]]))
    assert (reached.episodes_to_80, reached.failures_to_95) == (14, 6)
    assert (reached.force_peaks, reached.force_stops, reached.peak_force) == (6, 6, 50.0)
    assert (never.episodes_to_80, never.failures_to_95) == (None, None)
    assert (never.failures, never.force_peaks) == (25, 25)
    assert (reached.first_failures, reached.rollout_failures) == (6, 3)


def test_a_comparison_of_other_budgets_says_so():
    lines = [
        line('q2rl', outcomes=LEARNS, online_steps=8040),
        line('bc', outcomes='', online_steps=0),
    ]
    more = [
        line('q2rl/self-imitation', seed, outcomes=LEARNS, online_steps=26000) for seed in (0, 1)
    ]
    result = build_bench_result([*lines, *more], None)
    assert result['unequal'] == ['tiny (q2rl 8040, q2rl/self-imitation 26000)']
    assert any('Not the same budget' in note for note in notes(result))
    alike = line('ibrl', outcomes=LEARNS, online_steps=8010)
    assert build_bench_result([*lines, alike], None)['unequal'] == []


def test_the_numbers_of_a_comparison():
    result = build_bench_result(results(), None, window=10)
    assert result['reference'] == 'q2rl' and list(result['methods']) == ['q2rl', 'ibrl']
    q2rl, ibrl = result['methods'].values()
    assert q2rl['success'] == pytest.approx(0.95) and q2rl['bc'] == pytest.approx(0.3)
    assert q2rl['cost']['episodes_to_80'] == {'median': 14, 'is_bound': False, 'never': 0}
    assert ibrl['cost']['failures_to_95'] == {'median': 25, 'is_bound': True, 'never': 2}
    assert ibrl['cost']['force_peaks'] == {'median': 25, 'is_bound': True, 'never': 2}
    assert ibrl['better_than_reference'] == 0.0
    assert ibrl['fewer_failures'] == {'seeds': 0.0, 'of': 2}
    assert result['unfinished'] == ['tiny bc seed 0']
    rows = {row[0]: row for row in table_rows(result)}
    assert rows['ibrl'][6] == '> 30 (2 of 2 never)' and rows['q2rl'][7] == '6'
    assert rows['ibrl'][8] == '> 25 (2 of 2 never), 50 N' and rows['q2rl'][8] == '6, 50 N'
    assert rows['q2rl'][5] == '3 + 6'
    assert result['mixed'] == [] and result['unequal'] == []
    assert build_bench_result(results(), 'ibrl')['methods']['q2rl']['better_than_reference'] == 1.0
    with pytest.raises(InputError, match='no finished run'):
        build_bench_result(results(), 'bc')
    with pytest.raises(InputError, match='no run is finished'):
        build_bench_result([line(final=False)], None)


def test_a_method_that_could_not_start_is_named():
    stopped = line('q2rl', 0, outcomes='', success=0.3, stopped='the fitted value explains nothing')
    result = build_bench_result([stopped], None)
    assert any('did not start: tiny seed 0: the fitted' in note for note in notes(result))
    assert table_rows(result)[0][5:9] == ('-', '-', '-', '-')
    render_bench_page([stopped], result)


def test_a_run_that_refused_to_start_is_no_cheap_run():
    refused = line('q2rl', 2, outcomes='', success=0.1, stopped='the fitted value explains nothing')
    result = build_bench_result([*results(), refused, line('ibrl', 2, outcomes=NEVER)], None)
    q2rl, ibrl = result['methods'].values()
    assert q2rl['runs'] == 3 and q2rl['worst'] == 0.1
    assert (q2rl['cost']['runs'], q2rl['cost']['first_failures']) == (2, 6)
    assert ibrl['fewer_failures'] == {'seeds': 0.0, 'of': 2}, 'the refused run is no opponent'
    assert table_rows(result)[0][5] == '3 + 6'


def test_the_window_is_a_matter_of_the_report(tmp_path):
    path = tmp_path / 'r.jsonl'
    append_line(path, line(outcomes=LEARNS))
    for window, episodes in ((10, 14), (20, 22)):
        command = ['bench', 'report', str(path), '--window', str(window), '--json']
        told = json.loads(runner.invoke(app, command).stdout)
        assert told['methods']['q2rl']['cost']['episodes_to_80']['median'] == episodes
        assert any(f'a level is {window} episodes' in said for said in meanings(told))


@pytest.mark.parametrize(
    ('other', 'said'),
    [
        ({'settings': 'xyz'}, 'q2rl on tiny, settings or budget: abc (seeds 0, 2); xyz (seeds 1)'),
        ({'n': 50}, 'episodes of evaluation: 20 (seeds 0, 2); 50 (seeds 1)'),
        ({'code': 'def'}, 'code: abc1234 (seeds 0, 2); def (seeds 1)'),
    ],
)
def test_runs_that_are_not_alike_are_named(other, said):
    runs = [line(seed=0), line(seed=1, **other), line(seed=2)]
    assert any(said in note for note in notes(build_bench_result(runs, None)))


def test_results_of_several_files_are_one_comparison_unless_a_run_is_in_two(tmp_path):
    one, two = tmp_path / 'one.jsonl', tmp_path / 'two.jsonl'
    append_line(one, line('q2rl', 0, outcomes=LEARNS))
    append_line(two, line('ibrl', 0, outcomes=NEVER))
    both = runner.invoke(app, ['bench', 'report', str(one), str(two), '--json'])
    assert list(json.loads(both.stdout)['methods']) == ['q2rl', 'ibrl']
    assert (tmp_path / 'one.html').is_file()
    append_line(two, line('q2rl', 0, outcomes=NEVER))
    twice = runner.invoke(app, ['bench', 'report', str(one), str(two)])
    assert twice.exit_code == 2 and 'q2rl on tiny, seed 0, is finished in' in twice.stderr


def test_the_report_is_a_table_and_a_page_that_needs_nothing_else(tmp_path):
    path = tmp_path / 'r.jsonl'
    for found in results():
        append_line(path, found)
    shown = runner.invoke(app, ['bench', 'report', str(path)], env={'COLUMNS': '200'})
    assert shown.exit_code == 0, shown.output
    assert '2 of 2 never' in shown.stdout and '95 % (90-100)' in shown.stdout
    narrow = runner.invoke(app, ['bench', 'report', str(path)], env={'COLUMNS': '90'})
    table = narrow.stdout[: narrow.stdout.index('└')]
    assert max(map(len, table.splitlines())) <= 90 < max(map(len, shown.stdout.splitlines()))
    page = (tmp_path / 'r.html').read_text()
    assert page.count('<svg') == 5 and 'Performance profile' in page
    for outside in ('src="http', 'href="http', '<script', '<link'):
        assert outside not in page


def test_some_methods_of_the_results_can_be_compared_and_no_others(tmp_path):
    path = tmp_path / 'r.jsonl'
    for found in (*results(), line('rlpd', 0, outcomes=NEVER)):
        append_line(path, found)

    def report(methods):
        command = ['bench', 'report', str(path), '--methods', methods, '--json']
        return runner.invoke(app, command)

    assert list(json.loads(report('rlpd, q2rl').stdout)['methods']) == ['q2rl', 'rlpd']
    assert list(json.loads(report('rlpd,ibrl').stdout)['methods']) == ['rlpd', 'ibrl']
    unknown = report('q2rl,wsrl')
    assert unknown.exit_code == 2 and '--methods wsrl' in unknown.stderr
    assert 'name some of ibrl, q2rl, bc, rlpd' in unknown.stderr


def large_marks(figure: str) -> list[tuple[float, float]]:
    """Return where an SVG has the filled and outlined marks, from the left and from the top."""
    of = r'<use [^>]* x="([\d.]+)" y="([\d.]+)" style="fill: #\w+; stroke: currentColor'
    return [(float(x), float(y)) for x, y in re.findall(of, figure)]


def test_the_page_shows_what_each_method_cost_and_what_came_of_it():
    moved = [found | {'task': 'other'} for found in results()]
    lines = [*results(), *moved, line('q2rl', 2, outcomes='', stopped='nothing was learned')]
    page = render_bench_page(lines, build_bench_result(lines, None))
    figure = page[page.index('What it cost') : page.index('How they learned')]
    assert figure.count('<svg') == 1 and '>tiny<' in figure and '>other<' in figure
    (q2rl_x, q2rl_y), (ibrl_x, ibrl_y), *others = large_marks(figure)
    assert q2rl_x < ibrl_x and q2rl_y < ibrl_y, 'fewer failures at the left, more success above'
    assert len(others) == 2


def test_the_report_says_what_the_methods_started_from():
    clones = build_bench_result(results(), None)
    assert 'a clone of the demonstrations of each seed' in render_bench_page(results(), clones)
    given = [found | {'bc': found['bc'] | {'adopted': 'mine.safetensors'}} for found in results()]
    page = render_bench_page(given, build_bench_result(given, None))
    assert 'the policy mine.safetensors that was given' in page and 'clone' not in page
    both = start_words(build_bench_result(results()[:2] + given[2:], None))
    assert 'mine.safetensors' in both and 'clone' in both


def test_the_help_names_every_suite():
    shown = runner.invoke(app, ['bench', 'learning', '--help'], env={'COLUMNS': '200'}).stdout
    assert all(name in shown for name in (*SUITES, *shipped_suites()))


def test_a_method_that_changes_nothing_says_so():
    shown = runner.invoke(app, ['methods', 'q2rl'])
    assert shown.stdout.startswith('q2rl: as the preset laptop\n')


def test_the_difference_between_methods_is_on_one_screen():
    result = runner.invoke(app, ['methods', 'q2rl', 'ibrl', '--json'])
    rows = json.loads(result.stdout)
    assert rows['acting.bc_value'] == {'q2rl': 'density', 'ibrl': 'critic'} and len(rows) < 20
    same = runner.invoke(
        app,
        ['bench', 'learning', '--suite', 'pipe', '--methods', 'q2rl,ibrl', '--explain', '--json'],
    )
    assert json.loads(same.stdout) == rows
    listed = json.loads(runner.invoke(app, ['methods', '--json']).stdout)
    assert all(method['summary'] and method['source'] for method in listed.values())
    assert runner.invoke(app, ['methods', 'magic']).exit_code == 2


def test_many_methods_are_shown_by_what_each_changes_of_the_first():
    shown = runner.invoke(app, ['bench', 'learning', '--suite', 'ablation', '--explain']).stdout
    assert 'what differs from q2rl' in shown and 'acting.chooser: gate -> rl' in shown
    assert '…' not in shown


def test_the_ablation_takes_q2rl_apart_on_the_budget_of_pipe(tmp_path):
    suite = SUITES['ablation']
    assert suite.methods[0] == 'q2rl' and 'q2rl/no-gate' in suite.methods
    assert all(method.startswith('q2rl/') for method in suite.methods[1:])
    assert suite.budget() == SUITES['pipe'].budget()

    def job(method: str, name: str = 'ablation') -> Job:
        return Job(SUITES[name], 'pipe_assembly', method, 0, tmp_path)

    assert [job(f'q2rl/rollouts-{n}').rollouts for n in (5, 10, 50)] == [5, 10, 50]
    assert job('q2rl').rollouts == job('q2rl/rollouts-0').rollouts == suite.rollouts
    prints = [job(method).settings() for method in suite.methods]
    assert len(set(prints)) == len(prints)
    assert job('q2rl').settings() == job('q2rl', 'pipe').settings(), 'one run serves both'
    shown = runner.invoke(app, ['bench', 'learning', '--suite', 'ablation', '--explain', '--json'])
    assert json.loads(shown.stdout)['alpha']['q2rl/alpha-0.2'] == 0.2
    listed = runner.invoke(app, ['methods']).stdout
    assert 'Variants, for ablations: ' in listed and listed.count('q2rl/no-gate') == 1


def test_every_suite_can_record_demonstrations_of_its_tasks():
    for name in {name for suite in SUITES.values() for name in suite.tasks}:
        case = bench_task(name)
        _, (only,) = case.record(case.spec, 1, 0)
        assert only.success and only.actions.shape[1] == case.spec.action_size
