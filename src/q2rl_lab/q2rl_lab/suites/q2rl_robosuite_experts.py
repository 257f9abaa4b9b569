# SPDX-License-Identifier: Apache-2.0
"""Scripted demonstrators for the suite `robosuite`: plain numpy on what `q2rl_robosuite` observes.

Each is a function of the observation alone, so a clone can learn what it does. Actions are those of robosuite's
OSC_POSE: three of 5 cm and three of 0.5 rad at 1 in the frame of the robot's base, and the gripper (1 closes).
"""

from __future__ import annotations

import numpy as np

METRES, RADIANS = 0.05, 0.5
GAIN = 0.75
"""Share of the way that is asked for in one step."""
OPEN, CLOSE = -1.0, 1.0
TOLERANCE = 0.02
"""How far off the hand may come down [m]."""
RIGHT_ANGLE = 0.5 * np.pi
HANDLE = 0.06
"""From the middle of the square nut to where it is held [m], along its x axis."""
PEG = np.array([0.23, 0.1])
"""The square peg, of which robosuite observes nothing [m]."""
LIFT = np.array([0.0, 0.0, 0.1])
CLEAR_Z = 0.98
"""Height of the nut at which it clears the peg [m]."""


def matrix_of(quaternion: np.ndarray) -> np.ndarray:
    """Return the rotation matrix of a quaternion (x, y, z, w), which need not be of length 1."""
    x, y, z, w = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def yaw_of(quaternion: np.ndarray) -> float:
    """Return the angle of the body's x axis about the vertical [rad]."""
    x_axis = matrix_of(quaternion)[:, 0]
    return float(np.arctan2(x_axis[1], x_axis[0]))


def within(angle: float, period: float) -> float:
    """Return the angle that is the same up to multiples of `period`, in [-period / 2, period / 2)."""
    return (angle + 0.5 * period) % period - 0.5 * period


def nearest(yaw: float, to: float, period: float) -> float:
    """Return the angle nearest to `to` of those that are `yaw` up to multiples of `period`."""
    return to + within(yaw - to, period)


def turn_to(quaternion: np.ndarray, yaw: float) -> np.ndarray:
    """Return the small rotation (3,) [rad] that brings a gripper to point down, its x axis at `yaw`."""
    c, s = np.cos(yaw), np.sin(yaw)
    wanted = np.array([[c, s, 0.0], [s, -c, 0.0], [0.0, 0.0, -1.0]])
    now = matrix_of(quaternion)
    # Half the sum of the axes' cross products: the rotation vector, but for its sine.
    return 0.5 * np.cross(now.T, wanted.T).sum(axis=0)


def act(way: np.ndarray, turn: np.ndarray, gripper: float) -> np.ndarray:
    """Return the action (7,) that goes `way` [m] and turns by `turn` [rad]."""
    motion = np.concatenate([way / METRES, turn / RADIANS])
    return np.append(np.clip(GAIN * motion, -1.0, 1.0), gripper)


def reach(hand: np.ndarray, target: np.ndarray, crooked: float, hover: float) -> np.ndarray:
    """Return the way (3,) to a target from above: down only where the hand is over it, and straight."""
    way = target - hand
    off = float(np.hypot(way[0], way[1])) + crooked
    way[2] += np.clip(4.0 * (off - TOLERANCE), 0.0, hover)
    return way


class LiftExpert:
    """Grasps the cube from above, however it is turned, and lifts it."""

    def get_action(self, observation: np.ndarray) -> np.ndarray:
        """Return the action (7,) for the observation (19,)."""
        hand, cube, fingers = observation[:3], observation[9:12], observation[7:9]
        turn = turn_to(observation[3:7], 0.0)
        gap = fingers[0] - fingers[1]
        way = cube - hand
        there = np.hypot(way[0], way[1]) < 0.03 and abs(way[2]) < 0.02
        if there and gap < 0.062:
            # Slowly while the fingers may still be closing: they turn the cube as they do.
            return act(LIFT if gap < 0.048 else 0.1 * LIFT, turn, CLOSE)
        return act(reach(hand, cube, 0.0, 0.06), turn, CLOSE if there else OPEN)


class SquareExpert:
    """Takes the square nut by its handle, carries it over the square peg, and lowers it."""

    def get_action(self, observation: np.ndarray) -> np.ndarray:
        """Return the action (7,) for the observation (23,)."""
        hand, pose, fingers = observation[:3], observation[3:7], observation[7:9]
        nut, nut_yaw = observation[9:12], yaw_of(observation[12:16])
        handle = nut + HANDLE * np.array([np.cos(nut_yaw), np.sin(nut_yaw), 0.0])
        gap = fingers[0] - fingers[1]
        there = np.linalg.norm(handle - hand) < (0.015 if gap > 0.06 else 0.03)
        if there and gap < 0.036:
            return self._carry(nut, nut_yaw, pose)
        turn = turn_to(pose, nearest(nut_yaw, yaw_of(pose), np.pi))
        way = reach(hand, handle, 0.05 * abs(turn[2]), 0.08)
        return act(way, turn, CLOSE if there else OPEN)

    def _carry(self, nut: np.ndarray, nut_yaw: float, pose: np.ndarray) -> np.ndarray:
        # The nut fits the peg at every right angle.
        askew = within(nut_yaw, RIGHT_ANGLE)
        turn = turn_to(pose, yaw_of(pose) - askew)
        way = np.append(PEG - nut[:2], 0.0)
        off = np.hypot(*way[:2])
        if off > 0.03 and nut[2] < CLEAR_Z - 0.02:
            return act(LIFT, turn, CLOSE)
        over = off > 0.008 or abs(askew) > 0.15
        inside = nut[2] < CLEAR_Z - 0.03
        way[2] = CLEAR_Z - nut[2] if over and not inside else -0.04
        return act(way, turn, CLOSE)
