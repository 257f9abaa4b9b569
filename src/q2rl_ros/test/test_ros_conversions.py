# SPDX-License-Identifier: Apache-2.0
"""Records survive the wire: through the real serialisation, NaN, empty vectors and stamps included."""

from __future__ import annotations

import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message

from q2rl_ros import conversions as conv
from q2rl_ros.errors import MessageError
from q2rl_ros.sensors import SENSOR_TOPICS, MeasurementJoiner, measurement_to_msgs
from q2rl_ros.stamps import stamp_from_msg, stamp_to_msg
from q2rl_ros.testing import wire_seconds
from q2rl_task import (
    Decision,
    EndReason,
    ExecutedStep,
    Measurement,
    Mode,
    ObservationRecord,
    Phase,
    Pose,
    Proposal,
    Reason,
    Source,
    Transition,
    load_task,
)

TASK = load_task('pipe_assembly')
OBS, ACT = TASK.observation_size, TASK.action_size
NAN = float('nan')

finite32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
any32 = st.floats(width=32)
any64 = st.floats()
versions = st.integers(0, 2**64 - 1)
texts = st.text(max_size=20).filter(lambda text: '\x00' not in text and text.isprintable())
stamps = st.one_of(st.floats(0, 1e5), st.floats(1.6e9, 2.0e9)).map(wire_seconds)


def vectors(size: int):
    return st.lists(any32, min_size=size, max_size=size).map(
        lambda v: np.array(v, dtype=np.float32)
    )


def optional_vectors(size: int):
    return st.one_of(vectors(size), st.just(np.zeros(0, dtype=np.float32)))


def members(kind):
    return st.sampled_from(list(kind))


observations = st.builds(
    ObservationRecord,
    stamp=stamps,
    contract=st.just(TASK.contract_hash),
    episode=texts,
    step=st.integers(0, 2**32 - 1),
    mode=members(Mode),
    final=st.booleans(),
    observation=vectors(OBS),
)
proposals = st.builds(
    Proposal, action=vectors(ACT), log_prob=any64, entropy=any64, version=versions
)
decisions = st.builds(
    Decision,
    source=members(Source),
    reason=members(Reason),
    action=vectors(ACT),
    q_bc=any64,
    q_rl=any64,
    v_bc=any64,
    q_spread=any64,
    bc_action=optional_vectors(ACT),
    bc_log_prob=any64,
    bc_entropy=any64,
    rl_action=optional_vectors(ACT),
    actor_version=versions,
    critic_version=versions,
    value_version=versions,
    would_act=members(Source),
)
executed_steps = st.builds(
    ExecutedStep,
    stamp=stamps,
    robot=texts,
    contract=st.just(TASK.contract_hash),
    episode=texts,
    step=st.integers(0, 2**32 - 1),
    mode=members(Mode),
    final=st.booleans(),
    observation=vectors(OBS),
    reward=any32,
    terminated=st.booleans(),
    truncated=st.booleans(),
    end_reason=members(EndReason),
    force=any32,
    executed_action=vectors(ACT),
    interventions=st.lists(texts, max_size=3).map(tuple),
    decision=decisions,
)
transitions = st.builds(
    Transition,
    stamp=stamps,
    robot=texts,
    sequence=st.integers(1, 2**64 - 1),
    contract=st.just(TASK.contract_hash),
    episode=texts,
    step=st.integers(0, 2**32 - 1),
    phase=members(Phase),
    mode=members(Mode),
    source=members(Source),
    reason=members(Reason),
    observation=vectors(OBS),
    action=vectors(ACT),
    executed_action=vectors(ACT),
    interventions=st.lists(texts, max_size=3).map(tuple),
    reward=any32,
    next_observation=vectors(OBS),
    terminated=st.booleans(),
    truncated=st.booleans(),
    end_reason=members(EndReason),
    force=any32,
    bc_action=optional_vectors(ACT),
    bc_log_prob=any64,
    bc_entropy=any64,
    next_bc_action=optional_vectors(ACT),
    next_bc_log_prob=any64,
    next_bc_entropy=any64,
    q_bc=any64,
    q_rl=any64,
    v_bc=any64,
    q_spread=any64,
    actor_version=versions,
    critic_version=versions,
    value_version=versions,
    rl_action=optional_vectors(ACT),
    would_act=members(Source),
)

fast = settings(max_examples=25)


def over_the_wire(msg):
    return deserialize_message(serialize_message(msg), type(msg))


def assert_same(a, b) -> None:
    """Compare records field by field; NaN equals NaN, vectors keep dtype and shape, enumerations their class."""
    assert type(a) is type(b)
    if dataclasses.is_dataclass(a):
        for field in dataclasses.fields(a):
            assert_same(getattr(a, field.name), getattr(b, field.name))
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    else:
        np.testing.assert_equal(a, b)


@fast
@given(observations)
def test_an_observation_survives_the_wire(record):
    msg = over_the_wire(conv.observation_to_msg(record, 'socket'))
    assert msg.header.frame_id == 'socket'
    assert_same(conv.observation_from_msg(msg, TASK), record)


@fast
@given(observations, proposals, st.sampled_from(conv.PROPOSAL_SOURCES))
def test_a_proposal_survives_the_wire(observation, proposal, source):
    back = conv.proposal_from_msg(
        over_the_wire(conv.proposal_to_msg(proposal, source, observation)), TASK
    )
    assert_same(
        back,
        conv.ProposalRecord(
            observation.stamp, observation.episode, observation.step, source, proposal
        ),
    )


@fast
@given(observations)
def test_an_abstention_survives_the_wire(observation):
    msg = over_the_wire(conv.proposal_to_msg(None, Source.RL, observation))
    assert msg.abstain and len(msg.action) == 0 and np.isnan(msg.log_prob)
    assert conv.proposal_from_msg(msg, TASK).proposal is None


@fast
@given(observations, decisions)
def test_a_decision_survives_the_wire(observation, decision):
    back = conv.decision_from_msg(over_the_wire(conv.decision_to_msg(decision, observation)), TASK)
    assert_same(
        back,
        conv.DecisionRecord(observation.stamp, observation.episode, observation.step, decision),
    )


@fast
@given(executed_steps)
def test_an_executed_step_survives_the_wire(record):
    assert_same(
        conv.executed_step_from_msg(
            over_the_wire(conv.executed_step_to_msg(record, 'socket')), TASK
        ),
        record,
    )


@fast
@given(transitions)
def test_a_transition_survives_the_wire(record):
    assert_same(
        conv.transition_from_msg(over_the_wire(conv.transition_to_msg(record)), TASK), record
    )


@fast
@given(st.integers(0, 2**31 - 3), st.integers(0, 10**9 - 1))
def test_a_stamp_off_the_wire_never_changes_again(seconds, nanoseconds):
    stamp = type(stamp_to_msg(0.0))(sec=seconds, nanosec=nanoseconds)
    once = stamp_from_msg(stamp)
    assert stamp_from_msg(stamp_to_msg(once)) == once


@fast
@given(st.integers(0, 4_000_000), st.integers(0, 10**9 - 1))
def test_simulated_stamps_keep_their_nanoseconds(seconds, nanoseconds):
    stamp = type(stamp_to_msg(0.0))(sec=seconds, nanosec=nanoseconds)
    assert stamp_to_msg(stamp_from_msg(stamp)) == stamp


def test_equal_instants_reached_by_other_sums_give_equal_stamps():
    assert sum([0.1] * 3) != 0.3
    assert stamp_to_msg(sum([0.1] * 3)) == stamp_to_msg(0.3)
    assert (stamp_to_msg(1.9999999999).sec, stamp_to_msg(1.9999999999).nanosec) == (2, 0)


@pytest.mark.parametrize('seconds', [-1.0, NAN, float('inf'), 2.0**31])
def test_impossible_seconds_are_no_stamp(seconds):
    with pytest.raises(ValueError):
        stamp_to_msg(seconds)


@pytest.mark.parametrize(
    'field, value, kind',
    [
        ('contract', '0' * 16, 'contract'),
        ('observation', [0.0] * (OBS - 1), 'malformed'),
        ('observation', [0.0] * (OBS + 1), 'malformed'),
        ('observation', [], 'malformed'),
        ('mode', 77, 'malformed'),
    ],
)
def test_a_broken_observation_names_its_counter(field, value, kind):
    record = ObservationRecord(
        1.0, TASK.contract_hash, 'e', 0, Mode.BC, False, np.zeros(OBS, np.float32)
    )
    msg = conv.observation_to_msg(record, 'socket')
    setattr(msg, field, value)
    with pytest.raises(MessageError) as caught:
        conv.observation_from_msg(msg, TASK)
    assert caught.value.kind == kind


@pytest.mark.parametrize('explore', [True, False])
def test_an_observation_says_whether_rl_may_explore(explore):
    zeros = np.zeros(OBS, np.float32)
    record = ObservationRecord(1.0, TASK.contract_hash, 'e', 0, Mode.GATED, False, zeros, explore)
    msg = over_the_wire(conv.observation_to_msg(record, 'socket'))
    assert conv.observation_from_msg(msg, TASK).explore is explore


@pytest.mark.parametrize(
    'field, value',
    [
        ('action', [0.0]),
        ('bc_action', [0.0]),
        ('source', 9),
        ('reason', 200),
        ('step', 4),
    ],
)
def test_a_broken_decision_spoils_its_executed_step(field, value):
    observation = np.zeros(OBS, np.float32)
    record = ExecutedStep(
        1.0,
        'arm',
        TASK.contract_hash,
        'e',
        3,
        Mode.BC,
        False,
        observation,
        0.0,
        False,
        False,
        EndReason.NONE,
        0.0,
        np.zeros(ACT, np.float32),
        (),
        Decision.hold(ACT),
    )
    msg = conv.executed_step_to_msg(record, 'socket')
    setattr(msg.decision, field, value)
    with pytest.raises(MessageError) as caught:
        conv.executed_step_from_msg(msg, TASK)
    assert caught.value.kind == 'malformed'


def test_a_policy_cannot_propose_a_hold():
    record = ObservationRecord(
        1.0, TASK.contract_hash, 'e', 0, Mode.BC, False, np.zeros(OBS, np.float32)
    )
    msg = conv.proposal_to_msg(Proposal(np.zeros(ACT, np.float32)), Source.HOLD, record)
    with pytest.raises(MessageError, match='does not propose'):
        conv.proposal_from_msg(msg, TASK)


def test_a_pose_survives_the_wire_and_keeps_its_frame():
    pose = Pose.of([0.1, -0.2, 0.3], [0.5, -0.5, 0.1, 0.7])
    msg = over_the_wire(conv.pose_to_msg(pose, 'base', 2.5))
    assert_same(conv.pose_from_msg(msg, 'base'), pose)
    with pytest.raises(MessageError, match="expected 'world'"):
        conv.pose_from_msg(msg, 'world')


def test_a_chunk_keeps_every_byte():
    data = bytes(range(256)) * 5
    msg = over_the_wire(
        conv.weights_chunk_to_msg(
            data,
            kind='actor',
            learner='l',
            version=3,
            parent=2,
            contract='c',
            sha256='s',
            index=1,
            count=2,
            stamp=4.0,
        )
    )
    assert conv.weights_chunk_data(msg) == data
    assert (msg.kind, msg.learner, msg.version, msg.parent) == ('actor', 'l', 3, 2)
    assert (msg.contract, msg.sha256, msg.index, msg.count) == ('c', 's', 1, 2)


def make_measurement(stamp: float) -> Measurement:
    rng = np.random.default_rng(round(stamp * 1000))
    return Measurement(
        wire_seconds(stamp),
        rng.normal(size=7),
        rng.normal(size=7),
        Pose.of(rng.normal(size=3), rng.normal(size=4)),
        rng.normal(size=6),
        rng.normal(size=6),
        True,
    )


NAMES = tuple(f'joint{i}' for i in range(7))


def test_a_measurement_is_joined_from_its_five_topics_in_any_order():
    joiner = MeasurementJoiner(TASK)
    for stamp, order in ((1.0, (0, 1, 2, 3, 4)), (1.05, (4, 2, 0, 3, 1))):
        measurement = make_measurement(stamp)
        parts = list(zip(SENSOR_TOPICS, measurement_to_msgs(measurement, NAMES, TASK), strict=True))
        joined = [joiner.add(parts[i][0], over_the_wire(parts[i][1])) for i in order]
        assert joined[:4] == [None] * 4
        assert_same(joined[4], dataclasses.replace(measurement, joint_names=NAMES))
    assert joiner.incomplete == 0


def test_a_measurement_with_a_lost_message_never_appears_mixed_with_the_next():
    joiner = MeasurementJoiner(TASK)
    first, second = make_measurement(1.0), make_measurement(1.05)
    for topic, msg in list(
        zip(SENSOR_TOPICS, measurement_to_msgs(first, NAMES, TASK), strict=True)
    )[:4]:
        assert joiner.add(topic, msg) is None
    joined = [
        joiner.add(t, m)
        for t, m in zip(SENSOR_TOPICS, measurement_to_msgs(second, NAMES, TASK), strict=True)
    ]
    assert joined[:4] == [None] * 4
    assert_same(joined[4], dataclasses.replace(second, joint_names=NAMES))
    assert joiner.incomplete == 4


def test_a_repeated_measurement_is_joined_again():
    joiner = MeasurementJoiner(TASK)
    msgs = list(
        zip(SENSOR_TOPICS, measurement_to_msgs(make_measurement(1.0), NAMES, TASK), strict=True)
    )
    for _ in range(2):
        assert [joiner.add(topic, msg) is not None for topic, msg in msgs] == [False] * 4 + [True]


def test_a_wrench_in_another_frame_is_refused():
    joiner = MeasurementJoiner(TASK)
    msgs = measurement_to_msgs(make_measurement(1.0), NAMES, TASK)
    msgs.wrench.header.frame_id = 'world'
    with pytest.raises(MessageError, match="expected 'pipe_tip'"):
        for topic, msg in zip(SENSOR_TOPICS, msgs, strict=True):
            joiner.add(topic, msg)
