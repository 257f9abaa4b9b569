# SPDX-License-Identifier: Apache-2.0
"""Quaternion arithmetic (x, y, z, w) for the tick, where scipy's per-call overhead would cost a millisecond."""

from __future__ import annotations

import math

import numpy as np

SMALL = 1e-8


def product(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the unit quaternion (4,) of turning by `second`, then by `first`."""
    ax, ay, az, aw = first.tolist()
    bx, by, bz, bw = second.tolist()
    x = aw * bx + ax * bw + ay * bz - az * by
    y = aw * by - ax * bz + ay * bw + az * bx
    z = aw * bz + ax * by - ay * bx + az * bw
    w = aw * bw - ax * bx - ay * by - az * bz
    norm = math.sqrt(x * x + y * y + z * z + w * w)
    return np.array([x / norm, y / norm, z / norm, w / norm])


def inverse(quaternion: np.ndarray) -> np.ndarray:
    """Return the inverse of a unit quaternion (4,)."""
    return quaternion * np.array([-1.0, -1.0, -1.0, 1.0])


def from_vector(vector: np.ndarray) -> np.ndarray:
    """Return the quaternion (4,) of a rotation vector (3,) [rad]."""
    x, y, z = vector.tolist()
    angle = math.sqrt(x * x + y * y + z * z)
    scale = 0.5 - angle * angle / 48.0 if angle < 1e-4 else math.sin(0.5 * angle) / angle
    return np.array([x * scale, y * scale, z * scale, math.cos(0.5 * angle)])


def to_vector(quaternion: np.ndarray) -> np.ndarray:
    """Return the rotation vector (3,) [rad], at most pi long, of a unit quaternion (4,)."""
    x, y, z, w = quaternion.tolist()
    if w < 0.0:
        x, y, z, w = -x, -y, -z, -w
    sine = math.sqrt(x * x + y * y + z * z)
    scale = 2.0 if sine < SMALL else 2.0 * math.atan2(sine, w) / sine
    return np.array([x * scale, y * scale, z * scale])


def rotate(quaternion: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Return a vector (3,) turned by a unit quaternion (4,)."""
    x, y, z, w = quaternion.tolist()
    a, b, c = vector.tolist()
    u, v, t = 2.0 * (y * c - z * b), 2.0 * (z * a - x * c), 2.0 * (x * b - y * a)
    return np.array(
        [a + w * u + y * t - z * v, b + w * v + z * u - x * t, c + w * t + x * v - y * u]
    )


def angle_between(first: np.ndarray, second: np.ndarray) -> float:
    """Return the angle [rad] in [0, pi] between two orientations (4,), accurate at both ends."""
    ax, ay, az, aw = first.tolist()
    bx, by, bz, bw = second.tolist()
    x = aw * bx - ax * bw - ay * bz + az * by
    y = aw * by + ax * bz - ay * bw - az * bx
    z = aw * bz - ax * by + ay * bx - az * bw
    w = aw * bw + ax * bx + ay * by + az * bz
    return 2.0 * math.atan2(math.sqrt(x * x + y * y + z * z), abs(w))
