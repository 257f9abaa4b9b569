# SPDX-License-Identifier: Apache-2.0
"""What planners keep away from is what stands in the simulated cell."""

from __future__ import annotations

import itertools

import mujoco
import numpy as np
import pytest

from q2rl_control.obstacles import obstacles
from q2rl_sim.arm import SimArm
from q2rl_task import load_task

TOLERANCE_M = 0.001


def solid_corners(arm: SimArm) -> np.ndarray:
    """Corners of all boxes of the fixture and the world that something can touch, base frame (m, 3)."""
    model, data = arm.model, arm.data
    mujoco.mj_kinematics(model, data)
    corners = []
    for geom in range(model.ngeom):
        still = model.geom_bodyid[geom] in (0, arm.scene.fixture_body)
        if (
            still
            and model.geom_conaffinity[geom]
            and model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_BOX
        ):
            for signs in itertools.product((-1.0, 1.0), repeat=3):
                local = np.array(signs) * model.geom_size[geom]
                corners.append(data.geom_xpos[geom] + data.geom_xmat[geom].reshape(3, 3) @ local)
    return np.array(corners)


@pytest.mark.parametrize('name', ['pipe_assembly', 'kitting'])
def test_every_solid_of_the_scene_is_an_obstacle_and_nothing_else_is(name):
    task = load_task(name)
    solids = [s for s in obstacles(task, task.fixture.nominal.pose) if s.name != 'part']
    corners = solid_corners(SimArm(task, 0))
    assert len(corners) > 8 * 24
    distances = []
    for solid in solids:
        local = solid.pose.rotation.inv().apply(corners - solid.pose.position)
        if solid.is_box:
            excess = np.abs(local) - np.array(solid.size) / 2.0
        else:
            radius, length = solid.size
            beside = np.hypot(local[:, 0], local[:, 1]) - radius
            excess = np.column_stack([beside, np.abs(local[:, 2]) - length / 2.0])
        distances.append(excess.max(axis=1))
    assert np.min(distances, axis=0).max() < TOLERANCE_M
    # Each of them is as large as what it stands for: something reaches to its surface.
    assert all(np.abs(distance).min() < TOLERANCE_M for distance in distances)
