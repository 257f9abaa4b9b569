# SPDX-License-Identifier: Apache-2.0
"""What the learner publishes, as the gate takes it."""

from __future__ import annotations

from learner_helpers import small_config, toy_task
import pytest
import torch

from q2rl_learner.online_learner import OnlineLearner
from q2rl_policies.live_networks import LiveCritic
from q2rl_policies.weights import LiveWeights
from q2rl_task import InputError, TaskSpec


def rewarded_task() -> TaskSpec:
    """Return the toy with rewards 0 and 1, discount 0.95."""
    content = toy_task().model_dump()
    content['reward'] |= {'per_step': 0.0, 'success': 1.0}
    return TaskSpec.model_validate(content)


def critic_whose_v_is(level: float, **changes) -> tuple[TaskSpec, bytes]:
    task = rewarded_task()
    of = OnlineLearner(small_config(**changes), task, 0)
    with torch.no_grad():
        of.value.net[-1].weight.zero_()
        of.value.net[-1].bias.fill_(level)
    return task, of.publish()['critic']


def test_the_canary_knows_the_scale_that_the_learner_gives_rewards():
    """-1 per step at 0.95 is -20 for ever: ten times that is divergence, not the ten times 1 of the task's rewards."""
    scaled = {'reward_scale': 5.0, 'reward_bias': -1.0}
    task, data = critic_whose_v_is(-20.0, **scaled)
    live = LiveWeights(LiveCritic, task.contract_hash, task.observation_size)
    live.stage(data)
    assert live.promote()
    task, data = critic_whose_v_is(-201.0, **scaled)
    with pytest.raises(InputError, match=r'V is -201, outside \[-200, 200\]'):
        live.stage(data)
    task, data = critic_whose_v_is(-20.0)
    with pytest.raises(InputError, match=r'outside \[-10, 10\]'):
        live.stage(data)


def test_the_critics_name_the_alpha_that_they_were_trained_against():
    task, data = critic_whose_v_is(0.0, alpha=0.125)
    assert LiveCritic.from_file(data, 'test', task.contract_hash).alpha == 0.125
