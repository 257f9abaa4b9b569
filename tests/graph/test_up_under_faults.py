# SPDX-License-Identifier: Apache-2.0
"""`q2rl up` over real processes and real DDS: every node is killed once, the user interrupts, and the run goes on.

What must hold at the end: the run finished, and no transition that was published is missing from the learner's log.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import psutil
import pytest

from q2rl_lab.workspace import find_root

NODES = (
    'mujoco_arm',
    'arm_interface',
    'bc_policy',
    'rl_policy',
    'q_gate',
    'learner',
    'episode_manager',
)
PATIENCE_S = 300.0


class Up:
    """A running `q2rl up` whose output goes to a file."""

    def __init__(self, runs: Path, *options: str) -> None:
        self.folder = runs / 'faults'
        self._output = (runs / 'output.txt').open('a')
        command = [sys.executable, '-m', 'q2rl_lab.cli', 'up', 'pipe_assembly', *options]
        command += ['--runs-dir', str(runs), '--run', 'faults']
        self.process = subprocess.Popen(
            command, cwd=find_root(), stdout=self._output, stderr=subprocess.STDOUT
        )

    def state(self) -> dict:
        with contextlib.suppress(OSError, ValueError):
            return json.loads((self.folder / 'run_state.json').read_text())['progress']
        return {}

    def finished_episodes(self, phase: str) -> int:
        return self.state().get('counts', {}).get(phase, {}).get('episodes', 0)

    def wait_for_episodes(self, phase: str, count: int) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while self.finished_episodes(phase) < count:
            assert self.process.poll() is None, self.output()
            assert time.monotonic() < deadline, f'no {count} {phase} episodes:\n{self.output()}'
            time.sleep(0.05)

    def pid_of(self, node: str) -> int | None:
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if any(f'__node:={node}' == word for word in child.cmdline()):
                    return child.pid
        return None

    def kill(self, node: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while (pid := self.pid_of(node)) is None:
            assert time.monotonic() < deadline, f'{node} is not running:\n{self.output()}'
            time.sleep(0.05)
        os.kill(pid, signal.SIGKILL)

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE_S)

    def output(self) -> str:
        self._output.flush()
        return Path(self._output.name).read_text()[-4000:]

    def close(self) -> None:
        if self.process.poll() is None:
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    child.kill()
            self.process.kill()
            self.process.wait(10)
        self._output.close()


@pytest.fixture
def launched(tmp_path):
    runs: list[Up] = []

    def launch(*options: str) -> Up:
        runs.append(Up(tmp_path, *options))
        return runs[-1]

    yield launch
    for run in runs:
        run.close()


@pytest.mark.timeout(900)
def test_a_run_survives_the_death_of_every_node_and_an_interrupt(launched):
    up = launched('--steps', '400', '--eval-episodes', '1')
    up.wait_for_episodes('ESTIMATING', 2)
    for node in ('bc_policy', 'mujoco_arm', 'episode_manager'):
        up.kill(node)
        up.wait_for_episodes('ESTIMATING', up.finished_episodes('ESTIMATING') + 2)
    assert up.interrupt() == 130, up.output()
    assert not (up.folder / 'result.json').exists()

    resumed = launched('--resume')
    resumed.wait_for_episodes('ONLINE', 1)
    for node in ('rl_policy', 'q_gate', 'learner', 'arm_interface'):
        resumed.kill(node)
        if resumed.state()['phase'] == 'ONLINE':
            with contextlib.suppress(AssertionError):
                resumed.wait_for_episodes('ONLINE', resumed.finished_episodes('ONLINE') + 1)
    assert resumed.process.wait(PATIENCE_S) == 0, resumed.output()

    result = json.loads((up.folder / 'result.json').read_text())
    assert result['finished'], resumed.output()
    assert result['env_steps'] == result['acknowledged'] > 0
    assert result['steps_all_acknowledged']
    assert result['restarts'] == {node: 1 for node in NODES}
    ratio = result['update_ratio']
    assert ratio['achieved'] == pytest.approx(ratio['configured'], rel=0.02)
    assert [result[mode]['n'] for mode in ('bc', 'gated', 'rl')] == [1, 1, 1]
    assert result['episodes']['estimating'] == 20
    assert (up.folder / 'report.html').stat().st_size > 10_000
