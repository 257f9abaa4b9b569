# SPDX-License-Identifier: Apache-2.0
"""Acting on live networks: the RL policy's proposal and the gate's values, one state at a time."""

from __future__ import annotations

from typing import Protocol, TypeVar

import numpy as np

from q2rl_policies.gate import BCValue, GateValues
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

    def __init__(self, networks: LiveActor | LiveCritic | None) -> None:
        self.current = networks


class RLPolicy:
    """The RL policy as it acts: by its mode; where it may explore, by a sample or with noise if it is made so.

    :param live: where the actor comes from
    :param samples: explore by a sample of the actor
    :param noise: explore with Gaussian noise of that standard deviation, in units of the action
    :param correlation: of what is drawn from one tick to the next; each tick's draw has the same distribution for any.
        Above 0 the arm sweeps where it would else tremble (Eberhard et al., Pink noise is all you need, ICLR 2023)
    :param explored: how many of the first components exploration varies (`Contract.explored_size`); the others are
        the mode's. None: all
    :param seed: of the exploration
    """

    def __init__(
        self,
        live: Live[LiveActor],
        samples: bool = False,
        noise: float = 0.0,
        correlation: float = 0.0,
        explored: int | None = None,
        seed: int = 0,
    ) -> None:
        self._live = live
        self._samples = samples
        self._noise = noise
        self._correlation = correlation
        self._explored = explored
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Begin the random stream of the exploration anew, as at the start of an episode."""
        self._rng = np.random.default_rng(seed)
        self._drawn: np.ndarray | None = None

    def act(self, observation: np.ndarray, explore: bool = False) -> Proposal | None:
        """Propose for one observation (O,) float32, without log_prob and entropy; None without weights."""
        actor = self._live.current
        if actor is None:
            return None
        if not explore:
            return Proposal(actor.mode(observation), version=actor.version)
        drawn = self._draw(actor.action_size)
        action = actor.sample(observation, drawn) if self._samples else actor.mode(observation)
        if self._noise > 0.0:
            action = np.clip(action + np.float32(self._noise) * drawn, -1.0, 1.0)
        return Proposal(action, version=actor.version)

    def _draw(self, size: int) -> np.ndarray:
        """Return standard normal noise (D,), correlated with that of the tick before."""
        fresh = self._rng.standard_normal(size, dtype=np.float32)
        if self._explored is not None:
            fresh[self._explored :] = 0.0
        if self._drawn is None:
            self._drawn = fresh
        else:
            rho = np.float32(self._correlation)
            self._drawn = rho * self._drawn + np.sqrt(1 - rho * rho) * fresh
        return self._drawn


class GateCritic:
    """What the gate needs to know of the critics and of V.

    :param bc_value: what the gate rates BC's action by (see `gate.QGate`)
    """

    def __init__(self, live: Live[LiveCritic], bc_value: BCValue = 'density') -> None:
        self._live = live
        self._bc_value = bc_value

    def values(
        self,
        observation: np.ndarray,
        rl_action: np.ndarray | None,
        bc_action: np.ndarray | None = None,
    ) -> GateValues | None:
        """Value one observation (O,) float32 and what actions (D,) there are; None without weights."""
        critic = self._live.current
        if critic is None:
            return None
        return GateValues(
            v=critic.v(observation),
            q_rl_members=no_vector() if rl_action is None else critic.q(observation, rl_action),
            q_bc_members=self._of_bc(critic, observation, bc_action),
            critic_version=critic.version,
            value_version=critic.value_version,
        )

    def _of_bc(
        self, critic: LiveCritic, observation: np.ndarray, action: np.ndarray | None
    ) -> np.ndarray:
        if action is None or self._bc_value == 'density':
            return no_vector()
        return (critic.q if self._bc_value == 'critic' else critic.q_bc)(observation, action)
