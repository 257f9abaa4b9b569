# SPDX-License-Identifier: Apache-2.0
"""What a learner takes in: transitions of its task's contract, of the right sizes, with finite numbers."""

from __future__ import annotations

import numpy as np

from q2rl_task import Contract, InputError, Transition


def check_transition(t: Transition, task: Contract) -> None:
    """See that a transition can be learned from.

    :raises InputError: of another contract, of wrong sizes or not finite
    """
    where = f'transition {t.sequence} of {t.robot}'
    if t.contract != task.contract_hash:
        raise InputError(
            where,
            f'is of contract {t.contract}, not {task.contract_hash}',
            'run all nodes with one task',
        )
    o, d = task.observation_size, task.action_size
    sizes = (len(t.observation), len(t.action), len(t.next_observation))
    if sizes != (o, d, o) or len(t.bc_action) not in (0, d) or len(t.next_bc_action) not in (0, d):
        raise InputError(where, 'has vectors of wrong length', 'run all nodes with one task')
    if not (
        np.isfinite(t.observation).all()
        and np.isfinite(t.action).all()
        and np.isfinite(t.next_observation).all()
        and np.isfinite(t.reward)
    ):
        raise InputError(where, 'is not finite', 'look for the fault in the arm interface')
