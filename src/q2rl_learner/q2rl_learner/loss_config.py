# SPDX-License-Identifier: Apache-2.0
"""Settings of what Q2RL itself does not do: the losses of its rivals, and learning offline before acting."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from q2rl_task.settings_file import Section


class LossConfig(Section):
    """What critics and actor minimise, where it is not what `q2rl_learner.update` states for Q2RL.

    `bootstrap`: critics go on with the value of the actor's next action (`action`), or with that of the next state
    (`expectile`): a V of its own, fitted to that `expectile` of the critics' values of replayed actions (IQL).
    `actor`: it climbs the critics and imitates (`climb`), or regresses to replayed actions, each weighted by
    exp(advantage / `temperature`) and by `max_weight` at most (`advantage`: AWAC, IQL). `temperature` [reward units].
    `calibrated`: the conservative term pushes no value below the Monte Carlo return from its state (Cal-QL).
    `conservative_actions`: actions that it draws per state from each of three sources.
    `conservatism`: its weight in the critics' loss online; 0: none. Offline: `offline.conservatism`.
    """

    bootstrap: Literal['action', 'expectile'] = 'action'
    expectile: float = Field(default=0.7, gt=0, lt=1)
    actor: Literal['climb', 'advantage'] = 'climb'
    temperature: float = Field(default=1.0, gt=0)
    max_weight: float = Field(default=100.0, gt=0)
    conservatism: float = Field(default=0.0, ge=0)
    calibrated: bool = True
    conservative_actions: int = Field(default=4, ge=1, le=64)


class OfflineConfig(Section):
    """Learning before the first online step, on demonstrations and rollouts, all of them drawn alike.

    `steps`: critic steps; 0: none. Each comes with a step of the actor, unless `actor` is false.
    `conservatism`: weight of the conservative term in this phase. `keep_data`: its data stay in the replay.
    `frozen_steps`: online steps that the policy then acts without learning; they owe no gradient steps.
    """

    steps: int = Field(default=0, ge=0)
    actor: bool = True
    conservatism: float = Field(default=0.0, ge=0)
    keep_data: bool = True
    frozen_steps: int = Field(default=0, ge=0)
