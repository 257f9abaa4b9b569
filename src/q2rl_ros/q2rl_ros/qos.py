# SPDX-License-Identifier: Apache-2.0
"""The quality-of-service profiles of all q2rl topics, by what a topic is for."""

from __future__ import annotations

from dataclasses import dataclass

from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

TICK_DEPTH = 8
REPLAY_DEPTH = 1000
WEIGHTS_DEPTH = 64
"""Chunks that a latched weights topic keeps: one version never has more, see `weights_chunk_size`."""
MIN_CHUNK = 64 * 1024


@dataclass(frozen=True)
class Profiles:
    """One profile per kind of topic; publisher and subscriber of a topic take the same one, but for commands.

    sensors: streams of the robot. tick: observation, proposals, decision; the clock of a simulation. command: what goes
    to the controllers. commanded: how a simulation hears it, asking for no more than those do. events: what must
    arrive, however late (executed steps, acknowledgements, summaries, buttons). latched: states, kept for late joiners.
    replay: `transition`. weights: weight chunks, kept for late joiners.
    """

    sensors: QoSProfile
    tick: QoSProfile
    command: QoSProfile
    commanded: QoSProfile
    events: QoSProfile
    latched: QoSProfile
    replay: QoSProfile
    weights: QoSProfile


def profiles(lockstep: bool, period_s: float) -> Profiles:
    """Return the profiles for a control period [s].

    In real time tick and command carry a deadline and a lifespan of two periods, and sensor streams are best effort: an
    old reading is worth nothing, and an old command, sent once a network is back, would move an arm that holds. In
    lockstep the period has no meaning in wall time and no reading may be lost.
    """
    tick, command = _reliable(TICK_DEPTH), _reliable(1)
    if lockstep:
        sensors = _reliable(TICK_DEPTH)
    else:
        sensors = QoSProfile(
            history=HistoryPolicy.KEEP_LAST, depth=5, reliability=ReliabilityPolicy.BEST_EFFORT
        )
        for timed in (tick, command):
            timed.deadline = timed.lifespan = Duration(seconds=2.0 * period_s)
    return Profiles(
        sensors=sensors,
        tick=tick,
        command=command,
        commanded=_reliable(1),
        events=_reliable(100),
        latched=_latched(1),
        replay=_reliable(REPLAY_DEPTH),
        weights=_latched(WEIGHTS_DEPTH),
    )


def weights_chunk_size(total: int) -> int:
    """Return the chunk size [bytes] with which a file of `total` bytes fits the depth of the weights topic."""
    return max(MIN_CHUNK, -(-total // WEIGHTS_DEPTH))


def _reliable(depth: int) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=ReliabilityPolicy.RELIABLE
    )


def _latched(depth: int) -> QoSProfile:
    profile = _reliable(depth)
    profile.durability = DurabilityPolicy.TRANSIENT_LOCAL
    return profile
