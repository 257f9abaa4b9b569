# SPDX-License-Identifier: Apache-2.0
"""New networks for a learner, the same ones for the same seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from q2rl_learner.config import LearnerConfig
from q2rl_policies.actor import TanhGaussianActor
from q2rl_policies.critics import CriticEnsemble, ValueNet
from q2rl_task import Contract


class SeededNetworks:
    """Make untrained networks of the sizes that `config` and the contract give.

    Weights are drawn on the CPU and moved to `device`: they are the same ones everywhere where torch has one thread
    (`prepare_torch`; orthogonal matrices depend on their number).

    made: how often; the next numbers depend on it, so a learner that is restored restores it as well.
    """

    def __init__(
        self, config: LearnerConfig, task: Contract, seed: int, device: torch.device
    ) -> None:
        self.made = 0
        self._config, self._seed, self._device = config, seed, device
        self._observation, self._action = task.observation_size, task.action_size

    def value(self) -> ValueNet:
        """Return a V to fit on returns."""
        fit = self._config.fit
        with self._seeded():
            net = ValueNet(self._observation, fit.value_hidden, layer_norm=fit.value_layer_norm)
        return net.to(self._device)

    def critics(self) -> CriticEnsemble:
        """Return critics, such as Q_BC is fitted with."""
        with self._seeded():
            return self._critics().to(self._device)

    def to_train(self) -> tuple[TanhGaussianActor, CriticEnsemble, ValueNet | None]:
        """Return what online updates train: actor, critics, and the V of updates by expectiles, if these are chosen."""
        config = self._config
        hidden, norm = config.critic_hidden, config.layer_norm
        with self._seeded():
            critics = self._critics()
            actor = TanhGaussianActor(
                self._observation, self._action, config.actor_hidden, layer_norm=norm
            )
            expectile = config.loss.bootstrap == 'expectile'
            value = ValueNet(self._observation, hidden, norm) if expectile else None
            value = None if value is None else value.to(self._device)
        return actor.to(self._device), critics.to(self._device), value

    def _critics(self) -> CriticEnsemble:
        config = self._config
        return CriticEnsemble(
            self._observation,
            self._action,
            config.critic_hidden,
            members=config.critics,
            layer_norm=config.layer_norm,
        )

    @contextmanager
    def _seeded(self) -> Iterator[None]:
        """Seed the global generator, which initialises networks, and leave it as it was."""
        with torch.random.fork_rng(devices=[]):
            sequence = np.random.SeedSequence([self._seed, self.made])
            torch.manual_seed(int(sequence.generate_state(1)[0]))
            self.made += 1
            yield
