# SPDX-License-Identifier: Apache-2.0
"""From a person who drags a gizmo in a browser to actions of the arm. No ROS, no viser, no clock.

The gizmo stands at the commanded pose of the tip until it is grabbed; from then on the command follows it. A browser
has no dead man's button and a network no bounds, so the right to act ends by itself: when the gizmo is let go, when the
page that holds it is gone, when it has not moved for a while, and with every episode. Times are monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
import threading

import numpy as np
from scipy.spatial.transform import Rotation

from q2rl_control.arm_state import MAY_BEGIN, ArmState
from q2rl_sim.steering import steer
from q2rl_task import Pose, TaskSpec

GAIN, LATE_GAIN = 1.0, 0.4
"""Share of the way per action: in lockstep, and in real time, where an action is seen to work only two ticks later."""
SPEED = 0.8
"""Largest component of an action: corners of the box are for policies."""
LEAP, START, REACHED = 0.5, 0.1, 0.03
"""Ways to the gizmo, in actions: one that is begun at once, one that is begun when the hand rests, and the end of one.

A hand is never quite still, and an episode has few steps: none is for what nobody could see.
"""
REST_S = 0.15
SETTLE_TICKS = 1
"""Zeros after a motion, in which the arm comes to rest."""
PRESS_S = 0.3
"""How long a press of the gripper's button acts."""
SIMULATION_SILENT_S = 2.0


class Steering:
    """What the person wants just now; may be told from any thread.

    Only a simulation tells where things truly stand, so without that word nothing is offered: never on a real arm.

    :param silent_after_s: time without a move of the gizmo after which whoever holds it counts as gone
    :param lockstep: whether the arm has executed an action when the next one is asked for

    commanded: pose of the tip that the arm was last told, base frame. truth: true poses of the fixture and, where there
    is one, of the loose part.
    """

    def __init__(self, task: TaskSpec, silent_after_s: float, lockstep: bool) -> None:
        self._task, self._silent_after = task, silent_after_s
        self._gain = GAIN if lockstep else LATE_GAIN
        self._lock = threading.Lock()
        self.commanded: Pose | None = None
        self.truth: tuple[Pose, ...] = ()
        self._simulated_at = float('-inf')
        self._steerable = False
        self._episode = ''
        self._let_go()

    def hear_truth(self, poses: Sequence[Pose], now: float) -> None:
        """Take in where things truly stand, from the simulation."""
        self.truth, self._simulated_at = tuple(poses), now

    def hear_arm(self, state: int, detail: str, episode: str) -> None:
        """Take in what the arm does; whoever holds the gizmo when an episode ends must let go and grab it anew."""
        steerable = state == ArmState.RUNNING or (
            state == ArmState.RESETTING and detail == MAY_BEGIN
        )
        with self._lock:
            if not steerable or episode != self._episode:
                self._let_go()
            self._steerable, self._episode = steerable, episode

    def offered(self, now: float) -> str:
        """Return the episode that may be steered now, or an empty string."""
        simulated = now - self._simulated_at <= SIMULATION_SILENT_S
        return self._episode if self._steerable and simulated and self.commanded else ''

    def grab(self, client: int, now: float) -> None:
        """Let a page hold the gizmo, where it stands now; the first to grab keeps it."""
        with self._lock:
            if self._client is None and self._steerable:
                self._client, self._moved_at, self._wanted = client, now, self.commanded

    def move(self, client: int, pose: Pose, now: float) -> None:
        """Take where the page that holds the gizmo has it: the pose that the tip shall take, base frame."""
        with self._lock:
            if client == self._client and pose.is_finite():
                self._wanted, self._moved_at = pose, now

    def let_go(self, client: int) -> None:
        """Take the gizmo out of a page's hand, whether it was let go or the page is gone."""
        with self._lock:
            if client == self._client:
                self._let_go()

    def press(self, opening: float, now: float) -> None:
        """Open (+1) or close (-1) the gripper."""
        with self._lock:
            if self._steerable and self._task.gripper:
                self._opening, self._pressed_at = opening, now

    @property
    def held(self) -> bool:
        """Whether a page holds the gizmo."""
        return self._client is not None

    def action(self, fixture: Pose, now: float) -> np.ndarray | None:
        """Return the person's action, (D,) in [-1, 1]; None while they do not act.

        :param fixture: estimated pose of the fixture, in whose axes actions are; base frame
        """
        with self._lock:
            if not self.offered(now):
                self._let_go()
                return None
            pressed = now - self._pressed_at <= PRESS_S
            action = np.zeros(self._task.action_size, dtype=np.float32)
            moves, idle = False, now - self._moved_at
            if self._wanted is not None and idle <= self._silent_after:
                action[:] = self._towards(self._wanted, fixture)
                moves = self._moves(float(np.abs(action).max()) / self._gain, idle >= REST_S)
            if not (moves or pressed):
                return None
            if pressed:
                action[6] = self._opening
            return action

    def _moves(self, way: float, rests: bool) -> bool:
        """Return whether a way, in actions, is worth a step; `rests`: the hand has not moved just now."""
        begins = way > LEAP or (way > START and rests)
        if begins or (self._ticks_left and way > REACHED):
            self._ticks_left = SETTLE_TICKS + 1
        else:
            self._ticks_left = max(0, self._ticks_left - 1)
        return self._ticks_left > 0

    def _towards(self, wanted: Pose, fixture: Pose) -> np.ndarray:
        """Return the action that covers a share of the way."""
        at = self.commanded
        turn = Rotation.from_rotvec(self._gain * at.rotation_vector_to(wanted))
        ahead = at.position + self._gain * (wanted.position - at.position)
        partway = Pose.from_rotation(ahead, turn * at.rotation)
        return steer(self._task, at, partway, fixture, SPEED)

    def _let_go(self) -> None:
        self._client: int | None = None
        self._wanted: Pose | None = None
        self._opening = 0.0
        self._moved_at = self._pressed_at = float('-inf')
        self._ticks_left = 0
