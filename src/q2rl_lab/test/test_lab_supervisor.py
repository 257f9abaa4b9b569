# SPDX-License-Identifier: Apache-2.0
"""The supervisor with real, small processes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import textwrap

import psutil
import pytest

from q2rl_lab.supervisor import (
    ProcessSpec,
    ProcessState,
    StopTimes,
    Supervisor,
    bound_to_parent,
    describe_exit,
    last_lines,
)

LIMIT_S = 30.0
HASTY = StopTimes(interrupt_s=0.5, terminate_s=0.5)


def python(name: str, code: str, **more) -> ProcessSpec:
    return ProcessSpec(
        name, (sys.executable, '-S', '-c', textwrap.dedent(code)), backoff_s=0.01, **more
    )


SLEEPER = 'import time; time.sleep(600)'


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, LIMIT_S))


async def until(condition):
    while not condition():
        await asyncio.sleep(0.01)


def test_a_process_that_dies_is_started_again(tmp_path):
    async def scenario():
        supervisor = Supervisor([python('node', SLEEPER)], tmp_path)
        await supervisor.start()
        first = supervisor.pid('node')
        os.kill(first, signal.SIGKILL)
        await until(lambda: supervisor.pid('node') not in (None, first))
        respawns = supervisor.respawns['node']
        await supervisor.stop()
        return respawns, supervisor.states['node']

    assert run(scenario()) == (1, ProcessState.STOPPED)


def test_a_crash_loop_is_given_up_with_the_last_lines_of_the_log(tmp_path):
    code = 'import sys; print("about to fail"); sys.exit(3)'

    async def scenario():
        supervisor = Supervisor(
            [python('node', code, respawn_limit=2), python('other', SLEEPER)], tmp_path
        )
        await supervisor.start()
        crash = await supervisor.wait_crash()
        states = supervisor.states
        await supervisor.stop()
        return crash, states

    crash, states = run(scenario())
    assert (crash.name, crash.returncode, crash.respawns) == ('node', 3, 2)
    assert crash.log == tmp_path / 'node.log'
    assert crash.last_lines == ('about to fail',) * 3 and not crash.lasting
    assert states == {'node': ProcessState.FAILED, 'other': ProcessState.RUNNING}


def test_a_process_without_respawn_is_given_up_at_once_even_if_it_ends_well(tmp_path):
    async def scenario():
        supervisor = Supervisor([python('node', 'pass', respawn=False)], tmp_path)
        await supervisor.start()
        crash = await supervisor.wait_crash()
        await supervisor.stop()
        return crash

    crash = run(scenario())
    assert (crash.returncode, crash.respawns) == (0, 0)


@pytest.mark.parametrize(('code', 'crashes'), [('pass', False), ('raise SystemExit(1)', True)])
def test_a_process_that_does_one_thing_may_end_and_may_not_fail(tmp_path, code, crashes):
    async def scenario():
        once = python('once', code, once=True, respawn=False)
        supervisor = Supervisor([once, python('other', SLEEPER)], tmp_path)
        await supervisor.start()
        await until(
            lambda: supervisor.states['once'] in (ProcessState.STOPPED, ProcessState.FAILED)
        )
        crash = asyncio.create_task(supervisor.wait_crash())
        await asyncio.sleep(0)
        ended = crash.done()
        crash.cancel()
        states = supervisor.states
        await supervisor.stop()
        return ended, states

    ended, states = run(scenario())
    assert states['once'] is (ProcessState.FAILED if crashes else ProcessState.STOPPED)
    assert ended == crashes and states['other'] is ProcessState.RUNNING


def test_a_log_that_cannot_be_written_is_not_waited_out(tmp_path):
    """The folder vanishes while the process runs: its respawn cannot log."""

    async def scenario():
        supervisor = Supervisor([python('node', SLEEPER)], tmp_path / 'logs')
        await supervisor.start()
        shutil.rmtree(tmp_path / 'logs')
        os.kill(supervisor.pid('node'), signal.SIGKILL)
        try:
            await supervisor.wait_crash()
        finally:
            await supervisor.stop()

    with pytest.raises(FileNotFoundError):
        run(scenario())


def test_a_first_log_that_cannot_be_written_does_not_hang_the_start(tmp_path):
    async def scenario():
        (tmp_path / 'node.log').mkdir()
        supervisor = Supervisor([python('node', SLEEPER)], tmp_path)
        await supervisor.start()
        try:
            await supervisor.wait_crash()
        finally:
            await supervisor.stop()

    with pytest.raises(IsADirectoryError):
        run(scenario())


def test_bad_input_is_not_tried_again(tmp_path):
    async def scenario():
        supervisor = Supervisor(
            [python('node', 'import sys; sys.exit(2)', respawn_limit=5)], tmp_path
        )
        await supervisor.start()
        crash = await supervisor.wait_crash()
        await supervisor.stop()
        return crash

    assert run(scenario()).respawns == 0


def test_a_program_that_does_not_exist_is_a_crash_that_says_so(tmp_path):
    async def scenario():
        supervisor = Supervisor(
            [ProcessSpec('node', ('/nonexistent/program',), respawn=False)], tmp_path
        )
        await supervisor.start()
        crash = await supervisor.wait_crash()
        await supervisor.stop()
        return crash

    crash = run(scenario())
    assert crash.returncode == 127
    assert '/nonexistent/program' in crash.last_lines[-1]


def stop_and_collect(tmp_path: Path, code: str, times: StopTimes = HASTY) -> tuple[list[str], bool]:
    events: list[str] = []

    async def scenario():
        supervisor = Supervisor(
            [python('node', code)],
            tmp_path,
            on_event=events.append,
            stop_times=times,
        )
        await supervisor.start()
        await until(lambda: last_lines(tmp_path / 'node.log'))
        pid = supervisor.pid('node')
        await supervisor.stop()
        return psutil.pid_exists(pid)

    return events, run(scenario())


def test_stop_asks_by_sigint_first(tmp_path):
    events, alive = stop_and_collect(
        tmp_path,
        """
        import signal, sys, time
        signal.signal(signal.SIGINT, lambda *_: (print('asked kindly', flush=True), sys.exit(0)))
        print('up', flush=True)
        time.sleep(600)""",
        StopTimes(20.0, 0.5),
    )
    assert not alive
    assert events == []
    assert last_lines(tmp_path / 'node.log') == ('up', 'asked kindly')


def test_stop_escalates_to_sigterm(tmp_path):
    events, alive = stop_and_collect(
        tmp_path,
        """
        import signal, time
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print('up', flush=True)
        time.sleep(600)""",
        StopTimes(0.5, 20.0),
    )
    assert not alive
    assert [event.split(': ')[1] for event in events] == ['SIGTERM']


def test_stop_escalates_to_sigkill(tmp_path):
    events, alive = stop_and_collect(
        tmp_path,
        """
        import signal, time
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print('up', flush=True)
        time.sleep(600)""",
    )
    assert not alive
    assert [event.split(': ')[1] for event in events] == ['SIGTERM', 'SIGKILL']


def test_a_frozen_process_is_stopped_too(tmp_path):
    events, alive = stop_and_collect(
        tmp_path,
        """
        import os, signal
        print('up', flush=True)
        os.kill(os.getpid(), signal.SIGSTOP)""",
    )
    assert not alive
    assert events[-1].endswith('SIGKILL')


def test_what_a_process_started_goes_with_it(tmp_path):
    async def scenario():
        code = f"""
            import subprocess, sys
            print(subprocess.Popen([sys.executable, '-S', '-c', {SLEEPER!r}]).pid, flush=True)
            import time; time.sleep(600)"""
        supervisor = Supervisor([python('node', code)], tmp_path)
        await supervisor.start()
        await until(lambda: last_lines(tmp_path / 'node.log'))
        grandchild = psutil.Process(int(last_lines(tmp_path / 'node.log')[0]))
        await supervisor.stop()
        await until(
            lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE
        )

    run(scenario())


def test_stopping_while_a_respawn_is_pending_starts_nothing(tmp_path):
    async def scenario():
        spec = ProcessSpec('node', (sys.executable, '-S', '-c', 'print("life")'), backoff_s=600.0)
        supervisor = Supervisor([spec], tmp_path)
        await supervisor.start()
        await until(lambda: supervisor.states['node'] is ProcessState.WAITING)
        await supervisor.stop()
        return supervisor.states['node']

    assert run(scenario()) is ProcessState.STOPPED
    assert last_lines(tmp_path / 'node.log') == ('life',)


@pytest.mark.skipif(shutil.which('setpriv') is None, reason='needs setpriv of util-linux')
def test_children_die_with_the_parent_however_it_dies(tmp_path):
    script = textwrap.dedent(f"""
        import asyncio, sys
        from pathlib import Path
        from q2rl_lab.supervisor import ProcessSpec, Supervisor

        async def main():
            child = 'print("alive", flush=True); ' + {SLEEPER!r}
            supervisor = Supervisor([ProcessSpec('node', (sys.executable, '-S', '-c', child))], Path(sys.argv[1]))
            await supervisor.start()
            log = Path(sys.argv[1]) / 'node.log'
            while 'alive' not in log.read_text():  # until then setpriv may still be about to bind it
                await asyncio.sleep(0.01)
            print(supervisor.pid('node'), flush=True)
            await asyncio.sleep(600)

        asyncio.run(main())""")
    parent = subprocess.Popen(
        [sys.executable, '-c', script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    child = psutil.Process(int(parent.stdout.readline()))
    assert child.is_running()
    parent.kill()
    parent.wait(LIMIT_S)
    parent.stdout.close()
    try:
        child.wait(LIMIT_S)  # reparented: where init does not reap, a zombie is as dead as it gets
    except psutil.TimeoutExpired:
        assert child.status() == psutil.STATUS_ZOMBIE


def test_the_command_line_is_wrapped_only_where_setpriv_is(monkeypatch):
    monkeypatch.setattr(shutil, 'which', lambda name: None)
    assert bound_to_parent(['a', 'b']) == ('a', 'b')
    monkeypatch.setattr(shutil, 'which', lambda name: '/usr/bin/setpriv')
    assert bound_to_parent(['a', 'b']) == (
        '/usr/bin/setpriv',
        '--pdeathsig',
        'KILL',
        '--',
        'a',
        'b',
    )


@pytest.mark.parametrize('code, words', [(0, 'exit code 0'), (-9, 'SIGKILL'), (-250, 'signal 250')])
def test_exit_statuses_in_words(code, words):
    assert describe_exit(code) == words


def test_last_lines_of_a_long_log(tmp_path):
    path = tmp_path / 'log'
    path.write_text('\n'.join(f'line {k}' for k in range(10000)))
    assert last_lines(path, 3) == ('line 9997', 'line 9998', 'line 9999')
    assert last_lines(path, 3, since=path.stat().st_size - 9) == ('line 9999',)
    assert last_lines(tmp_path / 'none') == ()
