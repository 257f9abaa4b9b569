# SPDX-License-Identifier: Apache-2.0
"""Behaviour cloning: fit a density over actions to demonstrations by maximum likelihood."""

from __future__ import annotations

from collections.abc import Sequence
import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from q2rl_learner.config import BCConfig
from q2rl_learner.drawing import blurred, permutation, uniform_index
from q2rl_learner.episodes import Episode, acting_steps
from q2rl_policies.bc import DensityNet, GaussianNet, GmmNet
from q2rl_task import Contract, InputError


@dataclass(frozen=True)
class BCReport:
    """How a fit went. NLLs in nats per action; `steps`: the step that was kept, of `last_step` made."""

    demonstrations: int
    samples: int
    steps: int
    last_step: int
    train_nll: float
    held_out_nll: float


def make_bc(config: BCConfig, observation_size: int, action_size: int) -> DensityNet:
    """Build an untrained BC network of the configured kind."""
    common = {
        'observation_size': observation_size,
        'action_size': action_size,
        'hidden': config.hidden,
        'layer_norm': config.layer_norm,
        'min_std': config.min_std,
    }
    return GmmNet(**common, modes=config.modes) if config.kind == 'gmm' else GaussianNet(**common)


def train_bc(
    demonstrations: Sequence[Episode], config: BCConfig, task: Contract, seed: int
) -> tuple[DensityNet, BCReport]:
    """Fit BC to demonstrations; the network kept is the one with the least NLL on held-out demonstrations.

    :raises InputError: fewer than two demonstrations, or one that does not fit the task
    """
    if len(demonstrations) < 2:
        raise InputError(
            'demonstrations',
            f'{len(demonstrations)} given, of which none can be held out',
            'give at least two',
        )
    for demo in demonstrations:
        shape = (demo.observations.shape[1], demo.actions.shape[1])
        if shape != (task.observation_size, task.action_size):
            raise InputError(
                f'demonstration {demo.name}',
                f'has observations and actions of sizes {shape}, the task '
                f'{(task.observation_size, task.action_size)}',
                'record it with this task',
            )
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = make_bc(config, task.observation_size, task.action_size)
    order = permutation(len(demonstrations), generator).tolist()
    held = min(max(1, round(config.held_out * len(demonstrations))), len(demonstrations) - 1)
    test, train = (
        acting_steps([demonstrations[i] for i in chosen]) for chosen in (order[:held], order[held:])
    )
    optimiser = torch.optim.AdamW(
        net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    best, best_nll, best_step = copy.deepcopy(net), float('inf'), 0
    train_nll, step = float('nan'), 0
    for step in range(1, config.steps + 1):
        index = uniform_index(len(train[0]), (config.batch,), generator)
        observations = blurred(train[0][index], config.input_noise, generator)
        loss = -net(observations).log_prob(train[1][index]).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if step % config.evaluate_every == 0 or step == config.steps:
            nll = mean_nll(net, *test)
            if nll < best_nll:
                best_nll, best_step, best = nll, step, copy.deepcopy(net)
                train_nll = float(loss.detach())
            elif step - best_step >= config.patience * config.evaluate_every:
                break
    samples = len(train[0]) + len(test[0])
    return best, BCReport(len(demonstrations), samples, best_step, step, train_nll, best_nll)


@torch.no_grad()
def mean_nll(net: DensityNet, observations: Tensor, actions: Tensor) -> float:
    """Return the mean negative log-likelihood [nat] of actions (N, D) at observations (N, O)."""
    return float(-net(observations).log_prob(actions).mean())
