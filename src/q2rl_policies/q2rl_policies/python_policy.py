# SPDX-License-Identifier: Apache-2.0
"""A policy as a Python class that the user names in so many words, `module:Class` or `path/file.py:Class`.

The class is made with the task (`q2rl_task.TaskSpec`) and answers observations (O,) float32 in one of two ways:

- `predict(observation)` returns a mapping: `mean` and `std` (or `log_std`); or `logits`, `means` and `stds` (or
  `log_stds`); or only `action`. Sampling and scoring are done here, with one distribution object.
- `sample(observation, rng)` returns (action, log_prob, entropy) itself, in nats, for what is no mixture of Gaussians;
  log_prob is that of the action as returned, before it is clipped.

`reset()`, called before every episode, and `recurrent = True`, for a class with memory, are optional.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
from pathlib import Path
import sys
from typing import Any

import numpy as np

from q2rl_policies.foreign_policy import Answer
from q2rl_task.contract import Contract
from q2rl_task.errors import InputError
from q2rl_task.file_hash import sha256_of
from q2rl_task.records import Proposal

PROTOCOL = 'see the protocol in docs/adopt-a-policy.md'


def load_class(name: str, task: Contract, sha256: str = '') -> Any:
    """Import a class and make an instance for a task. This runs the user's code.

    :param sha256: hex digits that its source file must have, or it is not run; empty accepts any. Packages above the
        module are imported to find that file, and what it imports itself is not looked at.
    :raises InputError: no such class, another source than adopted, or it cannot be made
    """
    if sha256:
        _check_source(name, _named_file(name), sha256)
    kind, source = _find(name)
    if sha256:
        _check_source(name, source, sha256)  # the class may come from a file that this one imports
    try:
        made = kind(task)
    except Exception as error:  # the user's code may raise anything
        raise InputError(name, f'cannot be made ({_said(error)})', PROTOCOL) from None
    if not any(callable(getattr(made, method, None)) for method in ('predict', 'sample')):
        raise InputError(name, 'has neither `predict` nor `sample`', PROTOCOL)
    return made


def source_of(name: str) -> Path:
    """Return the file that holds a class's source. This imports it.

    :raises InputError: no such class, or it is named where it is only imported: what runs first would be another file
    """
    kind, source = _find(name)
    if source != _named_file(name):
        home = f'{kind.__module__}:{kind.__name__}'
        raise InputError(name, f'is only imported there, from {source}', f'say {home}')
    return source


def _check_source(name: str, source: Path, sha256: str) -> None:
    remedy = 'bring the file back, or adopt it again and start a new run'
    try:
        found = sha256_of(source)
    except OSError as error:
        problem = f'{source} cannot be read ({error.strerror or error})'
        raise InputError(name, problem, remedy) from None
    if found != sha256:
        raise InputError(name, f'{source} is not the source that was adopted', remedy)


def _split(name: str) -> tuple[str, str]:
    place, colon, attribute = name.rpartition(':')
    if not colon or not place or not attribute:
        raise InputError(name, 'names no class', 'say module:Class or path/file.py:Class')
    return place, attribute


def _named_file(name: str) -> Path:
    """Return the file that an import of a class begins with. This imports the packages above it, not the file."""
    place, _ = _split(name)
    if place.endswith('.py'):
        return Path(place).resolve()
    try:
        spec = importlib.util.find_spec(place)
    except Exception as error:  # the user's package may raise anything
        raise InputError(name, f'cannot be imported ({_said(error)})', PROTOCOL) from None
    if spec is None or spec.origin is None:
        raise InputError(name, f'there is no source file of {place}', PROTOCOL)
    return Path(spec.origin).resolve()


def _find(name: str) -> tuple[type, Path]:
    place, attribute = _split(name)
    try:
        module = (
            _import_file(Path(place)) if place.endswith('.py') else importlib.import_module(place)
        )
        found = getattr(module, attribute, None)
        source = inspect.getsourcefile(found) if found is not None else None
    except Exception as error:  # the user's module may raise anything
        raise InputError(name, f'cannot be imported ({_said(error)})', PROTOCOL) from None
    if found is None:
        raise InputError(name, f'{place} has no class {attribute}', _classes_of(module))
    if not isinstance(found, type) or source is None:
        raise InputError(name, 'is no Python class with a source file', PROTOCOL)
    return found, Path(source).resolve()


def _classes_of(module: Any) -> str:
    """Return what to name instead of a class that a module does not have."""
    own = [
        name
        for name, kind in vars(module).items()
        if isinstance(kind, type) and kind.__module__ == module.__name__
    ]
    return f'name one of {", ".join(own)}' if own else f'it has no class at all; {PROTOCOL}'


def _import_file(path: Path) -> Any:
    path = path.resolve()
    name = f'q2rl_policy_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}'
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and inspect look a class's module up
    spec.loader.exec_module(module)
    return module


class PythonPredictor:
    """An instance with `predict`, as a `foreign_policy.Predictor`."""

    def __init__(self, made: Any, where: str) -> None:
        self._made, self._where = made, where
        self.recurrent = bool(getattr(made, 'recurrent', False))

    def reset(self) -> None:
        """Begin an episode."""
        reset(self._made)

    def predict(self, observation: np.ndarray) -> Answer:
        """See `foreign_policy.Predictor`; the class gets a copy.

        :raises InputError: it does not answer with a mapping
        """
        answer = self._made.predict(observation.copy())
        if not isinstance(answer, dict):
            problem = f'`predict` returned {type(answer).__name__}, not a mapping'
            raise InputError(self._where, problem, PROTOCOL)
        return {name: np.asarray(value) for name, value in answer.items()}


class SamplingPolicy:
    """An instance with `sample` as a BC policy. log_prob and entropy are as good as the class says."""

    def __init__(
        self, made: Any, where: str, action_size: int, seed: int, contract: str, version: int
    ) -> None:
        self.contract, self.version = contract, version
        self.recurrent = bool(getattr(made, 'recurrent', False))
        self._made, self._where, self._size = made, where, action_size
        self.rng = np.random.default_rng(seed)
        self.reset()

    def reset(self) -> None:
        """Begin an episode."""
        reset(self._made)

    def act(self, observation: np.ndarray) -> Proposal:
        """Propose an action (D,) for one observation (O,) float32.

        :raises InputError: it returns something else than action, log_prob and entropy
        """
        try:
            action, log_prob, entropy = self._made.sample(observation.copy(), self.rng)
            action = np.asarray(action, dtype=np.float32).reshape(self._size)
            return Proposal(
                np.clip(action, -1.0, 1.0), float(log_prob), float(entropy), self.version
            )
        except (TypeError, ValueError) as error:
            problem = f'`sample` returned no action ({self._size},), log_prob, entropy'
            raise InputError(self._where, f'{problem} ({_said(error)})', PROTOCOL) from None


def reset(made: Any) -> None:
    """Begin an episode, where the class wants to know."""
    if callable(getattr(made, 'reset', None)):
        made.reset()


def _said(error: Exception) -> str:
    return ' '.join(f'{type(error).__name__}: {error}'.split())[:160]
