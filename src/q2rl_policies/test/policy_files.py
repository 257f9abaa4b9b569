# SPDX-License-Identifier: Apache-2.0
"""Small policies as other projects leave them: TorchScript, ONNX, Python, with known weights, and a LeRobot folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
import torch
from torch import nn

from q2rl_task import load_task

TASK = load_task('pipe_assembly')
O, D = TASK.observation_size, TASK.action_size  # noqa: E741
STD = 0.2


def lerobot_folder(path: Path, inputs: int = O, outputs: int = D, **changes) -> Path:
    """A policy folder of LeRobot that acts in chunks; `changes`: to its configuration."""
    path.mkdir()
    config = {
        'type': 'act',
        'n_obs_steps': 1,
        'chunk_size': 4,
        'n_action_steps': 4,
        'input_features': {'observation.state': {'type': 'STATE', 'shape': [inputs]}},
        'output_features': {'action': {'type': 'ACTION', 'shape': [outputs]}},
    }
    (path / 'config.json').write_text(json.dumps({**config, **changes}))
    for name in ('model.safetensors', 'policy_preprocessor.json', 'policy_postprocessor.json'):
        (path / name).write_text('{}')
    return path


def weights(outputs: int = D, inputs: int = O) -> np.ndarray:
    """The one layer of all these policies, (outputs, inputs)."""
    return np.random.default_rng(7).normal(0.0, 0.1, (outputs, inputs)).astype(np.float32)


class Gaussian(nn.Module):
    """Mean W x, standard deviation `STD`."""

    def __init__(self, inputs: int = O) -> None:
        super().__init__()
        self.register_buffer('w', torch.from_numpy(weights(inputs=inputs)))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean = x @ self.w.T
        return mean, torch.full_like(mean, 0.2)


class Summing(nn.Module):
    """An action that grows with every step of an episode: a state that is added up."""

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
        h = h + 0.1
        return {'action': h, 'h': h}


def torchscript(path: Path, network: nn.Module | None = None) -> Path:
    torch.jit.save(torch.jit.script(network or Gaussian()), str(path))
    return path


def onnx_mixture(path: Path, modes: int = 2) -> Path:
    """Input `obs`; outputs `mu` (1, K, D), `log_sigma` (1, K, D), `pi` (1, K)."""
    nodes = [
        helper.make_node('MatMul', ['obs', 'w'], ['flat']),
        helper.make_node('Reshape', ['flat', 'shape'], ['mu']),
        helper.make_node('Mul', ['mu', 'zero'], ['nothing']),
        helper.make_node('Add', ['nothing', 'log_std'], ['log_sigma']),
    ]
    constants = {
        'w': weights(modes * D).T.copy(),
        'shape': np.array([1, modes, D]),
        'zero': np.zeros(1, dtype=np.float32),
        'log_std': np.full(1, np.log(STD), dtype=np.float32),
        'axes': np.array([2]),
    }
    nodes.append(helper.make_node('ReduceSum', ['nothing', 'axes'], ['pi'], keepdims=0))
    outputs = {'mu': [1, modes, D], 'log_sigma': [1, modes, D], 'pi': [1, modes]}
    graph = helper.make_graph(
        nodes,
        'mixture',
        [helper.make_tensor_value_info('obs', TensorProto.FLOAT, [1, O])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in outputs.items()
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=9)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


PYTHON = '''
import numpy as np

class Policy:
    """Mean W x, standard deviation 0.2."""

    def __init__(self, task):
        rng = np.random.default_rng(7)
        self.w = rng.normal(0.0, 0.1, (task.action_size, task.observation_size)).astype(np.float32)

    def predict(self, observation):
        return {'mean': self.w @ observation, 'std': np.full(len(self.w), 0.2)}


class Uniform:
    """A density of its own: uniform in the box."""

    def __init__(self, task):
        self.size = task.action_size

    def sample(self, observation, rng):
        log_prob = -self.size * np.log(2.0)
        return rng.uniform(-1.0, 1.0, self.size), log_prob, -log_prob


class Counting:
    """Has a memory, and only actions."""

    recurrent = True

    def __init__(self, task):
        self.size, self.seen = task.action_size, 0

    def reset(self):
        self.seen = 0

    def predict(self, observation):
        self.seen += 1
        return {'action': np.full(self.size, 0.1 * self.seen)}
'''


def python_file(folder: Path) -> Path:
    path = folder / 'mine.py'
    path.write_text(PYTHON)
    return path
