# SPDX-License-Identifier: Apache-2.0
"""The task `tiny`: a point that has to find a slot in a table, in plain numpy. For tests, and to try the bench out.

The point starts above a table; there is a slot in it at the origin. It moves by `STEP` times the first three
components of the action. On the table it only creeps (friction), and pressing on it is a contact force; in the slot it
can go down, and at `-DEPTH` the task is done. So it pays to be above the slot before going down, which a hurried
novice is not. Position is in units of 1, the slot has the radius `SLOT`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np

from q2rl_lab.cell import Decide
from q2rl_sim.demonstrations import Demonstration
from q2rl_task import (
    ExecutedStep,
    Measurement,
    Mode,
    ObservationRecord,
    Pose,
    TaskSpec,
    episode_seed,
    judge_step,
    load_task,
)
from q2rl_task.errors import GivenUp

STEP, SLOT, DEPTH, START = 0.1, 0.08, 0.2, 0.5
CREEP = 0.25
"""Share of a sideways move that friction leaves on the table."""
STIFFNESS = 400.0
"""Contact force per depth by which a move would go into the table [N]."""
DEMONSTRATION_ATTEMPTS = 50


@cache
def tiny_task() -> TaskSpec:
    """Return the contract of the task; what it says of a fixture and of limits does not count here."""
    content = load_task('pipe_assembly').model_dump()
    content |= {'name': 'tiny', 'description': 'A point finds a slot in a table.', 'max_steps': 16}
    fields = [{'name': 'tip_position', 'scale': 1.0}, {'name': 'force', 'scale': 20.0}]
    content['observation'] |= {'history': 1, 'fields': fields}
    content['reward'] |= {'per_step': -1.0, 'success': 0.0, 'discount': 0.95}
    return TaskSpec.model_validate(content)


class Slot:
    """The point and the table. `position`: (3,); `force`: of the last move on the table [N]."""

    def __init__(self, seed: int, centre: tuple[float, float] = (0.0, 0.0)) -> None:
        self._centre = np.array(centre)
        rng = np.random.default_rng(seed)
        angle, radius = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.25, 0.5)
        self.position = np.array([radius * np.cos(angle), radius * np.sin(angle), START])
        self.force = 0.0

    @property
    def done(self) -> bool:
        """Whether the point is at the bottom of the slot."""
        return bool(self.position[2] <= -DEPTH + 1e-9)

    def observe(self) -> np.ndarray:
        """Return position and contact force, (6,) float32, O(1)."""
        return np.array([*self.position, 0.0, 0.0, self.force / 20.0], dtype=np.float32)

    def move(self, action: np.ndarray) -> None:
        """Move by an action (D,), of which the first three components count."""
        by = STEP * action[:3].astype(np.float64)
        z = self.position[2]
        plane = self.position[:2] - self._centre
        on_table = z <= 1e-9 and np.hypot(*plane) > SLOT
        plane = plane + (CREEP if on_table else 1.0) * by[:2]
        if z < -1e-9:
            # In the slot its wall holds the point back.
            plane *= min(1.0, SLOT / max(float(np.hypot(*plane)), 1e-9))
        height = z + by[2]
        self.force = 0.0
        if height < 0.0 and np.hypot(*plane) > SLOT:
            self.force, height = -STIFFNESS * height, 0.0
        self.position = np.array([*(self._centre + plane), np.clip(height, -DEPTH, START + 0.2)])


class TinyCell:
    """The task as an in-process run meets it: see `q2rl_lab.cell.AnyCell`. Nothing in it is random but the start.

    centre: of the slot, which policies do not see; it may be changed between episodes.
    """

    def __init__(self, task: TaskSpec, seed: int, robot: str) -> None:
        self.task = task
        self.centre = (0.0, 0.0)
        self._robot = robot
        self.time = 0.0

    def run_episode(
        self, episode: str, mode: Mode, seed: int, decide: Decide, explore: bool = False
    ) -> Iterator[ExecutedStep]:
        """Run one episode from the start pose of `seed`; yields every step, the final one included."""
        slot = Slot(seed, self.centre)
        for step in range(self.task.max_steps + 1):
            self.time += self.task.period_s
            outcome = judge_step(self.task, step, self._measure(slot))
            record = ObservationRecord(
                stamp=self.time,
                contract=self.task.contract_hash,
                episode=episode,
                step=step,
                mode=mode,
                final=outcome.final,
                observation=slot.observe(),
                explore=explore,
            )
            decision = decide(record)
            yield ExecutedStep.of(record, outcome, decision, robot=self._robot, force=slot.force)
            if outcome.final:
                return
            slot.move(decision.action)

    def _measure(self, slot: Slot) -> Measurement:
        wrench = np.array([0.0, 0.0, slot.force, 0.0, 0.0, 0.0])
        return Measurement(
            stamp=self.time,
            joint_positions=np.zeros(0),
            joint_velocities=np.zeros(0),
            tip_pose=Pose.of(slot.position),
            tip_twist=np.zeros(6),
            wrench=wrench,
            success_signal=slot.done,
        )


def tiny_demonstrations(task: TaskSpec, count: int, seed: int) -> list[Demonstration]:
    """Let a hurried, unsteady novice do the task until it has succeeded `count` times; failures are not kept.

    :raises GivenUp: success is too rare
    """
    kept: list[Demonstration] = []
    for number in range(DEMONSTRATION_ATTEMPTS * count):
        if len(kept) == count:
            return kept
        placement = episode_seed(seed, 'demonstration', number)
        rng = np.random.default_rng([placement, 1])
        slot = Slot(placement)
        observations, actions, rewards = [slot.observe()], [], []
        while len(actions) < task.max_steps and not slot.done:
            action = novice(slot, rng, task.action_size)
            slot.move(action)
            actions.append(action)
            observations.append(slot.observe())
            rewards.append(task.reward.success if slot.done else task.reward.per_step)
        if slot.done:
            kept.append(
                Demonstration(
                    observations=np.stack(observations),
                    actions=np.stack(actions),
                    rewards=np.array(rewards, dtype=np.float32),
                    states=np.stack([o[:3] for o in observations[:-1]]).astype(np.float64),
                    success=True,
                )
            )
    raise GivenUp(f'task {task.name}: the novice succeeded only {len(kept)} times')


def novice(slot: Slot, rng: np.random.Generator, action_size: int) -> np.ndarray:
    """Return the novice's action (D,): towards the slot and down at once, with much noise."""
    x, y, _ = slot.position
    towards = -np.array([x, y]) / max(float(np.hypot(x, y)), SLOT)
    action = rng.normal(0.0, 0.7, action_size)
    action[:2] += 0.5 * towards
    action[2] -= 0.4
    return np.clip(action, -1.0, 1.0).astype(np.float32)
