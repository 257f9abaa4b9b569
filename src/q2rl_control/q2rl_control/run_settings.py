# SPDX-License-Identifier: Apache-2.0
"""What a run is told at its start: how long its phases are, and what decides on them."""

from __future__ import annotations

from dataclasses import dataclass

from q2rl_task import InputError, Mode
from q2rl_task.episode import LIFE
from q2rl_task.spec import LearningSpec

GOAL_EPISODES = 50


@dataclass(frozen=True)
class RunSettings:
    """How long a run is. Zero online steps or evaluation episodes leave that phase out.

    rollouts: BC-only episodes of the estimating phase; 0 leaves it and the fit out: what is there is evaluated, and
    nothing is learned. most_rollouts: how many it is drawn out to, half of `rollouts` at a time, while they tell too
    little to start from; 0: three times as many. online_steps: transitions of the online phase. goal: percent of the
    last `GOAL_EPISODES` gated episodes whose success ends that phase before they are spent; 0: it takes all of them.
    bc_only_every, rl_only_every: one online episode in so many runs on BC or on RL alone; 0: none. Once graduated BC
    alone runs in one of `bc_only_every_graduated`: it is known to be worse, and each of its failures costs.
    evaluation_episodes: fresh scenes, each run once per mode of `evaluation_modes`, all on one seed.
    graduation_evidence: e-value for "RL alone beats BC" at which a run graduates (20: wrongly in 1 run of 20 at most),
    twice that each time it was taken back; 0: never. drop_bc: once graduated, RL acts alone in place of the gate.
    drift_evidence: success below BC's lets BC act alone until it is clear why, without cause no more often than once in
    so many episodes; 0: never.
    demonstrations: 0, or the run is of a person instead, and over once so many of their episodes succeeded.
    pause_after_episode: pause after each, until whoever sets the scene up again resumes the run.
    without_learner: what acts is given, and a recorder keeps and acknowledges the transitions.
    """

    run_id: str
    seed: int
    rollouts: int = LearningSpec().rollouts
    most_rollouts: int = 0
    online_steps: int = LearningSpec().online_steps
    goal: int = 0
    bc_only_every: int = 10
    rl_only_every: int = 10
    bc_only_every_graduated: int = 30
    evaluation_episodes: int = 20
    evaluation_modes: tuple[Mode, ...] = (Mode.BC, Mode.GATED, Mode.RL)
    graduation_evidence: float = 20.0
    drift_evidence: float = 200.0
    drop_bc: bool = False
    demonstrations: int = 0
    pause_after_episode: bool = False
    without_learner: bool = False

    def __post_init__(self) -> None:
        if not self.run_id:
            raise InputError('parameter `run_id`', 'is empty', 'name the run')
        if LIFE in self.run_id:
            raise InputError('parameter `run_id`', f'holds an {LIFE}', 'leave it out')
        for name, value in vars(self).items():
            if isinstance(value, int | float) and value < 0:
                raise InputError(f'parameter `{name}`', 'is negative', 'set 0 or more')
        if self.goal > 100:
            raise InputError('parameter `goal`', 'is more than 100 %', 'set 100 or less')
        if self.online_steps and not self.rollouts:
            raise InputError(
                'parameter `rollouts`',
                'is 0, and there is an online phase',
                'set 2 or more: Q-Estimation needs rollouts of the BC policy',
            )
        if self.evaluation_episodes and not self.evaluation_modes:
            raise InputError('parameter `evaluation_modes`', 'is empty', 'name at least one mode')

    @property
    def needs_learner(self) -> bool:
        """Whether anything is learned, or anything that was learned acts."""
        by_rl = any(mode is not Mode.BC for mode in self.evaluation_modes)
        return not self.without_learner and (self.rollouts > 0 or by_rl)
