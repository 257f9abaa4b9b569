# SPDX-License-Identifier: Apache-2.0
"""Node `rl_policy`: the learned actor's proposal for every observation, from weights that arrive while it works."""

from __future__ import annotations

import sys

from q2rl_policies.inference import RLPolicy
from q2rl_policies.live_networks import LiveActor
from q2rl_policies.policy_node import PolicyNode
from q2rl_policies.weights_inbox import WeightsInbox, declare_weights
from q2rl_ros.spin import spin
from q2rl_task import ObservationRecord, Proposal, Source, episode_stream


class RlPolicyNode(PolicyNode):
    """Act by the actor's mode, or by a sample on an observation that lets it explore; abstain until there are weights.

    New weights go live between two observations, never while one is answered.
    """

    source = Source.RL
    proposal_topic = 'rl_proposal'

    def __init__(self, **kwargs) -> None:
        super().__init__('rl_policy', **kwargs)
        self.declare(
            'rl_action',
            'mode',
            'How to explore, on observations that let RL: by a sample, or by the mode all the same.',
            choices=('mode', 'sample'),
        )
        self.declare(
            'rl_noise',
            0.0,
            'Standard deviation of Gaussian noise to explore with, in units of the action.',
            low=0.0,
            high=2.0,
        )
        self.declare(
            'rl_correlation',
            0.0,
            'Correlation of what is drawn from one tick to the next.',
            low=0.0,
            high=0.999,
        )
        self.declare('seed', 0, 'Seed of the exploration.', low=0, high=2**62)
        declare_weights(self)

    def configure(self) -> None:
        """Make the actor, with the weights that were given, or listen for some.

        :raises InputError: weights were given that cannot be used
        """
        super().configure()
        self._inbox = WeightsInbox(self, LiveActor)
        samples = self.value('rl_action') == 'sample'
        self._policy = RLPolicy(
            self._inbox.live,
            samples,
            self.value('rl_noise'),
            self.value('rl_correlation'),
            self.task.explored_size,
        )

    def diagnose(self) -> dict[str, object]:
        """Time of the last inference, and what the weights do."""
        return {**super().diagnose(), **self._inbox.diagnose()}

    def propose(self, record: ObservationRecord) -> Proposal | None:
        """Promote what has arrived, then act."""
        self._inbox.tick(record.observation)
        if self.tracker.fresh:
            # By episode: what is drawn does not depend on when the node was last started.
            self._policy.reseed(episode_stream(self.value('seed'), record.episode))
        return self._policy.act(record.observation, record.explore)


def main(args=None) -> int:
    """Run the node."""
    return spin(RlPolicyNode, args)


if __name__ == '__main__':
    sys.exit(main())
