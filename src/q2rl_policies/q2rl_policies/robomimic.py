# SPDX-License-Identifier: Apache-2.0
"""Read robomimic's checkpoints of BC-Gaussian, BC-GMM and BC-RNN-GMM as networks of q2rl.

A checkpoint is a torch file (a zip with a pickle in it) of a mapping: `algo_name`, `config` (JSON), `shape_metadata`,
`model` with `nets`, and, where they were used, `obs_normalization_stats` and `action_normalization_stats`. It is read
by torch's restricted unpickler, which makes tensors and plain containers and calls nothing that the file names.

What the observation goes through before the first layer (the choice and order of its keys, units, normalisation) is
affine, so it is folded into that layer: the result takes the task's observation as it is. The density is that of the
training; `low_noise_eval`, with which robomimic acts almost by the mode, is no density to reason with and is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import json
import math
from pathlib import Path
import pickle
from typing import Any
import zipfile

import numpy as np
import torch
from torch import Tensor

from q2rl_policies.bc import DensityNet, GaussianNet, GmmNet
from q2rl_policies.policy_spec import (
    GUIDE,
    ActionMap,
    Actions,
    Block,
    Input,
    InputMap,
    input_map,
)
from q2rl_policies.recurrent import RecurrentGmmNet
from q2rl_task.contract import Contract
from q2rl_task.errors import InputError, one_line

MAX_STD = 7.5
"""Where robomimic's Gaussian policy caps its standard deviations."""
PREFIX = 'policy.nets.'
KEPT = 'model, config, algo_name, shape_metadata, obs_normalization_stats and action_normalization_stats'
"""What is read of a checkpoint; the last two only where it has them."""
NUMPY_DATA = [
    np.dtype,
    np.ndarray,
    *(type(np.dtype(kind)) for kind in ('f4', 'f8', 'i4', 'i8', 'u1', 'bool')),
    *(
        (getattr(np._core.multiarray, name), f'numpy.{core}.multiarray.{name}')
        for name in ('scalar', '_reconstruct')
        for core in ('core', '_core')
    ),
]
"""What numbers and arrays of numpy are pickled as: the training's counters in a checkpoint often are."""


@dataclass(frozen=True)
class RobomimicPolicy:
    """A checkpoint as a network that takes the task's observation. `keys`: its observation keys, in order.

    shown: what robomimic's first layer was given of the observation, which is folded in now.
    low_noise: robomimic itself acts nearly by the mode (`low_noise_eval`).
    """

    net: DensityNet | RecurrentGmmNet
    algorithm: str
    keys: tuple[str, ...]
    shown: InputMap
    low_noise: bool


def archived_names(path: Path) -> set[str]:
    """Return what is in the folder of a zip as torch makes them; nothing of a file that is no zip.

    :raises InputError: it is one with a damaged directory
    """
    try:
        if not zipfile.is_zipfile(path):
            return set()
        with zipfile.ZipFile(path) as archive:
            return {name.partition('/')[2] for name in archive.namelist()}
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise InputError(path, f'is a damaged zip ({one_line(error)})', 'copy it again') from None


def is_checkpoint(path: Path) -> bool:
    """Whether a file looks like one of torch.save, and not like a TorchScript archive.

    :raises InputError: it is a damaged one
    """
    if names := archived_names(path):
        return 'data.pkl' in names and 'constants.pkl' not in names
    with path.open('rb') as file:
        return file.read(1) == b'\x80'


def read_robomimic(
    path: Path, task: Contract, inputs: tuple[Input, ...] = (), actions: Actions | None = None
) -> RobomimicPolicy:
    """Read a checkpoint and fit it to a task.

    :param inputs: what each observation key is of the task's observation, by `name`; a key without one is the whole
        observation (key `state`) or the block of the task that has its name, in the task's own units
    :param actions: how its actions become the task's
    :raises InputError: no such checkpoint, another kind of policy, or it does not fit the task
    """
    actions = actions or Actions()
    checkpoint = _load(path)
    config, shapes, tensors = _parts(checkpoint, path)
    algorithm, gmm = _algorithm(config, path)
    options = config['algo']
    keys = _keys(config, shapes, path)
    shown = _shown(keys, inputs, checkpoint.get('obs_normalization_stats'), task, path)
    size = shapes.get('ac_dim')
    if size != task.action_size:
        problem = f'has actions of {size} numbers, task {task.name} of {task.action_size}'
        raise InputError(path, problem, 'adopt it for a task with that action')
    head = _head(options, gmm) | _action_options(checkpoint, actions, task, path)
    order = ActionMap.of(actions, task.action_size, path).order
    try:
        hidden = [int(width) for width in options['actor_layer_dims']]
        if algorithm == 'BC-RNN-GMM':
            rnn = options['rnn']
            net: Any = RecurrentGmmNet(
                task.observation_size, size, rnn['rnn_type'], int(rnn['hidden_dim']),
                int(rnn['num_layers']), int(rnn['horizon']), hidden, **head,
            )  # fmt: skip
        else:
            make = GmmNet if gmm else GaussianNet
            net = make(task.observation_size, size, hidden, **head)
        if not gmm and options['gaussian'].get('fixed_std', False):
            for part in ('weight', 'bias'):
                tensors[f'{PREFIX}decoder.nets.scale.{part}'].zero_()
        net.load_state_dict(_renamed(tensors, net, order, shown, task.observation_size))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        problem = f'its weights are not those of its configuration ({one_line(error, 200)})'
        raise InputError(path, problem, 'give the checkpoint as robomimic saved it') from None
    if not all(torch.isfinite(tensor).all() for tensor in net.state_dict().values()):
        raise InputError(path, 'has weights that are not finite', 'give an earlier checkpoint')
    noise = options['gmm' if gmm else 'gaussian'].get('low_noise_eval', True)
    return RobomimicPolicy(net.eval(), algorithm, tuple(keys), shown, bool(noise))


def _load(path: Path) -> Mapping[str, Any]:
    remedy = (
        f'if you trust it, load it in the environment that trained it, and save {KEPT} of it anew '
        '(five lines in docs/adopt-a-policy.md)'
    )
    try:
        with torch.serialization.safe_globals(NUMPY_DATA):
            checkpoint = torch.load(path, map_location='cpu', weights_only=True)
    except (pickle.UnpicklingError, TypeError, AttributeError) as error:
        problem = f'holds more than tensors and plain data, and is not unpickled ({_why(error)})'
        raise InputError(path, problem, remedy) from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        problem = f'is no readable torch file, cut off perhaps ({one_line(error, 200)})'
        raise InputError(path, problem, 'copy it again') from None
    if not isinstance(checkpoint, Mapping):
        problem = f'holds a {type(checkpoint).__name__}, not a checkpoint of robomimic'
        raise InputError(path, problem, GUIDE)
    return checkpoint


def _parts(
    checkpoint: Mapping[str, Any], path: Path
) -> tuple[dict[str, Any], Mapping[str, Any], dict[str, Tensor]]:
    try:
        config = json.loads(checkpoint['config'])
        shapes = checkpoint['shape_metadata']
        nets = checkpoint['model']
        # Up to 0.2 `model` was the state of the networks itself.
        tensors = {str(k): v.float() for k, v in nets.get('nets', nets).items()}
        if not isinstance(shapes['all_shapes'], Mapping) or not isinstance(config['algo'], dict):
            raise TypeError('shape_metadata or config')
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        missing = f'misses {error}' if isinstance(error, KeyError) else one_line(error, 200)
        problem = f'is no checkpoint of robomimic ({missing})'
        raise InputError(path, problem, f'for another network: {GUIDE}') from None
    if checkpoint.get('algo_name') != 'bc':
        problem = f'is of algorithm {checkpoint.get("algo_name")!r}, not of bc'
        raise InputError(path, problem, f'adopt it as TorchScript or as a class: {GUIDE}')
    return config, shapes, tensors


def _algorithm(config: dict[str, Any], path: Path) -> tuple[str, bool]:
    """Return the kind of policy, and whether it is a mixture."""
    enabled = {
        name: bool(config['algo'].get(name, {}).get('enabled', False))
        for name in ('gaussian', 'gmm', 'vae', 'rnn', 'transformer')
    }
    known = {
        frozenset({'gaussian'}): 'BC-Gaussian',
        frozenset({'gmm'}): 'BC-GMM',
        frozenset({'gmm', 'rnn'}): 'BC-RNN-GMM',
    }
    kind = known.get(frozenset(name for name, on in enabled.items() if on))
    if kind is None:
        parts = ' + '.join(name for name, on in enabled.items() if on) or 'a plain regression'
        raise InputError(
            path,
            f'is {parts}; only BC-Gaussian, BC-GMM and BC-RNN-GMM are rebuilt here',
            f'adopt it as TorchScript or as a class, and let a mixture be distilled: {GUIDE}',
        )
    rnn = config['algo'].get('rnn', {})
    if kind == 'BC-RNN-GMM' and (
        rnn.get('open_loop', False) or rnn.get('kwargs', {}).get('bidirectional', False)
    ):
        problem = 'has a recurrent network that is open-loop or bidirectional'
        raise InputError(path, problem, f'adopt it as a class: {GUIDE}')
    return kind, enabled['gmm']


def _keys(config: dict[str, Any], shapes: Mapping[str, Any], path: Path) -> dict[str, int]:
    """Return the observation keys with their sizes, in the order in which the network joins them."""
    modalities = config.get('observation', {}).get('modalities', {})
    seen = modalities.get('obs', {})
    goal = [key for keys in modalities.get('goal', {}).values() for key in keys]
    images = [key for kind, keys in seen.items() if kind != 'low_dim' for key in keys]
    if images or goal:
        names = ', '.join([*images, *goal])
        problem = f'sees {names}, and a task of q2rl observes numbers only, without goals'
        raise InputError(path, problem, 'adopt a policy of low-dimensional observations')
    wanted = set(seen.get('low_dim', ()))
    keys = {
        name: int(np.prod(shape)) for name, shape in shapes['all_shapes'].items() if name in wanted
    }
    if not keys or wanted - set(keys):
        problem = f'lacks the shapes of {", ".join(sorted(wanted - set(keys))) or "any key"}'
        raise InputError(path, problem, 'give the checkpoint as robomimic saved it')
    return keys


def _shown(
    keys: Mapping[str, int], inputs: tuple[Input, ...], stats: Any, task: Contract, path: Path
) -> InputMap:
    given = {wanted.name: wanted for wanted in inputs}
    if unknown := set(given) - set(keys):
        problem = f'has no observation key {", ".join(sorted(unknown))}, only {", ".join(keys)}'
        raise InputError(path, problem, 'correct the names in `inputs`')
    maps = []
    for key, size in keys.items():
        wanted = given.get(key) or _by_name(key, task, path)
        shown = input_map(wanted, task, path)
        if len(shown.index) != size:
            problem = f'key `{key}` has {size} numbers, what it is shown {len(shown.index)}'
            raise InputError(path, problem, f'say in `inputs` what the key is: {GUIDE}')
        if stats is not None:
            offset, scale = _statistics(stats, key, size, path)
            shown = InputMap(shown.index, shown.gain / scale, (shown.bias - offset) / scale)
        maps.append(shown)
    return InputMap.joined(maps)


def _by_name(key: str, task: Contract, path: Path) -> Input:
    if key == 'state':
        return Input(name=key)
    if key in {block.name for block in task.observed_blocks}:
        return Input(name=key, blocks=(Block(field=key),))
    problem = f'observation key `{key}` has no counterpart by its name'
    raise InputError(path, problem, f'say with --spec which block of the task it is: {GUIDE}')


def _statistics(stats: Any, key: str, size: int, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return offset and scale of a key; releases up to 0.3 call them mean and std."""
    try:
        found = stats[key]
        names = ('offset', 'scale') if 'offset' in found else ('mean', 'std')
        offset, scale = (np.asarray(found[name], dtype=np.float64).reshape(size) for name in names)
    except (KeyError, TypeError, ValueError):
        problem = f'its normalisation of `{key}` is not of {size} numbers'
        raise InputError(path, problem, 'give the checkpoint as robomimic saved it') from None
    if not (np.isfinite(offset).all() and (np.isfinite(scale) & (scale > 0.0)).all()):
        problem = f'its normalisation of `{key}` has a scale that is not positive'
        raise InputError(path, problem, 'train it on observations that vary')
    return offset, scale


def _head(options: Mapping[str, Any], gmm: bool) -> dict[str, Any]:
    """Return the options of the head, as `Head` takes them."""
    found = options['gmm' if gmm else 'gaussian']
    activation = found.get('std_activation', 'softplus')
    if gmm:
        return {
            'modes': int(found['num_modes']),
            'min_std': float(found['min_std']),
            'spread': activation,
        }
    head = {
        'min_std': float(found['min_std']),
        'max_std': MAX_STD,
        'spread': f'clipped_{activation}',
    }
    if found.get('fixed_std', False):
        # The spreads' rows become zeros, and exp(0) = 1.
        head |= {'spread': 'clipped_exp', 'std_gain': float(found['init_std'])}
    elif activation == 'softplus':
        head['std_gain'] = float(found['init_std']) / math.log(2.0)
    return head


def _action_options(
    checkpoint: Mapping[str, Any], actions: Actions, task: Contract, path: Path
) -> dict[str, Any]:
    """Return scale and offset of the action: robomimic's own normalisation, then what the user says."""
    mapped = ActionMap.of(actions, task.action_size, path)
    own_offset, own_scale = np.zeros(task.action_size), np.ones(task.action_size)
    stats = checkpoint.get('action_normalization_stats')
    if stats is not None:
        if list(stats) != ['actions']:
            problem = f'normalises actions of several keys ({", ".join(map(str, stats))})'
            raise InputError(path, problem, f'adopt it as a class: {GUIDE}')
        own_offset, own_scale = _statistics(stats, 'actions', task.action_size, path)
    scale = mapped.scale * own_scale[mapped.order]
    offset = mapped.scale * own_offset[mapped.order] + mapped.offset
    found = {}
    if (scale != 1.0).any():
        found['action_scale'] = scale.tolist()
    if (offset != 0.0).any():
        found['action_offset'] = offset.tolist()
    return found


def _renamed(
    tensors: Mapping[str, Tensor],
    net: DensityNet | RecurrentGmmNet,
    order: np.ndarray,
    shown: InputMap,
    observation_size: int,
) -> dict[str, Tensor]:
    """Return the weights under our names, with what the observation goes through folded into the first layer."""
    state: dict[str, Tensor] = {}
    if isinstance(net, RecurrentGmmNet):
        names = [name for name in net.rnn.state_dict()]
        state |= {f'rnn.{name}': tensors[f'{PREFIX}rnn.nets.{name}'] for name in names}
        first = ('rnn.weight_ih_l0', 'rnn.bias_ih_l0')
    else:
        first = ('net.0.weight', 'net.0.bias')
    linear = [i for i, layer in enumerate(net.net) if isinstance(layer, torch.nn.Linear)]
    for i in linear[:-1]:
        for part in ('weight', 'bias'):
            state[f'net.{i}.{part}'] = tensors[f'{PREFIX}mlp._model.{i}.{part}']
    for part in ('weight', 'bias'):
        state[f'net.{linear[-1]}.{part}'] = _joined_head(tensors, part, net, order)
    weight, bias = (state[name].double() for name in first)
    whole = torch.zeros(len(weight), observation_size, dtype=torch.float64)
    # A number of the observation may be shown several times.
    whole.index_add_(1, torch.from_numpy(shown.index), weight * torch.from_numpy(shown.gain))
    state[first[0]] = whole.float()
    state[first[1]] = (bias + weight @ torch.from_numpy(shown.bias)).float()
    return state


def _joined_head(
    tensors: Mapping[str, Tensor], part: str, net: DensityNet | RecurrentGmmNet, order: np.ndarray
) -> Tensor:
    head = net.head
    rows = [tensors[f'{PREFIX}decoder.nets.logits.{part}']] if head.modes > 1 else []
    for name in ('mean', 'scale'):
        found = tensors[f'{PREFIX}decoder.nets.{name}.{part}']
        shape = (head.modes, head.action_size, *found.shape[1:])
        rows.append(found.reshape(shape)[:, torch.from_numpy(order)].reshape(found.shape))
    return torch.cat(rows)


def _why(error: Exception) -> str:
    """The part of torch's long message that names what was found."""
    text = one_line(error, 200)
    for mark in ('Unsupported global: ', 'WeightsUnpickler error: '):
        if mark in text:
            return text[text.index(mark) :].partition(' was not')[0][:120]
    return text[:120]
