# SPDX-License-Identifier: Apache-2.0
"""What touches when a round thing goes into a round hole, whoever holds it: its barrel, and the hole's collar.

A MuJoCo cylinder among boxes gets clamped by contact normals of opposite sign, so the inserted end is a barrel of
thin capsules: capsule against box is computed in closed form, and its normal is right as long as the capsule's axis is
outside the box. The capsules' radius is also the rounding of the edge (a 0.5 mm chamfer). The hole is a collar of
boxes, each wide enough to reach into its neighbours.
Being hollow, the barrel can be touched from inside as well, when tilted by more than about 7 degrees over an outer
corner of the collar or the board.
"""

from __future__ import annotations

import mujoco
import numpy as np

from q2rl_sim.panda import HAND_GROUP
from q2rl_sim.socket_parts import COLLAR_RGBA, COLLAR_WALL_M, FRICTION, Box, collar

EDGE_RADIUS_M = 0.0005
STAVES = 32
"""Capsules along the skin, like the staves of a barrel; their round ends are the edge of its mouth."""
VISIBLE_GROUP, CONTACT_GROUP = HAND_GROUP, 3


def make_contact(geom, contype: int, conaffinity: int) -> None:
    """Give `geom` the stiff, slippery contact of machined parts, between the given bits."""
    geom.contype, geom.conaffinity = contype, conaffinity
    geom.friction = [FRICTION, 0.0, 0.0]
    geom.condim = 3
    geom.solref = [0.005, 1.0]
    geom.solimp = [0.95, 0.99, 0.0005, 0.5, 2.0]


def add_barrel(body, radius: float, end: float, length: float) -> None:
    """Add staves to `body` whose outer skin has `radius`; their mouth is at z = `end`, they run towards -z."""
    circle = radius - EDGE_RADIUS_M
    for angle in np.arange(STAVES) * (2.0 * np.pi / STAVES):
        x, y = circle * np.cos(angle), circle * np.sin(angle)
        stave = body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_CAPSULE,
            size=[EDGE_RADIUS_M, 0.0, 0.0],
            fromto=[x, y, end - EDGE_RADIUS_M, x, y, end - length],
        )
        stave.group = CONTACT_GROUP
        make_contact(stave, 1, 0)


def add_collar(spec: mujoco.MjSpec, body, inner: float, depth: float) -> None:
    """Add the walls of a hole of radius `inner` from the rim (z = 0 of `body`) down to `depth`."""
    for box in collar(inner, depth):
        wall = add_box(body, box)
        wall.group = CONTACT_GROUP
        make_contact(wall, 0, 1)
    outer = inner + COLLAR_WALL_M
    add_tube(spec, body, 'collar_visual', inner, outer, 0.0, depth, COLLAR_RGBA)


def add_box(body, box: Box):
    """Add a box to `body`."""
    return body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=box.half,
        pos=box.centre,
        quat=[np.cos(box.yaw / 2.0), 0.0, 0.0, np.sin(box.yaw / 2.0)],
        rgba=box.rgba,
    )


def add_tube(
    spec: mujoco.MjSpec, body, name: str, inner: float, outer: float, low: float, high: float, rgba
) -> None:
    """Add a visual tube along z from `low` to `high` to `body`; it touches nothing and weighs nothing."""
    segments = 48
    angles = np.arange(segments) * (2.0 * np.pi / segments)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    rims = [(outer, low), (outer, high), (inner, high), (inner, low)]
    vertices = np.concatenate(
        [np.column_stack([r * circle, np.full(segments, z)]) for r, z in rims]
    )
    faces = []
    for k in range(4):
        a, b = k * segments, ((k + 1) % 4) * segments
        for i in range(segments):
            j = (i + 1) % segments
            faces += [(a + i, a + j, b + i), (a + j, b + j, b + i)]
    mesh = spec.add_mesh(name=name)
    mesh.uservert = vertices.ravel()
    mesh.userface = np.array(faces, dtype=np.int32).ravel()
    mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL
    geom = body.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname=name, rgba=rgba)
    geom.contype = geom.conaffinity = 0
    geom.mass = 0.0
    geom.group = VISIBLE_GROUP
