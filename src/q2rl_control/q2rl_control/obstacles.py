# SPDX-License-Identifier: Apache-2.0
"""What of the cell a planned motion keeps away from, as simple solids in the base frame."""

from __future__ import annotations

from dataclasses import dataclass

from q2rl_task import Pose, TaskSpec

FOLLOWING_M = 0.003
"""How far the executed way may be off the planned one; every obstacle is kept away from by this much more."""


@dataclass(frozen=True)
class Solid:
    """A box of edge lengths (x, y, z) [m], or a cylinder of (radius, length) along z [m], about its centre.

    margin: distance [m] to keep from it.
    """

    name: str
    size: tuple[float, ...]
    pose: Pose
    margin: float

    @property
    def is_box(self) -> bool:
        """Whether it is a box; else it is a cylinder."""
        return len(self.size) == 3


def obstacles(task: TaskSpec, fixture: Pose, part: Pose | None = None) -> tuple[Solid, ...]:
    """Return the solids of the cell.

    The fixture's hole is filled: no planned motion goes into it. What is only estimated may be off by the bound of the
    estimate's error, which is in its margin.

    :param fixture: as estimated, base frame
    :param part: as estimated, base frame; None without one
    """
    spec = task.fixture
    radius = spec.insert_radius_m + spec.radial_clearance_m + spec.wall_m
    height = spec.depth_m if spec.body_m is None else spec.body_m
    unsure = spec.estimate_error_m + FOLLOWING_M
    body = Solid('fixture', (radius, height), fixture @ Pose.of([0.0, 0.0, height / 2.0]), unsure)
    solids = [body]
    solids += [
        Solid(f'fixture_box_{k}', box.size, fixture @ box.pose, unsure)
        for k, box in enumerate(spec.boxes)
    ]
    solids += [
        Solid(f'obstacle_{k}', box.size, box.pose, FOLLOWING_M)
        for k, box in enumerate(task.obstacles)
    ]
    if task.part is not None and part is not None:
        above, below = task.part.above_m, task.part.below_m
        centre = part @ Pose.of([0.0, 0.0, (below - above) / 2.0])
        size = (spec.insert_radius_m, above + below)
        solids.append(Solid('part', size, centre, task.part.estimate_error_m + FOLLOWING_M))
    return tuple(solids)
