# SPDX-License-Identifier: Apache-2.0
"""The command line: exit codes, one line for bad input, results on stdout."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
import shlex
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from q2rl_control.run_progress import RunProgress
from q2rl_control.run_store import RunStore
from q2rl_lab import checks
from q2rl_lab.checks import Finding, Level
from q2rl_lab.cli import app
from q2rl_lab.console import finite_or_none, rate_text
from q2rl_lab.finish import finish_run
from q2rl_lab.operator_call import Answer
from q2rl_lab.outcomes import read_summary
from q2rl_lab.run_folder import RunConfig, RunFolder, create_run, latest_run
from q2rl_lab.up_run import read_session
from q2rl_task import InputError, Phase, load_task
from q2rl_task.errors import GivenUp

runner = CliRunner()
VERBS = (
    'up', 'demos', 'convert', 'train-bc', 'adopt', 'learn', 'eval', 'export', 'report', 'why', 'shadow', 'methods',
    'bench', 'doctor', 'test', 'task', 'stop',
)  # fmt: skip


def test_the_help_names_every_verb_and_needs_nothing_heavy():
    code = (
        'import sys; from q2rl_lab.cli import app; from typer.testing import CliRunner;'
        ' print(CliRunner().invoke(app, ["--help"]).output);'
        ' heavy = {"torch", "mujoco", "rclpy", "scipy", "matplotlib", "numpy"} & set(sys.modules);'
        ' sys.exit(f"imported {heavy}" if heavy else 0)'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    for verb in VERBS:
        assert verb in done.stdout


@pytest.mark.parametrize('verb', VERBS)
def test_every_verb_has_help_with_an_example(verb):
    result = runner.invoke(app, [verb, '--help'])
    assert result.exit_code == 0
    if verb != 'doctor':
        assert f' q2rl {verb} ' in result.output.partition('Usage')[2].partition('\n')[2]


@pytest.mark.parametrize(
    'arguments, said',
    [
        (['up', 'no_such_task'], 'no_such_task: no such task'),
        (
            ['up', 'pipe_assembly', '--preset', 'gpu', '--runs-dir', 'RUNS'],
            'gpu: no such preset',
        ),
        (['up', 'pipe_assembly', '--resume', '--runs-dir', 'RUNS'], 'no such run; start one with'),
        (['report', 'nothing', '--runs-dir', 'RUNS'], 'no such run'),
        (['demos', 'pipe_assembly', '-o', 'RUNS'], 'is no file but a folder'),
        (['demos', 'pipe_assembly', '--teleop', '-o', 'RUNS'], 'is no file but a folder'),
        (['demos', 'pipe_assembly', '--teleop', '--noise', '1'], 'is for the scripted'),
        (['demos', 'pipe_assembly', '--realtime'], 'a script needs no clock'),
        (['up', 'pipe_asembly'], 'no such task, pipe_assembly perhaps'),
        (['demos', 'pipe_assembly', '-o', '/proc/none/x.hdf5'], 'x.hdf5: cannot be written ('),
        (['train-bc', 'RUNS/none.hdf5', '-o', '/proc/none/bc'], 'bc: cannot be written ('),
        (['eval', '--csv', '/proc/none/x.csv'], 'x.csv: cannot be written ('),
        (['train-bc', 'RUNS/none.hdf5', '-o', 'RUNS/bc.safetensors'], 'no such file'),
        (['stop', '--reset', '--release'], 'ask for more than one thing'),
        (['stop', 'nothing', '--runs-dir', 'RUNS'], 'no such run'),
        (['eval', '--bc', 'RUNS/none.safetensors'], 'none.safetensors'),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, said, tmp_path):
    result = runner.invoke(app, [a.replace('RUNS', str(tmp_path)) for a in arguments])
    assert result.exit_code == 2, result.output
    assert result.stdout == ''
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith('q2rl: ') and said in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    'field, value, said',
    [
        ('scene', 'nosuch', 'field `scene`: there is no module q2rl_sim.scenes.nosuch'),
        ('fixture.nominal.position', [2.5, 0.0, 0.15], 'field `fixture.nominal`: the arm does not'),
    ],
)
@pytest.mark.parametrize(
    'verb',
    [
        ('task', 'TASK'),
        ('demos', 'TASK', '-o', 'RUNS/d.hdf5'),
        ('learn', 'TASK', '--runs-dir', 'RUNS'),
        ('up', 'TASK', '--runs-dir', 'RUNS'),
    ],
)
def test_a_task_that_cannot_be_simulated_is_refused_before_anything_is_made(
    tmp_path, field, value, said, verb
):
    content = load_task('pipe_assembly').model_dump(mode='json')
    *above, last = field.split('.')
    section = content
    for name in above:
        section = section[name]
    section[last] = value
    path, runs = tmp_path / 'mine.yaml', tmp_path / 'made'
    path.write_text(json.dumps(content))
    runs.mkdir()
    words = [word.replace('TASK', str(path)).replace('RUNS', str(runs)) for word in verb]
    result = runner.invoke(app, words)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith(f'q2rl: {path}: {said}') and result.stderr.count('\n') == 1
    assert not list(runs.iterdir())


def test_learning_that_was_interrupted_is_gone_on_with_by_the_line_it_says(tmp_path, monkeypatch):
    """All but the learning itself, which `test_lab_resume.py` has."""
    begun = []

    def learn_in_process(folder, config, tell):
        begun.append((folder.id, config.seed, config.steps))
        folder.learner.mkdir(exist_ok=True)
        (folder.learner / 'state.safetensors').touch()
        raise KeyboardInterrupt

    runs = tmp_path / 'my runs'
    monkeypatch.setattr('q2rl_lab.learn_run.learn_in_process', learn_in_process)
    monkeypatch.setattr('q2rl_lab.preparation.prepare', lambda folder, config: {})
    of = ('pipe_assembly', '--runs-dir', str(runs))
    first = runner.invoke(app, ['learn', *of, '--run', 'one', '--seed', '3', '--steps', '90'])
    assert first.exit_code == 130, first.output
    said = first.stderr.splitlines()
    line = next(text for text in said if 'go on with: ' in text).partition('go on with: ')[2]
    words = shlex.split(line)
    assert words == ['./q2rl', 'learn', '--resume', '--run', 'one', '--runs-dir', str(runs)]
    assert runner.invoke(app, words[1:]).exit_code == 130
    learned = said[-1].partition(': ')[2].split(', ')
    path = str(runs / 'one')
    assert [shlex.split(text)[1:] for text in learned] == [['eval', path], ['report', path]]
    assert runner.invoke(app, ['learn', *of, '--resume']).exit_code == 130
    assert begun == [('one', 3, 90)] * 3
    for words, said in (
        (['learn', *of, '--resume', '--seed', '4'], '--seed: run one was started with 3, not 4'),
        (['learn', *of, '--resume', '--steps', '80'], '--steps: run one was started with 90'),
        (['learn', *of, '--run', 'one'], 'go on with this one: --resume --run one'),
        (['learn', 'kitting', *of[1:], '--resume'], 'kitting: run one was started with pipe_ass'),
        (['learn', *of[1:]], 'task: is missing; name one'),
        (['up', *of[1:]], 'task: is missing; name one'),
        (
            ['up', *of, '--resume'],
            'is a run of `q2rl learn`; go on with it: ./q2rl learn --resume',
        ),
    ):
        refused = runner.invoke(app, words)
        assert refused.exit_code == 2 and said in refused.stderr, refused.output
        assert refused.stderr.count('\n') == 1
    assert len(begun) == 3


def test_learning_whose_arm_never_comes_to_its_start_says_so_and_how_to_go_on(
    tmp_path, monkeypatch
):
    def learn_in_process(folder, config, tell):
        raise GivenUp('e1: the arm did not come to its start: stuck')

    monkeypatch.setattr('q2rl_lab.learn_run.learn_in_process', learn_in_process)
    monkeypatch.setattr('q2rl_lab.preparation.prepare', lambda folder, config: {})
    words = ['learn', 'pipe_assembly', '--run', 'one', '--runs-dir', str(tmp_path)]
    done = runner.invoke(app, words)
    assert done.exit_code == 1, done.output
    assert done.stderr.splitlines()[1:] == [
        'the run stopped: e1: the arm did not come to its start: stuck',
        f'go on with: ./q2rl learn --resume --run one --runs-dir {tmp_path}',
    ]
    assert read_session(RunFolder(tmp_path / 'one'))['wall_s'] > 0.0


def test_a_task_that_its_demonstrator_cannot_do_is_one_line_and_exit_code_1(tmp_path):
    task, made = tmp_path / 'mine.yaml', tmp_path / 'd.hdf5'
    content = load_task('pipe_assembly').model_dump(mode='json') | {'max_steps': 2}
    task.write_text(json.dumps(content))
    done = runner.invoke(app, ['demos', str(task), '-n', '1', '-o', str(made)])
    assert done.exit_code == 1 and done.stdout == '', done.output
    said = 'q2rl: task pipe_assembly: the demonstrator succeeded only 0 times in 10; give it more '
    assert done.stderr.startswith(said) and done.stderr.count('\n') == 1
    assert not made.exists()


def test_a_stop_without_a_run_is_of_the_one_at_work(tmp_path, monkeypatch):
    asked = []

    def ask(wish, domain, *rest):
        asked.append(domain)
        return Answer(True, True, 'the arm took the stop')

    monkeypatch.setattr('q2rl_lab.operator_call.ask', ask)
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    old, other, new = (
        create_run(tmp_path, name, RunConfig('pipe_assembly'), {})
        for name in ('old', 'other', 'new')
    )
    with latest_run(new):
        pass
    for number, run in enumerate((old, other, new), 41):
        run.domain.write_text(str(number))
    words = ['stop', '--runs-dir', str(tmp_path)]
    for run in (old, new):
        with run.lock():
            assert f"(run {run.id}'s)" in runner.invoke(app, words).stderr
    nobody = runner.invoke(app, words)
    assert '`q2rl up` is not at work on run new' in nobody.stderr
    assert asked == [41, 43, None]
    with old.lock(), other.lock():
        stopped = runner.invoke(app, words)
        assert stopped.exit_code == 0 and asked[3:] == [41, 42], 'both arms'
        several = runner.invoke(app, [*words, '--release'])
    assert several.exit_code == 2 and len(asked) == 5
    assert several.stderr.startswith('q2rl: RUN: several runs are at work: old, other; name the')


@pytest.mark.parametrize(
    ('verb', 'goal', 'options'), [('up', 0, '--steps 200'), ('learn', 95, '--steps 200 --goal 0')]
)
def test_a_finished_run_is_shown_again_and_says_how_it_learns_on(
    tmp_path, monkeypatch, verb, goal, options
):
    def prepare(folder, config):
        raise InputError('the run', 'goes on', f'with {config.steps} steps')

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr('q2rl_lab.preparation.prepare', prepare)
    config = RunConfig('pipe_assembly', steps=100, goal=goal, in_process=verb == 'learn')
    folder = create_run(tmp_path, 'one', config, {})
    extra = {'next_sequence': 1, 'episodes_recorded': 0}
    progress = RunProgress('one', 0, Phase.ONLINE, learn_until=[100, goal])
    RunStore(folder.path).save(progress, extra)
    finish_run(folder, clips=False)  # a look at the run while it was at work
    progress.phase = Phase.FINISHED
    RunStore(folder.path).save(progress, extra)
    words = [verb, '--resume', '--run', 'one', '--runs-dir', str(tmp_path)]
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr('q2rl_lab.finish.write_report', interrupted)
        finish_run(folder, clips=False)
    assert 'the run: goes on; with 100 steps' in runner.invoke(app, words).stderr  # for its report
    finish_run(folder, clips=False)
    folder.report.rename(tmp_path / 'kept')
    assert 'the run: goes on; with 100 steps' in runner.invoke(app, words).stderr
    (tmp_path / 'kept').rename(folder.report)
    shown = runner.invoke(app, [*words, '--json'])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)['finished'] is True
    line = f'to learn on: ./q2rl {verb} --resume --run one --runs-dir {tmp_path} {options}'
    assert shown.stderr.strip().endswith(line)
    again = runner.invoke(app, [*line.split()[4:]])
    assert 'the run: goes on; with 200 steps' in again.stderr
    unheard = runner.invoke(app, words)  # what it did not hear of is not forgotten
    assert 'with 200 steps' in unheard.stderr


def test_a_task_is_shown_with_its_contract():
    result = runner.invoke(app, ['task', 'kitting', '--json'])
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert shown['contract'] == load_task('kitting').contract_hash and shown['action'] == 7


def test_without_a_task_the_shipped_ones_are_listed():
    told = json.loads(runner.invoke(app, ['task', '--json']).stdout)
    assert {'pipe_assembly', 'kitting'} <= told.keys() and all(told.values())
    shown = runner.invoke(app, ['task']).stdout
    assert all(name in shown for name in told)


def test_help_by_a_single_letter():
    result = runner.invoke(app, ['bench', 'learning', '-h'])
    assert result.exit_code == 0 and 'Usage' in result.output


def test_a_place_that_takes_no_file_is_one_line(monkeypatch):
    def full(runs_dir):
        raise OSError(errno.ENOSPC, 'No space left on device', str(runs_dir / 'x'))

    monkeypatch.setattr(checks, 'all_checks', full)
    result = runner.invoke(app, ['doctor'])
    assert result.exit_code == 1
    assert result.stderr.strip() == (
        'q2rl: runs/x: No space left on device; make room, or choose another place'
    )


def test_an_unknown_verb_is_bad_input():
    assert runner.invoke(app, ['fly']).exit_code == 2


def test_a_bug_is_not_hidden_as_bad_input(monkeypatch):
    def broken(runs_dir):
        raise ValueError('a bug')

    monkeypatch.setattr(checks, 'all_checks', broken)
    result = runner.invoke(app, ['doctor'])
    assert result.exit_code == 1
    assert isinstance(result.exception, ValueError)


def test_ctrl_c_is_130(monkeypatch):
    def interrupted(runs_dir):
        raise KeyboardInterrupt

    monkeypatch.setattr(checks, 'all_checks', interrupted)
    assert runner.invoke(app, ['doctor']).exit_code == 130


@pytest.mark.parametrize('level, code', [(Level.OK, 0), (Level.WARN, 0), (Level.FAIL, 1)])
def test_the_doctors_verdict_is_its_exit_code(monkeypatch, level, code):
    findings = [Finding('a', Level.OK, 'fine'), Finding('b', level, 'so so', 'do this')]
    monkeypatch.setattr(checks, 'all_checks', lambda _: [lambda f=f: f for f in findings])
    shown = runner.invoke(app, ['doctor'])
    assert shown.exit_code == code
    assert 'OK   a               fine' in shown.stdout and '-> do this' in shown.stdout
    told = runner.invoke(app, ['doctor', '--json'])
    assert json.loads(told.stdout)['verdict'] == level.value


def test_the_cheap_checks_find_something_to_say(tmp_path):
    for check in (
        checks.check_python, checks.check_packages, checks.check_cores, checks.check_memory,
        lambda: checks.check_disk(tmp_path / 'not' / 'yet'), checks.check_shared_memory,
        checks.check_domains, checks.check_supervision,
    ):  # fmt: skip
        finding = check()
        assert finding.text
        assert bool(finding.remedy) == (finding.level is not Level.OK)


def test_a_check_that_fails_gives_its_last_line_and_the_remedy():
    finding = checks._in_process('x', 'import sys; sys.exit("no luck")', 'try again')
    assert finding == Finding('x', Level.FAIL, 'no luck', 'try again')


def test_a_disk_without_write_permission(tmp_path, monkeypatch):
    monkeypatch.setattr(os, 'access', lambda *_: False)
    assert checks.check_disk(tmp_path).level is Level.FAIL


def test_test_runs_pytest_and_sums_up_and_leaves_long_ones_out_unless_asked(tmp_path):
    path = tmp_path / 'test_three.py'
    path.write_text(
        'import pytest\n\n\ndef test_good():\n    pass\n\n\ndef test_bad():\n    assert False\n\n\n'
        '@pytest.mark.long\ndef test_slow():\n    pass\n'
    )
    arguments = ['test', str(path), '-q', '-p', 'no:cacheprovider', '--json']
    result = runner.invoke(app, arguments)
    summary = json.loads(result.stdout)
    assert result.exit_code == summary['exit_code'] == 1
    assert (summary['passed'], summary['failed']) == (1, 1)
    assert summary['failures'][0].endswith('test_bad')
    assert json.loads(runner.invoke(app, [*arguments, '--all']).stdout)['passed'] == 2


def test_the_summary_is_by_package(tmp_path):
    cases = (
        '<testcase file="src/q2rl_a/test/test_x.py" name="a" time="0.5"/>'
        '<testcase file="src/q2rl_a/test/test_x.py" name="b" time="1"><failure/></testcase>'
        '<testcase file="tests/faults/test_y.py" name="c"><skipped message="no GPU"/></testcase>'
        '<testcase file="tests/faults/test_y.py" name="d"><error/></testcase>'
    )
    path = tmp_path / 'outcome.xml'
    path.write_text(f'<testsuites><testsuite>{cases}</testsuite></testsuites>')
    summary = read_summary(path).as_dict()
    assert summary['packages']['q2rl_a'] == {
        'passed': 1, 'failed': 1, 'skipped': 0, 'seconds': 1.5,
    }  # fmt: skip
    assert summary['packages']['tests']['failed'] == 1
    assert summary['failures'] == ['src/q2rl_a/test/test_x.py::b', 'tests/faults/test_y.py::d']
    assert summary['skips'] == {'no GPU': 1}


def test_the_report_of_a_run_by_the_command_line(learned):
    folder = learned.write()
    result = runner.invoke(app, ['report', str(folder.path), '--no-clips', '--json'])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)['gated']['n'] == 20
    assert folder.report.is_file()
    assert json.loads(folder.result.read_text()) == json.loads(result.stdout)
    table = runner.invoke(app, ['report', str(folder.path), '--no-clips'])
    assert '35.0 % of 20' in table.stdout


def test_a_signal_ends_a_verb_with_130(tmp_path):
    """Ctrl-C in the middle of recording: nothing half-written is left."""
    path = tmp_path / 'demos.hdf5'
    command = [sys.executable, '-m', 'q2rl_lab.cli', 'demos', 'pipe_assembly', '-n', '100000']
    process = subprocess.Popen([*command, '-o', str(path)], stderr=subprocess.PIPE, text=True)
    maps = Path(f'/proc/{process.pid}/maps')
    while 'libmujoco' not in maps.read_text():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == 'stopped'
    assert list(tmp_path.iterdir()) == []


def test_words_for_rates_and_json_for_what_is_not_finite():
    assert rate_text({'success': 0.34, 'n': 100, 'wilson': [0.255, 0.437]}) == (
        '34.0 % of 100 (95 %: 25.5 to 43.7)'
    )
    assert rate_text({'success': None, 'n': 0, 'wilson': [0, 1]}) == 'not measured'
    assert finite_or_none({'a': [float('nan'), 1.0], 'b': (float('inf'),)}) == {
        'a': [None, 1.0], 'b': [None],
    }  # fmt: skip
