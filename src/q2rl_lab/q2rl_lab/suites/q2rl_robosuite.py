# SPDX-License-Identifier: Apache-2.0
"""robosuite's tasks as Gymnasium environments, for the suite `robosuite`; imports nothing of q2rl.

Observations are those blocks that robomimic's data sets have; the arm moves by Cartesian deltas (OSC_POSE).
"""

from __future__ import annotations

import gymnasium
import numpy as np
import robosuite

# The suite's `keys` are these, in this order; robomimic calls the last one `object`.
BLOCKS = ('robot0_eef_pos', 'robot0_eef_quat', 'robot0_gripper_qpos', 'object-state')


class RobosuiteTask(gymnasium.Env):
    """One task. `info['success']` is robosuite's own check."""

    def __init__(self, task: str) -> None:
        self._env = robosuite.make(
            task,
            robots='Panda',
            controller_configs=robosuite.load_composite_controller_config(controller='BASIC'),
            has_renderer=False,
            has_offscreen_renderer=False,
            use_camera_obs=False,
            use_object_obs=True,
            ignore_done=True,
            control_freq=20,
        )
        low, high = self._env.action_spec
        self.action_space = gymnasium.spaces.Box(
            low.astype(np.float32), high.astype(np.float32), dtype=np.float32
        )
        size = self._observe(self._env.reset()).size
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float64)

    def reset(self, *, seed=None, options=None):
        """Present a scene; robosuite draws it from the generator of the environment."""
        super().reset(seed=seed)
        self._env.rng = np.random.default_rng(seed)
        if getattr(self._env, 'placement_initializer', None) is not None:
            self._env.placement_initializer.rng = self._env.rng
        return self._observe(self._env.reset()), {}

    def step(self, action):
        """Act for one control period."""
        found, reward, _, _ = self._env.step(action)
        success = bool(self._env._check_success())
        return self._observe(found), float(reward), False, False, {'success': success}

    def _observe(self, found):
        return np.concatenate([np.asarray(found[name], dtype=float).ravel() for name in BLOCKS])


for _task in ('Lift', 'NutAssemblySquare', 'PickPlaceCan', 'Door'):
    gymnasium.register(f'{_task}-v0', RobosuiteTask, kwargs={'task': _task})
