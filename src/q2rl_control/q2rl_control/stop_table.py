# SPDX-License-Identifier: Apache-2.0
"""How to come to rest in a few ticks: precomputed, linear in the present velocity and its last change.

A stop of n ticks is changes of velocity c_1 .. c_n that sum to -v. With the last change c_0 given and
c_(n+1) = 0, they minimise

    sum_(i=1..n+1) |c_i - c_(i-1)|^2  +  rho sum_(i=1..n) |c_i|^2

(jerk, and acceleration). The solution is c = A v + B c_0 with columns A and B that depend on n and rho
only. rho = 0 brakes along a parabola, with the least jerk; a large one brakes evenly, which is the
fastest way where jerk is no matter.

Why not an online trajectory generator such as Ruckig: it limits a continuous motion per axis and knows no
region to stay in, while the targets of a policy are set points, one per tick, whose differences are to
be limited by their norms, and whose stops must end inside the workspace.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
import math

import numpy as np
from scipy.linalg import solve_toeplitz

WEIGHTS = (1e6, 1.0, 0.0)
"""rho of the profiles that are tried, hardest first."""
LONGEST = 400
"""Ticks that a stop from full speed may take: limits that need more are refused."""
TRIED = 2


class StopTable:
    """Stops that keep to limits on the change of velocity per tick and on the change of that change.

    Limits are on Euclidean norms of (3,) vectors.

    :param speed: largest velocity [m/s or rad/s]
    :param change: largest change of velocity per tick [m/s or rad/s]
    :param second: largest change of that from one tick to the next [m/s or rad/s]
    :raises ValueError: a stop from full speed takes more than `LONGEST` ticks
    """

    def __init__(self, speed: float, change: float, second: float) -> None:
        lengths = _lengths(_from_full_speed(speed, change, second))
        rows = [
            (n, *_columns(n, rho)) for n in lengths for rho in (WEIGHTS if n > 1 else WEIGHTS[:1])
        ]
        longest = lengths[-1]
        self._ticks = [n for n, _, _ in rows]
        columns = np.zeros((len(rows), longest + 2, 2))
        columns[:, 0, 1] = 1.0  # the last change itself
        for row, (n, of_velocity, of_change) in zip(columns, rows, strict=True):
            row[1 : n + 1, 0], row[1 : n + 1, 1] = of_velocity, of_change
        self._path = np.cumsum(columns[:, 1:-1], axis=1)
        self._path[:, :, 0] += 1.0
        scaled = (columns[:, 1:-1] / change, np.diff(columns, axis=1) / second)
        a, b = np.moveaxis(np.concatenate(scaled, axis=1), 2, 0)
        # Squares of the norms, over those of the limits, as a form in |v|^2, v.c_0 and |c_0|^2.
        self._form = np.stack([a * a, 2.0 * a * b, b * b], axis=2).reshape(-1, 3)

    def stops(self, velocity: np.ndarray, last_change: np.ndarray) -> Iterator[np.ndarray]:
        """Yield up to `TRIED` motions that end at rest and keep the limits on changes, the shortest first.

        A motion is velocities (n, 3) tick by tick, the next tick's first.
        """
        squares = (velocity @ velocity, velocity @ last_change, last_change @ last_change)
        worst = (self._form @ np.array(squares)).reshape(len(self._ticks), -1).max(axis=1)
        for row in np.flatnonzero(worst <= 1.0)[:TRIED]:
            of_velocity, of_change = self._path[row, : self._ticks[row]].T
            motion = np.outer(of_velocity, velocity) + np.outer(of_change, last_change)
            motion[-1] = 0.0  # but for rounding it is
            yield motion


@lru_cache(maxsize=16)
def stop_table(speed: float, change: float, second: float) -> StopTable:
    """Return the table of these limits, made once."""
    return StopTable(speed, change, second)


def _from_full_speed(speed: float, change: float, second: float) -> int:
    """Return the number of ticks of a short stop from full speed."""
    for ticks in _spaced(max(1, math.ceil(speed / change * (1.0 - 1e-9)))):
        for rho in WEIGHTS:
            changes = np.concatenate([[0.0], _columns(ticks, rho)[0] * speed, [0.0]])
            if np.abs(changes).max() <= change and np.abs(np.diff(changes)).max() <= second:
                return ticks
    raise ValueError(f'a stop from full speed takes more than {LONGEST} ticks')


def _lengths(ticks: int) -> list[int]:
    """Return the lengths that the table holds; the longest ones are for when the speed still rises."""
    longest = 3 * ticks + 2
    return [*(n for n in _spaced(1) if n < longest), longest]


def _spaced(first: int) -> Iterator[int]:
    """Yield lengths up to `LONGEST`: every short one, then every tenth part more."""
    n = first
    while n <= LONGEST:
        yield n
        n += max(1, n // 10)


def _columns(ticks: int, rho: float) -> tuple[np.ndarray, np.ndarray]:
    """Return A and B (n,) of the module's docstring, for one rho."""
    hessian, unit = np.zeros(ticks), np.zeros(ticks)
    hessian[0], hessian[1:2], unit[0] = 2.0 + rho, -1.0, 1.0
    ones, first = solve_toeplitz(hessian, np.stack([np.ones(ticks), unit], axis=1)).T
    return -ones / ones.sum(), first - ones * (first.sum() / ones.sum())
