# SPDX-License-Identifier: Apache-2.0
"""`bc_policy` and `rl_policy`: every observation is answered once, and nothing that should not be."""

from __future__ import annotations

import dataclasses
import threading

from networks import (
    ACT,
    CONTRACT,
    OBS,
    TASK,
    actor_file,
    bc_checkpoint,
    chunks,
    description,
    observation,
)
import numpy as np
import pytest
import torch

from q2rl_msgs.msg import ActionProposal, Observation, WeightsChunk
from q2rl_policies.bc_policy_node import BcPolicyNode
from q2rl_policies.live_networks import LiveActor
from q2rl_policies.networks_file import save
from q2rl_policies.recurrent import RecurrentGmmNet
from q2rl_policies.rl_policy_node import RlPolicyNode
from q2rl_ros.conversions import observation_to_msg, proposal_from_msg
from q2rl_ros.qos import profiles
from q2rl_task import Proposal, Source

QOS = profiles(True, TASK.period_s)


class Asked:
    """A policy node under test, and what it was asked and answered."""

    def __init__(self, bench, factory, topic: str, **parameters) -> None:
        self.bench = bench
        self.node = bench.start(factory, **parameters)
        self.answers = bench.listen(ActionProposal, topic, QOS.tick)
        self._ask = bench.talk(Observation, 'observation', QOS.tick)

    def send(self, record) -> None:
        self._ask.publish(observation_to_msg(record, 'socket'))

    def ask(self, record):
        """Send an observation and return the next answer."""
        before = len(self.answers)
        self.send(record)
        self.bench.until(lambda: len(self.answers) > before)
        return proposal_from_msg(self.answers[-1], TASK)

    def ask_in_vain(self, record, counter: str) -> None:
        """Send an observation that must go to a counter, and see that an answer was not given."""
        before, answers = self.node.counters[counter], len(self.answers)
        self.send(record)
        self.bench.until(lambda: self.node.counters[counter] > before)
        # The answer to what comes next would queue behind one to what came before.
        self.ask(observation(f'after {answers} answers', 0))
        assert len(self.answers) == answers + 1


@pytest.fixture
def bc(bench, tmp_path):
    return Asked(
        bench, BcPolicyNode, 'bc_proposal', checkpoint=bc_checkpoint(tmp_path / 'bc.safetensors')
    )


@pytest.fixture
def rl(bench):
    return Asked(bench, RlPolicyNode, 'rl_proposal', rl_action='sample')


def test_bc_answers_with_a_sample_its_density_and_its_version(bc):
    answer = bc.ask(observation('e1', 0))
    assert (answer.episode, answer.step, answer.source) == ('e1', 0, Source.BC)
    assert answer.proposal.version == 7
    assert np.abs(answer.proposal.action).max() <= 1.0
    assert np.isfinite([answer.proposal.log_prob, answer.proposal.entropy]).all()
    assert bc.answers[0].header.stamp == observation_to_msg(observation('e1', 0), '').header.stamp


def test_a_repeated_observation_gets_the_same_sample(bc):
    first, repeat = bc.ask(observation('e1', 0)), bc.ask(observation('e1', 0))
    np.testing.assert_array_equal(first.proposal.action, repeat.proposal.action)
    assert first.proposal.log_prob == repeat.proposal.log_prob
    assert (bc.node.counters['proposed'], bc.node.counters['repeats']) == (1, 1)


def test_bc_answers_the_final_observation_too(bc):
    assert bc.ask(observation('e1', 3, final=True)).proposal is not None


def test_an_observation_out_of_turn_is_dropped(bc):
    for step in (0, 1, 2):
        bc.ask(observation('e1', step))
    bc.ask_in_vain(observation('e1', 1), 'late')
    bc.ask(observation('e2', 0))
    bc.ask_in_vain(observation('e1', 3), 'late')


@pytest.mark.parametrize(
    'counter, change',
    [
        ('contract', {'contract': '0' * 16}),
        ('malformed', {'observation': np.zeros(OBS - 1, dtype=np.float32)}),
        ('not_finite', {'observation': np.full(OBS, np.nan, dtype=np.float32)}),
    ],
)
def test_an_observation_that_is_not_of_this_task_is_counted_and_dropped(bc, counter, change):
    bc.ask_in_vain(dataclasses.replace(observation(), **change), counter)


def test_what_bc_proposes_in_an_episode_survives_a_restart(bench, bc):
    before = [bc.ask(observation('e5', step)).proposal.action for step in range(3)]
    other = bc.ask(observation('e6', 0)).proposal.action
    checkpoint = bc.node.value('checkpoint')
    bench.drop(bc.node)
    again = Asked(bench, BcPolicyNode, 'bc_proposal', checkpoint=checkpoint)
    after = [again.ask(observation('e5', step)).proposal.action for step in range(3)]
    np.testing.assert_array_equal(before, after)
    assert not np.array_equal(other, before[0])


class CountingPolicy:
    """A policy with memory: it proposes how many observations it has seen."""

    recurrent = True
    contract, version = CONTRACT, 1

    def __init__(self) -> None:
        self.seen = 0

    def reset(self) -> None:
        self.seen = 0

    def act(self, observation) -> Proposal:
        self.seen += 1
        return Proposal(np.full(ACT, self.seen / 100.0, dtype=np.float32))


class RecurrentNode(BcPolicyNode):
    def make_policy(self, episode: str) -> CountingPolicy:
        return CountingPolicy()


def test_a_recurrent_policy_that_missed_a_step_abstains_until_the_next_episode(bench, tmp_path):
    checkpoint = bc_checkpoint(tmp_path / 'bc.safetensors')
    asked = Asked(bench, RecurrentNode, 'bc_proposal', checkpoint=checkpoint)
    assert asked.ask(observation('e1', 0)).proposal is not None
    assert asked.ask(observation('e1', 2)).proposal is None
    assert asked.ask(observation('e1', 3)).proposal is None
    assert asked.ask(observation('e2', 0)).proposal is not None
    assert asked.ask(observation('e3', 4)).proposal is None


def test_a_recurrent_checkpoint_and_a_python_class_run_in_the_node(bench, tmp_path):
    torch.manual_seed(2)
    net = RecurrentGmmNet(OBS, ACT, rnn_size=4)
    path = tmp_path / 'bc.safetensors'
    save(path, 'bc', net.state_dict(), description(net.architecture, 3))
    asked = Asked(bench, BcPolicyNode, 'bc_proposal', checkpoint=str(path), act_by='mode')
    first = [asked.ask(observation('e1', step)).proposal for step in (0, 1)]
    assert np.isfinite([p.log_prob for p in first]).all() and first[0].version == 3
    assert asked.ask(observation('e1', 3)).proposal is None
    again = [asked.ask(observation('e2', step)).proposal for step in (0, 1)]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.action, other.action)
    bench.drop(asked.node)

    (tmp_path / 'mine.py').write_text(
        'import numpy as np\n\n\nclass Mine:\n    def __init__(self, task):\n        self.size = task.action_size\n\n'
        '    def predict(self, o):\n        return {"action": np.full(self.size, 0.25)}\n'
    )
    path = tmp_path / 'bc.yaml'
    path.write_text(f'python: {tmp_path}/mine.py:Mine\ncontract: {CONTRACT}\n')
    asked = Asked(bench, BcPolicyNode, 'bc_proposal', checkpoint=str(path))
    proposal = asked.ask(observation('e3', 0)).proposal
    np.testing.assert_array_equal(proposal.action, np.full(ACT, 0.25, dtype=np.float32))
    assert np.isnan(proposal.log_prob)


def test_bc_without_a_usable_checkpoint_does_not_start_and_asks_for_exit_code_2(bench, tmp_path):
    (tmp_path / 'cut.safetensors').write_bytes(b'\x00' * 5)
    for checkpoint in ('', str(tmp_path / 'absent.safetensors'), str(tmp_path / 'cut.safetensors')):
        node = bench.start(BcPolicyNode, activate=False, checkpoint=checkpoint)
        assert node.start() == 2
        assert not node.active
        bench.drop(node)


def test_a_deactivated_policy_is_silent_and_wakes_up_again(bc):
    bc.ask(observation('e1', 0))
    bc.node.trigger_deactivate()
    bc.send(observation('e1', 1))
    bc.bench.until(lambda: bc.node.counters['inactive'] == 1)
    assert len(bc.answers) == 1
    bc.node.trigger_activate()
    assert bc.ask(observation('e1', 2)).proposal is not None


def publish_weights(bench, messages) -> None:
    publisher = bench.talk(WeightsChunk, 'actor_weights', QOS.weights)
    for msg in messages:
        publisher.publish(msg)


def test_rl_abstains_until_there_are_weights_then_proposes_the_actors_mode(bench, rl):
    assert rl.ask(observation('e1', 0)).proposal is None
    data = actor_file(3)
    messages = chunks(data, 'actor', 3)
    assert len(messages) > 2
    publish_weights(bench, [messages[-1], *messages, messages[0]])
    bench.until(lambda: rl.node.diagnose().get('actor_weights files staged') == 1)
    record = observation('e1', 1)
    answer = rl.ask(record)
    expected = LiveActor.from_file(data, 'test', CONTRACT).mode(record.observation)
    np.testing.assert_array_equal(answer.proposal.action, expected)
    assert answer.proposal.version == 3
    assert np.isnan(answer.proposal.log_prob)


def test_rl_explores_where_it_may_and_only_there(bench, rl):
    data = actor_file(3)
    publish_weights(bench, chunks(data, 'actor', 3))
    bench.until(lambda: rl.node.diagnose().get('actor_weights files staged') == 1)
    record = observation('e1', 0, explore=True)
    mode = LiveActor.from_file(data, 'test', CONTRACT).mode(record.observation)
    tried = rl.ask(record).proposal.action
    assert np.abs(tried - mode).max() > 1e-3
    np.testing.assert_array_equal(rl.ask(record).proposal.action, tried)
    np.testing.assert_array_equal(rl.ask(observation('e2', 0)).proposal.action, mode)
    another = rl.ask(observation('e3', 0, explore=True)).proposal.action
    assert np.abs(another - tried).max() > 1e-3


def test_a_repeat_is_answered_by_the_weights_of_the_first_answer(bench, rl):
    publish_weights(bench, chunks(actor_file(1), 'actor', 1))
    bench.until(lambda: rl.node.diagnose().get('actor_weights files staged') == 1)
    first = rl.ask(observation('e1', 0)).proposal
    publish_weights(bench, chunks(actor_file(2), 'actor', 2))
    bench.until(lambda: rl.node.diagnose().get('actor_weights files staged') == 2)
    assert rl.ask(observation('e1', 0)).proposal.version == first.version == 1
    assert rl.ask(observation('e1', 1)).proposal.version == 2


def test_refused_weights_leave_the_live_ones_in_place(bench, rl):
    publish_weights(bench, chunks(actor_file(1), 'actor', 1))
    bench.until(lambda: rl.node.diagnose().get('actor_weights files staged') == 1)
    rl.ask(observation('e1', 0))
    data = bytearray(actor_file(2))
    data[-4:] = np.float32(np.nan).tobytes()
    publish_weights(bench, chunks(bytes(data), 'actor', 2))
    threads: list[threading.Thread] = []
    drop = rl.node.drop
    rl.node.drop = lambda *said: (threads.append(threading.current_thread()), drop(*said))
    bench.until(lambda: rl.node.counters['weights_refused'] == 1)
    assert threads == [threading.current_thread()]
    assert rl.ask(observation('e1', 1)).proposal.version == 1


def test_weights_that_nobody_could_check_are_told_and_the_next_are_checked(bench, rl):
    stage, told = rl.node._inbox.live.stage, []
    rl.node.get_logger().warning = told.append
    rl.node._inbox.live.stage = lambda *args, **kwargs: 1 / 0
    publish_weights(bench, chunks(actor_file(1), 'actor', 1))
    bench.until(lambda: rl.node.counters['weights_refused'] == 1)
    assert 'cannot be checked: ZeroDivisionError' in told[0]
    rl.node._inbox.live.stage = stage
    publish_weights(bench, chunks(actor_file(2), 'actor', 2))
    bench.until(lambda: rl.node.diagnose().get('actor_weights files staged') == 1)
    assert rl.ask(observation('e1', 0)).proposal.version == 2


def test_the_weights_of_the_next_run_take_over_though_their_numbers_begin_anew(bench, rl):
    lines: list[str] = []
    rl.node.get_logger().warning = lines.append
    publish_weights(bench, chunks(actor_file(900), 'actor', 900))
    bench.until(lambda: rl.node.diagnose().get('actor_weights files staged') == 1)
    assert rl.ask(observation('e1', 0)).proposal.version == 900 and not lines
    publish_weights(bench, chunks(actor_file(1), 'actor', 1, learner='two'))
    bench.until(lambda: rl.node.diagnose().get('actor_weights files staged') == 2)
    assert rl.ask(observation('e1', 1)).proposal.version == 1
    assert len(lines) == 1 and 'another learner' in lines[0]


def test_weights_published_before_a_node_starts_reach_it(bench):
    publisher = bench.probe.create_publisher(WeightsChunk, 'actor_weights', QOS.weights)
    for msg in chunks(actor_file(4), 'actor', 4):
        publisher.publish(msg)
    rl = Asked(bench, RlPolicyNode, 'rl_proposal')
    bench.until(lambda: rl.node.diagnose().get('actor_weights files staged') == 1)
    assert rl.ask(observation('e1', 0)).proposal.version == 4
