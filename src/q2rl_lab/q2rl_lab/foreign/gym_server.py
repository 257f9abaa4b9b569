# SPDX-License-Identifier: Apache-2.0
"""One Gymnasium environment, for the interpreter that it is installed for; see `serve.py` of q2rl_policies.

That interpreter may hold other releases of everything: this imports the standard library, numpy and gymnasium only.
"""

from __future__ import annotations

import importlib
import inspect
import random
from typing import Any

import numpy as np


def find(name: str) -> Any:
    """Return what `module:attribute` names."""
    module, _, attribute = name.partition(':')
    found = importlib.import_module(module)
    for part in attribute.split('.'):
        found = getattr(found, part)
    return found


class Server:
    """One environment and its scripted demonstrator, if it has one; requests: `make`, `reset`, `step`, `expert`."""

    def __init__(self) -> None:
        self.env: Any = None
        self._policy: Any = None
        self._raw: Any = None
        self._success = 'success'

    def make(self, request: dict[str, Any]) -> dict[str, Any]:
        """Make the environment; the answer has the length of observations and the bounds of actions."""
        import gymnasium

        # Its own time limit is taken out where gymnasium put it there: the horizon of the task is the one that counts.
        self.env = gymnasium.make(
            request['id'], max_episode_steps=-1, disable_env_checker=True, **request['arguments']
        )
        for name, value in request['attributes'].items():
            if not hasattr(self.env.unwrapped, name):
                raise AttributeError(f'the environment has no attribute {name}')
            setattr(self.env.unwrapped, name, value)
        self._success = request['success']
        if request['policy']:
            self._policy = self._make_policy(find(request['policy']))
        actions = self.env.action_space
        if not isinstance(actions, gymnasium.spaces.Box):
            raise TypeError(f'actions are {type(actions).__name__}, not a Box')
        if not boxes_only(self.env.observation_space):
            raise TypeError(f'observations are {self.env.observation_space}, not boxes of numbers')
        return {
            'observation_size': gymnasium.spaces.flatdim(self.env.observation_space),
            'action_low': actions.low.ravel().tolist(),
            'action_high': actions.high.ravel().tolist(),
        }

    def _make_policy(self, found: Any) -> Any:
        if not isinstance(found, type):
            return found
        wants = inspect.signature(found).parameters
        return found(env=self.env.unwrapped) if 'env' in wants else found()

    def reset(self, request: dict[str, Any]) -> dict[str, Any]:
        """Present the scene of a seed: all generators the environment may draw from are seeded."""
        seed = int(request['seed'])
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - environments draw from it
        older = getattr(self.env.unwrapped, 'seed', None)
        if callable(older):
            older(seed)
        self._raw, _ = self.env.reset(seed=seed)
        if hasattr(self._policy, 'reset'):
            self._policy.reset()
        return {'observation': self._observation()}

    def step(self, request: dict[str, Any]) -> dict[str, Any]:
        """Act; success is the named entry of `info`, or that the environment ended the episode."""
        space = self.env.action_space
        action = np.asarray(request['action'], dtype=space.dtype).reshape(space.shape)
        self._raw, reward, terminated, truncated, info = self.env.step(action)
        if self._success == 'terminated':
            success = bool(terminated)
        elif self._success in info:
            success = bool(np.all(np.asarray(info[self._success]) > 0))
        else:
            raise LookupError(
                f'info has no entry {self._success}; it has {", ".join(map(str, info))}'
            )
        return {
            'observation': self._observation(),
            'reward': float(reward),
            'success': success,
            'terminated': bool(terminated),
            'truncated': bool(truncated),
        }

    def expert(self, request: dict[str, Any]) -> dict[str, Any]:
        """Ask the demonstrator for its action, as the environment takes it."""
        act = getattr(self._policy, 'get_action', self._policy)
        return {'action': np.asarray(act(self._raw), dtype=float).ravel().tolist()}

    def _observation(self) -> list[float]:
        import gymnasium

        flat = gymnasium.spaces.flatten(self.env.observation_space, self._raw)
        return np.asarray(flat, dtype=float).ravel().tolist()


def boxes_only(space: Any) -> bool:
    """Return whether a space holds real numbers only, perhaps by name."""
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        return all(map(boxes_only, space.spaces.values()))
    return isinstance(space, spaces.Box)
