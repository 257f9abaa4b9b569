# SPDX-License-Identifier: Apache-2.0
"""Acting on live networks: the RL policy's proposal and the gate's values, one state at a time."""

from __future__ import annotations

from typing import Protocol, TypeVar

import numpy as np

from q2rl_policies.gate import GateValues
from q2rl_policies.live_networks import LiveActor, LiveCritic
from q2rl_task.records import Proposal, no_vector

Networks = TypeVar('Networks', covariant=True)


class Live(Protocol[Networks]):
    """Where networks are taken from: `weights.LiveWeights`, or `Pinned` ones."""

    @property
    def current(self) -> Networks | None:
        """The networks to act on now; None before there are any."""


class Pinned:
    """Networks that stay: for an evaluation, or shared with a learner of this process that changes them in place."""

    def __init__(self, networks: LiveActor | LiveCritic) -> None:
        self.current = networks


class RLPolicy:
    """The RL policy as it acts: by its mode, or by a sample where it may explore.

    :param live: where the actor comes from
    :param exploration: draws the samples; without it the policy always acts by its mode
    """

    def __init__(
        self, live: Live[LiveActor], exploration: np.random.Generator | None = None
    ) -> None:
        self._live = live
        self.exploration = exploration

    def act(self, observation: np.ndarray, explore: bool = False) -> Proposal | None:
        """Propose for one observation (O,) float32, without log_prob and entropy; None without weights."""
        actor = self._live.current
        if actor is None:
            return None
        if explore and self.exploration is not None:
            action = actor.sample(observation, self.exploration)
        else:
            action = actor.mode(observation)
        return Proposal(action, version=actor.version)


class GateCritic:
    """What the gate needs to know of the critics and of V."""

    def __init__(self, live: Live[LiveCritic]) -> None:
        self._live = live

    def values(self, observation: np.ndarray, rl_action: np.ndarray | None) -> GateValues | None:
        """Value one observation (O,) float32 and, if there is one, an RL action (D,); None without weights."""
        critic = self._live.current
        if critic is None:
            return None
        return GateValues(
            v=critic.v(observation),
            q_rl_members=no_vector() if rl_action is None else critic.q(observation, rl_action),
            critic_version=critic.version,
            value_version=critic.value_version,
        )
