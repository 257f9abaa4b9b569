# SPDX-License-Identifier: Apache-2.0
"""The file of a BC policy, whatever it is of: a network of q2rl, a TorchScript or ONNX program, a Python class.

A `.safetensors` file holds a network, or the bytes of a program with the YAML that says how it fits; loading one runs
no Python code out of it. A `.yaml` names a Python class, which is then imported (to name the YAML is to name the
class), or a policy folder that LeRobot runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from q2rl_policies.bc import BCPolicy, DensityNet, MixtureBCPolicy
from q2rl_policies.distributions import EntropyKind
from q2rl_policies.foreign_policy import (
    ForeignPolicy,
    OnnxPredictor,
    Predictor,
    TorchScriptPredictor,
    answer_of,
)
from q2rl_policies.lerobot_policy import LeRobotPredictor, folder_hash, read_folder
from q2rl_policies.networks_file import build_bc, kind_of, pack, unpack
from q2rl_policies.policy_spec import ActionMap, PolicySpec, read_spec, spec_of
from q2rl_policies.python_policy import PythonPredictor, SamplingPolicy, load_class
from q2rl_policies.recurrent import RecurrentBCPolicy
from q2rl_task import Contract
from q2rl_task.errors import InputError, one_line

PROGRAMS = {'torchscript': TorchScriptPredictor, 'onnx': OnnxPredictor}
Make = Callable[[int, EntropyKind, bool], BCPolicy]
"""From seed, kind of entropy, and whether it acts by the mode, to a policy as it starts an episode."""


@dataclass(frozen=True)
class LoadedBC:
    """A BC policy read from its file.

    what: in a few words. density: its network, if that is one of ours and has no memory, so that it can score any
    observation and action. has_density: it says log_prob and entropy of what it proposes.
    make: of what it makes, one at a time may be in an episode, as programs share their state.
    """

    what: str
    version: int
    recurrent: bool
    has_density: bool
    density: DensityNet | None
    make: Make


def load_bc(path: str | Path, task: Contract) -> LoadedBC:
    """Read a BC policy of a task.

    :raises InputError: missing, damaged, of another task, or a class that cannot be used
    """
    path = Path(path)
    if path.suffix in ('.yaml', '.yml'):
        spec = read_spec(path)
        if not (spec.python or spec.lerobot):
            remedy = 'adopt it: q2rl adopt makes a .safetensors of it'
            raise InputError(path, 'names no Python class', remedy)
        _check_contract(spec, task, path)
        return python_bc(spec, task) if spec.python else lerobot_bc(spec, task)
    try:
        data = path.read_bytes()
    except OSError as error:
        remedy = 'name the file of a BC policy'
        raise InputError(path, f'cannot be read ({error.strerror})', remedy) from None
    if kind_of(data, path) == 'program':
        tensors, meta = unpack(data, path, 'program', task.contract_hash)
        spec = spec_of(meta['architecture'].get('spec'), path)
        program = tensors['program'].numpy().tobytes()
        return program_bc(
            program, meta['architecture'].get('format'), spec, task, path, meta['version']
        )
    tensors, meta = unpack(data, path, 'bc', task.contract_hash)
    return network_bc(build_bc(meta, tensors, path), task.contract_hash, meta['version'])


def load_density(path: str | Path, task: Contract) -> DensityNet | None:
    """Read a policy's network if that can score any observation and action (see `LoadedBC.density`); runs no user code.

    :raises InputError: missing, damaged, or of another task
    """
    path = Path(path)
    if path.suffix in ('.yaml', '.yml') and path.is_file():
        return None
    return load_bc(path, task).density


def network_bc(net: Any, contract: str, version: int) -> LoadedBC:
    """Return one of our own networks as a BC policy."""
    memoryless = isinstance(net, DensityNet)
    policy = MixtureBCPolicy if memoryless else RecurrentBCPolicy

    def make(seed: int, entropy: EntropyKind, deterministic: bool) -> BCPolicy:
        return policy(net, seed, contract, version, entropy, deterministic)

    what = f'network `{net.kind}`'
    return LoadedBC(what, version, not memoryless, True, net if memoryless else None, make)


def program_bc(
    data: bytes, kind: Any, spec: PolicySpec, task: Contract, where: object, version: int = 1
) -> LoadedBC:
    """Return a TorchScript ('torchscript') or ONNX ('onnx') program as a BC policy.

    :raises InputError: it is none, or does not fit the task
    """
    if kind not in PROGRAMS:
        raise InputError(where, f'holds a program of kind {kind!r}', 'adopt the policy again')
    predictor = PROGRAMS[kind](data, spec, task, where)
    probe(predictor, spec, task, where)
    density = 'action' not in answer_of(spec)
    return _foreign(f'{kind} program', predictor, spec, task, where, version, density)


def python_bc(spec: PolicySpec, task: Contract) -> LoadedBC:
    """Return a Python class as a BC policy. This runs the user's code.

    :raises InputError: it cannot be used, or is not the one that was adopted
    """
    where = spec.python
    made = load_class(where, task, spec.sha256)
    what = f'Python class {where}'
    if callable(getattr(made, 'sample', None)):

        def make(seed: int, entropy: EntropyKind, deterministic: bool) -> BCPolicy:
            if deterministic:
                problem = 'has `sample` only, and so no mode'
                raise InputError(where, problem, 'let it act by samples')
            return SamplingPolicy(made, where, task.action_size, seed, task.contract_hash, 1)

        policy = make(0, 'monte_carlo', False)
        proposal = policy.act(np.zeros(task.observation_size, dtype=np.float32))
        has_density = bool(np.isfinite([proposal.log_prob, proposal.entropy]).all())
        return LoadedBC(what, 1, policy.recurrent, has_density, None, make)
    predictor = PythonPredictor(made, where)
    answer = probe(predictor, spec, task, where)
    return _foreign(what, predictor, spec, task, where, 1, 'action' not in answer)


def lerobot_bc(spec: PolicySpec, task: Contract) -> LoadedBC:
    """Return a policy folder of LeRobot as a BC policy, without a density. This runs LeRobot, not code of the folder.

    :raises InputError: LeRobot is not installed for the interpreter that is named, the policy does not fit the task, or
        is not the one that was adopted
    """
    folder = read_folder(Path(spec.lerobot), task)
    if spec.sha256 and folder_hash(folder.path) != spec.sha256:
        remedy = 'bring it back, or adopt it again and start a new run'
        raise InputError(folder.path, 'is not the policy that was adopted', remedy)
    predictor = LeRobotPredictor(folder, spec, task)
    probe(predictor, spec, task, folder.path)
    return _foreign(f'LeRobot {folder.what}', predictor, spec, task, folder.path, 1, False)


def probe(
    predictor: Predictor, spec: PolicySpec, task: Contract, where: object
) -> Mapping[str, Any]:
    """Ask a policy once, to find what does not fit before a robot moves; return its answer.

    :raises InputError: an answer that is none, or of other sizes than the task's action
    """
    predictor.reset()
    try:
        answer = predictor.predict(np.zeros(task.observation_size, dtype=np.float32))
        ActionMap.of(spec.actions, task.action_size, where).answer(dict(answer))
    except InputError:
        raise
    except Exception as error:  # the user's code may raise anything
        problem = f'does not answer as it should ({one_line(error, 200)})'
        raise InputError(where, problem, 'see docs/adopt-a-policy.md') from None
    finally:
        predictor.reset()
    return answer


def pack_program(data: bytes, kind: str, spec: PolicySpec, task: Contract) -> bytes:
    """Return the file of a TorchScript or ONNX program, with how it fits the task."""
    content = torch.from_numpy(np.frombuffer(data, dtype=np.uint8).copy())
    described = spec.model_dump(
        mode='json', exclude_defaults=True, exclude={'file', 'python', 'lerobot', 'interpreter'}
    )
    architecture = {'type': 'program', 'format': kind, 'spec': described}
    meta = {'contract': task.contract_hash, 'task': task.name, 'version': 1, 'parent': 0}
    return pack('program', {'program': content}, {**meta, 'architecture': architecture})


def _foreign(
    what: str,
    predictor: Predictor,
    spec: PolicySpec,
    task: Contract,
    where: object,
    version: int,
    has_density: bool,
) -> LoadedBC:
    actions = ActionMap.of(spec.actions, task.action_size, where)

    def make(seed: int, entropy: EntropyKind, deterministic: bool) -> BCPolicy:
        contract = task.contract_hash
        return ForeignPolicy(predictor, actions, seed, contract, version, entropy, deterministic)

    return LoadedBC(what, version, predictor.recurrent, has_density, None, make)


def _check_contract(spec: PolicySpec, task: Contract, path: Path) -> None:
    if spec.contract and spec.contract != task.contract_hash:
        raise InputError(
            path,
            f'was adopted for contract {spec.contract} (task {spec.task}), not for {task.contract_hash}',
            'adopt it for this task',
        )
