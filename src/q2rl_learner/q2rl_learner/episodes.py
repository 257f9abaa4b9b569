# SPDX-License-Identifier: Apache-2.0
"""Whole episodes as arrays: what Q-Estimation and behaviour cloning are fitted on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from q2rl_learner.drawing import Device
from q2rl_task import Source, Transition
from q2rl_task.episode import INTERRUPTIONS


def vector_or_nan(vector: np.ndarray, size: int) -> np.ndarray:
    """Return `vector` as (size,) float32, NaNs where it is absent (length 0)."""
    if len(vector) == 0:
        return np.full(size, np.nan, dtype=np.float32)
    return np.asarray(vector, dtype=np.float32)


@dataclass(frozen=True)
class Episode:
    """T transitions of one episode in order.

    observations, next_observations: (T, O). actions: (T, D) in [-1, 1]. rewards: (T,), the task's.
    terminated: the last next_observation is the end of the task; otherwise the episode was cut there.
    held: (T,) True where nobody acted. human: (T,) True where a person acted. bc_actions: (T, D), bc_log_probs,
    bc_entropies: (T,) [nat]; NaN where BC made no proposal. next_bc_actions: (T, D) BC's proposals in the
    next_observations. Source: q2rl_task.Transition.
    """

    name: str
    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    next_observations: np.ndarray
    terminated: bool
    held: np.ndarray
    human: np.ndarray
    bc_actions: np.ndarray
    bc_log_probs: np.ndarray
    bc_entropies: np.ndarray
    next_bc_actions: np.ndarray

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def by_policy(self) -> np.ndarray:
        """Where a policy acted, (T,) bool."""
        return ~(self.held | self.human)

    @property
    def succeeded(self) -> bool:
        """Whether the task was done without a person's help."""
        return self.terminated and not self.human.any()

    @staticmethod
    def from_transitions(transitions: Sequence[Transition]) -> Episode:
        """Stack the transitions of one episode.

        :raises ValueError: none, of several episodes, or a step is missing
        """
        if not transitions:
            raise ValueError('an episode needs at least one transition')
        first = transitions[0]
        for before, after in pairwise(transitions):
            if after.episode != first.episode or after.step != before.step + 1:
                raise ValueError(f'step {after.episode}/{after.step} does not follow {before.step}')
        size = len(first.action)
        return Episode(
            name=first.episode,
            observations=np.stack([t.observation for t in transitions]).astype(np.float32),
            actions=np.stack([t.action for t in transitions]).astype(np.float32),
            rewards=np.array([t.reward for t in transitions], dtype=np.float64),
            next_observations=np.stack([t.next_observation for t in transitions]).astype(
                np.float32
            ),
            terminated=bool(transitions[-1].terminated),
            held=np.array([t.source == Source.HOLD for t in transitions]),
            human=np.array([t.source == Source.HUMAN for t in transitions]),
            bc_actions=np.stack([vector_or_nan(t.bc_action, size) for t in transitions]),
            bc_log_probs=np.array([t.bc_log_prob for t in transitions], dtype=np.float64),
            bc_entropies=np.array([t.bc_entropy for t in transitions], dtype=np.float64),
            next_bc_actions=np.stack([vector_or_nan(t.next_bc_action, size) for t in transitions]),
        )

    @staticmethod
    def demonstration(
        name: str,
        observations: np.ndarray,
        actions: np.ndarray,
        rewards: np.ndarray,
        terminated: bool,
    ) -> Episode:
        """Make an episode of a demonstration: observations (T+1, O), actions (T, D), rewards (T,)."""
        steps, size = actions.shape
        nothing = np.full(steps, np.nan)
        no_action = np.full((steps, size), np.nan, dtype=np.float32)
        return Episode(
            name=name,
            observations=observations[:-1].astype(np.float32),
            actions=actions.astype(np.float32),
            rewards=np.asarray(rewards, dtype=np.float64),
            next_observations=observations[1:].astype(np.float32),
            terminated=terminated,
            held=np.zeros(steps, dtype=bool),
            human=np.ones(steps, dtype=bool),
            bc_actions=no_action,
            bc_log_probs=nothing,
            bc_entropies=nothing.copy(),
            next_bc_actions=no_action.copy(),
        )


def group_episodes(transitions: Iterable[Transition]) -> list[Episode]:
    """Split transitions (each episode's in order, episodes possibly interleaved) into episodes."""
    groups: dict[str, list[Transition]] = {}
    for transition in transitions:
        groups.setdefault(transition.episode, []).append(transition)
    return [Episode.from_transitions(group) for group in groups.values()]


def acting_steps(episodes: Sequence[Episode], device: Device = 'cpu') -> tuple[Tensor, Tensor]:
    """Return observations (N, O) and actions (N, D) of all steps at which somebody acted: nobody imitates a hold."""
    return (
        torch.from_numpy(np.concatenate([e.observations[~e.held] for e in episodes])).to(device),
        torch.from_numpy(np.concatenate([e.actions[~e.held] for e in episodes])).to(device),
    )


def ends_by_itself(transition: Transition) -> bool:
    """Return whether an episode came to its end with a transition, and was not interrupted."""
    ended = transition.terminated or transition.truncated
    return ended and transition.end_reason not in INTERRUPTIONS


def finished_episodes(transitions: Sequence[Transition]) -> list[Episode]:
    """Return the episodes among `transitions` that came to an end by themselves and miss no step."""
    ended = {t.episode: t.step + 1 for t in transitions if ends_by_itself(t)}
    steps = Counter(t.episode for t in transitions)
    return group_episodes(t for t in transitions if ended.get(t.episode) == steps[t.episode])
