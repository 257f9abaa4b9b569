# SPDX-License-Identifier: Apache-2.0
"""The records that flow round the tick, as plain data; q2rl_ros turns them into messages and back.

Absent numbers are NaN and absent vectors have length 0, here and on the wire.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from q2rl_task.episode import EndReason, Mode, Phase, Source, StepOutcome

NAN = float('nan')


def no_vector() -> np.ndarray:
    """Return the vector that stands for 'none', shape (0,)."""
    return np.zeros(0, dtype=np.float32)


class Reason(IntEnum):
    """Why the gate chose as it did (values of q2rl_msgs/GateDecision)."""

    RL_HIGHER = 0
    BC_HIGHER = 1
    TIE = 2
    MODE = 3
    NO_RL = 4
    NO_BC = 5
    NO_CRITIC = 6
    NOT_FINITE = 7
    NOTHING = 8


@dataclass(frozen=True)
class Proposal:
    """A policy's action. `action`: (D,) in [-1, 1]; `entropy` [nat].

    `log_prob` [nat] is that of the unclipped sample.
    """

    action: np.ndarray
    log_prob: float = NAN
    entropy: float = NAN
    version: int = 0


@dataclass(frozen=True)
class ObservationRecord:
    """One tick's observation (O,) float32 of an episode, as published to policies and gate.

    `explore`: the RL policy may try what it is not sure of instead of acting by its mode.
    """

    stamp: float
    contract: str
    episode: str
    step: int
    mode: Mode
    final: bool
    observation: np.ndarray
    explore: bool = False


@dataclass(frozen=True)
class Decision:
    """The gate's choice. `action`: (D,), zeros for HOLD.

    Values in reward units, versions 0 where unknown. would_act: the source that the values are for, whoever acts;
    HOLD where nothing can be said.
    """

    source: Source
    reason: Reason
    action: np.ndarray
    q_bc: float = NAN
    q_rl: float = NAN
    v_bc: float = NAN
    q_spread: float = NAN
    bc_action: np.ndarray = field(default_factory=no_vector)
    bc_log_prob: float = NAN
    bc_entropy: float = NAN
    rl_action: np.ndarray = field(default_factory=no_vector)
    actor_version: int = 0
    critic_version: int = 0
    value_version: int = 0
    would_act: Source = Source.HOLD

    @staticmethod
    def hold(action_size: int, reason: Reason = Reason.NOTHING) -> Decision:
        """Return the decision to do nothing."""
        return Decision(Source.HOLD, reason, np.zeros(action_size, dtype=np.float32))


@dataclass(frozen=True)
class ExecutedStep:
    """What became of one observation. `reward`, `terminated`, `truncated` judge the *arrival* in
    it.

    `force`: largest contact force since the last step [N]. `executed_action`: (D,) after the guard.
    """

    stamp: float
    robot: str
    contract: str
    episode: str
    step: int
    mode: Mode
    final: bool
    observation: np.ndarray
    reward: float
    terminated: bool
    truncated: bool
    end_reason: EndReason
    force: float
    executed_action: np.ndarray
    interventions: tuple[str, ...]
    decision: Decision

    @staticmethod
    def of(
        record: ObservationRecord,
        outcome: StepOutcome,
        decision: Decision,
        *,
        robot: str,
        force: float,
        executed_action: np.ndarray | None = None,
        interventions: tuple[str, ...] = (),
    ) -> ExecutedStep:
        """Return what became of the observation `record`, in which it was arrived with `outcome`.

        :param executed_action: None: what was decided, in a cell without a guard
        """
        return ExecutedStep(
            stamp=record.stamp,
            robot=robot,
            contract=record.contract,
            episode=record.episode,
            step=record.step,
            mode=record.mode,
            final=record.final,
            observation=record.observation,
            reward=outcome.reward,
            terminated=outcome.terminated,
            truncated=outcome.truncated,
            end_reason=outcome.reason,
            force=force,
            executed_action=decision.action if executed_action is None else executed_action,
            interventions=interventions,
            decision=decision,
        )


@dataclass(frozen=True)
class Transition:
    """One complete transition: the pair of steps k and k+1 of an episode.

    `sequence` is per robot, from 1. rl_action, would_act: as in `Decision`; not known of older logs.
    """

    stamp: float
    robot: str
    sequence: int
    contract: str
    episode: str
    step: int
    phase: Phase
    mode: Mode
    source: Source
    reason: Reason
    observation: np.ndarray
    action: np.ndarray
    executed_action: np.ndarray
    interventions: tuple[str, ...]
    reward: float
    next_observation: np.ndarray
    terminated: bool
    truncated: bool
    end_reason: EndReason
    force: float
    bc_action: np.ndarray
    bc_log_prob: float
    bc_entropy: float
    next_bc_action: np.ndarray
    next_bc_log_prob: float
    next_bc_entropy: float
    q_bc: float
    q_rl: float
    v_bc: float
    q_spread: float
    actor_version: int
    critic_version: int
    value_version: int
    rl_action: np.ndarray = field(default_factory=no_vector)
    would_act: Source = Source.HOLD


def pair_steps(
    first: ExecutedStep, second: ExecutedStep, sequence: int, phase: Phase
) -> Transition:
    """Join steps k and k+1 of one episode into transition k.

    :raises ValueError: they are not consecutive steps of one episode
    """
    if first.episode != second.episode or second.step != first.step + 1 or first.final:
        raise ValueError(
            f'steps {first.episode}/{first.step} and {second.episode}/{second.step} '
            f'do not follow one another'
        )
    a, b = first.decision, second.decision
    return Transition(
        stamp=first.stamp,
        robot=first.robot,
        sequence=sequence,
        contract=first.contract,
        episode=first.episode,
        step=first.step,
        phase=phase,
        mode=first.mode,
        source=a.source,
        reason=a.reason,
        observation=first.observation,
        action=a.action,
        executed_action=first.executed_action,
        interventions=first.interventions,
        reward=second.reward,
        next_observation=second.observation,
        terminated=second.terminated,
        truncated=second.truncated,
        end_reason=second.end_reason,
        force=second.force,
        bc_action=a.bc_action,
        bc_log_prob=a.bc_log_prob,
        bc_entropy=a.bc_entropy,
        next_bc_action=b.bc_action,
        next_bc_log_prob=b.bc_log_prob,
        next_bc_entropy=b.bc_entropy,
        q_bc=a.q_bc,
        q_rl=a.q_rl,
        v_bc=a.v_bc,
        q_spread=a.q_spread,
        actor_version=a.actor_version,
        critic_version=a.critic_version,
        value_version=a.value_version,
        rl_action=a.rl_action,
        would_act=a.would_act,
    )
