# SPDX-License-Identifier: Apache-2.0
"""A mixture fitted to what a policy proposes: a density for a policy that has none of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from q2rl_learner.bc_training import BCReport, train_bc
from q2rl_learner.config import BCConfig
from q2rl_learner.episodes import Episode
from q2rl_policies.bc import BCPolicy, DensityNet
from q2rl_task import InputError, TaskSpec


@dataclass(frozen=True)
class Distilled:
    """A mixture and how well it fits. fit: NLLs in nats per action, on episodes held out whole.

    std: the mixture's mean standard deviation, in units of the action. floor: the least it may have.
    """

    net: DensityNet
    fit: BCReport
    std: float
    floor: float

    @property
    def deterministic(self) -> bool:
        """Whether it lies at the floor: then the policy hardly varies, and its density says little but where it is."""
        return self.std < 1.5 * self.floor


def distil(
    policy: BCPolicy,
    seen: Sequence[np.ndarray],
    config: BCConfig,
    task: TaskSpec,
    seed: int,
    draws: int = 4,
) -> Distilled:
    """Fit a mixture to the actions that a policy proposes, episode by episode, on recorded observations.

    :param seen: the observations (T, O) float32 of at least two episodes, each from its first one on
    :param draws: how often the policy is asked about each episode; a deterministic one answers the same each time
    :raises InputError: fewer than two episodes, or a policy whose actions are not finite
    """
    import torch

    draws = draws if _varies(policy, seen) else 1
    episodes = [
        _proposed(policy, observations, f'{number}/{draw}')
        for number, observations in enumerate(seen)
        for draw in range(draws)
    ]
    # Draws on the same observations are no independent episodes: whole groups of them are held out.
    groups = [_joined(episodes[i : i + draws]) for i in range(0, len(episodes), draws)]
    net, fit = train_bc(groups, replace_kind(config), task, seed)
    observations = torch.from_numpy(np.concatenate([group.observations for group in groups]))
    with torch.no_grad():
        _, _, stds = net.head.read(net.net(observations))
    return Distilled(net, fit, float(stds.mean()), config.min_std)


def replace_kind(config: BCConfig) -> BCConfig:
    """Return the settings with a mixture, whatever kind they name."""
    return config.model_copy(update={'kind': 'gmm'})


def _varies(policy: BCPolicy, seen: Sequence[np.ndarray]) -> bool:
    if not seen:
        return False
    first, second = (_proposed(policy, seen[0], 'probe').actions for _ in range(2))
    return not np.array_equal(first, second)


def _proposed(policy: BCPolicy, observations: np.ndarray, name: str) -> Episode:
    """Return the observations of an episode with what the policy proposes on them, in order."""
    policy.reset()
    actions = np.stack([policy.act(observation).action for observation in observations])
    if not np.isfinite(actions).all():
        problem = 'proposes actions that are not finite'
        raise InputError('the policy', problem, 'mend it, or its inputs')
    following = np.concatenate([observations, observations[-1:]])
    return Episode.demonstration(name, following, actions, np.zeros(len(actions)), False)


def _joined(episodes: Sequence[Episode]) -> Episode:
    first = episodes[0]
    names = [f.name for f in fields(first) if f.name not in ('name', 'terminated')]
    return replace(
        first, **{name: np.concatenate([getattr(e, name) for e in episodes]) for name in names}
    )
