# SPDX-License-Identifier: Apache-2.0
"""What lies at the path that `q2rl adopt` is given, fitted to a task and ready to be kept in a file of ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import os
from pathlib import Path
from typing import Any

import yaml

from q2rl_policies.lerobot_policy import folder_hash
from q2rl_policies.networks_file import pack
from q2rl_policies.policy_file import (
    LoadedBC,
    lerobot_bc,
    load_bc,
    network_bc,
    pack_program,
    program_bc,
    python_bc,
)
from q2rl_policies.policy_spec import (
    GUIDE,
    InputMap,
    PolicySpec,
    input_map,
    named_inputs,
    read_spec,
)
from q2rl_policies.python_policy import source_of
from q2rl_policies.robomimic import archived_names, is_checkpoint, read_robomimic
from q2rl_task import Contract, InputError
from q2rl_task.file_hash import sha256_of

NETWORK, YAML = '.safetensors', '.yaml'


@dataclass(frozen=True)
class Candidate:
    """A policy that was found. kind: in a word. suffix, content: of the file that it is kept in.

    shown: what its first layer is given of the observation, where that is known. notes: what the user should know.
    """

    kind: str
    loaded: LoadedBC
    suffix: str
    content: Callable[[], bytes]
    shown: InputMap | None = None
    notes: tuple[str, ...] = ()


def find_candidate(
    source: str, spec_path: Path | None, task: Contract, interpreter: Path | None = None
) -> Candidate:
    """Read what lies at a path, or the Python class of a name; `spec_path`: the YAML that says how it fits.

    :param interpreter: of a policy folder, the Python that LeRobot is installed for
    :raises InputError: nothing that is known, or it does not fit the task
    """
    path = Path(source)
    spec = read_spec(spec_path) if spec_path is not None else PolicySpec()
    if interpreter is not None:
        if not path.is_dir():
            problem = f'is for policy folders of LeRobot, and {source} is none'
            raise InputError('--interpreter', problem, 'leave it out')
        spec = spec.model_copy(update={'interpreter': str(interpreter)})
    if ':' in source and not path.exists():
        return _python(spec.model_copy(update={'python': source}), task)
    if path.is_dir():
        return _lerobot(spec, task, path, Path())
    if not path.is_file():
        raise InputError(source, 'no such file, folder or class', 'name one; see q2rl adopt --help')
    if path.suffix == '.py':
        raise InputError(source, 'is a file of Python', f'name its class: {source}:MyPolicy')
    if spec_path is not None and path.suffix in ('.yaml', '.yml', NETWORK):
        raise InputError('--spec', f'{source} says itself how it fits', 'leave it out')
    if path.suffix in ('.yaml', '.yml'):
        return _by_yaml(path, task)
    if path.suffix == NETWORK:
        return Candidate('q2rl', load_bc(path, task), NETWORK, path.read_bytes)
    if path.suffix == '.onnx' or _is_torchscript(path):
        return _program(path, spec, task, spec_path)
    if is_checkpoint(path):
        return _robomimic(path, spec, task)
    problem = 'is neither a torch file, nor TorchScript, ONNX, a policy folder or a YAML'
    raise InputError(source, problem, GUIDE)


def _by_yaml(path: Path, task: Contract) -> Candidate:
    spec = read_spec(path)
    named = [name for name in ('file', 'python', 'lerobot') if getattr(spec, name)]
    if len(named) != 1:
        problem = f'names {" and ".join(named) or "no policy"}'
        raise InputError(path, problem, 'give one of `file`, `python` and `lerobot`')
    spec = spec.model_copy(update={'task': '', 'contract': '', 'sha256': ''})
    if spec.python:
        place, _, name = spec.python.rpartition(':')
        if place.endswith('.py'):  # beside the YAML
            spec = spec.model_copy(update={'python': f'{path.parent / place}:{name}'})
        return _python(spec, task)
    beside = path.parent / (spec.file or spec.lerobot)
    if spec.lerobot:
        return _lerobot(spec, task, beside, path.parent)
    if not beside.is_file():
        raise InputError(f'{path}: field `file`', f'{beside} is not there', 'correct the path')
    if beside.suffix != '.onnx' and not _is_torchscript(beside) and is_checkpoint(beside):
        return _robomimic(beside, spec, task)
    return _program(beside, spec, task, path)


def _program(path: Path, spec: PolicySpec, task: Contract, spec_path: Path | None) -> Candidate:
    kind = 'torchscript' if _is_torchscript(path) else 'onnx'
    if spec.outputs is None:
        where = spec_path or path
        problem = 'does not say what the outputs are'
        raise InputError(
            where, problem, f'say it in a YAML (--spec), such as `outputs: {{action: 0}}`; {GUIDE}'
        )
    data = path.read_bytes()
    loaded = program_bc(data, kind, spec, task, path)
    shown = InputMap.joined([input_map(wanted, task, path) for wanted in spec.inputs])
    return Candidate(kind, loaded, NETWORK, lambda: pack_program(data, kind, spec, task), shown)


def _robomimic(path: Path, spec: PolicySpec, task: Contract) -> Candidate:
    read = read_robomimic(path, task, named_inputs(spec, path), spec.actions)
    notes = []
    if read.low_noise:
        notes.append(
            'robomimic evaluates this policy with `low_noise_eval`, nearly by its mode; here it acts by samples of the '
            'density that was trained, which is what Q2RL reasons with'
        )
    if read.algorithm == 'BC-RNN-GMM':
        notes.append(
            f'its hidden state begins anew every {read.net.horizon} steps, as in robomimic'
        )
    meta = {
        'contract': task.contract_hash,
        'task': task.name,
        'version': 1,
        'parent': 0,
        'architecture': read.net.architecture,
        'adopted': {
            'from': path.name,
            'sha256': sha256_of(path),
            'algorithm': read.algorithm,
            'keys': list(read.keys),
        },
    }
    return Candidate(
        f'robomimic {read.algorithm}',
        network_bc(read.net, task.contract_hash, 1),
        NETWORK,
        lambda: pack('bc', read.net.state_dict(), meta),
        read.shown,
        tuple(notes),
    )


def _python(spec: PolicySpec, task: Contract) -> Candidate:
    loaded = python_bc(spec, task)
    place, _, name = spec.python.rpartition(':')
    if place.endswith('.py'):
        spec = spec.model_copy(update={'python': f'{Path(place).resolve()}:{name}'})
    found = {'sha256': sha256_of(source_of(spec.python))}
    notes = ('the file that is written names the class; whoever runs it runs that code',)
    return Candidate('python', loaded, YAML, _yaml(spec, task, found), notes=notes)


def _lerobot(spec: PolicySpec, task: Contract, folder: Path, beside: Path) -> Candidate:
    """Return a policy folder; `beside`: where the interpreter's path begins."""
    found = {'lerobot': str(folder.resolve())}
    if spec.interpreter:
        # Links are kept: the Python of a virtual environment is one, and knows its packages by where that lies.
        found['interpreter'] = os.path.abspath(beside / Path(spec.interpreter).expanduser())
    spec = spec.model_copy(update=found)
    loaded = lerobot_bc(spec, task)
    return Candidate('lerobot', loaded, YAML, _yaml(spec, task, {'sha256': folder_hash(folder)}))


def _yaml(spec: PolicySpec, task: Contract, found: dict[str, Any]) -> Callable[[], bytes]:
    found = {'task': task.name, 'contract': task.contract_hash, **found}
    content = spec.model_copy(update=found).model_dump(mode='json', exclude_defaults=True)
    return lambda: yaml.safe_dump(content, sort_keys=False).encode()


def _is_torchscript(path: Path) -> bool:
    return 'constants.pkl' in archived_names(path)
