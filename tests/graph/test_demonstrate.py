# SPDX-License-Identifier: Apache-2.0
"""The start with policy_mode:=demonstrate over real processes: what a scripted person records can be cloned."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

from graph_processes import processes
import pytest
from scripted_person import well_estimated_task

from q2rl_bringup.node_graph import build_graph
from q2rl_lab.preparation import clone
from q2rl_lab.ros_environment import node_environment
from q2rl_lab.supervisor import ProcessState, Supervisor
from q2rl_learner.demonstrations import load_demonstrations
from q2rl_policies.policy_file import load_bc

NODES = Path(__file__).resolve().parents[1] / 'nodes'

PATIENCE_S = 100.0
PERSON = f"""
import sys
sys.path.insert(0, {str(NODES)!r})
import rclpy
from scripted_person import ScriptedPerson
from q2rl_task import load_task
rclpy.init()
node = rclpy.create_node('person')
person = ScriptedPerson(node, load_task(sys.argv[1]), lockstep=True)
rclpy.spin(node)
"""
TINY = """
bc: {steps: 20, hidden: [16], batch: 32}
"""


@pytest.fixture
def person(domain, tmp_path):
    """Start the person in the domain of the nodes, with the task file that the test writes first."""
    started = []

    def start(task_file: Path) -> None:
        environment = node_environment(domain.number)
        started.append(
            subprocess.Popen([sys.executable, '-c', PERSON, str(task_file)], env=environment)
        )

    yield start
    for process in started:
        process.kill()
        process.wait(10)


async def run_until_recorded(supervisor: Supervisor, killed: str, file: Path) -> None:
    """Run until the recorder has ended by itself; a node is killed once there is a demonstration."""
    end = time.monotonic() + PATIENCE_S
    await supervisor.start()
    crash = asyncio.create_task(supervisor.wait_crash())
    try:
        while supervisor.states['demonstration_recorder'] is not ProcessState.STOPPED:
            assert not crash.done(), crash.result()
            assert time.monotonic() < end, supervisor.states
            if killed and file.exists():
                process = supervisor.pid(killed)
                if process is not None:
                    os.kill(process, signal.SIGKILL)
                    killed = ''
            await asyncio.sleep(0.02)
    finally:
        crash.cancel()
        await supervisor.stop()


@pytest.mark.timeout(180)
def test_what_a_person_records_through_the_guard_is_read_and_cloned(domain, person, tmp_path):
    task = well_estimated_task(tmp_path / 'task.yaml')
    run_dir = tmp_path / 'run'
    graph = build_graph(
        {
            'task': str(tmp_path / 'task.yaml'),
            'policy_mode': 'demonstrate',
            'demonstrations': 3,
            'lockstep': 'true',
            'run_dir': str(run_dir),
        }
    )
    file = run_dir / 'demonstrations.hdf5'
    environment = node_environment(domain.number)
    supervisor = Supervisor(processes(graph, tmp_path), tmp_path / 'logs', environment)
    person(tmp_path / 'task.yaml')
    asyncio.run(run_until_recorded(supervisor, 'demonstration_recorder', file))
    log = (tmp_path / 'logs' / 'demonstration_recorder.log').read_text()
    assert supervisor.respawns['demonstration_recorder'] == 1, log
    assert 'next: ./q2rl train-bc' in log
    found = load_demonstrations(file, task)
    assert len(found) >= 3, log
    for episode in found:
        assert episode.terminated and 5 < len(episode) <= task.max_steps
        assert episode.rewards[-1] == task.reward.success
        assert abs(episode.actions).max() > 0.1
    preset = tmp_path / 'tiny.yaml'
    preset.write_text(TINY)
    report = clone(task, file, str(preset), 0, tmp_path / 'bc.safetensors')
    assert report['steps'] <= 20
    assert load_bc(tmp_path / 'bc.safetensors', task).has_density
