# SPDX-License-Identifier: Apache-2.0
"""What learning asks of a task: sizes, reward and a hash. `TaskSpec` says more, of frames, limits and resets."""

from __future__ import annotations

from typing import Any, Protocol

from q2rl_task.observed_blocks import ObservedBlock
from q2rl_task.spec import RewardSpec


class Contract(Protocol):
    """A task as policies, learner and logs know it: a robot's `TaskSpec`, or one without frames and guard."""

    @property
    def name(self) -> str:
        """What the task is called."""

    @property
    def max_steps(self) -> int:
        """After how many steps an episode is cut."""

    @property
    def reward(self) -> RewardSpec:
        """What a step pays."""

    @property
    def observation_size(self) -> int:
        """Length O of the observation vector."""

    @property
    def action_size(self) -> int:
        """Length D of the action vector; each component lies in [-1, 1]."""

    @property
    def observed_blocks(self) -> tuple[ObservedBlock, ...]:
        """What its numbers are, by name; the first block is the whole."""

    @property
    def explored_size(self) -> int:
        """How many of its components, the first ones, an exploring policy may vary."""

    @property
    def contract_fields(self) -> dict[str, Any]:
        """All that gives observation, action and reward their meaning, as plain data."""

    @property
    def contract_hash(self) -> str:
        """16 hex digits over `contract_fields`."""
