# SPDX-License-Identifier: Apache-2.0
"""How fast a learner learns on this machine: whether a GPU is worth it depends on the sizes of the networks."""

from __future__ import annotations

from collections.abc import Callable
import time

import numpy as np

from q2rl_learner.config import LearnerConfig
from q2rl_learner.episodes import Episode
from q2rl_learner.online_learner import OnlineLearner
from q2rl_policies.torch_runtime import find_device, prepare_torch
from q2rl_task import Contract

EPISODES, STEPS = 20, 100


def update_rate(config: LearnerConfig, task: Contract, device: str, seconds: float) -> float:
    """Return the environment steps per second that gradient steps can be made for.

    Each pays for `critic_updates_per_step` steps of all critics and `actor_updates_per_step` of the actor, on batches
    drawn from a replay of made-up transitions.

    :param device: see `find_device`
    :param seconds: to measure for, after half of that to warm up
    :raises InputError: no such device
    """
    prepare_torch()
    learner = OnlineLearner(config, task, 0, _made_up(task), device=find_device(device))
    if not learner.replay.demonstrations:
        learner.replay.set_demonstrations(learner.demonstrations, 1.0, 0.0)

    _count(learner.learn_once, seconds / 2)
    steps, took = _count(learner.learn_once, seconds)
    return steps / took


def _count(step: Callable[[], object], seconds: float) -> tuple[int, float]:
    began, steps = time.perf_counter(), 0
    while (took := time.perf_counter() - began) < seconds:
        step()
        steps += 1
    return steps, took


def _made_up(task: Contract) -> list[Episode]:
    """Return episodes of random numbers: what they say does not matter, only their sizes."""
    rng = np.random.default_rng(0)

    def one(number: int) -> Episode:
        observations = rng.uniform(-1, 1, (STEPS + 1, task.observation_size)).astype(np.float32)
        actions = rng.uniform(-1, 1, (STEPS, task.action_size)).astype(np.float32)
        return Episode.demonstration(str(number), observations, actions, -np.ones(STEPS), True)

    return [one(number) for number in range(EPISODES)]
