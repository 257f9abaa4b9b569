# SPDX-License-Identifier: Apache-2.0
"""Networks as bytes and files: safetensors with a checksummed description, from which the network is rebuilt.

Nothing is ever pickled. A file names its kind, its task contract, its version and its architecture; whatever does not
fit is refused with the file, the problem and a remedy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import hashlib
import json
from pathlib import Path
import sys
from typing import Any

from safetensors import SafetensorError
import safetensors.torch
import torch
from torch import Tensor, nn

from q2rl_policies.actor import TanhGaussianActor
from q2rl_policies.bc import DensityNet, GaussianNet, GmmNet
from q2rl_policies.critics import CriticEnsemble, ValueNet
from q2rl_policies.recurrent import RecurrentGmmNet
from q2rl_task.atomic_file import write_atomically
from q2rl_task.errors import InputError, one_line

FORMAT = 'q2rl-networks-1'
KINDS = ('actor', 'critic', 'bc', 'program')
REQUIRED = {'contract': str, 'task': str, 'version': int, 'parent': int, 'architecture': dict}
MAX_HEADER_BYTES = 1 << 20
LARGEST = {
    'observation_size': 16384,
    'action_size': 256,
    'members': 64,
    'modes': 256,
    'rnn_size': 8192,
    'rnn_layers': 8,
    'horizon': 1 << 20,
}
WORDS = ('cell', 'spread')
NUMBERS = ('action_scale', 'action_offset')
MAX_LAYERS = 8
MAX_WIDTH = 8192
FETCH_AGAIN = 'fetch or write the file again'
TYPES = {
    'tanh_gaussian': TanhGaussianActor,
    'critic_ensemble': CriticEnsemble,
    'value': ValueNet,
    'gaussian': GaussianNet,
    'gmm': GmmNet,
    'gmm_rnn': RecurrentGmmNet,
}


def pack(kind: str, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> bytes:
    """Return the file of a network group.

    :param kind: 'actor', 'bc', 'critic' (names then start with `critics.`, `value.` or, where there is a Q_BC,
        `bc_critics.`), or 'program' (a network as the bytes of a TorchScript or ONNX file, see `policy_file`)
    :param tensors: float32, finite; of a 'program' uint8
    :param meta: contract, task, version, parent, architecture (of the module; for 'critic' those of its
        parts) and any further keys that JSON can hold; of a 'critic' alpha and attainable (see `LiveCritic`)
    :raises ValueError: an unknown kind, a description that misses something, a tensor that is not finite float32
    """
    if kind not in KINDS:
        raise ValueError(f'kind {kind!r} is none of {KINDS}')
    if problem := _meta_problem(meta):
        raise ValueError(problem)
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    if problem := _tensor_problem(kind, plain):
        raise ValueError(problem)
    header = {'kind': kind, 'meta': dict(meta), 'checksum': _checksum(kind, meta, plain)}
    # One key only: safetensors writes several in random order, and equal networks should be equal files.
    return safetensors.torch.save(plain, {FORMAT: _canonical(header)})


def unpack(
    data: bytes, where: object, kind: str, contract: str | None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a network file; return its tensors and its description (`meta` of `pack`).

    :param where: the file's path or the topic, for the error
    :param contract: the task's contract hash; None accepts any
    :raises InputError: damaged, not such a file, of another kind or contract, or not finite float32
    """
    header = _header(data, where)
    if header.get('kind') != kind:
        raise InputError(
            where,
            f'holds networks of kind {header.get("kind")!r}, not {kind!r}',
            f"name a file of kind '{kind}'",
        )
    meta = header.get('meta')
    try:
        tensors = safetensors.torch.load(data)
        intact = _checksum(kind, meta, tensors) == header.get('checksum')
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise InputError(where, f'is damaged ({one_line(error)})', FETCH_AGAIN) from None
    if not intact:
        raise InputError(where, 'is damaged (the checksum does not match)', FETCH_AGAIN)
    if problem := _meta_problem(meta):
        raise InputError(where, problem, FETCH_AGAIN)
    if contract is not None and meta['contract'] != contract:
        raise InputError(
            where,
            f'was made for contract {meta["contract"]} (task {meta["task"]}), not for {contract}',
            'use networks of this very task version, or train new ones',
        )
    if problem := _tensor_problem(kind, tensors):
        raise InputError(where, problem, 'use an earlier version')
    return tensors, meta


def save(
    path: str | Path, kind: str, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]
) -> None:
    """Write a network file: whole or not at all. See `pack`."""
    write_atomically(path, pack(kind, tensors, meta), durable=True)


def load(
    path: str | Path, kind: str, contract: str | None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a network file from disk. See `unpack`."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(
            path, f'cannot be read ({error.strerror})', 'name an existing network file'
        ) from None
    return unpack(data, path, kind, contract)


def build_actor(
    meta: Mapping[str, Any], tensors: Mapping[str, Tensor], where: object = 'network file'
) -> TanhGaussianActor:
    """Rebuild the actor of an 'actor' file. The network takes the tensors as they are, without a copy.

    :raises InputError: an architecture that is not one, or tensors that do not fit it
    """
    return _build(meta['architecture'], tensors, where, (TanhGaussianActor,))


def build_critics(
    meta: Mapping[str, Any], tensors: Mapping[str, Tensor], where: object = 'network file'
) -> tuple[CriticEnsemble, ValueNet, CriticEnsemble | None]:
    """Rebuild the critics, V and, where it is there, the frozen Q_BC of a 'critic' file. See `build_actor`."""
    parts: dict[str, dict[str, Tensor]] = {'critics': {}, 'value': {}, 'bc_critics': {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition('.')
        if part not in parts:
            raise InputError(
                where, f'holds a tensor {name!r} of none of {", ".join(parts)}', FETCH_AGAIN
            )
        parts[part][rest] = tensor
    architecture = meta['architecture']
    critics = _build(architecture.get('critics'), parts['critics'], where, (CriticEnsemble,))
    value = _build(architecture.get('value'), parts['value'], where, (ValueNet,))
    bc_critics = None
    if parts['bc_critics'] or 'bc_critics' in architecture:
        described = architecture.get('bc_critics')
        bc_critics = _build(described, parts['bc_critics'], where, (CriticEnsemble,))
    return critics, value, bc_critics


def build_bc(
    meta: Mapping[str, Any], tensors: Mapping[str, Tensor], where: object = 'network file'
) -> DensityNet | RecurrentGmmNet:
    """Rebuild the density network of a 'bc' file. See `build_actor`."""
    return _build(meta['architecture'], tensors, where, (GmmNet, GaussianNet, RecurrentGmmNet))


def kind_of(data: bytes, where: object) -> str:
    """Return the kind that a network file says it is of.

    :raises InputError: not a network file
    """
    return str(_header(data, where).get('kind'))


def _header(data: bytes, where: object) -> dict[str, Any]:
    """Read what `pack` wrote of a file apart from the tensors, without trusting a length in it."""
    if len(data) < 8:
        raise InputError(where, f'is cut off ({len(data)} bytes)', FETCH_AGAIN)
    length = int.from_bytes(data[:8], 'little')
    if length > min(MAX_HEADER_BYTES, len(data) - 8):
        problem = 'is cut off, or not a safetensors file'
        if data[:2] == b'PK' or data[:1] == b'\x80':
            problem = 'looks like a pickle, which is never read'
        raise InputError(where, problem, 'name a network file (.safetensors) that q2rl wrote')
    try:
        metadata = json.loads(data[8 : 8 + length]).get('__metadata__', {})
        header = json.loads(metadata[FORMAT]) if FORMAT in metadata else None
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise InputError(where, 'is damaged (its header cannot be read)', FETCH_AGAIN) from None
    if not isinstance(header, dict):
        raise InputError(
            where, f'is not a network file of q2rl ({FORMAT})', 'name a file that q2rl wrote'
        )
    return header


def _meta_problem(meta: Any) -> str | None:
    if not isinstance(meta, Mapping):
        return 'has no description'
    for key, kind in REQUIRED.items():
        if not isinstance(meta.get(key), kind):
            return f'its description has no `{key}` ({kind.__name__})'
    numbers = [meta['version'], meta['parent'], meta.get('value_version', 0)]
    if not all(type(number) is int and number >= 0 for number in numbers):
        return 'a version in its description is no number from 0'
    alpha, attainable = meta.get('alpha', 0.0), meta.get('attainable', (0.0, 0.0))
    if not (_is_number(alpha) and alpha >= 0.0):
        return '`alpha` in its description is no number from 0'
    if not (
        isinstance(attainable, list | tuple)
        and len(attainable) == 2
        and all(map(_is_number, attainable))
    ):
        return '`attainable` in its description is no pair of numbers'
    return None


def _tensor_problem(kind: str, tensors: Mapping[str, Tensor]) -> str | None:
    expected = torch.uint8 if kind == 'program' else torch.float32
    for name, tensor in tensors.items():
        if tensor.dtype != expected:
            return f'tensor {name!r} is {tensor.dtype}, not {expected}'
        if not torch.isfinite(tensor).all():
            return f'tensor {name!r} holds numbers that are not finite'
    return None


def _checksum(kind: str, meta: Any, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(f'{FORMAT}\n{kind}\n{_canonical(meta)}\n'.encode())
    for name in sorted(tensors):
        digest.update(f'{name} {tuple(tensors[name].shape)}\n'.encode())
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()


def _canonical(content: Any) -> str:
    return json.dumps(content, sort_keys=True, separators=(',', ':'))


def _build(
    architecture: Any,
    tensors: Mapping[str, Tensor],
    where: object,
    types: tuple[Callable[..., nn.Module], ...],
) -> Any:
    if not isinstance(architecture, Mapping) or TYPES.get(architecture.get('type')) not in types:
        raise InputError(where, 'describes no network of this kind', FETCH_AGAIN)
    arguments = {name: value for name, value in architecture.items() if name != 'type'}
    if problem := _size_problem(arguments):
        raise InputError(where, problem, FETCH_AGAIN)
    try:
        with torch.device('meta'):  # shapes only: nothing is allocated or drawn
            network = TYPES[architecture['type']](**arguments)
    except TypeError as error:
        raise InputError(
            where, f'describes no network that q2rl knows ({one_line(error)})', FETCH_AGAIN
        ) from None
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if expected != found:
        name = min(
            name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
        )
        raise InputError(
            where,
            f'tensor {name!r} is {found.get(name, "absent")} where its architecture has {expected.get(name, "none")}',
            FETCH_AGAIN,
        )
    network.load_state_dict(dict(tensors), assign=True)
    return network.eval()


def _size_problem(arguments: Mapping[str, Any]) -> str | None:
    """Refuse sizes that no network here has before anything is made of them."""
    for name, largest in LARGEST.items():
        size = arguments.get(name, 1)
        if type(size) is not int or not 1 <= size <= largest:
            return f'`{name}` of its architecture is {size!r}, not within 1 .. {largest}'
    hidden = arguments.get('hidden')
    fewest = 0 if 'cell' in arguments else 1
    if not isinstance(hidden, list) or not fewest <= len(hidden) <= MAX_LAYERS:
        return f'`hidden` of its architecture is no list of {fewest} .. {MAX_LAYERS} layers'
    if not all(type(width) is int and 1 <= width <= MAX_WIDTH for width in hidden):
        return f'`hidden` of its architecture has a width outside 1 .. {MAX_WIDTH}'
    for name, value in arguments.items():
        if name in NUMBERS:
            if not isinstance(value, list) or not all(map(_is_number, value)):
                return f'`{name}` of its architecture is no list of finite numbers'
        elif name in WORDS:
            if not isinstance(value, str):
                return f'`{name}` of its architecture is no word'
        elif name != 'hidden' and not _is_number(value):
            return f'`{name}` of its architecture is no finite number'
    return None


def _is_number(value: Any) -> bool:
    # Text of a file may hold an integer that no float is as large as.
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max
