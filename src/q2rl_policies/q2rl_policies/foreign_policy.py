# SPDX-License-Identifier: Apache-2.0
"""Policies made elsewhere as BC policies: TorchScript and ONNX networks, and whatever answers as they do."""

from __future__ import annotations

import io
from typing import Any, Protocol

import numpy as np
import torch

from q2rl_policies.bc import DensityPolicy
from q2rl_policies.policy_spec import (
    GUIDE,
    ActionMap,
    InputMap,
    PolicySpec,
    input_map,
    spread_fault,
)
from q2rl_policies.single_state import MixtureState
from q2rl_task.contract import Contract
from q2rl_task.errors import InputError
from q2rl_task.records import Proposal

Answer = dict[str, np.ndarray]
"""What a policy says of one observation, by the names of `policy_spec.Outputs`."""


class Predictor(Protocol):
    """Something that says of each observation of an episode what to do."""

    recurrent: bool

    def reset(self) -> None:
        """Begin an episode."""

    def predict(self, observation: np.ndarray) -> Answer:
        """Answer one observation (O,) float32 of the task."""


class ForeignPolicy(DensityPolicy):
    """A predictor as a BC policy: one distribution object per answer, which is sampled, scored and measured.

    An answer that is only an action is proposed without log_prob and entropy; one that is not finite, or whose standard
    deviations are none, becomes a proposal that is not finite, which the gate does not execute.

    :param given: the parameters of `DensityPolicy`
    """

    def __init__(self, predictor: Predictor, actions: ActionMap, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.recurrent = predictor.recurrent
        self._predictor = predictor
        self._actions = actions
        predictor.reset()

    def reset(self) -> None:
        """Begin an episode."""
        self._predictor.reset()

    def act(self, observation: np.ndarray) -> Proposal:
        """Propose an action (D,) for one observation (O,) float32."""
        answer = self._predictor.predict(observation)
        finite = all(np.isfinite(value).all() for value in answer.values())
        if not finite or spread_fault(answer) is not None:
            nothing = np.full(len(self._actions.order), np.nan, dtype=np.float32)
            return Proposal(nothing, version=self.version)
        density = self._actions.answer(answer)
        if isinstance(density, MixtureState):
            return self._sampler.propose(density, self.version)
        return Proposal(np.clip(density, -1.0, 1.0).astype(np.float32), version=self.version)


class TorchScriptPredictor:
    """A TorchScript network: inputs by place, each (1, I) float32, then its states; a tensor, tuple or dict of outputs.

    :raises InputError: not TorchScript, or it does not fit the task
    """

    def __init__(self, data: bytes, spec: PolicySpec, task: Contract, where: object) -> None:
        try:
            self._network = torch.jit.load(io.BytesIO(data), map_location='cpu').eval()
        except (RuntimeError, ValueError) as error:
            problem = f'is no TorchScript file ({_first_line(error)})'
            raise InputError(where, problem, 'save the network with torch.jit.save') from None
        self._inputs = [input_map(wanted, task, where) for wanted in spec.inputs]
        self._spec, self._where = spec, where
        self.recurrent = bool(spec.state)
        self.reset()

    def reset(self) -> None:
        """Begin an episode with states of zeros."""
        self._states = [torch.zeros(state.shape) for state in self._spec.state]

    @torch.inference_mode()
    def predict(self, observation: np.ndarray) -> Answer:
        """See `Predictor`.

        :raises InputError: the network refuses its inputs, or lacks an output
        """
        inputs = [torch.from_numpy(shown(observation)[None]) for shown in self._inputs]
        try:
            out = self._network(*inputs, *self._states)
        except (RuntimeError, ValueError) as error:
            shapes = [tuple(x.shape) for x in (*inputs, *self._states)]
            problem = f'refuses inputs of shapes {shapes} ({_last_line(error)})'
            raise InputError(self._where, problem, f'mend `inputs`; {GUIDE}') from None
        if isinstance(out, torch.Tensor):
            out = (out,)
        self._states = [self._take(out, state.output) for state in self._spec.state]
        return {
            name: self._take(out, place).numpy() for name, place in answer_of(self._spec).items()
        }

    def _take(self, out: Any, place: int | str) -> torch.Tensor:
        try:
            return out[place]
        except (IndexError, KeyError, TypeError):
            known = list(out) if isinstance(out, dict) else f'0 .. {len(out) - 1}'
            raise _no_output(self._where, place, known) from None


class OnnxPredictor:
    """An ONNX network: inputs and states by name, each input (1, I) float32.

    :raises InputError: onnxruntime is not installed, not ONNX, or it does not fit the task
    """

    def __init__(self, data: bytes, spec: PolicySpec, task: Contract, where: object) -> None:
        try:
            import onnxruntime
        except ImportError:
            problem, remedy = 'needs onnxruntime', 'pip install -r requirements/formats.txt'
            raise InputError(where, problem, remedy) from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                data, options, providers=['CPUExecutionProvider']
            )
        except Exception as error:  # its exceptions have no base of their own
            problem = f'is no ONNX file that onnxruntime can run ({_first_line(error)})'
            raise InputError(where, problem, 'export the network again') from None
        names = [i.name for i in self._session.get_inputs()]
        wanted = [i.name for i in spec.inputs] + [s.input for s in spec.state]
        if wanted == ['']:
            wanted = names[:1]
        if sorted(names) != sorted(wanted):
            problem = f'has inputs {names}, its YAML {wanted}'
            raise InputError(where, problem, f'name them all in `inputs` and `state`; {GUIDE}')
        self._inputs: list[tuple[str, InputMap]] = [
            (name, input_map(i, task, where)) for name, i in zip(wanted, spec.inputs, strict=False)
        ]
        known = [o.name for o in self._session.get_outputs()]
        self._answer = {
            name: _output_name(known, place, where) for name, place in answer_of(spec).items()
        }
        self._carried = {s.input: _output_name(known, s.output, where) for s in spec.state}
        self._asked = list(dict.fromkeys([*self._answer.values(), *self._carried.values()]))
        self._spec, self._where = spec, where
        self.recurrent = bool(spec.state)
        self.reset()

    def reset(self) -> None:
        """Begin an episode with states of zeros."""
        self._states = {s.input: np.zeros(s.shape, dtype=np.float32) for s in self._spec.state}

    def predict(self, observation: np.ndarray) -> Answer:
        """See `Predictor`.

        :raises InputError: the network refuses its inputs
        """
        inputs = {name: shown(observation)[None] for name, shown in self._inputs}
        try:
            values = self._session.run(self._asked, {**inputs, **self._states})
        except Exception as error:  # its exceptions have no base of their own
            problem = f'refuses its inputs ({_first_line(error)})'
            raise InputError(self._where, problem, f'mend `inputs`; {GUIDE}') from None
        out = dict(zip(self._asked, values, strict=True))
        self._states = {name: out[source] for name, source in self._carried.items()}
        return {name: out[source] for name, source in self._answer.items()}


def answer_of(spec: PolicySpec) -> dict[str, int | str]:
    """Return which outputs are what; without a word on it, the first one is an action."""
    return spec.outputs.named() if spec.outputs is not None else {'action': 0}


def _output_name(known: list[str], place: int | str, where: object) -> str:
    if isinstance(place, int) and 0 <= place < len(known):
        return known[place]
    if place in known:
        return str(place)
    raise _no_output(where, place, known)


def _no_output(where: object, place: int | str, known: object) -> InputError:
    return InputError(where, f'has no output {place!r}, only {known}', f'mend `outputs`; {GUIDE}')


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]


def _last_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1][:160]
