# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator
import json
from pathlib import Path
import threading

from learner_helpers import Toy, noisy_bc, small_config, toy_task, transition
import pytest
import yaml

pytest.importorskip('rclpy', reason='needs ROS 2')
pytest.importorskip('q2rl_msgs', reason='needs the built workspace')

from rclpy.lifecycle import TransitionCallbackReturn

from q2rl_learner.learner_node import LearnerNode
from q2rl_learner.training_loop import UNLIMITED
from q2rl_learner.transition_log import TransitionLog
from q2rl_msgs.msg import LearnerStatus, RunState, TransitionAck, WeightsChunk
from q2rl_msgs.msg import Transition as TransitionMsg
from q2rl_policies.chunks import Chunk, ChunkAssembler
from q2rl_policies.networks_file import build_actor, unpack
from q2rl_ros.conversions import transition_to_msg, weights_chunk_data
from q2rl_ros.qos import profiles
from q2rl_ros.testing import bench as make_bench
from q2rl_task import LearnerState, Phase

pytestmark = pytest.mark.timeout(300)
TASK = toy_task()
QOS = profiles(True, TASK.period_s)
WAIT_S = 60.0


@pytest.fixture
def bench() -> Iterator:
    with make_bench() as made:
        yield made


@pytest.fixture
def settings(tmp_path) -> dict[str, str]:
    """Write task and preset of the toy; return the node's parameters."""
    task, preset = tmp_path / 'toy.yaml', tmp_path / 'small.yaml'
    task.write_text(yaml.safe_dump(TASK.model_dump(mode='json')))
    preset.write_text(yaml.safe_dump(small_config(demo_fraction=0.0).model_dump(mode='json')))
    return {'task': str(task), 'preset': str(preset), 'run_dir': str(tmp_path / 'run')}


class Talk:
    """The topics of a learner under test."""

    def __init__(self, bench) -> None:
        self.bench = bench
        self.acks = bench.listen(TransitionAck, 'transition_ack', QOS.events)
        self.statuses = bench.listen(LearnerStatus, 'learner_status', QOS.latched)
        self.actor = bench.listen(WeightsChunk, 'actor_weights', QOS.weights)
        self._transitions = bench.talk(TransitionMsg, 'transition', QOS.replay)
        self._states = bench.talk(RunState, 'run_state', QOS.latched)

    def send(self, transitions) -> None:
        for t in transitions:
            self._transitions.publish(transition_to_msg(t))

    def phase(self, phase: Phase) -> None:
        self._states.publish(RunState(phase=int(phase)))

    def acknowledged(self, sequence: int) -> None:
        self.bench.until(lambda: self.acks and self.acks[-1].sequence == sequence, WAIT_S)

    def status(self, **fields) -> LearnerStatus:
        self.bench.until(
            lambda: (
                self.statuses and all(getattr(self.statuses[-1], k) == v for k, v in fields.items())
            ),
            WAIT_S,
        )
        return self.statuses[-1]


def test_from_rollouts_to_weights_and_through_a_restart(bench, settings):
    node = bench.start(LearnerNode, **settings)
    talk = Talk(bench)
    toy = Toy(TASK, 2, noisy_bc(TASK, 2, std=0.3))
    rollouts = [t for i in range(12) for t in toy.run(f'r{i}', Phase.ESTIMATING)]
    talk.phase(Phase.ESTIMATING)
    talk.send(rollouts)
    talk.acknowledged(len(rollouts))
    talk.phase(Phase.FITTING)
    status = talk.status(state=LearnerStatus.READY)
    assert (status.rollouts, status.weights_version, status.credit) == (12, 1, UNLIMITED)

    online = [t for i in range(3) for t in toy.run(f'o{i}', Phase.ONLINE, rl=toy.bc)]
    talk.phase(Phase.ONLINE)
    talk.send(online)
    status = talk.status(gradient_steps=2 * len(online))
    assert (status.state, status.ingested) == (LearnerStatus.TRAINING, len(rollouts) + len(online))
    assert status.credit == online[-1].sequence + small_config().allowance
    version = status.weights_version
    bench.until(lambda: talk.actor[-1].version == version)
    assembler = ChunkAssembler('actor', TASK.contract_hash)
    newest = [m for m in talk.actor if m.version == version]
    files = [
        assembler.add(
            Chunk(
                m.kind,
                m.learner,
                m.version,
                m.parent,
                m.contract,
                m.sha256,
                m.index,
                m.count,
                weights_chunk_data(m),
            )
        )
        for m in newest
    ]
    tensors, meta = unpack(files[-1], 'actor_weights', 'actor', TASK.contract_hash)
    assert build_actor(meta, tensors).action_size == TASK.action_size and meta['version'] == version

    bench.drop(node)
    del talk.statuses[:], talk.acks[:]
    (learner,) = {m.learner for m in talk.actor}
    bench.start(LearnerNode, **settings)
    talk.phase(Phase.ONLINE)
    talk.acknowledged(online[-1].sequence)
    status = talk.status(gradient_steps=2 * len(online), state=LearnerStatus.TRAINING)
    assert status.weights_version > version and status.rollouts == 12
    bench.until(lambda: talk.actor[-1].version == status.weights_version)
    assert {m.learner for m in talk.actor} == {learner} and learner
    entries = [json.loads(line) for line in (Path(settings['run_dir']) / 'timeline.jsonl').open()]
    assert {LearnerStatus.READY, LearnerStatus.TRAINING} <= {entry['state'] for entry in entries}
    assert entries[-1]['ingested'] == len(rollouts) + len(online)
    assert [entry['t'] for entry in entries] == sorted(entry['t'] for entry in entries)


def test_deactivated_in_a_long_fit_it_stops_and_begins_anew_in_one_thread(bench, settings):
    endless = small_config(
        demo_fraction=0.0, fit={'value_steps': 10**9, 'value_patience': 10**9}
    ).model_dump(mode='json')
    Path(settings['preset']).write_text(yaml.safe_dump(endless))
    node = bench.start(LearnerNode, **settings)
    talk = Talk(bench)
    toy = Toy(TASK, 2, noisy_bc(TASK, 2, std=0.3))
    talk.send([t for i in range(4) for t in toy.run(f'r{i}', Phase.ESTIMATING)])
    talk.acknowledged(toy.sequence)
    talk.phase(Phase.FITTING)
    talk.status(state=LearnerStatus.FITTING)
    for active in (False, True, False):
        change = node.trigger_activate if active else node.trigger_deactivate
        assert change() == TransitionCallbackReturn.SUCCESS
        assert [t.name for t in threading.enumerate()].count('training') == active


def test_a_deactivation_that_comes_too_soon_fails_and_the_node_goes_on(
    bench, settings, monkeypatch
):
    node = bench.start(LearnerNode, **settings)
    talk = Talk(bench)
    close = node._loop.close
    monkeypatch.setattr(node._loop, 'close', lambda timeout_s: close(timeout_s) and False)
    assert node.trigger_deactivate() == TransitionCallbackReturn.FAILURE and node.active
    talk.send([transition(TASK, 1)])
    talk.acknowledged(1)
    monkeypatch.undo()
    assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS and not node.active


def test_repetitions_are_acknowledged_and_stored_once(bench, settings):
    bench.start(LearnerNode, **settings)
    talk = Talk(bench)
    first = [transition(TASK, k + 1, step=k, phase=Phase.EVALUATING) for k in range(5)]
    talk.send([first[0], first[2], first[2]])
    talk.acknowledged(1)
    talk.send(first)
    talk.acknowledged(5)
    assert talk.status(ingested=5).online_steps == 0
    log = TransitionLog(Path(settings['run_dir']) / 'transitions.db', read_only=True)
    assert sorted(t.sequence for t in log.replay()) == [1, 2, 3, 4, 5]


def test_a_foreign_transition_is_dropped_and_counted(bench, settings):
    node = bench.start(LearnerNode, **settings)
    talk = Talk(bench)
    talk.send([transition(TASK, 1, contract='other'), transition(TASK, 1)])
    talk.acknowledged(1)
    assert sum(node.counters.values()) >= 1 and talk.status(ingested=1)


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'run_dir': ''}, 'run_dir'),
        ({'preset': 'laptpo'}, 'laptpo'),
        ({'demos': '/nowhere.hdf5'}, 'nowhere'),
    ],
)
def test_bad_parameters_end_the_node_in_one_line(bench, settings, changes, said):
    node = bench.start(LearnerNode, activate=False, **{**settings, **changes})
    lines: list[str] = []
    node.get_logger().error = lines.append
    assert node.start() == 2
    assert len(lines) == 1 and said in lines[0]


def test_states_mean_the_same_on_the_wire():
    for state in LearnerState:
        assert getattr(LearnerStatus, state.name) == state
