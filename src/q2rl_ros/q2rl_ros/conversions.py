# SPDX-License-Identifier: Apache-2.0
"""Messages to the records of q2rl_task and back, lossless but for stamps (see `stamps`) and float32 fields.

Arrays cross without going through lists. The `*_from_msg` functions raise `MessageError`: of kind 'contract' for a
message of another task contract, of kind 'malformed' for a wrong vector length, an unknown enumeration value or an
impossible stamp. Numbers that are not finite pass: NaN is the wire's 'absent', and what to do about one is the
reader's decision.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

from geometry_msgs.msg import PoseStamped
import numpy as np

from q2rl_msgs.msg import ActionProposal, GateDecision, WeightsChunk
from q2rl_msgs.msg import ExecutedStep as ExecutedStepMsg
from q2rl_msgs.msg import Observation as ObservationMsg
from q2rl_msgs.msg import Transition as TransitionMsg
from q2rl_ros.errors import MessageError
from q2rl_ros.stamps import stamp_from_msg, stamp_to_msg
from q2rl_task import (
    Decision,
    EndReason,
    ExecutedStep,
    Mode,
    ObservationRecord,
    Phase,
    Pose,
    Proposal,
    Reason,
    Source,
    TaskSpec,
    Transition,
)

Enumeration = TypeVar('Enumeration', bound=IntEnum)

PROPOSAL_SOURCES = (Source.BC, Source.RL)
VALUE_FIELDS = ('q_bc', 'q_rl', 'v_bc', 'q_spread')
VERSION_FIELDS = ('actor_version', 'critic_version', 'value_version')


@dataclass(frozen=True)
class ProposalRecord:
    """What one policy answered to observation (episode, step); `proposal` is None where it abstained."""

    stamp: float
    episode: str
    step: int
    source: Source
    proposal: Proposal | None


@dataclass(frozen=True)
class DecisionRecord:
    """What the gate answered to observation (episode, step)."""

    stamp: float
    episode: str
    step: int
    decision: Decision


def to_array(vector: np.ndarray) -> array:
    """Return a vector as the `array('f')` of a float32[] field."""
    result = array('f')
    result.frombytes(np.asarray(vector, dtype=np.float32).tobytes())
    return result


def to_vector(field: array, size: int, name: str, *, optional: bool = False) -> np.ndarray:
    """Return a float32[] field as a vector (size,) float32 that shares the message's memory.

    :param optional: an empty field is a valid 'none' and gives shape (0,)
    :raises MessageError: another length
    """
    length = len(field)
    if length != size and not (optional and length == 0):
        raise MessageError('malformed', f'`{name}` has {length} elements, expected {size}')
    return np.frombuffer(field, dtype=np.float32) if length else np.zeros(0, dtype=np.float32)


def to_enum(kind: type[Enumeration], value: int, name: str) -> Enumeration:
    """Return the member of `kind` with this value.

    :raises MessageError: there is none
    """
    try:
        return kind(value)
    except ValueError:
        raise MessageError('malformed', f'`{name}` has the unknown value {value}') from None


def check_contract(contract: str, task: TaskSpec) -> None:
    """Raise `MessageError` of kind 'contract' unless `contract` is the task's."""
    if contract != task.contract_hash:
        raise MessageError('contract', f'contract {contract!r}, expected {task.contract_hash}')


def observation_to_msg(record: ObservationRecord, frame: str) -> ObservationMsg:
    """Return the message of an observation; `frame` names the estimated fixture frame."""
    msg = ObservationMsg()
    msg.header.stamp = stamp_to_msg(record.stamp)
    msg.header.frame_id = frame
    msg.contract, msg.episode, msg.step = record.contract, record.episode, record.step
    msg.mode, msg.explore, msg.final = int(record.mode), record.explore, record.final
    msg.observation = to_array(record.observation)
    return msg


def observation_from_msg(msg: ObservationMsg, task: TaskSpec) -> ObservationRecord:
    """Return the record of an observation message."""
    check_contract(msg.contract, task)
    return ObservationRecord(
        stamp=stamp_from_msg(msg.header.stamp),
        contract=msg.contract,
        episode=msg.episode,
        step=msg.step,
        mode=to_enum(Mode, msg.mode, 'mode'),
        final=msg.final,
        observation=to_vector(msg.observation, task.observation_size, 'observation'),
        explore=msg.explore,
    )


def proposal_to_msg(
    proposal: Proposal | None, source: Source, to: ObservationRecord
) -> ActionProposal:
    """Return the message with which `source` answers the observation `to`; None abstains."""
    msg = ActionProposal()
    msg.header.stamp = stamp_to_msg(to.stamp)
    msg.contract, msg.episode, msg.step = to.contract, to.episode, to.step
    msg.source, msg.abstain = int(source), proposal is None
    msg.log_prob = msg.entropy = float('nan')
    if proposal is not None:
        msg.action = to_array(proposal.action)
        msg.log_prob, msg.entropy = float(proposal.log_prob), float(proposal.entropy)
        msg.policy_version = proposal.version
    return msg


def proposal_from_msg(msg: ActionProposal, task: TaskSpec) -> ProposalRecord:
    """Return the record of a proposal message."""
    check_contract(msg.contract, task)
    source = to_enum(Source, msg.source, 'source')
    if source not in PROPOSAL_SOURCES:
        raise MessageError('malformed', f'{source.name} does not propose')
    proposal = None
    if not msg.abstain:
        action = to_vector(msg.action, task.action_size, 'action')
        proposal = Proposal(action, msg.log_prob, msg.entropy, msg.policy_version)
    return ProposalRecord(stamp_from_msg(msg.header.stamp), msg.episode, msg.step, source, proposal)


def decision_to_msg(decision: Decision, to: ObservationRecord | ExecutedStep) -> GateDecision:
    """Return the message of the gate's decision on the observation `to`."""
    msg = GateDecision()
    msg.header.stamp = stamp_to_msg(to.stamp)
    msg.contract, msg.episode, msg.step = to.contract, to.episode, to.step
    msg.source, msg.reason = int(decision.source), int(decision.reason)
    msg.would_act = int(decision.would_act)
    msg.action, msg.bc_action, msg.rl_action = (
        to_array(v) for v in (decision.action, decision.bc_action, decision.rl_action)
    )
    for name in (*VALUE_FIELDS, 'bc_log_prob', 'bc_entropy'):
        setattr(msg, name, float(getattr(decision, name)))
    for name in VERSION_FIELDS:
        setattr(msg, name, getattr(decision, name))
    return msg


def decision_from_msg(msg: GateDecision, task: TaskSpec) -> DecisionRecord:
    """Return the record of a decision message."""
    check_contract(msg.contract, task)
    size = task.action_size
    decision = Decision(
        source=to_enum(Source, msg.source, 'source'),
        reason=to_enum(Reason, msg.reason, 'reason'),
        action=to_vector(msg.action, size, 'action'),
        q_bc=msg.q_bc,
        q_rl=msg.q_rl,
        v_bc=msg.v_bc,
        q_spread=msg.q_spread,
        bc_action=to_vector(msg.bc_action, size, 'bc_action', optional=True),
        bc_log_prob=msg.bc_log_prob,
        bc_entropy=msg.bc_entropy,
        rl_action=to_vector(msg.rl_action, size, 'rl_action', optional=True),
        actor_version=msg.actor_version,
        critic_version=msg.critic_version,
        value_version=msg.value_version,
        would_act=to_enum(Source, msg.would_act, 'would_act'),
    )
    return DecisionRecord(stamp_from_msg(msg.header.stamp), msg.episode, msg.step, decision)


def executed_step_to_msg(record: ExecutedStep, frame: str) -> ExecutedStepMsg:
    """Return the message of an executed step; `frame` names the estimated fixture frame."""
    msg = ExecutedStepMsg()
    msg.header.stamp = stamp_to_msg(record.stamp)
    msg.header.frame_id = frame
    msg.robot, msg.contract, msg.episode, msg.step = (
        record.robot,
        record.contract,
        record.episode,
        record.step,
    )
    msg.mode, msg.final = int(record.mode), record.final
    msg.observation, msg.executed_action = (
        to_array(record.observation),
        to_array(record.executed_action),
    )
    msg.reward, msg.terminated, msg.truncated = (
        float(record.reward),
        record.terminated,
        record.truncated,
    )
    msg.end_reason, msg.force = int(record.end_reason), float(record.force)
    msg.interventions = list(record.interventions)
    msg.decision = decision_to_msg(record.decision, record)
    return msg


def executed_step_from_msg(msg: ExecutedStepMsg, task: TaskSpec) -> ExecutedStep:
    """Return the record of an executed step message."""
    check_contract(msg.contract, task)
    answer = decision_from_msg(msg.decision, task)
    if (answer.episode, answer.step) != (msg.episode, msg.step):
        raise MessageError('malformed', 'the decision within is of another step')
    return ExecutedStep(
        stamp=stamp_from_msg(msg.header.stamp),
        robot=msg.robot,
        contract=msg.contract,
        episode=msg.episode,
        step=msg.step,
        mode=to_enum(Mode, msg.mode, 'mode'),
        final=msg.final,
        observation=to_vector(msg.observation, task.observation_size, 'observation'),
        reward=msg.reward,
        terminated=msg.terminated,
        truncated=msg.truncated,
        end_reason=to_enum(EndReason, msg.end_reason, 'end_reason'),
        force=msg.force,
        executed_action=to_vector(msg.executed_action, task.action_size, 'executed_action'),
        interventions=tuple(msg.interventions),
        decision=answer.decision,
    )


_TRANSITION_PLAIN = (
    'robot',
    'sequence',
    'contract',
    'episode',
    'step',
    'reward',
    'terminated',
    'truncated',
    'force',
    'bc_log_prob',
    'bc_entropy',
    'next_bc_log_prob',
    'next_bc_entropy',
    *VALUE_FIELDS,
    *VERSION_FIELDS,
)
_TRANSITION_ENUMS = {
    'phase': Phase,
    'mode': Mode,
    'source': Source,
    'reason': Reason,
    'end_reason': EndReason,
    'would_act': Source,
}
_TRANSITION_OBSERVATIONS = ('observation', 'next_observation')
_TRANSITION_ACTIONS = ('action', 'executed_action')
_TRANSITION_PROPOSALS = ('bc_action', 'next_bc_action', 'rl_action')


def transition_to_msg(record: Transition, frame: str = '') -> TransitionMsg:
    """Return the message of a transition; `frame` names the estimated fixture frame."""
    msg = TransitionMsg()
    msg.header.stamp = stamp_to_msg(record.stamp)
    msg.header.frame_id = frame
    for name in _TRANSITION_PLAIN:
        setattr(msg, name, getattr(record, name))
    for name in _TRANSITION_ENUMS:
        setattr(msg, name, int(getattr(record, name)))
    for name in _TRANSITION_OBSERVATIONS + _TRANSITION_ACTIONS + _TRANSITION_PROPOSALS:
        setattr(msg, name, to_array(getattr(record, name)))
    msg.interventions = list(record.interventions)
    return msg


def transition_from_msg(msg: TransitionMsg, task: TaskSpec) -> Transition:
    """Return the record of a transition message; sequence numbers start at 1."""
    check_contract(msg.contract, task)
    if msg.sequence < 1:
        raise MessageError('malformed', 'sequence 0')
    values: dict = {name: getattr(msg, name) for name in _TRANSITION_PLAIN}
    values |= {
        name: to_enum(kind, getattr(msg, name), name) for name, kind in _TRANSITION_ENUMS.items()
    }
    values |= {
        n: to_vector(getattr(msg, n), task.observation_size, n) for n in _TRANSITION_OBSERVATIONS
    }
    values |= {n: to_vector(getattr(msg, n), task.action_size, n) for n in _TRANSITION_ACTIONS}
    values |= {
        n: to_vector(getattr(msg, n), task.action_size, n, optional=True)
        for n in _TRANSITION_PROPOSALS
    }
    stamp = stamp_from_msg(msg.header.stamp)
    return Transition(stamp=stamp, interventions=tuple(msg.interventions), **values)


def pose_to_msg(pose: Pose, frame: str, stamp: float) -> PoseStamped:
    """Return a pose in the frame `frame` as a stamped message."""
    msg = PoseStamped()
    msg.header.stamp = stamp_to_msg(stamp)
    msg.header.frame_id = frame
    point, turn = msg.pose.position, msg.pose.orientation
    point.x, point.y, point.z = pose.position.tolist()
    turn.x, turn.y, turn.z, turn.w = pose.quaternion.tolist()
    return msg


def pose_from_msg(msg: PoseStamped, frame: str | None = None) -> Pose:
    """Return the pose of a stamped message, as it stands (not normalised).

    :param frame: the frame it must be given in; None takes any
    :raises MessageError: another frame
    """
    if frame is not None and msg.header.frame_id != frame:
        raise MessageError(
            'malformed', f'pose in frame {msg.header.frame_id!r}, expected {frame!r}'
        )
    point, turn = msg.pose.position, msg.pose.orientation
    return Pose(np.array([point.x, point.y, point.z]), np.array([turn.x, turn.y, turn.z, turn.w]))


def weights_chunk_to_msg(
    data: bytes,
    *,
    kind: str,
    learner: str,
    version: int,
    parent: int,
    contract: str,
    sha256: str,
    index: int,
    count: int,
    stamp: float,
) -> WeightsChunk:
    """Return the message of one chunk of a weights file."""
    msg = WeightsChunk()
    msg.header.stamp = stamp_to_msg(stamp)
    msg.kind, msg.learner, msg.version, msg.parent = kind, learner, version, parent
    msg.contract, msg.sha256, msg.index, msg.count = contract, sha256, index, count
    msg.data = array('B', data)
    return msg


def weights_chunk_data(msg: WeightsChunk) -> bytes:
    """Return the bytes of a chunk."""
    return msg.data.tobytes()
