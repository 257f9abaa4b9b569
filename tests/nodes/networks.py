# SPDX-License-Identifier: Apache-2.0
"""Small networks as the nodes receive them, and observations for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from q2rl_msgs.msg import WeightsChunk
from q2rl_policies.actor import TanhGaussianActor
from q2rl_policies.bc import GmmNet
from q2rl_policies.chunks import split
from q2rl_policies.critics import CriticEnsemble, ValueNet
from q2rl_policies.networks_file import pack, save
from q2rl_ros.conversions import weights_chunk_to_msg
from q2rl_task import Mode, ObservationRecord, load_task

TASK = load_task('pipe_assembly')
OBS, ACT, CONTRACT = TASK.observation_size, TASK.action_size, TASK.contract_hash
HIDDEN = (16, 16)


def description(architecture: dict, version: int, **more) -> dict:
    return {
        'contract': CONTRACT,
        'task': TASK.name,
        'version': version,
        'parent': version - 1,
        'architecture': architecture,
        **more,
    }


def bc_checkpoint(path: Path) -> str:
    torch.manual_seed(1)
    net = GmmNet(OBS, ACT, HIDDEN)
    save(path, 'bc', net.state_dict(), description(net.architecture, 7))
    return str(path)


def actor_file(version: int) -> bytes:
    torch.manual_seed(version)
    actor = TanhGaussianActor(OBS, ACT, HIDDEN)
    return pack('actor', actor.state_dict(), description(actor.architecture, version))


def critic_file(version: int, fitted: bool = False, **more) -> bytes:
    torch.manual_seed(version)
    parts = {
        'critics': CriticEnsemble(OBS, ACT, HIDDEN, members=3),
        'value': ValueNet(OBS, HIDDEN),
    }
    if fitted:
        parts['bc_critics'] = CriticEnsemble(OBS, ACT, HIDDEN, members=2)
    tensors = {f'{p}.{k}': t for p, net in parts.items() for k, t in net.state_dict().items()}
    architecture = {part: net.architecture for part, net in parts.items()}
    meta = description(architecture, version, value_version=version, **more)
    return pack('critic', tensors, meta)


def chunks(
    data: bytes, kind: str, version: int, chunk_bytes: int = 2048, learner: str = 'one'
) -> list[WeightsChunk]:
    return [
        weights_chunk_to_msg(**vars(c), stamp=1.0)
        for c in split(data, kind, learner, version, version - 1, CONTRACT, chunk_bytes)
    ]


def observation(
    episode: str = 'e1',
    step: int = 0,
    mode: Mode = Mode.GATED,
    final: bool = False,
    explore: bool = False,
) -> ObservationRecord:
    vector = np.random.default_rng(step).normal(size=OBS).astype(np.float32)
    stamp = 10.0 + 0.05 * step
    return ObservationRecord(stamp, CONTRACT, episode, step, mode, final, vector, explore)
