# SPDX-License-Identifier: Apache-2.0
"""Where the fixture truly stands in an episode, and where the robot believes it to stand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from q2rl_task import Pose, TaskSpec


@dataclass(frozen=True)
class Placement:
    """True and estimated pose of the fixture, both in the base frame."""

    truth: Pose
    estimate: Pose


def draw_placement(task: TaskSpec, seed: int) -> Placement:
    """Draw the fixture's pose and the error of its estimate, from two independent streams of `seed`.

    The truth is uniform in the task's box around the nominal pose (axes of the nominal fixture frame). The error has
    a uniform direction and a uniform length up to the task's bound, in position and in rotation vector, axes of the
    true fixture frame.
    """
    place, err = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2))
    fixture = task.fixture
    shift = place.uniform(-1.0, 1.0, 3) * fixture.placement_m
    turn = np.radians(place.uniform(-1.0, 1.0, 3) * fixture.placement_deg)
    truth = fixture.nominal.pose @ Pose.from_rotation(shift, Rotation.from_rotvec(turn))
    error = Pose.from_rotation(
        _direction(err) * err.uniform(0.0, fixture.estimate_error_m),
        Rotation.from_rotvec(
            _direction(err) * np.radians(err.uniform(0.0, fixture.estimate_error_deg))
        ),
    )
    return Placement(truth, truth @ error)


def _direction(rng: np.random.Generator) -> np.ndarray:
    vector = rng.normal(size=3)
    return vector / np.linalg.norm(vector)
