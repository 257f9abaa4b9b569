# SPDX-License-Identifier: Apache-2.0
"""Zero of the force-torque sensor: the tool's weight by its mass, the rest by measuring while it hangs free."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from q2rl_task import Pose
from q2rl_task.rotations import inverse, rotate

FEWEST = 5
"""Readings below which a mean is none."""
TREMBLE_N = 2.0
"""A free tool at rest shakes less than this about its mean; one that swings, or touches something, more."""


class TareRefused(Exception):
    """Why there is no new zero."""


class StartTare(Protocol):
    """What makes zero of the wrench while the arm hangs free at the start pose, before an episode."""

    def begin(self) -> None:
        """Start anew, from readings that come from now on."""

    def poll(self) -> bool:
        """Return whether the wrench is told from its new zero; once per tick.

        :raises TareRefused: there is none
        """


@dataclass(frozen=True)
class Payload:
    """What hangs on the sensor.

    mass: [kg]. centre: (3,) [m] of mass, tip frame. gravity: (3,) [m/s2], base axes.
    """

    mass: float
    centre: np.ndarray
    gravity: np.ndarray

    def weight(self, tip_pose: Pose) -> np.ndarray:
        """Return the wrench (6,) [N, Nm] of its weight at the tip, tip axes."""
        force = self.mass * rotate(inverse(tip_pose.quaternion), self.gravity)
        return np.concatenate([force, np.cross(self.centre, force)])


class WrenchTare:
    """The mean of the last readings as the new zero.

    offset: (6,) what is taken off every reading. heard_at: stamp of the last one [s].

    :param seconds: time over which the mean is taken, by the stamps
    :param most_n: largest force [N] that is believed to be an offset
    """

    def __init__(self, seconds: float, most_n: float) -> None:
        self.offset = np.zeros(6)
        self.heard_at = float('-inf')
        self._seconds, self._most = seconds, most_n
        self._readings: deque[tuple[float, np.ndarray]] = deque()
        self._taken = False

    def add(self, stamp: float, wrench: np.ndarray) -> np.ndarray:
        """Take a reading (6,) [N, Nm], weight taken off already; return it from the zero that holds now."""
        readings, self.heard_at = self._readings, stamp
        if readings and stamp < readings[-1][0]:
            readings.clear()  # a clock that was set back
        if np.isfinite(wrench).all() and not (readings and stamp == readings[-1][0]):
            readings.append((stamp, wrench))
            # One reading from before the time stays: it tells that the time is covered.
            while len(readings) > 2 and readings[1][0] <= stamp - self._seconds:
                readings.popleft()
        return wrench - self.offset

    def begin(self) -> None:
        """Start anew, from readings that come from now on."""
        self._readings.clear()
        self._taken = False

    def forget(self) -> None:
        """Take nothing off any more: the sensor has a new zero of its own."""
        self.offset = np.zeros(6)
        self.begin()

    def poll(self) -> bool:
        """Return whether the wrench is told from its new zero.

        :raises TareRefused: the readings are none of a free tool
        """
        if not self._taken and self._covers():
            self.take()
            self._taken = True
            return False  # the measurement at hand is still told from the old zero
        return self._taken

    def take(self) -> None:
        """Make the mean of the last readings the zero.

        :raises TareRefused: there are too few, or they are none of a free tool
        """
        if not self._covers():
            raise TareRefused(f'the wrench has not been heard for {self._seconds:g} s yet')
        values = np.array([wrench for _, wrench in self._readings])
        mean = values.mean(axis=0)
        shakes = float(np.linalg.norm(values[:, :3] - mean[:3], axis=1).max())
        force = float(np.linalg.norm(mean[:3]))
        if shakes > TREMBLE_N:
            raise TareRefused(f'the force varies by {shakes:.1f} N: the tool does not hang free')
        if force > self._most:
            raise TareRefused(
                f'{force:.1f} N is too much for an offset (tare_limit_n is {self._most:g}): free the tool, or set '
                'its payload_mass'
            )
        self.offset = mean

    def _covers(self) -> bool:
        readings = self._readings
        return len(readings) >= FEWEST and readings[-1][0] - readings[0][0] >= self._seconds - 1e-9
