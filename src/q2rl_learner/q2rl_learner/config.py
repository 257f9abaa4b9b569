# SPDX-License-Identifier: Apache-2.0
"""Settings of the learner as one validated YAML, and the presets shipped with the package.

A method (`q2rl_learner.methods`) is laid over a preset by `PRESET+METHOD`, wherever a preset is named.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from q2rl_learner.loss_config import LossConfig, OfflineConfig
from q2rl_policies.gate import BCValue, Chooser
from q2rl_task.settings_file import Section, load_settings

Hidden = tuple[int, ...]


class BCConfig(Section):
    """Behaviour cloning: the network, and the fit by maximum likelihood with early stopping.

    `min_std`: least standard deviation of a component, in units of the action.
    `held_out`: share of the demonstrations (whole episodes) that only the stopping rule sees.
    `patience`: evaluations (every `evaluate_every` steps) without improvement before the fit stops.
    `input_noise`: standard deviation of noise added to observations (O(1) units) while fitting.
    """

    kind: Literal['gmm', 'gaussian'] = 'gmm'
    modes: int = Field(default=5, ge=1, le=64)
    hidden: Hidden = (128, 128)
    layer_norm: bool = True
    min_std: float = Field(default=0.05, gt=0)
    steps: int = Field(default=3000, ge=1)
    batch: int = Field(default=256, ge=1)
    learning_rate: float = Field(default=3e-4, gt=0)
    weight_decay: float = Field(default=1e-3, ge=0)
    input_noise: float = Field(default=0.0, ge=0)
    held_out: float = Field(default=0.2, gt=0, lt=1)
    evaluate_every: int = Field(default=25, ge=1)
    patience: int = Field(default=10, ge=1)


class FitConfig(Section):
    """Q-Estimation: how V, the critics and the actor are fitted on the BC rollouts.

    `estimator`: `boltzmann` reads Q_BC out of V and BC's density; `bellman` fits it by temporal differences on the
    rollouts (`q2rl_learner.fitted_q`): `bellman_steps` gradient steps, targets that follow by `bellman_tau`.
    `folds`: V is cross-fitted over this many groups of whole episodes; the groups left out complete the cut
    returns, stop the fit and give the value error.
    `log_prob_floor` [nat]: lower clip of log pi_BC(a|s) in the critics' target.
    `critic_target`: `value`: V(s) + alpha (log pi + H); `return`: the sample's own Monte Carlo return instead of V.
    """

    estimator: Literal['boltzmann', 'bellman'] = 'boltzmann'
    bellman_steps: int = Field(default=2000, ge=1)
    bellman_tau: float = Field(default=0.02, gt=0, le=1)
    warm_start: bool = True
    value_hidden: Hidden = (128, 128)
    value_layer_norm: bool = True
    value_learning_rate: float = Field(default=3e-4, gt=0)
    value_steps: int = Field(default=600, ge=1)
    value_patience: int = Field(default=5, ge=1)
    folds: int = Field(default=5, ge=2)
    evaluate_every: int = Field(default=25, ge=1)
    completions: int = Field(default=4, ge=0)
    completion_tolerance: float = Field(default=0.02, gt=0)
    critic_steps: int = Field(default=1000, ge=0)
    actor_steps: int = Field(default=1000, ge=0)
    batch: int = Field(default=128, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    input_noise: float = Field(default=0.0, ge=0)
    log_prob_floor: float = Field(default=-100.0, lt=0)
    critic_target: Literal['value', 'return'] = 'value'
    use_demonstrations: bool = True


class Decay(Section):
    """A number that may fall over online environment steps t.

    initial, or `floor + (initial - floor) exp(-t / decay_steps)` where `decay_steps` is given.
    """

    initial: float = Field(default=1.0, ge=0)
    decay_steps: float | None = Field(default=None, gt=0)
    floor: float = Field(default=0.0, ge=0)

    @model_validator(mode='before')
    @classmethod
    def _number(cls, given: Any) -> Any:
        """Take a number alone as one that stays."""
        plain = isinstance(given, int | float) and not isinstance(given, bool)
        return {'initial': given} if plain else given

    def at(self, online_steps: int) -> float:
        """Return the number after `online_steps` environment steps."""
        if self.decay_steps is None:
            return self.initial
        return self.floor + (self.initial - self.floor) * math.exp(-online_steps / self.decay_steps)


class ActingConfig(Section):
    """Who acts in a gated episode, and how RL's side explores. The gate itself: `q2rl_policies.gate.QGate`.

    `chooser`: the better action (`gate`), always `rl` or `bc`, or `shadow`. `bc_value`: what BC's action is rated by: V
    and its `density`, the RL critics' own value of it (`critic`), or a frozen Q_BC (`fitted`, by
    `fit.estimator: bellman`). `soft_temperature`: 0 takes the better one; above, RL acts with a probability that is the
    sigmoid of its advantage over it [reward units].
    `rl_action`, `rl_noise`: in gated online episodes RL explores by its mode or a sample, plus Gaussian noise of that
    standard deviation in units of the action; `rl_correlation`: of what is drawn from one tick to the next. Wherever
    a policy is measured, RL acts by its plain mode.
    """

    chooser: Chooser = 'gate'
    bc_value: BCValue = 'density'
    soft_temperature: float = Field(default=0.0, ge=0)
    rl_action: Literal['mode', 'sample'] = 'mode'
    rl_noise: float = Field(default=0.0, ge=0)
    rl_correlation: float = Field(default=0.0, ge=0, lt=1)


class LearnerConfig(Section):
    """All settings of one learner. Steps are environment steps unless named gradient steps.

    `alpha`: temperature of Q_BC = V + alpha (log pi + H), in reward units per nat; 0: Q_BC = V. Rewards become
    `reward_scale * r + reward_bias` before anything is fitted. `imitation`: whose actions the actor's NLL term
    takes: `bc_action` (BC's proposals, on online samples), `demonstration` (on demonstration samples), `both`, or
    `success`: demonstrations, and what anybody did in an episode that succeeded (self-imitation, arXiv 1806.05446).
    `bc_mixing`: `added` (-Q + w NLL) or `convex` (-(1-w) Q + w NLL, as published). `clip_targets`: keep critic
    targets within the attainable range of returns. `actor_tau`: the actor that acts moves towards the one in training
    by this share per actor step (initially 1: they are one for good). `actor_rate`: factor of `actor_learning_rate`.
    `entropy`: how BC's is computed (`q2rl_policies.distributions`).
    `demo_mixing`: `share` (each batch has `demo_fraction` demonstrations) or `pooled` (drawn like everything else).
    `episode_ends`: `correct`, or `swapped` as in one released entry point: values flow past success and are cut at
    the time limit (of the robot's own episodes).
    `actor_batch`: the actor's step takes the `last` of the critics' batches, or `all` of them together.
    `max_in_bootstrap`: bootstrap with the better of actor and BC (IBRL). `entropy_bonus`: reward units per nat of the
    actor's entropy in its loss; without it the actor's samples soon equal its mode.
    `warm_up_samples`: samples the replay must hold before the gradient steps owed are made.
    `refresh_every`: BC-only online episodes between two fits of V; 0: V stays as it was first fitted.
    `rollouts`: episodes of BC alone that Q-Estimation has. `publish_every`: critic updates between two publications of
    weights. `allowance`: environment steps a lockstep simulation may run ahead of the gradient steps.
    `critic_updates_per_step` 0: nothing is learned online.
    """

    critics: int = Field(default=5, ge=1, le=64)
    critic_hidden: Hidden = (128, 128)
    actor_hidden: Hidden = (128, 128)
    layer_norm: bool = True
    min_subset: int = Field(default=2, ge=1)
    batch: int = Field(default=128, ge=2)
    critic_updates_per_step: int = Field(default=2, ge=0)
    actor_updates_per_step: int = Field(default=1, ge=0)
    actor_batch: Literal['last', 'all'] = 'last'
    n_step: int = Field(default=3, ge=1, le=64)
    tau: float = Field(default=0.005, gt=0, le=1)
    actor_tau: Decay = Decay()
    actor_learning_rate: float = Field(default=3e-4, gt=0)
    critic_learning_rate: float = Field(default=3e-4, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    alpha: float = Field(default=0.05, ge=0)
    reward_scale: float = Field(default=1.0, gt=0)
    reward_bias: float = 0.0
    actor_rate: Decay = Decay()
    bc_weight: Decay = Decay()
    bc_mixing: Literal['added', 'convex'] = 'added'
    imitation: Literal['bc_action', 'demonstration', 'both', 'success'] = 'both'
    actor_q: Literal['min', 'mean'] = 'min'
    entropy_bonus: float = Field(default=0.0, ge=0)
    entropy: Literal['monte_carlo', 'bound', 'published'] = 'monte_carlo'
    demo_fraction: float = Field(default=0.5, ge=0, le=1)
    demo_mixing: Literal['share', 'pooled'] = 'share'
    episode_ends: Literal['correct', 'swapped'] = 'correct'
    rollouts_in_replay: bool = True
    replay_capacity: int = Field(default=200_000, ge=1000)
    warm_up_samples: int = Field(default=200, ge=1)
    clip_targets: bool = True
    max_in_bootstrap: bool = False
    target_action: Literal['sample', 'mode'] = 'sample'
    target_policy_noise: float = Field(default=0.0, ge=0)
    rollouts: int = Field(default=20, ge=0)
    refresh_every: int = Field(default=0, ge=0)
    publish_every: int = Field(default=100, ge=1)
    publish_period_s: float = Field(default=2.0, gt=0)
    allowance: int = Field(default=25, ge=1)
    save_every: int = Field(default=2000, ge=1)
    acting: ActingConfig = ActingConfig()
    loss: LossConfig = LossConfig()
    offline: OfflineConfig = OfflineConfig()
    fit: FitConfig = FitConfig()
    bc: BCConfig = BCConfig()

    @model_validator(mode='after')
    def _consistent(self):
        if not 0 < self.actor_tau.initial <= 1:
            raise ValueError('`actor_tau` must begin above 0 and not above 1')
        if self.min_subset > self.critics:
            raise ValueError(
                f'`min_subset` {self.min_subset} is more than the {self.critics} critics'
            )
        if self.bc_mixing == 'convex' and max(self.bc_weight.initial, self.bc_weight.floor) > 1:
            raise ValueError('with `bc_mixing: convex` the weight must lie in [0, 1]')
        if self.loss.actor == 'advantage' and self.bc_weight.initial > 0:
            raise ValueError('with `loss.actor: advantage` there is no imitation: `bc_weight` 0')
        if self.rollouts < 2:
            raise ValueError(
                f'with {self.rollouts} rollouts there is no V of BC (returns of demonstrations are those of another '
                'policy): give at least 2, or take a method that needs no V: `ibrl` or `q2rl/rollouts-0`'
            )
        if self.acting.bc_value == 'fitted' and self.fit.estimator != 'bellman':
            raise ValueError('`acting.bc_value: fitted` needs `fit.estimator: bellman`')
        return self

    @property
    def needs_value(self) -> bool:
        """Whether anything asks V: the gate's rating of BC, or the warm start of the critics."""
        acting = self.acting
        return self.fit.warm_start or (acting.chooser == 'gate' and acting.bc_value != 'critic')

    @property
    def needs_density(self) -> bool:
        """Whether anything asks how likely BC's action was: Q_BC = V + alpha (log pi + H) does."""
        return self.needs_value and self.fit.estimator == 'boltzmann' and self.alpha > 0

    def scaled(self, reward: float) -> float:
        """Return the reward the learner uses for a reward of the task."""
        return self.reward_scale * reward + self.reward_bias


def load_preset(name_or_path: str | Path) -> LearnerConfig:
    """Read a preset by its name (one shipped with the package) or by the path of a YAML file.

    `PRESET+METHOD` lays a method over it: `laptop+ibrl`.

    :raises InputError: no such preset or method, not YAML, or a field that is unknown, ill-typed or out of range
    """
    preset, method = _layers(name_or_path)
    if method is not None:
        from q2rl_learner.methods import load_method  # it needs the model of the settings, above

        return load_method(method).over(load_preset(preset))
    return load_settings(LearnerConfig, 'preset', 'q2rl_learner', 'presets', name_or_path)


def without_method(name_or_path: str | Path) -> str:
    """Return the name of a preset without what is laid over it: `laptop` of `laptop+ibrl`."""
    preset, method = _layers(name_or_path)
    return preset if method is None else without_method(preset)


def _layers(name_or_path: str | Path) -> tuple[str, str | None]:
    """Return what lies below in a preset's name, and the method laid over it last, if there is one."""
    name = str(name_or_path)
    below, plus, method = name.rpartition('+')
    return (below, method) if plus and not Path(name).is_file() else (name, None)
