# SPDX-License-Identifier: Apache-2.0
"""The offline phase: the updates of the online one, on demonstrations and rollouts, before the first online step."""

from __future__ import annotations

import torch

from q2rl_learner.config import LearnerConfig
from q2rl_learner.interruption import interruptible
from q2rl_learner.replay import Replay
from q2rl_learner.update import Updater
from q2rl_task import InputError


def learn_offline(
    updater: Updater, replay: Replay, config: LearnerConfig, generator: torch.Generator
) -> int:
    """Make the critic steps of the phase, each with one of the actor's; return their number.

    All data are drawn alike, and afterwards left in the replay or taken out of it, as the settings say.

    :raises InputError: there is nothing to learn from
    """
    steps = config.offline.steps
    if steps and not len(replay):
        raise InputError(
            'the offline phase',
            'has neither demonstrations nor rollouts in the replay',
            'give demonstrations, or set `rollouts_in_replay`',
        )
    for _ in interruptible(range(steps), 'offline'):
        updater.offline_step(replay.sample(config.batch, None, generator))
    if steps:
        updater.copy_target()
    if not config.offline.keep_data:
        replay.clear()
    return steps
