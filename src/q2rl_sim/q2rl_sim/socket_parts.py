# SPDX-License-Identifier: Apache-2.0
"""The socket of pipe assembly as plain boxes, and when its switch is pressed: for MuJoCo and Gazebo alike.

The frame is the fixture's: origin at the centre of the rim, z into the hole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from q2rl_task import TaskSpec

COLLAR_BOXES = 24
COLLAR_WALL_M = 0.012
FRICTION = 0.2
BOARD_BELOW_RIM_M = 0.035
BOARD_HALF_M = 0.008
STAND_HALF_M = 0.0475
COLLAR_RGBA = (0.16, 0.42, 0.66, 1.0)
FLOOR_RGBA = (0.1, 0.27, 0.42, 1.0)
BOARD_RGBA = (0.82, 0.80, 0.76, 1.0)
STAND_RGBA = (0.60, 0.62, 0.65, 1.0)


@dataclass(frozen=True)
class Box:
    """A box: half sizes (3,) [m], centre (3,) [m], turned about z by `yaw` [rad]."""

    name: str
    half: tuple[float, float, float]
    centre: tuple[float, float, float]
    yaw: float
    rgba: tuple[float, float, float, float]


def collar(inner: float, depth: float) -> list[Box]:
    """Return the walls of a hole of radius `inner` from the rim down to `depth`, each reaching into its neighbours."""
    # A box's inner face is tangent to the hole; past the vertex it runs inside its neighbour, never into the hole.
    half_width = (inner + COLLAR_WALL_M) * np.tan(np.pi / COLLAR_BOXES)
    middle = inner + COLLAR_WALL_M / 2.0
    return [
        Box(
            f'wall_{k}',
            (COLLAR_WALL_M / 2.0, float(half_width), depth / 2.0),
            (float(middle * np.cos(angle)), float(middle * np.sin(angle)), depth / 2.0),
            float(angle),
            COLLAR_RGBA,
        )
        for k, angle in enumerate(np.arange(COLLAR_BOXES) * (2.0 * np.pi / COLLAR_BOXES))
    ]


def hole_radius(task: TaskSpec) -> float:
    """Return the radius of the task's hole [m]."""
    return task.fixture.insert_radius_m + task.fixture.radial_clearance_m


def socket_walls(task: TaskSpec) -> list[Box]:
    """Return the walls of the pipe's socket."""
    return collar(hole_radius(task), BOARD_BELOW_RIM_M)


def socket_floor_and_board(task: TaskSpec) -> list[Box]:
    """Return the floor of the hole, and the board that the socket stands on."""
    inner, depth = hole_radius(task), task.fixture.depth_m
    thickness = (BOARD_BELOW_RIM_M - depth) / 2.0
    return [
        Box('floor', (inner, inner, thickness), (0.0, 0.0, depth + thickness), 0.0, FLOOR_RGBA),
        Box(
            'board',
            (0.08, 0.08, BOARD_HALF_M),
            (0.0, 0.0, BOARD_BELOW_RIM_M + BOARD_HALF_M),
            0.0,
            BOARD_RGBA,
        ),
    ]


def stand() -> Box:
    """Return what is under the board; nothing touches it."""
    top = BOARD_BELOW_RIM_M + 2.0 * BOARD_HALF_M
    return Box('stand', (0.05, 0.05, STAND_HALF_M), (0.0, 0.0, top + STAND_HALF_M), 0.0, STAND_RGBA)


def depth_in_hole(task: TaskSpec, insert: np.ndarray) -> float:
    """How deep [m] an end at `insert` (3,) of the fixture frame is in its hole; 0 unless within its circle."""
    x, y, z = insert
    inside = x * x + y * y <= (2.0 * task.fixture.radial_clearance_m) ** 2
    return max(float(z), 0.0) if inside else 0.0


def is_deep(task: TaskSpec, insert: np.ndarray) -> bool:
    """Whether an insert's tip (3,) [m, fixture frame] is deep enough in the hole for the task."""
    fixture = task.fixture
    return depth_in_hole(task, insert) >= fixture.success_depth_fraction * fixture.depth_m
