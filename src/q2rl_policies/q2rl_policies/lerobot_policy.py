# SPDX-License-Identifier: Apache-2.0
"""A policy folder of LeRobot (`config.json`, `model.safetensors`, processors), run by LeRobot in its own environment.

LeRobot asks for another torch than q2rl, so a process of its own runs it (`foreign/lerobot_server.py`). Here its
configuration is read: enough to say whether it fits the task and has a density. Its policies propose without one: what
`select_action` returns is an action, and ACT, diffusion and the like have no cheap density.
"""

from __future__ import annotations

from dataclasses import dataclass
import hashlib
import json
from pathlib import Path
import sys
from typing import Any

import numpy as np

from q2rl_policies.foreign_policy import Answer
from q2rl_policies.foreign_process import ForeignError, ForeignProcess
from q2rl_policies.policy_spec import GUIDE, Input, PolicySpec, input_map, named_inputs
from q2rl_task.contract import Contract
from q2rl_task.errors import InputError, one_line
from q2rl_task.file_hash import sha256_of

WHAT = {
    'act': 'regresses chunks of actions: no density',
    'diffusion': 'denoises chunks of actions: no cheap density',
    'vqbet': 'picks codes of action chunks and offsets to them: no density of the action',
    'tdmpc': 'plans with a learned model: no density',
    'gaussian_actor': 'is an actor trained by reinforcement learning, a squashed Gaussian',
}
SERVER = Path(__file__).parent / 'foreign' / 'lerobot_server.py'
LOAD_TIMEOUT_S, ACT_TIMEOUT_S = 300.0, 60.0
INTERPRETER = 'name the Python of the environment that LeRobot is in: --interpreter, or `interpreter` of the YAML'
FOLDER = 'name the folder pretrained_model of a checkpoint that LeRobot saved'
PROCESSORS = ('policy_preprocessor.json', 'policy_postprocessor.json')


@dataclass(frozen=True)
class LeRobotFolder:
    """What a folder's `config.json` says. inputs: sizes by name, in order. chunked: acts with a memory of its own."""

    path: Path
    type: str
    inputs: dict[str, int]
    chunked: bool

    @property
    def what(self) -> str:
        """The kind of policy in words."""
        return f'{self.type} ({WHAT.get(self.type, "with no density that is known here")})'


def read_folder(path: Path, task: Contract) -> LeRobotFolder:
    """Read the configuration of a policy folder, and check that it could fit a task.

    :raises InputError: no such folder, it sees images, or its action is of another size
    """
    where = path / 'config.json'
    config = _read_json(where)
    try:
        kind = config['type']
        inputs = {
            name: (str(feature['type']), int(np.prod(feature['shape'])))
            for name, feature in config['input_features'].items()
        }
        action = config['output_features']['action']['shape']
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f'is no configuration of a LeRobot policy ({one_line(error)})'
        raise InputError(where, problem, FOLDER) from None
    other = [name for name, (feature, _) in inputs.items() if feature not in ('STATE', 'ENV')]
    if other:
        problem = f'{kind} sees {", ".join(other)}, and a task of q2rl observes numbers only'
        raise InputError(where, problem, 'adopt a policy that acts on observation.state')
    if list(action) != [task.action_size]:
        problem = (
            f'{kind} has actions of shape {list(action)}, task {task.name} of [{task.action_size}]'
        )
        raise InputError(where, problem, 'adopt it for a task with that action')
    if not (path / 'model.safetensors').is_file():
        raise InputError(path / 'model.safetensors', 'is not there', FOLDER)
    lengths = (config.get(name) or 1 for name in ('n_obs_steps', 'n_action_steps', 'chunk_size'))
    sizes = {name: size for name, (_, size) in inputs.items()}
    return LeRobotFolder(path, str(kind), sizes, any(length != 1 for length in lengths))


def folder_hash(path: Path) -> str:
    """Return the sha256 of all that makes the policy of a folder: its configuration, weights and processors, hex."""
    digest = hashlib.sha256()
    for file in sorted((*path.glob('*.json'), *path.glob('*.safetensors'))):
        digest.update(f'{file.name} {sha256_of(file)}\n'.encode())
    return digest.hexdigest()


def _read_json(where: Path) -> Any:
    try:
        return json.loads(where.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        reason = getattr(error, 'strerror', None) or one_line(error)
        raise InputError(where, f'cannot be read as JSON ({reason})', FOLDER) from None


class LeRobotPredictor:
    """A LeRobot policy behind a pipe; it answers with actions only.

    `spec.interpreter`: the Python that LeRobot is installed for; without it that of q2rl.

    :raises InputError: LeRobot is not installed there, cannot load it, or it does not fit the task
    """

    def __init__(self, folder: LeRobotFolder, spec: PolicySpec, task: Contract) -> None:
        where = folder.path
        given = {wanted.name: wanted for wanted in named_inputs(spec, where)}
        if unknown := set(given) - set(folder.inputs):
            problem = f'has no input {", ".join(sorted(unknown))}, only {", ".join(folder.inputs)}'
            raise InputError(where, problem, 'correct the names in `inputs`')
        self._inputs = {
            name: input_map(given.get(name, Input(name=name)), task, where)
            for name in folder.inputs
        }
        for name, shown in self._inputs.items():
            if len(shown.index) != folder.inputs[name]:
                problem = f'input {name} has {folder.inputs[name]} numbers, what it is shown {len(shown.index)}'
                raise InputError(where, problem, f'say in `inputs` what it is: {GUIDE}')
        self.recurrent = folder.chunked
        self._process = _start(folder, Path(spec.interpreter or sys.executable))

    def reset(self) -> None:
        """Begin an episode: forget the queue of actions.

        :raises RuntimeError: LeRobot failed, here and below
        """
        self._process.ask({'do': 'reset'}, ACT_TIMEOUT_S)

    def predict(self, observation: np.ndarray) -> Answer:
        """See `foreign_policy.Predictor`."""
        inputs = {name: shown(observation).tolist() for name, shown in self._inputs.items()}
        answer = self._process.ask({'do': 'act', 'inputs': inputs}, ACT_TIMEOUT_S)
        return {'action': np.array(answer['action'])}


def _start(folder: LeRobotFolder, python: Path) -> ForeignProcess:
    missing = [name for name in PROCESSORS if not (folder.path / name).is_file()]
    if missing:
        problem = f'lacks {" and ".join(missing)}, without which its normalisation is unknown'
        remedy = "migrate it with LeRobot's own script for its processors"
        raise InputError(folder.path, problem, remedy)
    for name in PROCESSORS:
        _refuse_named_classes(folder.path / name)
    try:
        process = ForeignProcess(f'LeRobot policy {folder.path}', python, SERVER)
    except OSError as error:
        problem = f'{python} does not run ({error.strerror})'
        raise InputError(folder.path, problem, INTERPRETER) from None
    try:
        answer = process.ask({'do': 'load', 'folder': str(folder.path)}, LOAD_TIMEOUT_S)
    except ForeignError as error:
        problem = f'LeRobot cannot load it ({error.said[:200]})'
        raise InputError(folder.path, problem, 'try it with the LeRobot that trained it') from None
    except RuntimeError as error:
        problem = f'LeRobot does not start ({one_line(error, 200)})'
        raise InputError(folder.path, problem, INTERPRETER) from None
    if not answer['installed']:
        problem = f'{folder.what}; running it needs LeRobot, which is not installed for {python}'
        raise InputError(folder.path, problem, INTERPRETER)
    return process


def _refuse_named_classes(where: Path) -> None:
    """Refuse a file of processors that names a class of any module: LeRobot's loader would import and call it.

    Steps by `registry_name` can only be what LeRobot has registered (`_resolve_step_class` of its `pipeline.py`).

    :raises InputError: it does, or it is no file of processors
    """
    try:
        steps = _read_json(where).get('steps', [])
        named = [str(step.get('class')) for step in steps if 'registry_name' not in step]
    except (TypeError, AttributeError) as error:
        problem = f'is no file of processors ({one_line(error)})'
        raise InputError(where, problem, FOLDER) from None
    if named:
        problem = f'names a class that LeRobot would import and call: {one_line(named[0], 100)}'
        remedy = 'save the policy with steps that LeRobot has registered, if you trust it'
        raise InputError(where, problem, remedy)
