# SPDX-License-Identifier: Apache-2.0
"""`q2rl stop` at the real node: from another process, and what it answers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from q2rl_bringup.operator_services import Wish
from q2rl_control.arm_interface_node import ArmInterface
from q2rl_lab.operator_call import Answer, ask, running_domain
from q2rl_lab.run_folder import RunConfig, create_run


@pytest.fixture
def run(tmp_path):
    """Return the folder of a run that is at work in the domain of this process."""
    folder = create_run(tmp_path, 'one', RunConfig('pipe_assembly'), {})
    folder.domain.write_text(os.environ['ROS_DOMAIN_ID'])
    with folder.lock():
        yield folder


def asked(bench, wish: Wish, patience_s: float = 20.0, namespace: str = '') -> Answer:
    answers = []
    domain = int(os.environ['ROS_DOMAIN_ID'])
    thread = threading.Thread(
        target=lambda: answers.append(ask(wish, domain, namespace, patience_s))
    )
    thread.start()
    bench.until(lambda: not thread.is_alive(), patience_s + 20.0)
    return answers[0]


def test_a_stop_from_another_process_is_latched_and_what_is_refused_says_why(bench, run):
    arm = bench.start(ArmInterface, activate=False, run_dir=str(run.path))
    assert arm.trigger_configure() is not None
    words = [sys.executable, '-m', 'q2rl_lab.cli', 'stop', str(run.path), '--wait', '30']
    environment = {**os.environ, 'ROS_DOMAIN_ID': '101'}  # the run's own is taken all the same
    process = subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    bench.until(lambda: process.poll() is not None, 60.0)
    out, err = process.communicate()
    assert (process.returncode, out) == (0, 'emergency stop: the arm took the stop\n'), err
    assert f'ROS_DOMAIN_ID={os.environ["ROS_DOMAIN_ID"]} (run one' in err
    arm._logic.latch.settle()
    assert (run.path / 'stop-arm.json').is_file()
    assert asked(bench, Wish.RELEASE) == Answer(True, False, 'refused: an emergency stop')
    assert asked(bench, Wish.RESET) == Answer(True, False, 'refused: no usable measurement')
    assert asked(bench, Wish.HOLD) == Answer(True, True, 'the arm holds')


def test_nobody_there_is_said_in_time(bench):
    answer = asked(bench, Wish.EMERGENCY_STOP, 0.5, '/nobody')
    said = 'NO ANSWER: /nobody/arm_interface/emergency_stop is not there'
    assert answer == Answer(False, False, said)


def test_the_domain_that_a_killed_start_left_behind_is_not_asked(bench, run, tmp_path):
    assert running_domain(run) == int(os.environ['ROS_DOMAIN_ID'])
    dead = create_run(tmp_path, 'two', RunConfig('pipe_assembly'), {})
    assert running_domain(dead) is None
    dead.domain.write_text('7')
    assert running_domain(dead) is None
