# SPDX-License-Identifier: Apache-2.0
"""Policies that nobody trained, for tests to which it does not matter what they do."""

from __future__ import annotations

from pathlib import Path

import torch

from q2rl_learner.bc_training import make_bc
from q2rl_learner.config import BCConfig
from q2rl_policies.networks_file import save
from q2rl_task import TaskSpec


def untrained_clone(path: Path, config: BCConfig, task: TaskSpec) -> None:
    """Write a clone of `task` to `path`, the same each time; torch's random numbers go on from there."""
    torch.manual_seed(0)
    net = make_bc(config, task.observation_size, task.action_size)
    meta = {
        'contract': task.contract_hash, 'task': task.name, 'version': 1, 'parent': 0,
        'architecture': net.architecture,
    }  # fmt: skip
    save(path, 'bc', net.state_dict(), meta)
