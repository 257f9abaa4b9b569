# SPDX-License-Identifier: Apache-2.0
"""A recurrent mixture density policy (robomimic's BC-RNN-GMM): the network, and the policy that carries its state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from q2rl_policies.bc import DensityPolicy, spread_components
from q2rl_policies.distributions import GaussianMixture
from q2rl_policies.head import Head
from q2rl_policies.mlp import mlp
from q2rl_task.records import Proposal

Cell = Literal['LSTM', 'GRU']
State = Any
"""What the recurrent layers carry: (h, c) of an LSTM, h of a GRU, each (layers, B, rnn_size); None is all zeros."""


class RecurrentGmmNet(nn.Module):
    """A sequence of observations -> a `GaussianMixture` per step: recurrent layers, a perceptron, a head.

    `architecture`: what rebuilds it. `head`: how the last layer is read.

    :param hidden: of the perceptron behind the recurrent layers; may be empty
    :param horizon: length of the sequences it was trained on; after that many steps its policy begins with zeros again
    :param head: further fields of `Head`
    :raises TypeError: a cell that is unknown
    """

    kind = 'gmm_rnn'

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        cell: Cell = 'LSTM',
        rnn_size: int = 400,
        rnn_layers: int = 2,
        horizon: int = 10,
        hidden: Sequence[int] = (),
        modes: int = 5,
        min_std: float = 0.02,
        **head: Any,
    ) -> None:
        super().__init__()
        if cell not in get_args(Cell):
            raise TypeError(f'cell {cell!r} is none of {get_args(Cell)}')
        self.horizon = horizon
        self.head = Head(modes, action_size, min_std, **head)
        self.architecture = {
            'type': self.kind,
            'observation_size': observation_size,
            'action_size': action_size,
            'cell': cell,
            'rnn_size': rnn_size,
            'rnn_layers': rnn_layers,
            'horizon': horizon,
            'hidden': list(hidden),
            'modes': modes,
            **self.head.described(),
        }
        make = nn.LSTM if cell == 'LSTM' else nn.GRU
        self.rnn = make(observation_size, rnn_size, rnn_layers, batch_first=True)
        self.net = mlp(rnn_size, hidden, self.head.outputs, layer_norm=False)
        spread_components(self.net[-1], self.head)

    def forward(self, observations: Tensor, state: State = None) -> tuple[GaussianMixture, State]:
        """Return the distributions (B, T) at observations (B, T, O) that follow on `state`, and what follows."""
        features, state = self.rnn(observations, state)
        return GaussianMixture(*self.head.read(self.net(features))), state

    @torch.inference_mode()
    def step(self, observation: np.ndarray, state: State = None) -> tuple[np.ndarray, State]:
        """Return the last layer's numbers for one observation (O,) that follows on `state`, and the state after it."""
        features, state = self.rnn(torch.from_numpy(observation)[None, None], state)
        return self.net(features)[0, 0].numpy(), state


class RecurrentBCPolicy(DensityPolicy):
    """Sample a recurrent density network; sample, log-probability and entropy are of the same hidden state.

    It must see every observation of an episode, in order, and `reset` before each.

    :param given: the parameters of `DensityPolicy`
    """

    recurrent = True

    def __init__(self, net: RecurrentGmmNet, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._net = net
        self.reset()

    def reset(self) -> None:
        """Begin an episode: forget the hidden state. One random stream runs through all episodes."""
        self._state: State = None
        self._steps = 0

    def act(self, observation: np.ndarray) -> Proposal:
        """Propose an action (D,) for the next observation (O,) float32 of the episode."""
        if self._steps % self._net.horizon == 0:
            self._state = None
        self._steps += 1
        out, self._state = self._net.step(observation, self._state)
        return self._sampler.propose(self._net.head.state(out), self.version)
