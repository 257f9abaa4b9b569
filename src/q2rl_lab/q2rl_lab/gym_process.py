# SPDX-License-Identifier: Apache-2.0
"""A Gymnasium environment in a process of its own, under the interpreter it is installed for.

Simulators pin what they run on (Meta-World 3.1 one release of MuJoCo, robosuite another), so they cannot share q2rl's
environment. `foreign/gym_server.py` runs in theirs; one JSON line goes each way per step, which costs some 0.1 ms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import contextlib
import json
import os
from pathlib import Path
import selectors
import subprocess
import tempfile
from typing import Any
import weakref

import numpy as np

from q2rl_task import InputError

THREADS = ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS')
"""How numerical libraries are told how many threads to start."""
SERVER = Path(__file__).parent / 'foreign' / 'gym_server.py'
MAKE_TIMEOUT_S, STEP_TIMEOUT_S, CLOSE_TIMEOUT_S = 300.0, 120.0, 5.0
STDERR_LINES = 5


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
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        environment = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'PYTHONHOME')}
        # One core: runs go side by side.
        environment |= dict.fromkeys(THREADS, '1')
        if path is not None:
            environment['PYTHONPATH'] = str(path)
        try:
            self._process = subprocess.Popen(
                [str(python), str(SERVER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=environment,
            )
        except OSError as error:
            remedy = 'make its environment anew, see docs/benchmarks.md'
            raise InputError(what, f'{python} does not run ({error})', remedy) from None
        self._finalizer = weakref.finalize(self, _close, self._process, self._errors)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._process.stdout, selectors.EVENT_READ)
        answer = self._ask({'do': 'make', **request}, MAKE_TIMEOUT_S)
        if 'error' in answer:
            self.close()
            problem = f'cannot be made ({answer["kind"]}: {answer["error"]})'
            raise InputError(what, problem, 'correct the suite, or install what it needs')
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
        self._finalizer()

    def _checked(self, observation: Sequence[float]) -> np.ndarray:
        found = np.array(observation, dtype=np.float64)
        if not np.isfinite(found).all():
            raise RuntimeError(f'{self._what}: the observation is not finite')
        return found

    def _request(self, request: dict[str, Any]) -> dict[str, Any]:
        answer = self._ask(request, STEP_TIMEOUT_S)
        if 'error' in answer:
            raise RuntimeError(f'{self._what}: {answer["kind"]}: {answer["error"]}')
        return answer

    def _ask(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        try:
            self._process.stdin.write(json.dumps(request).encode() + b'\n')
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            raise RuntimeError(self._obituary()) from None
        if not self._selector.select(timeout):
            self.close()
            raise RuntimeError(f'{self._what}: no answer within {timeout:.0f} s')
        line = self._process.stdout.readline()
        if not line.endswith(b'\n'):
            raise RuntimeError(self._obituary())
        return json.loads(line)

    def _obituary(self) -> str:
        if self._errors.closed:
            return f'{self._what}: is closed'
        self._errors.seek(0)
        lines = self._errors.read().decode(errors='replace').split('\n')[-STDERR_LINES - 1 :]
        return f'{self._what}: its process ended: {" / ".join(filter(None, map(str.strip, lines)))}'


def _close(process: subprocess.Popen, errors: Any) -> None:
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(CLOSE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
    errors.close()
