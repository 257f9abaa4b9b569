# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from q2rl_task import rotations

ANGLES = (0.0, 1e-12, 1e-6, 1e-4, 0.02, 1.0, 3.0, np.pi - 1e-6)


@pytest.mark.parametrize('angle', ANGLES)
def test_vectors_and_quaternions_are_those_of_scipy(angle):
    rng = np.random.default_rng(0)
    for _ in range(20):
        axis = rng.normal(size=3)
        vector = angle * axis / np.linalg.norm(axis)
        turn, other = Rotation.from_rotvec(vector), Rotation.random(random_state=rng)
        quaternion = rotations.from_vector(vector)
        assert abs(quaternion @ turn.as_quat()) == pytest.approx(1.0, abs=1e-12)
        np.testing.assert_allclose(rotations.to_vector(quaternion), vector, atol=1e-7)
        np.testing.assert_allclose(rotations.to_vector(-quaternion), vector, atol=1e-7)
        point = rng.normal(size=3)
        np.testing.assert_allclose(
            rotations.rotate(quaternion, point), turn.apply(point), atol=1e-12
        )
        both = rotations.product(quaternion, other.as_quat())
        assert abs(both @ (turn * other).as_quat()) == pytest.approx(1.0, abs=1e-12)
        back = rotations.product(both, rotations.inverse(other.as_quat()))
        assert rotations.angle_between(back, quaternion) < 1e-7
        assert rotations.angle_between(both, -other.as_quat()) == pytest.approx(angle, abs=1e-7)
