# SPDX-License-Identifier: Apache-2.0
"""A start with weights over real processes: what was learned acts, without a learner and without learning."""

from __future__ import annotations

import asyncio
import json
import time

from graph_processes import processes
from networks import bc_checkpoint
import pytest

from q2rl_bringup.node_graph import build_graph
from q2rl_lab.ros_environment import node_environment
from q2rl_lab.supervisor import Supervisor
from q2rl_learner.config import load_preset
from q2rl_learner.learned_weights import write_weights
from q2rl_learner.online_learner import OnlineLearner
from q2rl_learner.transition_log import TransitionLog
from q2rl_task import load_task

PATIENCE_S = 200.0
VERSION = 12


@pytest.fixture
def weights(tmp_path):
    """A folder as `q2rl export` writes it, of networks that nobody trained."""
    folder, task, config = tmp_path / 'policy', load_task('pipe_assembly'), load_preset('tiny')
    learner = OnlineLearner(config, task, 0)
    learner.weights_version = VERSION
    write_weights(folder, learner)
    bc_checkpoint(folder / 'bc.safetensors')
    return folder


async def run_to_its_end(supervisor: Supervisor, state) -> dict:
    """Run until the state of the run says FINISHED; return it."""
    end = time.monotonic() + PATIENCE_S
    await supervisor.start()
    crash = asyncio.create_task(supervisor.wait_crash())
    try:
        while True:
            assert not crash.done(), crash.result()
            assert time.monotonic() < end, supervisor.states
            if state.is_file():
                found = json.loads(state.read_text())
                if found['progress']['phase'] == 'FINISHED':
                    return found
            await asyncio.sleep(0.05)
    finally:
        crash.cancel()
        await supervisor.stop()


@pytest.mark.timeout(300)
def test_rl_acts_by_the_weights_that_are_given(domain, weights, tmp_path):
    run_dir = tmp_path / 'run'
    graph = build_graph(
        {
            'policy_mode': 'rl',
            'weights': str(weights),
            'eval_episodes': 2,
            'run_dir': str(run_dir),
        }
    )
    assert graph.preparation is None
    specs = processes(graph, tmp_path)
    assert 'learner' not in {spec.name for spec in specs}
    supervisor = Supervisor(specs, tmp_path / 'logs', node_environment(domain.number))
    found = asyncio.run(run_to_its_end(supervisor, run_dir / 'run_state.json'))
    assert found['progress']['counts']['EVALUATING']['episodes'] == 2
    records = [json.loads(line) for line in (run_dir / 'episodes.jsonl').read_text().splitlines()]
    assert [record['mode'] for record in records] == ['RL', 'RL']
    assert all(record['rl_steps'] == record['steps'] > 0 for record in records)
    log = TransitionLog(run_dir / 'transitions.db', read_only=True)
    kept = [log.episode(record['episode']) for record in records]
    log.close()
    assert [len(transitions) for transitions in kept] == [record['steps'] for record in records]
    assert {t.actor_version for transitions in kept for t in transitions} == {VERSION}
