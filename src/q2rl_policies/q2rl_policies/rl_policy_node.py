# SPDX-License-Identifier: Apache-2.0
"""Node `rl_policy`: the learned actor's proposal for every observation, from weights that arrive while it works."""

from __future__ import annotations

import sys

import numpy as np

from q2rl_policies.inference import RLPolicy
from q2rl_policies.live_networks import LiveActor
from q2rl_policies.policy_node import PolicyNode, episode_stream
from q2rl_policies.weights_inbox import WeightsInbox
from q2rl_ros.spin import spin
from q2rl_task import ObservationRecord, Proposal, Source


class RlPolicyNode(PolicyNode):
    """Act by the actor's mode, or by a sample on an observation that lets it explore; abstain until there are weights.

    New weights go live between two observations, never while one is answered.
    """

    source = Source.RL
    proposal_topic = 'rl_proposal'

    def __init__(self, **kwargs) -> None:
        super().__init__('rl_policy', **kwargs)
        self.declare(
            'exploration',
            'sample',
            'How to act on observations that let the RL policy explore: by a sample, or by the mode all the same.',
            choices=('sample', 'mode'),
        )
        self.declare('seed', 0, 'Seed of the samples.', low=0, high=2**62)
        self._inbox: WeightsInbox | None = None

    def configure(self) -> None:
        """Make the actor without weights, and listen for some."""
        super().configure()
        self._inbox = WeightsInbox(self, LiveActor)
        self._policy = RLPolicy(self._inbox.live)

    def release(self) -> None:
        """Stop taking weights."""
        if self._inbox is not None:
            self._inbox.close()
            self._inbox = None

    def diagnose(self) -> dict[str, object]:
        """Time of the last inference, and what the weights do."""
        return {**super().diagnose(), **self._inbox.diagnose()}

    def propose(self, record: ObservationRecord) -> Proposal | None:
        """Promote what has arrived, then act."""
        self._inbox.live.promote()
        self._inbox.record(record.observation)
        if self.tracker.fresh and self.value('exploration') == 'sample':
            # By episode: what is drawn does not depend on when the node was last started.
            stream = episode_stream(self.value('seed'), record.episode)
            self._policy.exploration = np.random.default_rng(stream)
        return self._policy.act(record.observation, record.explore)


def main(args=None) -> int:
    """Run the node."""
    return spin(RlPolicyNode, args)


if __name__ == '__main__':
    sys.exit(main())
