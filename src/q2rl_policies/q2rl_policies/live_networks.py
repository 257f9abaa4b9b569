# SPDX-License-Identifier: Apache-2.0
"""Networks ready to act: the actor alone, and the critics with what rates BC, of a network file or of torch modules."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from q2rl_policies.actor import TanhGaussianActor
from q2rl_policies.critics import CriticEnsemble, ValueNet
from q2rl_policies.networks_file import build_actor, build_critics, unpack
from q2rl_policies.single_state import ensemble_forward, mlp_forward
from q2rl_task.records import no_vector

VALUE_SLACK = 10.0
"""Canary: a value this many times beyond the largest attainable return tells of divergence."""


class LiveActor:
    """An actor that acts by its mode or by samples. It reads the module's parameters where they are."""

    kind = 'actor'

    def __init__(self, actor: TanhGaussianActor, version: int = 0) -> None:
        self.version = version
        self._forward = mlp_forward(actor.net)
        self.action_size = actor.action_size
        self._log_std_bounds = (actor.log_std_min, actor.log_std_max)

    @staticmethod
    def from_file(data: bytes, where: object, contract: str) -> LiveActor:
        """Read the bytes of an 'actor' file; see `networks_file.unpack` for the errors."""
        tensors, meta = unpack(data, where, LiveActor.kind, contract)
        return LiveActor(build_actor(meta, tensors, where), meta['version'])

    def mode(self, observation: np.ndarray) -> np.ndarray:
        """The action (D,) float32 at one observation (O,) float32."""
        return np.tanh(self._forward(observation)[: self.action_size])

    def sample(self, observation: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """The action (D,) float32 at one observation (O,) float32 that standard normal noise (D,) stands for."""
        mean, log_std = np.split(self._forward(observation), 2)
        std = np.exp(np.clip(log_std, *self._log_std_bounds))
        return np.tanh(mean + std * noise)

    def check(self, observations: np.ndarray) -> str | None:
        """Act on observations (N, O); return what is wrong, None if nothing."""
        return _first_problem(
            observations, lambda o: _problem(self.mode(o), 'an action', (-1.0, 1.0))
        )


class LiveCritic:
    """A critic ensemble, and the V and perhaps the frozen Q_BC that were published with it.

    It reads the modules' parameters where they are.

    :param alpha: temperature that the critics were trained against [reward units per nat]; None: it is not known
    :param attainable: least and greatest return in the learner's reward; None: they are not known
    """

    kind = 'critic'

    def __init__(
        self,
        critics: CriticEnsemble,
        value: ValueNet,
        version: int = 0,
        value_version: int = 0,
        bc_critics: CriticEnsemble | None = None,
        alpha: float | None = None,
        attainable: tuple[float, float] | None = None,
    ) -> None:
        self.alpha = alpha
        self._attainable = attainable
        self.version = version
        self.value_version = value_version
        self._critics = ensemble_forward(critics)
        self._bc_critics = ensemble_forward(bc_critics) if bc_critics is not None else None
        self._value = mlp_forward(value.net)
        self.action_size = critics.architecture['action_size']

    @staticmethod
    def from_file(data: bytes, where: object, contract: str) -> LiveCritic:
        """Read the bytes of a 'critic' file; see `networks_file.unpack` for the errors."""
        tensors, meta = unpack(data, where, LiveCritic.kind, contract)
        critics, value, bc_critics = build_critics(meta, tensors, where)
        value_version = int(meta.get('value_version', 0))
        said = {name: meta.get(name) for name in ('alpha', 'attainable')}
        return LiveCritic(critics, value, meta['version'], value_version, bc_critics, **said)

    def v(self, observation: np.ndarray) -> float:
        """V_BC of one observation (O,) float32."""
        return float(self._value(observation)[0])

    def q(self, observation: np.ndarray, action: np.ndarray) -> np.ndarray:
        """Q_i (E,) of one observation (O,) and one action (D,), both float32."""
        return self._critics(np.concatenate((observation, action)))

    def q_bc(self, observation: np.ndarray, action: np.ndarray) -> np.ndarray:
        """What the members of the frozen Q_BC say, (E,), of what `q` takes; (0,) where there is none."""
        if self._bc_critics is None:
            return no_vector()
        return self._bc_critics(np.concatenate((observation, action)))

    def check(self, observations: np.ndarray) -> str | None:
        """Value observations (N, O), with actions all over the box; return what is wrong, None if nothing."""
        rng = np.random.default_rng(0)
        bound = 1e6
        if self._attainable is not None:
            bound = VALUE_SLACK * max(1.0, *map(abs, self._attainable))

        def problem(observation: np.ndarray) -> str | None:
            action = rng.uniform(-1.0, 1.0, self.action_size).astype(np.float32)
            said = {
                'a Q': self.q(observation, action),
                'a Q of BC': self.q_bc(observation, action),
                'V': np.array([self.v(observation)]),
            }
            problems = (_problem(values, what, (-bound, bound)) for what, values in said.items())
            return next(filter(None, problems), None)

        return _first_problem(observations, problem)


def _first_problem(
    observations: np.ndarray, problem: Callable[[np.ndarray], str | None]
) -> str | None:
    with np.errstate(all='ignore'):
        return next(filter(None, map(problem, observations)), None)


def _problem(values: np.ndarray, what: str, bounds: tuple[float, float]) -> str | None:
    low, high = bounds
    # Written so that NaN fails too.
    wrong = values[~((values >= low) & (values <= high))]
    return f'{what} is {wrong[0]:.4g}, outside [{low:g}, {high:g}]' if len(wrong) else None
