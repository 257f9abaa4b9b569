# SPDX-License-Identifier: Apache-2.0
"""Node `bc_policy`: the behaviour-cloned policy's proposal for every observation."""

from __future__ import annotations

import sys
from typing import get_args

import numpy as np

from q2rl_policies.bc import BCPolicy
from q2rl_policies.distributions import EntropyKind
from q2rl_policies.policy_file import load_bc
from q2rl_policies.policy_node import WARM_UP_CALLS, PolicyNode
from q2rl_ros.spin import spin
from q2rl_task import InputError, ObservationRecord, Proposal, Source, episode_stream


class BcPolicyNode(PolicyNode):
    """Sample a BC policy, with a random stream of its own for every episode: what a policy proposes in an episode
    depends on the seed, the episode and its observations, not on what ran before.

    A policy with memory (`recurrent`) that missed an observation abstains until the next episode.
    """

    source = Source.BC
    proposal_topic = 'bc_proposal'

    def __init__(self, **kwargs) -> None:
        super().__init__('bc_policy', **kwargs)
        self.declare(
            'checkpoint',
            '',
            'Path of the BC policy: a .safetensors, or a .yaml that names a Python class, which is then run.',
        )
        self.declare('seed', 0, 'Seed of the samples.', low=0, high=2**62)
        self.declare(
            'entropy',
            'monte_carlo',
            'Entropy of a mixture: unbiased estimate, closed-form bound, or the formula first released.',
            choices=get_args(EntropyKind),
        )
        self.declare(
            'act_by',
            'sample',
            'What is proposed: a sample (what Q2RL assumes) or the mode.',
            choices=('sample', 'mode'),
        )
        self._policy: BCPolicy | None = None

    def configure(self) -> None:
        """Load the checkpoint and warm it up."""
        path = self.value('checkpoint')
        if not path:
            raise InputError(
                'parameter `checkpoint` of bc_policy',
                'is empty',
                'set it to the path of a BC checkpoint',
            )
        self._loaded = load_bc(path, self.task)
        super().configure()
        policy = self.make_policy('')
        for _ in range(WARM_UP_CALLS):
            policy.act(np.zeros(self.task.observation_size, dtype=np.float32))

    def make_policy(self, episode: str) -> BCPolicy:
        """Return the policy as it starts an episode."""
        seed = episode_stream(self.value('seed'), episode)
        return self._loaded.make(seed, self.value('entropy'), self.value('act_by') == 'mode')

    def release(self) -> None:
        """Drop the policy."""
        self._policy = None

    def propose(self, record: ObservationRecord) -> Proposal | None:
        """Let the policy act; see the class for when it abstains."""
        if self.tracker.fresh or self._policy is None:
            self._policy = self.make_policy(record.episode)
        if self._policy.recurrent and not self.tracker.gapless:
            return None
        return self._policy.act(record.observation)


def main(args=None) -> int:
    """Run the node."""
    return spin(BcPolicyNode, args)


if __name__ == '__main__':
    sys.exit(main())
