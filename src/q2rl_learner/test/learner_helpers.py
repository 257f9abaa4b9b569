# SPDX-License-Identifier: Apache-2.0
"""A toy task in numpy (a point drawn to the origin), its transitions, and small learners."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from q2rl_learner.config import LearnerConfig
from q2rl_learner.episodes import Episode
from q2rl_task import (
    EndReason,
    Mode,
    Phase,
    Proposal,
    Reason,
    Source,
    TaskSpec,
    Transition,
    load_task,
)

NAN = float('nan')
EMPTY = np.zeros(0, dtype=np.float32)


def toy_task(max_steps: int = 30, discount: float = 0.95) -> TaskSpec:
    """Return a task with observation (3,) and action (6,), of which the first three count."""
    content = load_task('pipe_assembly').model_dump()
    content['name'] = 'toy'
    content['max_steps'] = max_steps
    content['observation'] |= {'history': 1, 'fields': [{'name': 'tip_position', 'scale': 1.0}]}
    content['reward'] |= {'per_step': -1.0, 'success': 0.0, 'discount': discount}
    return TaskSpec.model_validate(content)


def small_config(**changes) -> LearnerConfig:
    """Return settings that learn the toy within seconds."""
    small = {
        'critics': 3,
        'critic_hidden': [32, 32],
        'actor_hidden': [32, 32],
        'batch': 32,
        'warm_up_samples': 32,
        'replay_capacity': 5000,
        'rollouts': 10,
        'publish_every': 20,
        'fit': {
            'value_hidden': [32],
            'value_steps': 75,
            'value_learning_rate': 3e-3,
            'completions': 1,
            'folds': 2,
            'critic_steps': 40,
            'actor_steps': 40,
            'batch': 32,
        },
        'bc': {
            'kind': 'gaussian',
            'hidden': [32],
            'steps': 200,
            'learning_rate': 3e-3,
            'batch': 64,
        },
    }
    for name, value in changes.items():
        small[name] = {**small[name], **value} if isinstance(small.get(name), dict) else value
    return LearnerConfig.model_validate(small)


def transition(
    task: TaskSpec, sequence: int, episode: str = 'e', step: int = 0, **changes
) -> Transition:
    """Return a transition with numbers that tell its sequence and step."""
    action = np.full(task.action_size, 0.01 * (step % 90), dtype=np.float32)
    values = {
        'stamp': 0.05 * sequence,
        'robot': 'arm',
        'sequence': sequence,
        'contract': task.contract_hash,
        'episode': episode,
        'step': step,
        'phase': Phase.ONLINE,
        'mode': Mode.GATED,
        'source': Source.BC,
        'reason': Reason.BC_HIGHER,
        'observation': np.full(task.observation_size, step, dtype=np.float32),
        'action': action,
        'executed_action': action,
        'interventions': (),
        'reward': -1.0,
        'next_observation': np.full(task.observation_size, step + 1, dtype=np.float32),
        'terminated': False,
        'truncated': False,
        'end_reason': EndReason.NONE,
        'force': 1.5,
        'bc_action': action,
        'bc_log_prob': 1.0,
        'bc_entropy': -0.5,
        'next_bc_action': action,
        'next_bc_log_prob': 1.0,
        'next_bc_entropy': -0.5,
        'q_bc': -3.0,
        'q_rl': NAN,
        'v_bc': -2.0,
        'q_spread': 0.1,
        'actor_version': 3,
        'critic_version': 4,
        'value_version': 1,
    }
    return Transition(**{**values, **changes})


Act = Callable[[np.ndarray], Proposal]


class Toy:
    """A point with position (3,) that moves by 0.1 times the action; success within 0.15 of the origin.

    `bc` proposes at every step; `rl` acts where it is given, else BC does.
    """

    def __init__(self, task: TaskSpec, seed: int, bc: Act) -> None:
        self.task = task
        self.bc = bc
        self.sequence = 0
        self._rng = np.random.default_rng(seed)

    def run(self, name: str, phase: Phase, rl: Act | None = None) -> list[Transition]:
        """Return the transitions of one episode."""
        way = self._rng.normal(size=3)
        position = (way / np.linalg.norm(way)).astype(np.float32)
        said, found = self.bc(position), []
        for step in range(self.task.max_steps):
            self.sequence += 1
            action = said.action if rl is None else rl(position).action
            following = (position + 0.1 * action[:3]).astype(np.float32)
            done = bool(np.linalg.norm(following) < 0.15)
            cut = not done and step + 1 == self.task.max_steps
            after = self.bc(following)
            found.append(
                transition(
                    self.task,
                    self.sequence,
                    name,
                    step,
                    phase=phase,
                    mode=Mode.BC if rl is None else Mode.GATED,
                    source=Source.BC if rl is None else Source.RL,
                    observation=position,
                    action=action,
                    reward=0.0 if done else -1.0,
                    next_observation=following,
                    terminated=done,
                    truncated=cut,
                    bc_action=said.action,
                    bc_log_prob=said.log_prob,
                    bc_entropy=said.entropy,
                    next_bc_action=after.action,
                    next_bc_log_prob=after.log_prob,
                    next_bc_entropy=after.entropy,
                )
            )
            position, said = following, after
            if done or cut:
                break
        return found


def noisy_bc(task: TaskSpec, seed: int, std: float = 0.6) -> Act:
    """Return a Gaussian BC that heads for the origin, too slowly, past it, and with much noise."""
    rng = np.random.default_rng(seed)
    size = task.action_size
    entropy = size * (0.5 + 0.5 * np.log(2 * np.pi) + np.log(std))

    def act(position: np.ndarray) -> Proposal:
        mean = np.zeros(size)
        target = np.array([0.12, 0.12, 0.0])
        mean[:3] = 0.45 * (target - position) / max(np.linalg.norm(target - position), 0.3)
        noise = rng.normal(size=size)
        log_prob = float(-0.5 * (noise**2).sum() - size * (0.5 * np.log(2 * np.pi) + np.log(std)))
        action = np.clip(mean + std * noise, -1, 1).astype(np.float32)
        return Proposal(action, log_prob, entropy)

    return act


def demonstrations(task: TaskSpec, count: int, seed: int) -> list[Episode]:
    """Return demonstrations that end in success."""
    toy = Toy(task, seed, noisy_bc(task, seed, std=0.3))
    found: list[Episode] = []
    while len(found) < count:
        steps = toy.run(f'd{toy.sequence}', Phase.ESTIMATING)
        if steps[-1].terminated:
            observations = np.stack([*(t.observation for t in steps), steps[-1].next_observation])
            found.append(
                Episode.demonstration(
                    steps[0].episode,
                    observations,
                    np.stack([t.action for t in steps]),
                    np.array([t.reward for t in steps]),
                    True,
                )
            )
    return found
