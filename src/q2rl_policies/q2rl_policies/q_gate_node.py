# SPDX-License-Identifier: Apache-2.0
"""Node `q_gate`: join both policies' proposals to each observation and decide who acts."""

from __future__ import annotations

from collections import Counter
from functools import partial
import math
import sys
from typing import get_args

from q2rl_msgs.msg import ActionProposal, GateDecision, Observation
from q2rl_policies.gate import BCValue, Chooser, QGate
from q2rl_policies.inference import GateCritic
from q2rl_policies.live_networks import LiveCritic
from q2rl_policies.policy_node import take_observation
from q2rl_policies.torch_runtime import prepare_torch
from q2rl_policies.weights_inbox import WeightsInbox, declare_weights
from q2rl_ros.conversions import (
    ProposalRecord,
    decision_to_msg,
    proposal_from_msg,
)
from q2rl_ros.errors import MessageError
from q2rl_ros.node import Q2rlNode
from q2rl_ros.spin import spin
from q2rl_ros.ticks import Arrival, TickTracker
from q2rl_task import InputError, ObservationRecord, Source

EARLY_TICKS = 4
"""Ticks whose proposals are kept although their observation has not come yet (topics may overtake one another)."""
PROPOSERS = (Source.BC, Source.RL)
WAITED = 0.8
"""Share of `lockstep_timeout` that proposals are waited for: the rest is for the decision to reach the arm."""


class QGateNode(Q2rlNode):
    """Decide each observation once: when both proposals are in, or at the deadline with what is there.

    The deadline runs on the wall from the observation's arrival: `decision_deadline` in real time; in lockstep, where
    the arm asks again and a late proposal is worth waiting for, shortly before the arm would hold (`lockstep_timeout`).
    There a policy that missed `patience` deadlines in a row is waited for only `impatient_timeout` until it is heard
    again, so that a dead node does not make the run crawl. A repeated observation gets the same decision again.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__('q_gate', **kwargs)
        self.declare(
            'alpha',
            1.0,
            'Temperature of Q_BC, reward units per nat; 0: V alone. That of the critics, where they name one, counts.',
            low=0.0,
            high=1e3,
        )
        self.declare(
            'bc_value',
            'density',
            "What BC's action is rated by: V and its density, the RL critics (IBRL), or a Q fitted to BC.",
            choices=get_args(BCValue),
        )
        self.declare(
            'chooser',
            'gate',
            'Who acts in a gated episode: the better one, or always one of them; shadow: BC, in all episodes.',
            choices=get_args(Chooser),
        )
        self.declare('margin', 0.0, 'What RL must be better by, reward units.', low=-1e6, high=1e6)
        self.declare(
            'min_dwell', 0, 'Ticks a source keeps acting after a switch.', low=0, high=1000
        )
        self.declare(
            'soft_temperature',
            0.0,
            '0: the better one acts; above: RL acts by a sigmoid of the advantage.',
            low=0.0,
            high=1e6,
        )
        self.declare(
            'max_spread',
            0.0,
            'Ensemble standard deviation above which the critic is not trusted; 0: none.',
            low=0.0,
            high=1e9,
        )
        self.declare('seed', 0, 'Seed of the soft choice.', low=0, high=2**62)
        declare_weights(self)
        self.declare_lockstep_timeout()
        self.declare(
            'decision_deadline',
            0.0,
            'Real time: wait for proposals [s]; 0: half the control period.',
            low=0.0,
            high=10.0,
        )
        self.declare(
            'impatient_timeout',
            0.05,
            'Lockstep: wait for a policy that fell silent [s].',
            low=0.001,
            high=600.0,
        )
        self.declare(
            'patience',
            3,
            'Deadlines in a row that a policy misses before it counts as silent.',
            low=1,
            high=1000,
        )

    def configure(self) -> None:
        """Make the gate, the critic (without weights yet, if none were given), the topics and the deadline.

        :raises InputError: parameters at odds, or weights were given that cannot be used
        """
        prepare_torch()
        task = self.task
        try:
            self._gate = QGate(
                self.value('alpha'),
                task.action_size,
                bc_value=self.value('bc_value'),
                chooser=self.value('chooser'),
                margin=self.value('margin'),
                min_dwell=self.value('min_dwell'),
                soft_temperature=self.value('soft_temperature'),
                max_spread=self.value('max_spread') or math.inf,
                seed=self.value('seed'),
            )
        except ValueError as error:
            raise InputError('parameters of q_gate', str(error), 'correct the parameter') from None
        self._tracker = TickTracker()
        self._record: ObservationRecord | None = None
        self._decision: GateDecision | None = None
        self._proposals: dict[Source, ProposalRecord] = {}
        self._early: dict[tuple[str, int], dict[Source, ProposalRecord]] = {}
        self._missed: Counter[Source] = Counter()
        self._deadline_s = WAITED * self.value('lockstep_timeout')
        if not self.lockstep:
            self._deadline_s = self.value('decision_deadline') or 0.5 * task.period_s
        self._publisher = self.publisher(GateDecision, 'gate_decision', self.qos.tick)
        self.subscribe(Observation, 'observation', self._on_observation, self.qos.tick)
        for source, topic in zip(PROPOSERS, ('bc_proposal', 'rl_proposal'), strict=True):
            self.subscribe(ActionProposal, topic, partial(self._on_proposal, source), self.qos.tick)
        self._inbox = WeightsInbox(self, LiveCritic)
        self._critic = GateCritic(self._inbox.live, self.value('bc_value'))
        self._deadline = self.wall_timer(self._deadline_s, self._on_deadline)
        self._deadline.cancel()

    def deactivate(self) -> None:
        """Decide nothing more; the arm holds without a decision."""
        self._deadline.cancel()
        self._record = None

    def diagnose(self) -> dict[str, object]:
        """How often for which reason, and what the weights do."""
        reasons = {f'reason {reason.name}': number for reason, number in self._gate.counts.items()}
        return {**reasons, **self._inbox.diagnose()}

    def _on_observation(self, msg: Observation) -> None:
        record, arrival = take_observation(msg, self.task, self._tracker)
        if arrival is Arrival.REPEAT:
            self.count('repeats')
            if self._decision is not None:
                self._publisher.publish(self._decision)
            return
        if self._record is not None:
            self.drop('overtaken', f'{self._record.episode}/{self._record.step} was never decided')
        if self._inbox.tick(record.observation):
            self._take_alpha(self._inbox.live.current.alpha)
        if self._tracker.fresh:
            self._gate.reset()
        self._record, self._decision = record, None
        self._proposals = self._take_early(record)
        if not self._decide_if_complete():
            self._wait()

    def _take_alpha(self, alpha: float | None) -> None:
        """Rate BC by the temperature that the critics were trained against, whatever this node was started with."""
        if alpha is None or alpha == self._gate.alpha:
            return
        text = (
            f'the critics have alpha {alpha:g}, this gate had {self._gate.alpha:g}: theirs counts'
        )
        self.drop(
            'other_alpha', f'{text}; start the gate with the preset that they are learned with'
        )
        self._gate.alpha = alpha

    def _take_early(self, record: ObservationRecord) -> dict[Source, ProposalRecord]:
        """Return the proposals that came before this observation; what is behind it by now is over."""
        proposals = self._early.pop((record.episode, record.step), {})
        for key in [key for key in self._early if self._tracker.is_over(*key)]:
            self.drop('late')
            del self._early[key]
        return proposals

    def _wait(self) -> None:
        """Start the deadline of the observation just taken."""
        silent = self.lockstep and any(n >= self.value('patience') for n in self._missed.values())
        if silent:
            self.count('impatient')
        seconds = self.value('impatient_timeout') if silent else self._deadline_s
        self._deadline.timer_period_ns = round(seconds * 1e9)
        self._deadline.reset()

    def _on_proposal(self, source: Source, msg: ActionProposal) -> None:
        answer = proposal_from_msg(msg, self.task)
        if answer.source is not source:
            raise MessageError(
                'foreign', f'a proposal of {answer.source.name} on the topic of {source.name}'
            )
        self._missed.pop(source, None)
        key = (answer.episode, answer.step)
        if key == (self._tracker.episode, self._tracker.step):
            if source in self._proposals:
                self.count('repeats')
            elif self._record is None:
                self.drop('late')
            else:
                self._proposals[source] = answer
                self._decide_if_complete()
        elif self._tracker.is_over(*key):
            self.drop('late')
        else:
            early = self._early.setdefault(key, {})
            if source in early:
                self.count('repeats')
            early.setdefault(source, answer)
            if len(self._early) > EARLY_TICKS:
                self._early.pop(next(iter(self._early)))
                self.drop('foreign')

    def _decide_if_complete(self) -> bool:
        if len(self._proposals) < len(PROPOSERS):
            return False
        self._decide()
        return True

    def _on_deadline(self) -> None:
        self._deadline.cancel()
        if self._record is None:
            return
        for source in PROPOSERS:
            if source not in self._proposals:
                self._missed[source] += 1
                self.drop(f'missing_{source.name.lower()}', f'no proposal of {source.name} in time')
        self._decide()

    def _decide(self) -> None:
        """Publish the decision on the pending observation from the proposals that are in."""
        self._deadline.cancel()
        record, self._record = self._record, None
        bc, rl = (self._proposals[s].proposal if s in self._proposals else None for s in PROPOSERS)
        actions = [said.action if said is not None else None for said in (rl, bc)]
        values = self._critic.values(record.observation, *actions)
        decision = self._gate.decide(record.mode, bc, rl, values)
        self._decision = decision_to_msg(decision, record)
        self._publisher.publish(self._decision)
        self.count('decided')


def main(args=None) -> int:
    """Run the node."""
    return spin(QGateNode, args)


if __name__ == '__main__':
    sys.exit(main())
