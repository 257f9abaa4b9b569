# SPDX-License-Identifier: Apache-2.0
"""What both policies' nodes have in common: an observation is answered once, its repeats with the same answer."""

from __future__ import annotations

import time

import numpy as np

from q2rl_msgs.msg import ActionProposal, Observation
from q2rl_policies.torch_runtime import prepare_torch
from q2rl_ros.conversions import observation_from_msg, proposal_to_msg
from q2rl_ros.errors import MessageError
from q2rl_ros.node import Q2rlNode
from q2rl_ros.ticks import Arrival, TickTracker
from q2rl_task import ObservationRecord, Proposal, Source, TaskSpec

WARM_UP_CALLS = 10


class PolicyNode(Q2rlNode):
    """Answer `observation` on a proposal topic.

    A subclass gives `propose`; `tracker` tells it where in the episode the observation stands.
    """

    source: Source
    proposal_topic: str

    def configure(self) -> None:
        """Make the topics; a subclass loads its policy first."""
        prepare_torch()
        self.tracker = TickTracker()
        self._answer: ActionProposal | None = None
        self._seconds = 0.0
        self._publisher = self.publisher(ActionProposal, self.proposal_topic, self.qos.tick)
        self.subscribe(Observation, 'observation', self._on_observation, self.qos.tick)

    def propose(self, record: ObservationRecord) -> Proposal | None:
        """Return the proposal for a finite observation that was not answered before; None abstains."""
        raise NotImplementedError

    def diagnose(self) -> dict[str, object]:
        """Time of the last inference."""
        return {'inference_ms': round(1e3 * self._seconds, 3)}

    def _on_observation(self, msg: Observation) -> None:
        record, arrival = take_observation(msg, self.task, self.tracker)
        if arrival is Arrival.REPEAT:
            self.count('repeats')
        else:
            began = time.perf_counter()
            proposal = self.propose(record)
            self._seconds = time.perf_counter() - began
            self.count('abstained' if proposal is None else 'proposed')
            self._answer = proposal_to_msg(proposal, self.source, record)
        self._publisher.publish(self._answer)


def take_observation(
    msg: Observation, task: TaskSpec, tracker: TickTracker
) -> tuple[ObservationRecord, Arrival]:
    """Return an observation that is to be answered, and whether it comes for the first time.

    :raises MessageError: not of this task, not finite, or after its turn
    """
    record = observation_from_msg(msg, task)
    where = f'observation {record.episode}/{record.step}'
    if not np.isfinite(record.observation).all():
        raise MessageError('not_finite', f'{where} is not finite')
    arrival = tracker.arrive(record.episode, record.step)
    if arrival is Arrival.LATE:
        raise MessageError('late', f'{where} comes after its turn')
    return record, arrival
