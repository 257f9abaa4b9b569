# SPDX-License-Identifier: Apache-2.0
"""A node's process: how it ends, and that it never outlives its supervisor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from q2rl_ros.spin import PARENT_VARIABLE
from q2rl_ros.testing import isolated_environment

WAIT_S = 60.0
NODE = textwrap.dedent("""
    import sys
    from q2rl_ros.node import Q2rlNode
    from q2rl_ros.spin import spin

    class Node(Q2rlNode):
        def __init__(self):
            super().__init__('lonely')
            self.declare('gain', 1.0, 'A number.', low=0.0, high=2.0)

        def activate(self):
            self.wall_timer(0.01, lambda: print('up', flush=True))

    sys.exit(spin(Node))
""")


def start(*arguments: str, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, '-c', NODE, '--ros-args', *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **isolated_environment(), **environment},
    )


def finish(process: subprocess.Popen) -> tuple[int, str]:
    try:
        errors = process.communicate(timeout=WAIT_S)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, errors


@pytest.mark.parametrize(
    'signals', [(signal.SIGINT,), (signal.SIGTERM,), (signal.SIGINT, signal.SIGINT, signal.SIGTERM)]
)
def test_a_node_asked_to_end_once_or_more_ends_with_0(signals):
    process = start()
    assert process.stdout.readline() == 'up\n'
    for number in signals:
        process.send_signal(number)
    code, errors = finish(process)
    assert code == 0
    assert 'Traceback' not in errors


TROUBLE = textwrap.dedent("""
    import errno, os, sys
    from std_msgs.msg import Bool
    from q2rl_ros.node import Q2rlNode
    from q2rl_ros.spin import spin
    from q2rl_task import InputError

    class Node(Q2rlNode):
        def __init__(self):
            super().__init__('troubled')

        def configure(self):
            self.out = self.publisher(Bool, 'b', 1)
            self.subscribe(Bool, 'b', lambda msg: self.fail(), 1)

        def activate(self):
            timer = self.fail if TIMER else lambda: self.out.publish(Bool())
            self.wall_timer(0.01, timer)

        def deactivate(self):
            print('held', flush=True)

        def fail(self):
            if DISK:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), 'the log')
            raise InputError('the policy', 'has no output', 'mend it')

    sys.exit(spin(Node))
""")


@pytest.mark.parametrize(
    ('timer', 'disk', 'words'),
    [
        (True, False, 'the policy: has no output; mend it'),
        (False, False, 'the policy: has no output; mend it'),
        (True, True, "No space left on device: 'the log'"),
    ],
)
def test_what_a_user_can_mend_is_one_line_and_exit_code_2_at_any_time(timer, disk, words):
    process = subprocess.run(
        [sys.executable, '-c', f'TIMER, DISK = {timer}, {disk}\n{TROUBLE}'],
        capture_output=True,
        text=True,
        env={**os.environ, **isolated_environment()},
        timeout=WAIT_S,
    )
    assert process.returncode == 2
    assert [line for line in process.stderr.splitlines() if line] == [process.stderr.strip()]
    assert words in process.stderr
    assert process.stdout == 'held\n'


@pytest.mark.parametrize(
    'parameter, words',
    [
        ('task:=nowhere', 'nowhere: no such task'),
        ('gain:=3.0', 'gain out of range'),
        ('gain:=much', "expecting type 'DOUBLE'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(parameter, words):
    code, errors = finish(start('-p', parameter))
    assert code == 2
    assert [line for line in errors.splitlines() if line] == [errors.strip()]
    assert words in errors


def test_a_node_ends_with_its_supervisor_however_that_dies():
    supervisor = textwrap.dedent(f"""
        import os, subprocess, sys
        environment = {{**os.environ, {PARENT_VARIABLE!r}: str(os.getpid())}}
        subprocess.Popen([sys.executable, '-c', {NODE!r}], env=environment).wait()
    """)
    process = subprocess.Popen(
        [sys.executable, '-c', supervisor],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **isolated_environment()},
    )
    assert process.stdout.readline() == 'up\n'
    process.kill()
    process.wait(WAIT_S)
    # The pipe ends when its last writer, the node, is gone.
    process.communicate(timeout=WAIT_S)


def test_a_node_whose_supervisor_is_gone_already_does_not_start():
    code, _ = finish(start(**{PARENT_VARIABLE: '1'}))
    assert code == 0
