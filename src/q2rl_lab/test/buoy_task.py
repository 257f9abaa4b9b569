# SPDX-License-Identifier: Apache-2.0
"""An environment such as other people write, for tests: a boat has to reach a buoy. Imports nothing of q2rl.

It is imported in a process of its own, from beside the suite's YAML.
"""

from __future__ import annotations

import gymnasium
import numpy as np


class Buoy(gymnasium.Env):
    """Observation: place [m] and the way to the buoy [cm]. Action: metres per step, least -0.5 on the first axis."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (4,), np.float64)
    action_space = gymnasium.spaces.Box(
        np.array([-0.5, -1.0]), np.array([1.0, 1.0]), (2,), np.float64
    )

    def __init__(self, key: str = 'success', capsizes: float = 100.0) -> None:
        self._key, self._capsizes = key, capsizes
        self.frozen = False
        self._distance = 2.0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        # As some do: from the global stream of random numbers.
        angle = 0.0 if self.frozen else np.random.uniform(0.0, 0.5 * np.pi)  # noqa: NPY002
        self._place = np.zeros(2)
        self._buoy = self._distance * np.array([np.cos(angle), np.sin(angle)])
        return self._observe(), {}

    def step(self, action):
        print('ahoy')
        assert self.action_space.contains(np.asarray(action)), action
        self._place = self._place + action
        left = float(np.linalg.norm(self._buoy - self._place))
        out = bool(np.abs(self._place).max() > self._capsizes)
        return self._observe(), -left, out, False, {self._key: float(left < 0.4)}

    def _observe(self):
        return np.concatenate([self._place, 100.0 * (self._buoy - self._place)])


class Named(Buoy):
    """The same with observations by name."""

    observation_space = gymnasium.spaces.Dict(
        {
            'place': gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64),
            'way': gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64),
        }
    )

    def _observe(self):
        return {'place': self._place, 'way': 100.0 * (self._buoy - self._place)}


class Dying(Buoy):
    """The same, whose process ends in the middle."""

    def step(self, action):
        import os
        import sys

        print('the mast broke', file=sys.stderr, flush=True)
        os._exit(3)


class Sailor:
    """Sails straight to the buoy."""

    def get_action(self, observation):
        way = observation['way'] if isinstance(observation, dict) else observation[2:]
        return np.clip(0.01 * way, -0.5, 0.5)


def drifter(observation):
    """Go nowhere."""
    return np.zeros(2)


for name, made in (('Buoy-v0', Buoy), ('Named-v0', Named), ('Dying-v0', Dying)):
    gymnasium.register(name, made, max_episode_steps=3)
