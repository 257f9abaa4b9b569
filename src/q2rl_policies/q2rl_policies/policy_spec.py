# SPDX-License-Identifier: Apache-2.0
"""How a policy made elsewhere fits a task: what it is shown of the observation, what it answers, in which units.

One validated YAML, a `PolicySpec`; docs/adopt-a-policy.md explains its fields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field, ValidationError, model_validator

from q2rl_policies.head import mixture_of
from q2rl_policies.single_state import MixtureState
from q2rl_task.contract import Contract
from q2rl_task.errors import InputError
from q2rl_task.observed_blocks import WHOLE
from q2rl_task.settings_file import Section, read_mapping, refusal

Output = int | str
"""One of a network's outputs: by its place in a returned tuple, or by its name."""
GUIDE = 'see docs/adopt-a-policy.md'


class Block(Section):
    """A block of the task's observation (its newest tick), or `all` of the vector.

    `scale`: the SI value that is 1.0 to the network; without it the task's own. `nth`: of a block that comes twice. Of
    a Gymnasium environment both are in the environment's own units.
    """

    field: str
    scale: float | None = Field(default=None, gt=0)
    nth: int = Field(default=1, ge=1)


class Input(Section):
    """One input of the network: blocks joined in order, then normalised to (x - mean) / std."""

    name: str = ''
    blocks: tuple[Block, ...] = Field(default=(Block(field=WHOLE),), min_length=1)
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @model_validator(mode='after')
    def _scalable(self):
        if self.std is not None and 0.0 in self.std:
            raise ValueError('`std` has a zero')
        return self


class Outputs(Section):
    """Which of the network's outputs is what: a Gaussian, a mixture of K of them, or only an action.

    mean, std: (D,). means, stds: (K, D); logits: (K,), log weights up to a constant. `log_std(s)` instead of `std(s)`.
    """

    action: Output | None = None
    mean: Output | None = None
    std: Output | None = None
    log_std: Output | None = None
    logits: Output | None = None
    means: Output | None = None
    stds: Output | None = None
    log_stds: Output | None = None

    @model_validator(mode='after')
    def _whole(self):
        check_answer(self.named())
        return self

    def named(self) -> dict[str, Output]:
        """Return what is given."""
        return self.model_dump(exclude_none=True)


class State(Section):
    """A recurrent network's memory: an output that is its input at the next step, zeros of `shape` at first."""

    input: str
    output: Output
    shape: tuple[int, ...]


class Actions(Section):
    """From the network's action to the task's: component i is `scale[i]` times number `order[i]`, plus `offset[i]`."""

    order: tuple[int, ...] | None = None
    scale: tuple[float, ...] | None = None
    offset: tuple[float, ...] | None = None

    @model_validator(mode='after')
    def _invertible(self):
        if self.scale is not None and 0.0 in self.scale:
            raise ValueError('`scale` has a zero')
        if self.order is not None and sorted(self.order) != list(range(len(self.order))):
            raise ValueError('`order` does not name every number from 0 once')
        return self


class PolicySpec(Section):
    """A policy and how it fits. `file`: TorchScript or ONNX; `python`: a class, `module:Class` or `path/file.py:Class`;
    `lerobot`: a policy folder of LeRobot, and `interpreter` the Python that LeRobot is installed for.

    `task`, `contract` and `sha256` (of the file, the class's source, or the folder) are what `q2rl adopt` found.
    """

    file: str = ''
    python: str = ''
    lerobot: str = ''
    interpreter: str = ''
    inputs: tuple[Input, ...] = Field(default=(Input(),), min_length=1)
    outputs: Outputs | None = None
    actions: Actions = Actions()
    state: tuple[State, ...] = ()
    task: str = ''
    contract: str = ''
    sha256: str = ''


def read_spec(path: str | Path) -> PolicySpec:
    """Read the YAML of a policy.

    :raises InputError: no such file, not YAML, or a field that is missing, unknown or out of range
    """
    path = Path(path)
    return spec_of(read_mapping(path, f'name a YAML of a policy; {GUIDE}'), path)


def spec_of(content: object, where: str | Path) -> PolicySpec:
    """Return a validated spec.

    :raises InputError: a field that is missing, unknown or out of range
    """
    try:
        return PolicySpec.model_validate(content)
    except ValidationError as error:
        raise refusal(where, 'policy', error, GUIDE) from None


def named_inputs(spec: PolicySpec, where: Path) -> tuple[Input, ...]:
    """Return what is said of the inputs of a policy that has them by name; nothing where all is left at its default.

    :raises InputError: an input without a name, or a second of one name
    """
    if spec.inputs == PolicySpec().inputs:
        return ()
    names = [wanted.name for wanted in spec.inputs]
    if '' in names:
        problem = 'has its inputs by name, and one of `inputs` has no `name`'
        raise InputError(where, problem, f'name each: {GUIDE}')
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        problem = f'has one input {twice}, and `inputs` more than one'
        raise InputError(where, problem, f'join its blocks in one: {GUIDE}')
    return spec.inputs


@dataclass(frozen=True)
class InputMap:
    """x = gain * observation[index] + bias, each (I,)."""

    index: np.ndarray
    gain: np.ndarray
    bias: np.ndarray

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """Return what the network is shown of an observation (O,): (I,) float32."""
        return (self.gain * observation[self.index] + self.bias).astype(np.float32)

    @staticmethod
    def joined(maps: Sequence[InputMap]) -> InputMap:
        """Return several maps as one, in order."""
        return InputMap(
            *(
                np.concatenate([getattr(m, name) for m in maps])
                for name in ('index', 'gain', 'bias')
            )
        )


def input_map(wanted: Input, task: Contract, where: object) -> InputMap:
    """Return what an input is of the task's observation.

    :raises InputError: the task does not observe a field, or mean or std have another length
    """
    parts = [_block(block, task, where) for block in wanted.blocks]
    index, gain, bias = (np.concatenate(part) for part in zip(*parts, strict=True))
    mean, std = (
        np.full(len(index), default) if given is None else np.asarray(given)
        for given, default in ((wanted.mean, 0.0), (wanted.std, 1.0))
    )
    for name, numbers in (('mean', mean), ('std', std)):
        if len(numbers) != len(index):
            problem = f'has {len(numbers)} numbers for an input of {len(index)}'
            raise InputError(f'{where}: `{name}` of input {wanted.name!r}', problem, GUIDE)
    return InputMap(index, gain / std, (bias - mean) / std)


def _block(
    block: Block, task: Contract, where: object
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return index, gain and bias of a block, each (I,)."""
    named = [known for known in task.observed_blocks if known.name == block.field]
    if len(named) < block.nth:
        known = ', '.join(dict.fromkeys(known.name for known in task.observed_blocks[1:]))
        raise InputError(
            f'{where}: block `{block.field}`',
            f'number {block.nth} of that name is not in the observation of task {task.name}',
            f'name `{WHOLE}`{f" or one of {known}" if known else ""}; or observe it in the task',
        )
    found = named[block.nth - 1]
    if block.scale is not None and found.unit is None:
        raise InputError(f'{where}: block `{WHOLE}`', 'has a `scale`', 'give `mean` and `std`')
    factor = 1.0 if block.scale is None else found.unit / block.scale
    index = np.arange(found.first, found.first + found.size)
    return index, factor * found.gain, factor * found.bias


def check_answer(named: dict[str, object]) -> None:
    """Check that a policy answers with one of the three kinds of answers.

    :raises ValueError: it does not
    """
    given = frozenset(named)
    if given not in ANSWERS:
        raise ValueError(
            f'an answer is `action`, or `mean` and `std` (or `log_std`), or `logits`, `means` and `stds` '
            f'(or `log_stds`), not {sorted(given)}'
        )


def spread_fault(answer: Mapping[str, np.ndarray]) -> str | None:
    """Return what is wrong with the standard deviations of an answer, if anything is; finiteness is not looked at."""
    for name in ('std', 'stds'):
        if name in answer and (np.asarray(answer[name]) <= 0.0).any():
            sign = 'negative' if (np.asarray(answer[name]) < 0.0).any() else 'zero'
            return f'`{name}` is {sign}'
    return None


ANSWERS = frozenset(
    frozenset(names.split())
    for names in (
        'action',
        'mean std',
        'mean log_std',
        'logits means stds',
        'logits means log_stds',
    )
)


@dataclass(frozen=True)
class ActionMap:
    """The task's action from the network's; see `Actions`. Each (D,)."""

    order: np.ndarray
    scale: np.ndarray
    offset: np.ndarray

    @staticmethod
    def of(actions: Actions, size: int, where: object) -> ActionMap:
        """Return the map for a task of D = `size` components.

        :raises InputError: a list of another length
        """
        given = {'order': range(size), 'scale': [1.0] * size, 'offset': [0.0] * size}
        given |= actions.model_dump(exclude_none=True)
        for name, numbers in given.items():
            if len(numbers) != size:
                problem = f'has {len(numbers)} numbers, the action of the task {size}'
                raise InputError(f'{where}: `actions.{name}`', problem, GUIDE)
        return ActionMap(*(np.array(given[name]) for name in ('order', 'scale', 'offset')))

    def action(self, action: np.ndarray) -> np.ndarray:
        """Return the task's action (D,) of the network's (D,)."""
        return self.scale * action[..., self.order] + self.offset

    def answer(self, answer: dict[str, np.ndarray]) -> MixtureState | np.ndarray:
        """Return the density that an answer is of, in the task's action; an array (D,) if it is only an action.

        :raises ValueError: an answer with other shapes, or with a standard deviation that is none
        """
        check_answer(answer)
        size = len(self.order)
        found = {name: np.asarray(value, dtype=np.float64) for name, value in answer.items()}
        if 'action' in found:
            return self.action(_shaped('action', found['action'], (size,)))
        if 'mean' in found:
            means = _shaped('mean', found['mean'], (1, size))
            stds, logits = _spread(found, 'std', means.shape), np.zeros(1)
        else:
            logits = found['logits'].reshape(-1)
            means = _shaped('means', found['means'], (len(logits), size))
            stds = _spread(found, 'stds', means.shape)
        return mixture_of(logits, self.action(means), np.abs(self.scale) * stds[..., self.order])


def _spread(found: dict[str, np.ndarray], name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name in found:
        if (fault := spread_fault(found)) is not None:
            raise ValueError(fault)
        return _shaped(name, found[name], shape)
    return np.exp(_shaped(f'log_{name}', found[f'log_{name}'], shape))


def _shaped(name: str, value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if value.size != np.prod(shape):
        raise ValueError(f'`{name}` has shape {value.shape} where {shape} is expected')
    return value.reshape(shape)
