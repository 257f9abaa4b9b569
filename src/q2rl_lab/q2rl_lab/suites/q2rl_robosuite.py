# SPDX-License-Identifier: Apache-2.0
"""robosuite's tasks as Gymnasium environments, for the suite `robosuite`; imports nothing of q2rl.

Observations are those blocks that robomimic's data sets have; the arm moves by Cartesian deltas (OSC_POSE).
"""

from __future__ import annotations

import gymnasium
import numpy as np
import robosuite

ROBOT = ('robot0_eef_pos', 'robot0_eef_quat', 'robot0_gripper_qpos')
# What robomimic calls `object`, block by block: robosuite's own `object-state` has these in another order since 1.5.
OBJECTS = {
    'Lift': ('cube_pos', 'cube_quat', 'gripper_to_cube_pos'),
    'NutAssemblySquare': (
        'SquareNut_pos',
        'SquareNut_quat',
        'SquareNut_to_robot0_eef_pos',
        'SquareNut_to_robot0_eef_quat',
    ),
    'PickPlaceCan': ('Can_pos', 'Can_quat', 'Can_to_robot0_eef_pos', 'Can_to_robot0_eef_quat'),
    'Door': (
        'door_pos',
        'handle_pos',
        'door_to_eef_pos',
        'handle_to_eef_pos',
        'hinge_qpos',
        'handle_qpos',
    ),
}


class RobosuiteTask(gymnasium.Env):
    """One task. `info['success']` is robosuite's own check."""

    def __init__(self, task: str) -> None:
        self._blocks = (*ROBOT, *OBJECTS[task])
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
        """Present a scene."""
        super().reset(seed=seed)
        # robosuite draws all of a scene from one generator, which its samplers keep hold of: it is set, not replaced.
        fresh = np.random.default_rng(seed)
        self._env.rng.bit_generator.state = fresh.bit_generator.state
        self._env.reset()
        # Relative poses are computed of what was observed before, and are 0 in what `reset` returns.
        return self._observe(self._env._get_observations(force_update=True)), {}

    def step(self, action):
        """Act for one control period."""
        found, reward, _, _ = self._env.step(action)
        success = bool(self._env._check_success())
        return self._observe(found), float(reward), False, False, {'success': success}

    def _observe(self, found):
        blocks = [np.asarray(found[name], dtype=float).ravel() for name in self._blocks]
        return np.concatenate(blocks)


for _task in OBJECTS:
    gymnasium.register(f'{_task}-v0', RobosuiteTask, kwargs={'task': _task})
