# SPDX-License-Identifier: Apache-2.0
"""`q_gate`: joins on (episode, step), decides once, and falls back when a policy is missing."""

from __future__ import annotations

import dataclasses

from networks import ACT, CONTRACT, OBS, TASK, chunks, critic_file, observation
import numpy as np
import pytest
from rclpy.serialization import serialize_message

from q2rl_msgs.msg import ActionProposal, GateDecision, Observation, WeightsChunk
from q2rl_policies.live_networks import LiveCritic
from q2rl_policies.q_gate_node import QGateNode
from q2rl_ros.conversions import decision_from_msg, observation_to_msg, proposal_to_msg
from q2rl_ros.qos import profiles
from q2rl_task import Mode, Proposal, Reason, Source

QOS = profiles(True, TASK.period_s)
TOPICS = {Source.BC: 'bc_proposal', Source.RL: 'rl_proposal'}
PROPOSALS = {
    Source.BC: Proposal(np.full(ACT, 0.25, dtype=np.float32), -1.5, 2.0, 7),
    Source.RL: Proposal(np.full(ACT, -0.5, dtype=np.float32), version=9),
}
LONG, SHORT = 60.0, 0.1


class Gate:
    """The gate under test, between an arm and two policies played by the test."""

    def __init__(self, bench, **parameters) -> None:
        self.bench = bench
        self.node = bench.start(QGateNode, **{'lockstep_timeout': LONG, **parameters})
        self.decisions = bench.listen(GateDecision, 'gate_decision', QOS.tick)
        self._observe = bench.talk(Observation, 'observation', QOS.tick)
        self._propose = {
            source: bench.talk(ActionProposal, topic, QOS.tick) for source, topic in TOPICS.items()
        }

    def observe(self, record) -> None:
        self._observe.publish(observation_to_msg(record, 'socket'))

    def propose(self, source: Source, record, proposal: Proposal | str | None = 'usual') -> None:
        proposal = PROPOSALS[source] if proposal == 'usual' else proposal
        self._propose[source].publish(proposal_to_msg(proposal, source, record))

    def ask(self, record, number: int = 1):
        """Play a whole tick: the observation, both proposals, and the `number`-th decision, which is returned."""
        self.observe(record)
        for source in PROPOSALS:
            self.propose(source, record)
        return self.decision(number)

    def learn(self, data: bytes) -> LiveCritic:
        """Send a critic of version 5, its chunks in the wrong order, and return it."""
        publisher = self.bench.talk(WeightsChunk, 'critic_weights', QOS.weights)
        for msg in reversed(chunks(data, 'critic', 5)):
            publisher.publish(msg)
        staged = 'critic_weights files staged'
        self.bench.until(lambda: self.node.diagnose().get(staged) == 1)
        return LiveCritic.from_file(data, 'test', CONTRACT)

    def counted(self, name: str, number: int = 1) -> None:
        self.bench.until(lambda: self.node.counters[name] >= number)
        assert self.node.counters[name] == number

    def decision(self, number: int = 1):
        """Return the `number`-th decision of all that came."""
        self.bench.until(lambda: len(self.decisions) >= number)
        return decision_from_msg(self.decisions[number - 1], TASK)

    def settle(self) -> None:
        """See the gate through a tick of another episode, so that all sent before has been handled."""
        number = len(self.decisions) + 1
        record = observation('settling', len(self.decisions))
        self.observe(record)
        for source in PROPOSALS:
            self.propose(source, record)
        self.bench.until(lambda: any(d.episode == 'settling' for d in self.decisions[number - 1 :]))


@pytest.fixture
def gate(bench):
    return Gate(bench)


def test_without_a_critic_bc_acts_and_all_that_was_known_goes_along(gate):
    record = observation('e1', 4)
    answer = gate.ask(record)
    decision = answer.decision
    assert (answer.episode, answer.step, answer.stamp) == ('e1', 4, record.stamp)
    assert (decision.source, decision.reason) == (Source.BC, Reason.NO_CRITIC)
    np.testing.assert_array_equal(decision.action, PROPOSALS[Source.BC].action)
    np.testing.assert_array_equal(decision.rl_action, PROPOSALS[Source.RL].action)
    assert (decision.bc_log_prob, decision.bc_entropy, decision.actor_version) == (-1.5, 2.0, 9)


def test_values_come_from_the_latest_whole_critic(gate):
    critic, record = gate.learn(critic_file(5)), observation('e1', 0)
    decision = gate.ask(record).decision
    members = critic.q(record.observation, PROPOSALS[Source.RL].action)
    assert decision.q_rl == pytest.approx(members.min(), abs=1e-6)
    assert decision.v_bc == pytest.approx(critic.v(record.observation), abs=1e-6)
    assert decision.q_bc == pytest.approx(decision.v_bc + 0.5, abs=1e-6)
    assert (decision.critic_version, decision.value_version) == (5, 5)
    assert decision.source is (Source.RL if decision.q_rl > decision.q_bc else Source.BC)


def test_the_alpha_that_the_critics_were_trained_against_counts(bench):
    gate = Gate(bench, alpha=1.0)
    lines: list[str] = []
    gate.node.get_logger().warning = lines.append
    gate.learn(critic_file(5, alpha=0.25))
    for step in range(2):
        decision = gate.ask(observation('e1', step), step + 1).decision
        assert decision.q_bc == pytest.approx(decision.v_bc + 0.25 * 0.5, abs=1e-6)
    assert gate.node.counters['other_alpha'] == 1
    assert len(lines) == 1 and 'alpha 0.25' in lines[0] and 'had 1' in lines[0]


def test_the_critic_rates_both_actions_where_the_method_says_so(bench):
    gate = Gate(bench, bc_value='critic')
    critic, record = gate.learn(critic_file(5)), observation('e1', 0)
    decision = gate.ask(record).decision
    for source, said in ((Source.RL, decision.q_rl), (Source.BC, decision.q_bc)):
        least = critic.q(record.observation, PROPOSALS[source].action).min()
        assert said == pytest.approx(least, abs=1e-6)
    assert np.isnan(decision.v_bc)
    assert decision.source is (Source.RL if decision.q_rl > decision.q_bc else Source.BC)


def test_a_fitted_q_rates_bc_where_the_method_says_so(bench):
    gate = Gate(bench, bc_value='fitted')
    critic, record = gate.learn(critic_file(5, fitted=True)), observation('e1', 0)
    decision = gate.ask(record).decision
    said = critic.q_bc(record.observation, PROPOSALS[Source.BC].action)
    assert len(said) == 2 and decision.q_bc == pytest.approx(said.mean(), abs=1e-6)
    assert decision.v_bc == pytest.approx(critic.v(record.observation), abs=1e-6)
    assert decision.source is (Source.RL if decision.q_rl > decision.q_bc else Source.BC)


def test_a_method_without_a_gate_lets_rl_act_alone(bench):
    gate = Gate(bench, chooser='rl')
    decision = gate.ask(observation('e1', 0)).decision
    assert (decision.source, decision.reason) == (Source.RL, Reason.MODE)


@pytest.mark.parametrize('mode', Mode)
def test_in_the_shadow_the_node_tells_of_rl_and_never_sends_its_action(bench, mode):
    gate = Gate(bench, chooser='shadow', margin=-1e6)  # RL is worth more, whatever the critic says
    gate.learn(critic_file(5))
    decision = gate.ask(observation('e1', 0, mode)).decision
    assert (decision.would_act, decision.reason) == (Source.RL, Reason.RL_HIGHER)
    expected = np.zeros(ACT) if mode is Mode.RL else PROPOSALS[Source.BC].action
    np.testing.assert_array_equal(decision.action, expected)
    np.testing.assert_array_equal(decision.rl_action, PROPOSALS[Source.RL].action)


def test_proposals_that_overtake_their_observation_are_joined_to_it(gate):
    record = observation('e1', 0)
    for source in PROPOSALS:
        gate.propose(source, record)
    gate.bench.until(lambda: len(gate.node._early.get(('e1', 0), {})) == 2)
    gate.observe(record)
    assert gate.decision().decision.reason is Reason.NO_CRITIC


@pytest.mark.parametrize(
    'mode, present, source, reason',
    [
        (Mode.GATED, Source.BC, Source.BC, Reason.NO_RL),
        (Mode.GATED, Source.RL, Source.HOLD, Reason.NO_BC),
        (Mode.GATED, None, Source.HOLD, Reason.NOTHING),
        (Mode.BC, Source.BC, Source.BC, Reason.MODE),
        (Mode.BC, Source.RL, Source.HOLD, Reason.NO_BC),
        (Mode.RL, Source.RL, Source.RL, Reason.MODE),
    ],
)
def test_what_is_missing_at_the_deadline_is_done_without(bench, mode, present, source, reason):
    gate = Gate(bench, lockstep_timeout=SHORT)
    record = observation('e1', 0, mode)
    gate.observe(record)
    if present is not None:
        # Ahead of the deadline even on a slow machine: the proposal waits for its observation.
        gate.decision()
        record = observation('e1', 1, mode)
        gate.propose(present, record)
        gate.bench.until(lambda: ('e1', 1) in gate.node._early)
        gate.observe(record)
        decision = gate.decision(2).decision
    else:
        decision = gate.decision().decision
    assert (decision.source, decision.reason) == (source, reason)
    if source is Source.HOLD:
        np.testing.assert_array_equal(decision.action, np.zeros(ACT))


def test_an_abstention_counts_as_an_answer(gate):
    record = observation('e1', 0)
    gate.observe(record)
    gate.propose(Source.RL, record, None)
    gate.propose(Source.BC, record)
    assert gate.decision().decision.reason is Reason.NO_RL
    assert not gate.node.counters['missing_rl']


def test_a_repeated_observation_gets_the_same_decision_again(gate):
    record = observation('e1', 0)
    gate.ask(record)
    gate.observe(record)
    gate.decision(2)
    first, again = (serialize_message(decision) for decision in gate.decisions)
    assert first == again
    assert (gate.node.counters['decided'], gate.node.counters['repeats']) == (1, 1)


def test_a_repeat_of_an_undecided_observation_waits_with_it(gate):
    record = observation('e1', 0)
    gate.observe(record)
    gate.observe(record)
    gate.counted('repeats')
    for source in PROPOSALS:
        gate.propose(source, record)
    gate.settle()
    assert [d.episode for d in gate.decisions].count('e1') == 1


def test_the_first_of_two_proposals_of_one_source_counts(gate):
    record = observation('e1', 0)
    gate.observe(record)
    gate.propose(Source.BC, record)
    gate.propose(Source.BC, record, Proposal(np.ones(ACT, dtype=np.float32)))
    gate.counted('repeats')
    gate.propose(Source.RL, record)
    np.testing.assert_array_equal(gate.decision().decision.bc_action, PROPOSALS[Source.BC].action)


def test_a_late_proposal_changes_nothing(bench):
    gate = Gate(bench, lockstep_timeout=SHORT)
    record = observation('e1', 0)
    gate.observe(record)
    assert gate.decision().decision.reason is Reason.NOTHING
    gate.propose(Source.BC, record)
    gate.counted('late')
    gate.observe(observation('e1', 1))
    gate.decision(2)
    gate.propose(Source.RL, record)
    gate.counted('late', 2)
    assert len(gate.decisions) == 2


def test_an_old_observation_is_dropped(gate):
    for step in (0, 1):
        gate.ask(observation('e1', step), step + 1)
    gate.observe(observation('e1', 0))
    gate.counted('late')
    assert len(gate.decisions) == 2


def test_proposals_for_episodes_that_never_come_are_given_up(gate):
    for number in range(6):
        gate.propose(Source.BC, observation(f'elsewhere{number}', 0))
    gate.counted('foreign', 2)
    assert len(gate.node._early) == 4


def test_a_proposal_on_the_other_policys_topic_is_refused(gate):
    record = observation('e1', 0)
    gate._propose[Source.BC].publish(proposal_to_msg(PROPOSALS[Source.RL], Source.RL, record))
    gate.counted('foreign')


def test_messages_of_another_contract_or_shape_are_counted_and_dropped(gate):
    foreign = dataclasses.replace(observation('e1', 0), contract='0' * 16)
    gate.observe(foreign)
    gate.propose(Source.BC, foreign)
    gate.counted('contract', 2)
    gate.propose(Source.BC, observation('e1', 0), Proposal(np.zeros(ACT + 1, dtype=np.float32)))
    gate.counted('malformed')
    gate.observe(
        dataclasses.replace(
            observation('e1', 0), observation=np.full(OBS, np.inf, dtype=np.float32)
        )
    )
    gate.counted('not_finite')
    gate.settle()
    assert [d.episode for d in gate.decisions] == ['settling']


@pytest.mark.parametrize('bad, source', [(Source.RL, Source.BC), (Source.BC, Source.HOLD)])
def test_a_proposal_that_is_not_finite_never_acts(gate, bad, source):
    record = observation('e1', 0)
    gate.observe(record)
    for each in PROPOSALS:
        gate.propose(
            each,
            record,
            Proposal(np.full(ACT, np.nan, dtype=np.float32)) if each is bad else 'usual',
        )
    decision = gate.decision().decision
    assert (decision.source, decision.reason) == (source, Reason.NOT_FINITE)
    assert np.isfinite(decision.action).all()


def test_a_final_observation_is_decided_too(gate):
    assert gate.ask(observation('e1', 9, final=True)).step == 9


def test_a_silent_policy_is_not_waited_for_long_until_it_is_heard_again(bench):
    gate = Gate(bench, lockstep_timeout=SHORT, impatient_timeout=0.05, patience=2)
    for step in range(3):
        gate.observe(observation('e1', step))
        gate.decision(step + 1)
    assert (gate.node.counters['missing_bc'], gate.node.counters['impatient']) == (3, 1)
    for source in PROPOSALS:
        gate.propose(source, observation('e1', 3))
    gate.bench.until(lambda: len(gate.node._early.get(('e1', 3), {})) == 2)
    gate.observe(observation('e1', 3))
    gate.decision(4)
    gate.observe(observation('e1', 4))
    gate.decision(5)
    assert gate.node.counters['impatient'] == 1


def test_in_lockstep_a_late_proposal_is_waited_for_while_the_arm_asks_again(gate):
    assert 0.5 * LONG < gate.node._deadline_s < LONG  # the arm would hold at LONG
    record = observation('e1', 0)
    gate.propose(Source.BC, record)
    for repeats in range(4):
        gate.observe(record)
        gate.counted('repeats', repeats)
    assert not gate.decisions
    gate.propose(Source.RL, record)
    np.testing.assert_array_equal(gate.decision().decision.rl_action, PROPOSALS[Source.RL].action)
    assert not gate.node.counters['missing_rl']


def test_a_policy_that_is_dead_does_not_stop_the_run(bench):
    gate = Gate(bench, lockstep_timeout=SHORT, patience=2)
    for step in range(5):
        record = observation('e1', step)
        gate.propose(Source.BC, record)
        gate.bench.until(lambda step=step: ('e1', step) in gate.node._early)
        gate.observe(record)
        decision = gate.decision(step + 1).decision
        assert (decision.source, decision.reason) == (Source.BC, Reason.NO_RL)
    assert (gate.node.counters['missing_rl'], gate.node.counters['impatient']) == (5, 3)


def test_a_deactivated_gate_decides_nothing(gate):
    gate.node.trigger_deactivate()
    gate.observe(observation('e1', 0))
    gate.counted('inactive')
    gate.node.trigger_activate()
    gate.settle()
    assert [d.episode for d in gate.decisions] == ['settling']
