# SPDX-License-Identifier: Apache-2.0
"""What a mixture is distilled from: several draws on the observations of an episode, as one group."""

from __future__ import annotations

import numpy as np

from q2rl_learner.distillation import _joined, _proposed
from q2rl_task import Proposal


class Counting:
    """A policy whose actions say how often it was asked since its episode began."""

    def reset(self):
        self.asked = 0

    def act(self, observation):
        self.asked += 1
        return Proposal(np.full(6, 0.1 * self.asked, dtype=np.float32))


def test_draws_on_one_episode_are_joined_in_all_that_an_episode_has():
    observations = np.arange(6, dtype=np.float32).reshape(3, 2)
    group = _joined([_proposed(Counting(), observations, f'0/{draw}') for draw in range(2)])
    assert len(group) == 6 and group.by_policy.shape == (6,)
    assert group.next_bc_actions.shape == (6, 6)
    np.testing.assert_allclose(group.actions[:, 0], [0.1, 0.2, 0.3] * 2, rtol=1e-6)
    np.testing.assert_array_equal(group.observations, np.tile(observations, (2, 1)))
