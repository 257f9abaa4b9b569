# SPDX-License-Identifier: Apache-2.0
"""Where an episode starts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from q2rl_task.pose import Pose
from q2rl_task.spec import TaskSpec


def draw_start(
    task: TaskSpec, fixture: Pose, seed: int | Sequence[int], part: Pose | None = None
) -> Pose:
    """Draw the tip's start pose (base frame): above the *estimated* rim or part, spread as the task says.

    :param fixture: the estimated pose of the fixture, base frame
    :param seed: what `numpy.random.default_rng` takes; the same seed gives the same pose
    :param part: the estimated pose of the loose part, base frame; only for a task with one
    """
    above = part if task.reset.above == 'part' else fixture
    reset, rng = task.reset, np.random.default_rng(seed)
    shift = rng.uniform(-1.0, 1.0, 3) * reset.spread_m - np.array([0.0, 0.0, reset.height_m])
    turn = np.radians(rng.uniform(-1.0, 1.0, 3) * reset.spread_deg)
    return above @ Pose.from_rotation(shift, Rotation.from_rotvec(turn))
