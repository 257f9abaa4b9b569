# SPDX-License-Identifier: Apache-2.0
"""What a learner publishes: the networks files of the actor, and of critics and V."""

from __future__ import annotations

from typing import TYPE_CHECKING

from q2rl_policies.networks_file import pack

if TYPE_CHECKING:
    from q2rl_learner.online_learner import OnlineLearner


def weights_file(learner: OnlineLearner, kind: str) -> bytes:
    """Return the networks file of a learner's `actor`, or of `critic`: critics and V, with Q_BC where the gate asks it.

    :raises ValueError: no such kind
    """
    task = learner.task
    common = {
        'contract': task.contract_hash,
        'task': task.name,
        'version': learner.weights_version,
        'parent': learner.parent,
        'gradient_steps': learner.gradient_steps,
    }
    if kind == 'actor':
        architecture = {'architecture': learner.actor.architecture}
        return pack('actor', learner.acting.state_dict(), common | architecture)
    if kind != 'critic':
        raise ValueError(f'no weights of kind {kind!r}')
    parts = {'critics': learner.critics, 'value': learner.value}
    if learner.config.acting.bc_value == 'fitted':
        parts['bc_critics'] = learner.bc_critics
    return pack(
        'critic',
        {f'{p}.{k}': v for p, net in parts.items() for k, v in net.state_dict().items()},
        common
        | {
            'architecture': {part: net.architecture for part, net in parts.items()},
            'value_version': learner.value_version,
            'alpha': learner.config.alpha,
            'attainable': list(learner.attainable),
        },
    )
