# SPDX-License-Identifier: Apache-2.0
"""One robot cell in one process: the simulated arm under the very arm logic and guard that the nodes run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from q2rl_control.arm_logic import ArmLogic
from q2rl_control.arm_state import ArmState
from q2rl_control.episode_flow import REFUSALS
from q2rl_policies.bc import BCPolicy
from q2rl_policies.gate import QGate
from q2rl_policies.inference import GateCritic, RLPolicy
from q2rl_sim.arm import SimArm
from q2rl_sim.trace import TraceFile
from q2rl_task import (
    Contract,
    Decision,
    ExecutedStep,
    Mode,
    ObservationRecord,
    Pose,
    TaskSpec,
    episode_stream,
)
from q2rl_task.errors import GivenUp

Decide = Callable[[ObservationRecord], Decision]
"""From one observation to a decision; also asked on the final observation, where nothing is executed."""


class Deciders:
    """BC, RL and the gate, asked in turn: what three nodes do, in one call."""

    def __init__(
        self,
        bc: BCPolicy,
        gate: QGate,
        rl: RLPolicy | None = None,
        critic: GateCritic | None = None,
        seed: int = 0,
    ) -> None:
        self._bc, self._gate, self._rl, self._critic = bc, gate, rl, critic
        self._seed = seed

    def streams(self) -> dict[str, np.random.Generator]:
        """Return the random streams that run on from episode to episode; that of RL begins anew at every one."""
        owners = {'bc': self._bc, 'gate': self._gate}
        return {name: owner.rng for name, owner in owners.items() if hasattr(owner, 'rng')}

    def __call__(self, record: ObservationRecord) -> Decision:
        """Decide on one observation; a new episode (step 0) resets a recurrent BC policy."""
        if record.step == 0:
            self._bc.reset()
            self._gate.reset()
            if self._rl:
                self._rl.reseed(episode_stream(self._seed, record.episode))
        bc = self._bc.act(record.observation)
        rl = self._rl.act(record.observation, record.explore) if self._rl else None
        values = None
        if self._critic:
            actions = [said.action if said else None for said in (rl, bc)]
            values = self._critic.values(record.observation, *actions)
        return self._gate.decide(record.mode, bc, rl, values)


class AnyCell(Protocol):
    """What an in-process run asks of a robot and its surroundings: `Cell`, a task in plain numpy, or a Gymnasium's."""

    task: Contract

    @property
    def time(self) -> float:
        """Robot time [s], resets included."""

    def run_episode(
        self, episode: str, mode: Mode, seed: int, decide: Decide, explore: bool = False
    ) -> Iterator[ExecutedStep]:
        """Run one episode from a fresh scene of `seed`; yields every step, the final one included."""


MakeCell = Callable[[Any, int, str], AnyCell]
"""From task (of the cell's kind), seed of the sensor noise and name of the robot to a cell."""


class Cell:
    """A simulated arm and its arm logic; episodes run through them one after another.

    :param seed: of the sensor noise; fixtures and start poses have the seeds of their episodes
    :param trace: file that a record of every step is appended to; None keeps none
    """

    def __init__(
        self, task: TaskSpec, seed: int, robot: str = 'arm', trace: Path | None = None
    ) -> None:
        self.task = task
        self.arm = SimArm(task, seed)
        self.logic = ArmLogic(task, robot)
        self._measurement = self.arm.measure()
        self._trace = TraceFile(trace, self.arm.model.nq) if trace else None

    @property
    def time(self) -> float:
        """Robot time [s], resets included."""
        return self._measurement.stamp

    def run_episode(
        self, episode: str, mode: Mode, seed: int, decide: Decide, explore: bool = False
    ) -> Iterator[ExecutedStep]:
        """Retreat, present a fresh fixture, go to the start pose and run one episode.

        Yields every executed step, the final one (where nothing is executed) included.

        :raises GivenUp: the arm could not retreat or reach its start pose, however often it was tried
        """
        observation = self._begin(episode, mode, seed, explore)
        while observation is not None:
            target, step = self.logic.execute(decide(observation))
            if not step.final:
                self._step(target)
            elif self._trace:
                self._trace.flush()
            yield step
            observation = None if step.final else self._next_observation()

    def _begin(self, episode: str, mode: Mode, seed: int, explore: bool) -> ObservationRecord:
        """Bring the arm to its first observation; as often as the nodes try, where it refuses."""
        for _ in range(REFUSALS):
            if self.logic.state is not ArmState.READY:
                self.logic.retreat()
                self._next_observation()
            if self.logic.state is ArmState.READY:
                fixture = self.arm.place_fixture(seed)
                part = self.arm.part_estimate
                self.logic.start_episode(episode, mode, seed, fixture, explore, part)
                if (first := self._next_observation()) is not None:
                    return first
        problem = f'{REFUSALS} times in a row the arm did not come to its start'
        raise GivenUp(f'{episode}: {problem}: {self.logic.detail}')

    def _next_observation(self) -> ObservationRecord | None:
        """Let the arm move until it asks for a decision; None where it has come to rest without."""
        while self.logic.state not in (ArmState.READY, ArmState.STOPPED):
            tick = self.logic.tick(self._measurement)
            if tick.observation is not None:
                return tick.observation
            self._step(tick.target)
        return None

    def _step(self, target: Pose | None) -> None:
        self._measurement = self.arm.step(target, self.logic.gripper)
        if self._trace:
            stamp = self._measurement.stamp
            self._trace.add(stamp, self.arm.data.qpos, self.arm.fixture_pose)
