# SPDX-License-Identifier: Apache-2.0
"""A run that is turned back, from the plan's decision over `run_state` to the learner, its files and the watcher."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file
import yaml

from q2rl_control.episode_plan import EpisodeResult
from q2rl_control.episode_reports import run_state_to_msg
from q2rl_control.run_plan import LearnerReport, RunPlan
from q2rl_control.run_settings import RunSettings
from q2rl_control.transition_assembler import TransitionAssembler
from q2rl_lab.run_view import Plan, RunView
from q2rl_lab.tiny_task import TinyCell, tiny_task
from q2rl_learner.config import load_preset
from q2rl_learner.learner_node import LearnerNode
from q2rl_msgs.msg import LearnerStatus, RunState, TransitionAck, WeightsChunk
from q2rl_msgs.msg import Transition as TransitionMsg
from q2rl_policies.chunks import Chunk, ChunkAssembler
from q2rl_policies.networks_file import unpack
from q2rl_ros.conversions import transition_to_msg, weights_chunk_data
from q2rl_ros.qos import profiles
from q2rl_task import (
    Decision,
    EndReason,
    LearnerState,
    Mode,
    Phase,
    Reason,
    Source,
)

TASK = tiny_task()
QOS = profiles(True, TASK.period_s)
ROLLOUTS = 8
WAIT_S = 60.0
pytestmark = pytest.mark.timeout(400)  # seconds; most of it imports, on a busy machine


def small_preset() -> dict:
    """Return settings whose fit and updates take no time."""
    content = load_preset('tiny').model_dump(mode='json')
    content |= {
        'demo_fraction': 0.0,
        'rollouts': ROLLOUTS,
        'publish_every': 10,
        'warm_up_samples': 1,
    }
    content['fit'] |= {'value_steps': 50, 'critic_steps': 20, 'actor_steps': 20}
    return content


class Graph:
    """The real plan and the real learner node; episodes are those of the task in numpy, under a steady hand."""

    def __init__(self, bench, settings: dict[str, str]) -> None:
        self.bench, self.settings = bench, settings
        self.plan = RunPlan(
            RunSettings('r', 0, rollouts=ROLLOUTS, online_steps=10**6, evaluation_episodes=0)
        )
        self.plan.start()
        self.cell = TinyCell(TASK, 0, 'arm')
        self.assembler = TransitionAssembler('arm')
        self.view = RunView(Plan(ROLLOUTS, 10**6, 0), started=0.0)
        self.rng = np.random.default_rng(0)
        self.broken = False
        self.online_steps = 0
        self.node = bench.start(LearnerNode, **settings)
        self.acks = bench.listen(TransitionAck, 'transition_ack', QOS.events)
        self.statuses = bench.listen(LearnerStatus, 'learner_status', QOS.latched)
        self.chunks = bench.listen(WeightsChunk, 'actor_weights', QOS.weights)
        self.transitions = bench.talk(TransitionMsg, 'transition', QOS.replay)
        self.states = bench.talk(RunState, 'run_state', QOS.latched)

    def say(self) -> None:
        """Publish the state of the run, as `episode_manager` does, to learner and watcher."""
        msg = run_state_to_msg('arm', self.plan, self.assembler, None, 0, '')
        self.states.publish(msg)
        self.view.hear_run(msg, 0.0)

    def status(self, holds) -> LearnerStatus:
        self.bench.until(lambda: self.statuses and holds(self.statuses[-1]), WAIT_S)
        return self.statuses[-1]

    def decide(self, record) -> Decision:
        """Head for the slot and down, unsteadily: RL surely, BC half-heartedly; broken RL flees upwards."""
        x, y, z = record.observation[:3]
        by_rl = record.mode is not Mode.BC
        action = np.zeros(TASK.action_size, dtype=np.float32)
        action[:2] = np.clip(-10.0 * np.array([x, y]), -1, 1)
        above = np.hypot(x, y) < 0.07
        action[2] = 1.0 if by_rl and self.broken else (-1.0 if above or z > 0.15 else 0.0)
        bc = np.clip(action + self.rng.normal(0, 0.7, len(action)), -1, 1).astype(np.float32)
        version = self.statuses[-1].weights_version if self.statuses else 0
        return Decision(
            action=action if by_rl else bc,
            source=Source.RL if by_rl else Source.BC,
            reason=Reason.MODE,
            bc_action=bc,
            bc_log_prob=-6.0,
            bc_entropy=6.0,
            actor_version=version,
        )

    def episode(self) -> EpisodeResult:
        """Run the next episode of the plan, let the learner have it, and tell the plan."""
        plan = self.plan.next_episode()
        self.assembler.begin(plan.episode, plan.phase)
        sent, steps = (
            [],
            list(
                self.cell.run_episode(plan.episode, plan.mode, plan.seed, self.decide, plan.explore)
            ),
        )
        for step in steps:
            transition = self.assembler.add(step, 0.0)
            if transition is not None:
                sent.append(transition)
                self.transitions.publish(transition_to_msg(transition))
        self.bench.until(lambda: self.acks and self.acks[-1].sequence == sent[-1].sequence, WAIT_S)
        self.assembler.acknowledge('arm', sent[-1].sequence)
        if (
            plan.phase is Phase.ONLINE
        ):  # no credit is asked for here, so wait until all is learned from
            self.online_steps += len(sent)
            self.status(lambda s: s.gradient_steps >= self.online_steps)
        success = steps[-1].end_reason is EndReason.SUCCESS
        by = {'RL' if plan.mode is not Mode.BC else 'BC': len(sent)}
        version = max(step.decision.actor_version for step in steps)
        result = EpisodeResult(
            success, steps[-1].end_reason, len(sent), by, weights_version=version
        )
        self.plan.episode_finished(plan, result)
        self.say()
        return result

    def fit(self) -> None:
        while self.plan.phase is Phase.ESTIMATING:
            self.episode()
        self.status(lambda s: s.state == LearnerStatus.READY)
        self.plan.learner_reported(LearnerReport(LearnerState.READY))
        self.say()

    def run_until(self, holds, most: int) -> None:
        for _ in range(most):
            if holds():
                return
            self.episode()
        raise AssertionError(f'not within {most} episodes: {self.plan.detail}')

    def actor(self, version: int) -> dict:
        """Return the tensors of a version of the actor's weights, as it was sent."""
        self.bench.until(lambda: any(m.version == version for m in self.chunks), WAIT_S)
        assembler = ChunkAssembler('actor', TASK.contract_hash)
        found: list = []

        def whole() -> bool:
            while self.chunks:
                m = self.chunks.pop(0)
                if m.version == version:
                    fields = (m.kind, m.learner, m.version, m.parent)
                    fields += (m.contract, m.sha256, m.index, m.count)
                    found.append(assembler.add(Chunk(*fields, weights_chunk_data(m))))
            return bool(found) and found[-1] is not None

        self.bench.until(whole, WAIT_S)
        return unpack(found[-1], 'actor_weights', 'actor', TASK.contract_hash)[0]


@pytest.fixture
def graph(bench, tmp_path) -> Graph:
    task, preset = tmp_path / 'tiny.yaml', tmp_path / 'small.yaml'
    task.write_text(yaml.safe_dump(TASK.model_dump(mode='json')))
    preset.write_text(yaml.safe_dump(small_preset()))
    made = Graph(
        bench, {'task': str(task), 'preset': str(preset), 'run_dir': str(tmp_path / 'run')}
    )
    made.fit()
    return made


def kept(graph: Graph) -> list[int]:
    folder = Path(graph.settings['run_dir']) / 'learner' / 'kept'
    return sorted(int(path.stem) for path in folder.iterdir())


def test_bad_weights_are_noticed_and_the_learner_goes_back_to_good_ones(graph):
    watch = graph.plan.progress.watch
    graph.run_until(lambda: watch.best_version >= 10, 60)
    graph.broken = True
    graph.run_until(lambda: watch.in_doubt, 60)
    assert graph.view.run.detail.startswith('success fell below that of BC')
    graph.run_until(lambda: graph.plan.progress.rollbacks, 20)
    wanted = graph.plan.progress.rollback_version
    assert wanted >= 10 and f'back to weights {wanted}' in graph.view.run.detail
    assert dict(graph.view.rows(0.0))['turned back'] == f'once, the last time to weights v{wanted}'
    taken_back = max(v for v in kept(graph) if v <= wanted)
    assert taken_back >= 10

    # The learner's answer is a new version with the old content; its state file has that, not what was bad.
    state = Path(graph.settings['run_dir']) / 'learner' / 'state.safetensors'
    graph.bench.until(lambda: rollbacks_of(state) == 1, WAIT_S)
    before = graph.statuses[-1].weights_version
    graph.broken = False
    graph.run_until(lambda: len(watch.window) >= 5, 12)
    assert graph.statuses[-1].weights_version >= before > wanted
    assert sum(outcome for _, outcome in watch.window) >= 4 and graph.plan.progress.rollbacks == 1


def rollbacks_of(state: Path) -> int:
    with safe_open(state, framework='pt') as file:
        return json.loads(file.metadata()['counters'])['rollbacks']


def test_a_learner_that_was_restarted_goes_back_to_weights_of_its_former_life(graph):
    graph.run_until(lambda: graph.statuses[-1].weights_version >= 12, 40)
    of_old = kept(graph)
    graph.bench.drop(graph.node)
    del graph.statuses[:], graph.chunks[:]
    graph.node = graph.bench.start(LearnerNode, **graph.settings)
    graph.say()
    version = graph.status(lambda s: s.state == LearnerStatus.TRAINING).weights_version
    graph.plan.progress.rollbacks, graph.plan.progress.rollback_version = 1, 1
    graph.say()
    status = graph.status(lambda s: s.weights_version > version)
    sent = graph.actor(status.weights_version)
    first = load_file(Path(graph.settings['run_dir']) / 'learner' / 'kept' / '1.safetensors')
    assert 1 in of_old
    for name, tensor in sent.items():
        np.testing.assert_array_equal(np.asarray(tensor), first[f'actor.{name}'])


def test_where_the_world_changed_v_is_fitted_anew(graph):
    watch = graph.plan.progress.watch
    graph.run_until(lambda: watch.best_version > 1, 40)
    graph.cell.centre = (0.4, 0.0)
    graph.run_until(lambda: graph.plan.progress.rollbacks, 90)
    assert graph.plan.progress.rollback_version == 0
    assert 'BC failed as well' in dict(graph.view.rows(0.0))['turned back']
    assert graph.status(lambda s: s.value_version == 2).value_version == 2
    graph.run_until(lambda: len(watch.window) >= 5, 12)  # and learning goes on
    assert graph.plan.progress.rollbacks == 1
