# SPDX-License-Identifier: Apache-2.0
"""Checkpoints in robomimic's layout, and the density that robomimic trains, written out plainly."""

from __future__ import annotations

from collections import OrderedDict
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
import torch.nn.functional as F

from q2rl_task import load_task

KEYS = {'state': load_task('pipe_assembly').observation_size}
HIDDEN = (12, 10)


def make_checkpoint(
    path: Path | None,
    kind: str = 'gmm',
    *,
    keys: dict[str, int] = KEYS,
    actions: int = 6,
    modes: int = 3,
    hidden: tuple[int, ...] = HIDDEN,
    obs_stats: dict[str, Any] | None = None,
    action_stats: dict[str, Any] | None = None,
    rnn: str = 'LSTM',
    seed: int = 0,
    algo: dict[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Write a checkpoint of a 'gmm', 'gaussian' or 'rnn' policy, and return it."""
    torch.manual_seed(seed)
    tensors: OrderedDict[str, Tensor] = OrderedDict()

    def layer(name: str, inputs: int, outputs: int) -> None:
        linear = nn.Linear(inputs, outputs)
        tensors[f'policy.nets.{name}.weight'] = linear.weight.detach()
        tensors[f'policy.nets.{name}.bias'] = linear.bias.detach()

    width = sum(keys.values())
    if kind == 'rnn':
        cell = getattr(nn, rnn)(width, 7, 2, batch_first=True)
        tensors |= {f'policy.nets.rnn.nets.{n}': t.detach() for n, t in cell.state_dict().items()}
        width = 7
    for i, size in enumerate(hidden):
        layer(f'mlp._model.{2 * i}', width, size)
        width = size
    many = 1 if kind == 'gaussian' else modes
    for name in ('mean', 'scale'):
        layer(f'decoder.nets.{name}', width, many * actions)
    if kind != 'gaussian':
        layer('decoder.nets.logits', width, modes)
    if kind == 'rnn':  # the network behind the recurrent layers is registered twice
        again = {n: t for n, t in tensors.items() if '.mlp.' in n or '.decoder.' in n}
        tensors |= {n.replace('nets.', 'nets.rnn.per_step_net.', 1): t for n, t in again.items()}
    config = {
        'algo': {
            'actor_layer_dims': list(hidden),
            'gaussian': {
                'enabled': kind == 'gaussian', 'fixed_std': False, 'init_std': 0.1,
                'min_std': 0.01, 'std_activation': 'softplus', 'low_noise_eval': True,
            },
            'gmm': {
                'enabled': kind != 'gaussian', 'num_modes': modes, 'min_std': 0.05,
                'std_activation': 'softplus', 'low_noise_eval': True,
            },
            'vae': {'enabled': False},
            'rnn': {
                'enabled': kind == 'rnn', 'horizon': 4, 'hidden_dim': 7, 'rnn_type': rnn,
                'num_layers': 2, 'open_loop': False, 'kwargs': {'bidirectional': False},
            },
            'transformer': {'enabled': False},
        },
        'observation': {'modalities': {'obs': {'low_dim': list(keys), 'rgb': []}, 'goal': {}}},
    }  # fmt: skip
    for section, values in (algo or {}).items():
        config['algo'][section] |= values
    shapes = OrderedDict((name, [keys[name]]) for name in sorted(keys))
    checkpoint = {
        'model': {'nets': tensors, 'optimizers': {}, 'lr_schedulers': {}},
        'config': json.dumps(config),
        'algo_name': 'bc',
        'env_metadata': {'env_name': 'Lift'},
        'shape_metadata': {'ac_dim': actions, 'all_shapes': shapes, 'use_images': False},
        'variable_state': {'epoch': 3, 'best_valid_loss': np.float64(0.5)},
    }
    for name, stats in (
        ('obs_normalization_stats', obs_stats),
        ('action_normalization_stats', action_stats),
    ):
        if stats is not None:
            checkpoint[name] = stats
    checkpoint |= more
    if path is not None:
        torch.save(checkpoint, path)
    return checkpoint


def density(
    checkpoint: dict[str, Any], sequence: dict[str, np.ndarray]
) -> list[tuple[Tensor, ...]]:
    """Return (log weights, means, stds) for each step of observations by key, (T, size) each, from zeros on."""
    algo = json.loads(checkpoint['config'])['algo']
    nets = checkpoint['model']['nets']
    stats = checkpoint.get('obs_normalization_stats')
    gmm, rnn = algo['gmm']['enabled'], algo['rnn']['enabled']
    parts = []
    for key in checkpoint['shape_metadata']['all_shapes']:
        value = torch.as_tensor(sequence[key], dtype=torch.float64)
        if stats is not None:
            offset, scale = (torch.tensor(stats[key][n]).double() for n in ('offset', 'scale'))
            value = (value - offset) / scale
        parts.append(value)
    x = torch.cat(parts, -1).float()

    def linear(name: str, x: Tensor) -> Tensor:
        at = f'policy.nets.{name}.'
        return F.linear(x, nets[at + 'weight'], nets[at + 'bias'])

    if rnn:
        cell = getattr(nn, algo['rnn']['rnn_type'])(x.shape[-1], 7, 2, batch_first=True)
        prefix = 'policy.nets.rnn.nets.'
        cell.load_state_dict({n[len(prefix) :]: t for n, t in nets.items() if n.startswith(prefix)})
        horizon = algo['rnn']['horizon']
        x = torch.cat([cell(piece[None])[0][0] for piece in x.split(horizon)])
    for i in range(len(algo['actor_layer_dims'])):
        x = torch.relu(linear(f'mlp._model.{2 * i}', x))
    modes = algo['gmm']['num_modes'] if gmm else 1
    shape = (len(x), modes, checkpoint['shape_metadata']['ac_dim'])
    means = torch.tanh(linear('decoder.nets.mean', x)).view(shape)
    raw = linear('decoder.nets.scale', x).view(shape)
    head = algo['gmm' if gmm else 'gaussian']
    activate = {'softplus': F.softplus, 'exp': torch.exp}[head['std_activation']]
    if gmm:
        stds = activate(raw) + head['min_std']
        weights = F.log_softmax(linear('decoder.nets.logits', x), -1)
    else:
        gain = head['init_std'] / math.log(2.0) if head['std_activation'] == 'softplus' else 1.0
        stds = torch.full_like(raw, head['init_std']) if head['fixed_std'] else gain * activate(raw)
        stds, weights = stds.clamp(head['min_std'], 7.5), torch.zeros(len(x), 1)
    return list(zip(weights.detach(), means.detach(), stds.detach(), strict=True))
