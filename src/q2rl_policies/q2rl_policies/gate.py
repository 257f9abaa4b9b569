# SPDX-License-Identifier: Apache-2.0
"""Q-Gating: at every tick execute the action of the policy that is worth more (Q2RL, arXiv 2605.05172).

    Q_BC(s, a) = V_BC(s) + alpha (log pi_BC(a|s) + H[pi_BC(.|s)])      Q_RL(s, a) = min_i Q_i(s, a)

`bc_value` and `chooser` make the gates of other methods of it: IBRL (arXiv 2311.02198) rates both actions by the same
critics; in RLPD (arXiv 2302.02948) RL acts alone.

RL acts only where Q_RL > Q_BC (+ margin). Whatever is missing, not finite or not healthy goes to BC, and without BC to
a hold: the gate never trusts RL alone, except in an episode whose mode says so.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
import math
from typing import Literal, get_args

import numpy as np

from q2rl_task.episode import Mode, Source
from q2rl_task.records import NAN, Decision, Proposal, Reason, no_vector

BCValue = Literal['density', 'critic', 'fitted']
Chooser = Literal['gate', 'rl', 'bc', 'shadow']
ALONE = {'rl': Mode.RL, 'bc': Mode.BC}


@dataclass(frozen=True)
class GateValues:
    """What the critics say of one state. `v`: V_BC(s); `q_rl_members`: (E,) Q_i(s, a_RL), empty without an action.

    `q_bc_members`: (E,) Q_i(s, a_BC) of the critics, or of the frozen Q_BC, where the gate rates BC by them.
    """

    v: float
    q_rl_members: np.ndarray
    critic_version: int = 0
    value_version: int = 0
    q_bc_members: np.ndarray = field(default_factory=no_vector)


class QGate:
    """Choose between BC and RL, tick by tick; `counts` holds how often for which reason.

    :param alpha: temperature of Q_BC in reward units per nat (the paper: 1). 0 is the V-only gate, Q_BC = V_BC, for
        BC policies without a density: log_prob and entropy are then not read
    :param action_size: D
    :param bc_value: what BC's action is rated by: `density`, Q_BC above; `critic`, the least of the RL critics' own
        values of it (no V, no density); `fitted`, the mean of a frozen ensemble fitted to BC's own value (no density)
    :param chooser: who acts in a gated episode: the better one (`gate`), or always `rl` or `bc`. `shadow`: BC acts in
        gated and BC-only episodes and RL in none, while every decision still tells by reason and `would_act` how the
        gate judges
    :param margin: what RL must be better by, in reward units
    :param min_dwell: ticks that a source keeps acting after a switch before the values may switch again; missing or
        unhealthy RL ends the dwell at once
    :param soft_temperature: 0 takes the better one; T > 0 lets RL act with probability
        sigmoid((Q_RL - Q_BC - margin) / T)
    :param max_spread: standard deviation of Q_RL over the ensemble above which the critic counts as unhealthy
    :param seed: of the soft choice

    With a dwell or a soft choice the reason still states the comparison of the values, and the source who acted.
    """

    def __init__(
        self,
        alpha: float,
        action_size: int,
        *,
        bc_value: BCValue = 'density',
        chooser: Chooser = 'gate',
        margin: float = 0.0,
        min_dwell: int = 0,
        soft_temperature: float = 0.0,
        max_spread: float = math.inf,
        seed: int = 0,
    ) -> None:
        if not (math.isfinite(alpha) and alpha >= 0.0):
            raise ValueError(f'alpha must be finite and not negative, not {alpha}')
        if bc_value not in get_args(BCValue):
            raise ValueError(f'bc_value {bc_value!r} is none of {get_args(BCValue)}')
        if chooser not in get_args(Chooser):
            raise ValueError(f'chooser {chooser!r} is none of {get_args(Chooser)}')
        if not math.isfinite(margin):
            raise ValueError(f'margin must be finite, not {margin}')
        if not (math.isfinite(soft_temperature) and soft_temperature >= 0.0):
            raise ValueError(
                f'soft_temperature must be finite and not negative, not {soft_temperature}'
            )
        if not max_spread > 0.0:
            raise ValueError(f'max_spread must be positive, not {max_spread}')
        self.alpha = alpha
        self.action_size = action_size
        self.bc_value = bc_value
        self.chooser = chooser
        self.margin = margin
        self.min_dwell = min_dwell
        self.soft_temperature = soft_temperature
        self.max_spread = max_spread
        self.counts: Counter[Reason] = Counter()
        self.rng = np.random.default_rng(seed)
        self.reset()

    def reset(self) -> None:
        """Forget whom the values were for last; call it at every start of an episode: a dwell does not outlive one."""
        self._favoured: Source | None = None
        self._dwelt = 0

    def decide(
        self, mode: Mode, bc: Proposal | None, rl: Proposal | None, values: GateValues | None
    ) -> Decision:
        """Decide one tick. Absent proposals or values are None.

        In Mode.BC and Mode.RL the one policy acts or nobody does: if the other stood in, neither could be measured.
        Whoever acts, `would_act` is whom the values are for.
        """
        members = values.q_rl_members.tolist() if values is not None else []
        has_critic = bool(members)
        v_bc = float(values.v) if values is not None and self.bc_value != 'critic' else NAN
        if self.bc_value == 'density':
            q_bc = self._q_bc(v_bc, bc)
        else:
            of_bc = values.q_bc_members.tolist() if values is not None else []
            has_critic = has_critic and bool(of_bc)
            # The RL critics are as pessimistic of BC as of RL; what was fitted to BC is a point estimate, like V.
            q_bc = _pessimistic(of_bc)[0] if self.bc_value == 'critic' else _mean(of_bc)
        q_rl, spread = _pessimistic(members)
        would_act, judgement = self._judge(mode, bc, rl, has_critic, q_bc, q_rl, spread)
        self._dwelt = self._dwelt + 1 if would_act is self._favoured else 1
        self._favoured = would_act
        source, reason = self._settle(mode, bc, rl, would_act, judgement)
        self.counts[reason] += 1
        if source is Source.HOLD:
            action = np.zeros(self.action_size, dtype=np.float32)
        else:
            chosen = bc if source is Source.BC else rl
            action = chosen.action.astype(np.float32)
        return Decision(
            source=source,
            reason=reason,
            action=action,
            q_bc=q_bc,
            q_rl=q_rl,
            v_bc=v_bc,
            q_spread=spread,
            bc_action=bc.action if bc is not None else no_vector(),
            bc_log_prob=bc.log_prob if bc is not None else NAN,
            bc_entropy=bc.entropy if bc is not None else NAN,
            rl_action=rl.action if rl is not None else no_vector(),
            actor_version=rl.version if rl is not None else 0,
            critic_version=values.critic_version if values is not None else 0,
            value_version=values.value_version if values is not None else 0,
            would_act=would_act,
        )

    def _q_bc(self, v_bc: float, bc: Proposal | None) -> float:
        if bc is None or self.alpha == 0.0:
            return v_bc if bc is not None else NAN
        return v_bc + self.alpha * (bc.log_prob + bc.entropy)

    def _settle(
        self,
        mode: Mode,
        bc: Proposal | None,
        rl: Proposal | None,
        would_act: Source,
        judgement: Reason,
    ) -> tuple[Source, Reason]:
        """Return who acts and why, from how the gate judges."""
        if self.chooser == 'shadow':
            # In an RL-only episode nobody acts: BC standing in would be taken for RL.
            alone = self._alone(Source.BC, bc, Reason.NO_BC)[0]
            return (Source.HOLD if mode is Mode.RL else alone), judgement
        if mode is Mode.GATED:
            mode = ALONE.get(self.chooser, mode)
        if mode is Mode.GATED or (bc is None and rl is None):
            return would_act, judgement
        if mode is Mode.RL:
            return self._alone(Source.RL, rl, Reason.NO_RL)
        return self._alone(Source.BC, bc, Reason.NO_BC)

    def _judge(
        self,
        mode: Mode,
        bc: Proposal | None,
        rl: Proposal | None,
        has_critic: bool,
        q_bc: float,
        q_rl: float,
        spread: float,
    ) -> tuple[Source, Reason]:
        """Return whom the values are for, and why."""
        if bc is None and rl is None:
            return Source.HOLD, Reason.NOTHING
        if bc is None:
            return Source.HOLD, Reason.NO_BC
        if not self._executable(bc):
            return Source.HOLD, Reason.NOT_FINITE
        if rl is None:
            return Source.BC, Reason.NO_RL
        if not self._executable(rl):
            return Source.BC, Reason.NOT_FINITE
        if not has_critic:
            return Source.BC, Reason.NO_CRITIC
        if not (math.isfinite(q_bc) and math.isfinite(q_rl) and math.isfinite(spread)):
            return Source.BC, Reason.NOT_FINITE
        if spread > self.max_spread:
            return Source.BC, Reason.NO_CRITIC
        return self._compare(q_rl - q_bc - self.margin, self._gates(mode))

    def _alone(
        self, source: Source, proposal: Proposal | None, missing: Reason
    ) -> tuple[Source, Reason]:
        if proposal is None:
            return Source.HOLD, missing
        return (
            (source, Reason.MODE)
            if self._executable(proposal)
            else (Source.HOLD, Reason.NOT_FINITE)
        )

    def _executable(self, proposal: Proposal) -> bool:
        """Whether the action has D finite components in the box; nothing is repaired here."""
        action = proposal.action
        return action.shape == (self.action_size,) and all(
            -1.0 <= c <= 1.0 for c in action.tolist()
        )

    def _gates(self, mode: Mode) -> bool:
        """Whether the values decide in such an episode, or would but for the shadow."""
        return self.chooser == 'shadow' or (mode is Mode.GATED and self.chooser == 'gate')

    def _compare(self, advantage: float, gates: bool) -> tuple[Source, Reason]:
        reason = (
            Reason.RL_HIGHER
            if advantage > 0.0
            else Reason.BC_HIGHER
            if advantage < 0.0
            else Reason.TIE
        )
        if self._favoured in (Source.BC, Source.RL) and self._dwelt < self.min_dwell:
            return self._favoured, reason
        if gates and self.soft_temperature > 0.0:
            rl_acts = self.rng.random() < 0.5 * (
                1.0 + math.tanh(0.5 * advantage / self.soft_temperature)
            )
        else:
            rl_acts = advantage > 0.0
        return (Source.RL if rl_acts else Source.BC), reason


def _mean(members: list[float]) -> float:
    return sum(members) / len(members) if members else NAN


def _pessimistic(members: list[float]) -> tuple[float, float]:
    """Minimum and standard deviation of an ensemble's values; NaN for both if one is not finite or there is none."""
    if not members or not all(map(math.isfinite, members)):
        return NAN, NAN
    mean = sum(members) / len(members)
    return min(members), math.sqrt(sum((q - mean) * (q - mean) for q in members) / len(members))
