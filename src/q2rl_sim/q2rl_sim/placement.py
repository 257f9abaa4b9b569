# SPDX-License-Identifier: Apache-2.0
"""Where fixture and part truly stand in an episode, and where the robot believes them to stand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from q2rl_task import Pose, TaskSpec
from q2rl_task.spec import FixtureSpec, PartSpec

CLEARANCE_M = 0.01
"""How far above the nominal rim the tip must be before the fixture is moved."""


@dataclass(frozen=True)
class Placement:
    """True and estimated pose of the fixture and, where there is one, of the loose part; base frame."""

    truth: Pose
    estimate: Pose
    part: Pose | None = None
    part_estimate: Pose | None = None


def draw_placement(task: TaskSpec, seed: int) -> Placement:
    """Draw the poses of fixture and part and the errors of their estimates, from independent streams of `seed`.

    The truth is uniform in the task's box around the nominal pose (axes of the nominal frame). The error has
    a uniform direction and a uniform length up to the task's bound, in position and in rotation vector, axes of the
    true frame.
    """
    place, err, part_place, part_err = (
        np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(4)
    )
    truth, estimate = _draw(task.fixture, place, err)
    if task.part is None:
        return Placement(truth, estimate)
    return Placement(truth, estimate, *_draw(task.part, part_place, part_err))


def placement_refusal(task: TaskSpec, tip: Pose) -> str:
    """Return why the fixture may not be moved while the tip is there (base frame), or an empty string."""
    depth = tip.relative_to(task.fixture.nominal.pose).position[2]
    return 'the tip is not clear of the fixture' if depth > -CLEARANCE_M else ''


def _draw(
    what: FixtureSpec | PartSpec, place: np.random.Generator, err: np.random.Generator
) -> tuple[Pose, Pose]:
    """Draw a true pose and its estimate."""
    shift = place.uniform(-1.0, 1.0, 3) * what.placement_m
    turn = np.radians(place.uniform(-1.0, 1.0, 3) * what.placement_deg)
    truth = what.nominal.pose @ Pose.from_rotation(shift, Rotation.from_rotvec(turn))
    error = Pose.from_rotation(
        _direction(err) * err.uniform(0.0, what.estimate_error_m),
        Rotation.from_rotvec(
            _direction(err) * np.radians(err.uniform(0.0, what.estimate_error_deg))
        ),
    )
    return truth, truth @ error


def _direction(rng: np.random.Generator) -> np.ndarray:
    vector = rng.normal(size=3)
    return vector / np.linalg.norm(vector)
