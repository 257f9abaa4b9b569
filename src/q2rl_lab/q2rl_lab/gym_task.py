# SPDX-License-Identifier: Apache-2.0
"""A Gymnasium environment as a task: `GymTask` is what a suite's YAML says, `FixedGymTask` what is learned on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
import hashlib
import importlib.util
import json
from pathlib import Path
import sys
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from q2rl_lab.gym_process import GymProcess
from q2rl_lab.workspace import find_root
from q2rl_task import InputError
from q2rl_task.observed_blocks import WHOLE, ObservedBlock
from q2rl_task.settings_file import Section
from q2rl_task.spec import RewardSpec


class GymReward(RewardSpec):
    """`per_step` until `success` ends the episode; or (`source: environment`) what the environment pays.

    `range`: the least and the greatest reward of a step of the environment's own, which bounds values.
    """

    per_step: float = -1.0
    success: float = 0.0
    discount: float = Field(default=0.99, gt=0, lt=1)
    source: Literal['success', 'environment'] = 'success'
    range: tuple[float, float] | None = None

    @model_validator(mode='after')
    def _bounded(self):
        if (self.source == 'environment') != (self.range is not None):
            raise ValueError('`source: environment` and `range: [least, greatest]` go together')
        if self.range is not None and self.range[0] >= self.range[1]:
            raise ValueError('`range` is [least, greatest]')
        return self

    @property
    def step_range(self) -> tuple[float, float] | None:
        """The least and the greatest reward of a step, where it is the environment's own."""
        return self.range


class ObservationScaling(Section):
    """Observations have the mean of the demonstrations taken off and are divided by their standard deviation.

    Divisors are not below `least_scale`, in the environment's units; the result is kept to +- `limit`. Nothing of it
    changes once the demonstrations are there. `blocks`: names of its numbers with how many each has, in order, for
    policies made elsewhere; they change nothing that is learned.
    """

    least_scale: float = Field(default=0.01, gt=0)
    limit: float = Field(default=10.0, gt=0)
    blocks: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)


class GymDemonstrations(Section):
    """Where demonstrations come from, and how many the clone gets.

    `policy`: `module:name` of a scripted demonstrator: an object, a class (given the environment if it takes an `env`)
    or a function; its `get_action(observation)`, or it itself, is called with the environment's observation. `noise`:
    standard deviation of what is added to its actions, in units of [-1, 1].
    Or `file`: HDF5 in the layout of Minari or robomimic (`keys`: which of its observations, in order).
    """

    count: int = Field(ge=2)
    policy: str = ''
    noise: float = Field(default=0.0, ge=0)
    file: str = ''
    keys: tuple[str, ...] = ()

    @model_validator(mode='after')
    def _one_source(self):
        if bool(self.policy) == bool(self.file):
            raise ValueError('give either `policy` or `file`')
        if self.policy and ':' not in self.policy:
            raise ValueError('`policy` is module:name')
        return self


class GymTask(Section):
    """An environment that `gymnasium.make(id, **arguments)` makes; `id` may be `module:id`.

    `attributes` are set on the unwrapped environment. `success`: the entry of `info` that says so, or `terminated`.
    """

    name: str = Field(pattern=r'^[a-z][a-z0-9_]*$')
    id: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    attributes: dict[str, Any] = Field(default_factory=dict)
    max_steps: int = Field(ge=2)
    success: str = 'success'
    reward: GymReward = GymReward()
    observation: ObservationScaling = ObservationScaling()
    demonstrations: GymDemonstrations

    @property
    def contract_fields(self) -> dict[str, Any]:
        """All of it but names: what is observed follows from the demonstrations as well."""
        return self.model_dump(mode='json', exclude={'observation': {'blocks'}})

    @cached_property
    def contract_hash(self) -> str:
        """16 hex digits over `contract_fields`."""
        text = json.dumps(self.contract_fields, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def fixed(self, raw: Sequence[np.ndarray], action_size: int) -> FixedGymTask:
        """Return the task with the scaling of observations that demonstrations `raw`, each (T + 1, O), give."""
        stacked = np.concatenate(list(raw))
        scale = np.maximum(stacked.std(axis=0), self.observation.least_scale)
        return FixedGymTask(
            **self.model_dump(),
            action_size=action_size,
            mean=tuple(stacked.mean(axis=0).tolist()),
            scale=tuple(scale.tolist()),
        )


class FixedGymTask(GymTask):
    """A task with its sizes, and the scaling of its observations: see `q2rl_task.contract.Contract`."""

    action_size: int = Field(ge=1)
    mean: tuple[float, ...] = Field(min_length=1)
    scale: tuple[float, ...] = Field(min_length=1)

    @property
    def observation_size(self) -> int:
        """Length O of the observation vector."""
        return len(self.mean)

    @property
    def explored_size(self) -> int:
        """How many components exploration may vary: all, for nothing tells which of them toggle."""
        return self.action_size

    @property
    def observed_blocks(self) -> tuple[ObservedBlock, ...]:
        """The whole observation, then its `blocks`; a policy made elsewhere is shown the environment's own numbers."""
        named, first = [(WHOLE, 0, self.observation_size)], 0
        for name, size in self.observation.blocks.items():
            named.append((name, first, size))
            first += size
        return tuple(
            ObservedBlock(
                name,
                first,
                np.array(self.scale[first : first + size]),
                np.array(self.mean[first : first + size]),
                1.0,
            )
            for name, first, size in named
        )

    def raw(self, observation: np.ndarray) -> np.ndarray:
        """Return the environment's own observations (..., O) float64 of those that policies see, as far as kept."""
        return observation * np.array(self.scale) + np.array(self.mean)

    def observe(self, raw: np.ndarray) -> np.ndarray:
        """Return observations as policies see them, (..., O) float32, of the environment's own."""
        limit = self.observation.limit
        scaled = (raw - np.array(self.mean)) / np.array(self.scale)
        return np.clip(scaled, -limit, limit).astype(np.float32)


class PythonEnvironment(Section):
    """The virtual environment that holds the environments, in the root of q2rl or at a path, and what makes it."""

    venv: str
    requirements: str = ''


@dataclass(frozen=True)
class GymHost:
    """Where the environments of a suite run.

    :param environment: None: in the environment of q2rl itself
    :param folder: of the suite's file; its modules can be imported there, and its files are named from there
    """

    suite: str
    environment: PythonEnvironment | None
    folder: Path

    def check(self) -> None:
        """See that the interpreter is there, before anything is started.

        :raises InputError: it is not, or it is q2rl's own and has no Gymnasium
        """
        if Path(sys.executable) == self.python and importlib.util.find_spec('gymnasium') is None:
            remedy = 'name the environment that has it as `python: {venv: ...}`, or install it'
            raise InputError(f'suite {self.suite}', 'needs Gymnasium', remedy)

    @property
    def python(self) -> Path:
        """The interpreter.

        :raises InputError: it is not there
        """
        if self.environment is None:
            return Path(sys.executable)
        venv = Path(self.environment.venv)
        python = (find_root() or Path()) / venv / 'bin' / 'python'
        if not python.is_file():
            remedy = f'make it: ./q2rl shell python -m venv {venv}'
            if self.environment.requirements:
                remedy += f' && {venv}/bin/pip install -r {self.environment.requirements}'
            raise InputError(f'suite {self.suite}', f'needs {python}, which is missing', remedy)
        return python

    def start(self, task: GymTask) -> GymProcess:
        """Start an environment of a task.

        :raises InputError: it cannot be made
        """
        request = task.model_dump(mode='json', include={'id', 'arguments', 'attributes', 'success'})
        request['policy'] = task.demonstrations.policy
        return GymProcess(f'task {task.name}', self.python, self.folder, request)
