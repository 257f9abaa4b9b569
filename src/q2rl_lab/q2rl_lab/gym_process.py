# SPDX-License-Identifier: Apache-2.0
"""A Gymnasium environment in a process of its own, under the interpreter it is installed for.

Simulators pin what they run on (Meta-World 3.1 one release of MuJoCo, robosuite another).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from q2rl_policies.foreign_process import ForeignError, ForeignProcess
from q2rl_task import InputError

SERVER = Path(__file__).parent / 'foreign' / 'gym_server.py'
MAKE_TIMEOUT_S, STEP_TIMEOUT_S = 300.0, 120.0


class GymProcess:
    """One environment behind a pipe; closed with the object, or by `close`.

    `observation_size`; `action_low`, `action_high`: (D,), of the environment's own actions.

    :param what: names the environment in messages
    :param path: folder whose modules it may import
    :param request: id, arguments, attributes, success and policy: see `foreign/gym_server.py`
    :raises InputError: the environment cannot be made, or has unbounded actions
    """

    def __init__(
        self, what: str, python: Path, path: Path | None, request: Mapping[str, Any]
    ) -> None:
        self._what = what
        try:
            self._process = ForeignProcess(what, python, SERVER, path)
        except OSError as error:
            remedy = 'make its environment anew, see docs/benchmarks.md'
            raise InputError(what, f'{python} does not run ({error})', remedy) from None
        try:
            answer = self._process.ask({'do': 'make', **request}, MAKE_TIMEOUT_S)
        except ForeignError as error:
            self.close()
            problem = f'cannot be made ({error.said})'
            raise InputError(what, problem, 'correct the suite, or install what it needs') from None
        self.observation_size: int = answer['observation_size']
        self.action_low, self.action_high = (
            np.array(answer[name]) for name in ('action_low', 'action_high')
        )
        if not np.isfinite([self.action_low, self.action_high]).all():
            self.close()
            raise InputError(what, 'has unbounded actions', 'wrap it with bounds on each of them')

    def reset(self, seed: int) -> np.ndarray:
        """Present the scene of `seed`; return the observation, (O,) float64.

        :raises RuntimeError: the environment failed, here and in all that follows
        """
        return self._checked(self._request({'do': 'reset', 'seed': seed})['observation'])

    def step(self, action: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        """Take an action (D,) in [-1, 1]; return the next observation and reward, success, terminated, truncated."""
        share = 0.5 * (np.clip(action, -1.0, 1.0).astype(np.float64) + 1.0)
        own = self.action_low + share * (self.action_high - self.action_low)
        answer = self._request({'do': 'step', 'action': own.tolist()})
        return self._checked(answer.pop('observation')), answer

    def expert(self) -> np.ndarray:
        """Return the demonstrator's action here, (D,) in [-1, 1]."""
        return self.to_unit(np.array(self._request({'do': 'expert'})['action']))

    def to_unit(self, actions: np.ndarray) -> np.ndarray:
        """Return the environment's own actions (..., D) as those in [-1, 1]."""
        width = self.action_high - self.action_low
        return np.clip(2.0 * (actions - self.action_low) / width - 1.0, -1.0, 1.0)

    def close(self) -> None:
        """End the process."""
        self._process.close()

    def _checked(self, observation: Sequence[float]) -> np.ndarray:
        found = np.array(observation, dtype=np.float64)
        if not np.isfinite(found).all():
            raise RuntimeError(f'{self._what}: the observation is not finite')
        return found

    def _request(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._process.ask(request, STEP_TIMEOUT_S)
