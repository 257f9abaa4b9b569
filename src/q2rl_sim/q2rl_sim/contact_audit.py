# SPDX-License-Identifier: Apache-2.0
"""Watch a running `SimArm` for what a wrong contact model does: penetration, clamping normals, a frozen tip."""

from __future__ import annotations

import mujoco
import numpy as np

from q2rl_sim.round_insert import EDGE_RADIUS_M

DENSE = 64


class ContactAudit:
    """Judge every control step; geometry is computed here, not taken from MuJoCo's contacts."""

    def __init__(self, arm) -> None:
        model = arm.model
        self.steps = self.contacts = self.wrong_normals = 0
        self.worst_penetration = 0.0
        boxes = [
            g
            for g in range(model.ngeom)
            if model.geom_bodyid[g] == arm.scene.fixture_body
            and model.geom_type[g] == mujoco.mjtGeom.mjGEOM_BOX
        ]
        self._boxes = np.array(boxes)
        self._radius = arm.task.fixture.insert_radius_m - EDGE_RADIUS_M

    def __call__(self, arm, _measurement=None, _commanded=None) -> None:
        """Judge the present state; fits the `watch` of `run_episode`."""
        self.steps += 1
        self.worst_penetration = max(self.worst_penetration, self.penetration(arm))
        for normal, point in self.normals(arm):
            self.contacts += 1
            tip, matrix = (
                arm.data.site_xpos[arm.scene.insert_site],
                arm.data.site_xmat[arm.scene.insert_site].reshape(3, 3),
            )
            inward = -matrix.T @ (point - tip)
            inward[2] = 0.0
            inward /= np.linalg.norm(inward)
            local = matrix.T @ normal
            # The pipe's skin faces outwards and down: what touches it can push only inwards (radially) and up (-z).
            self.wrong_normals += bool(local @ inward < -0.1 or local[2] > 0.1)

    @staticmethod
    def normals(arm) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return (normal into the inserted thing (3,), contact point (3,) [m]) of every contact now, base frame."""
        found = []
        insert = arm.scene.insert_geoms
        for contact in arm.data.contact:
            if not {contact.geom1, contact.geom2} & insert:
                continue
            sign = 1.0 if contact.geom2 in insert else -1.0
            found.append((sign * contact.frame[:3], contact.pos.copy()))
        return found

    def penetration(self, arm) -> float:
        """Depth [m] of the rounded tip edge, as a full circle, in the boxes of the socket."""
        model, data = arm.model, arm.data
        mujoco.mj_kinematics(model, data)
        angles = np.arange(DENSE) * 2.0 * np.pi / DENSE
        ring = np.column_stack(
            [
                self._radius * np.cos(angles),
                self._radius * np.sin(angles),
                np.full(DENSE, -EDGE_RADIUS_M),
            ]
        )
        tip = (
            data.site_xpos[arm.scene.insert_site]
            + ring @ data.site_xmat[arm.scene.insert_site].reshape(3, 3).T
        )
        rotation = data.geom_xmat[self._boxes].reshape(-1, 3, 3)
        local = np.einsum('pbj,bji->pbi', tip[:, None] - data.geom_xpos[self._boxes], rotation)
        beyond = np.abs(local) - model.geom_size[self._boxes]
        distance = np.linalg.norm(np.maximum(beyond, 0.0), axis=-1) + np.minimum(
            beyond.max(axis=-1), 0.0
        )
        return float(max(0.0, (EDGE_RADIUS_M - distance).max()))
