# SPDX-License-Identifier: Apache-2.0
"""A script in a process of its own, under the interpreter that its libraries are installed for.

Simulators and other people's policies pin what they run on, so they cannot share q2rl's environment.
`foreign/serve.py` runs in theirs; one JSON line goes each way per question, which costs some 0.1 ms.
"""

from __future__ import annotations

from collections.abc import Mapping
import contextlib
import json
import os
from pathlib import Path
import selectors
import subprocess
import tempfile
from typing import Any
import weakref

SERVE = Path(__file__).parent / 'foreign' / 'serve.py'
THREADS = ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS')
"""How numerical libraries are told how many threads to start."""
CLOSE_TIMEOUT_S = 5.0
STDERR_LINES = 5


class ForeignError(RuntimeError):
    """A request that was answered by an exception. `said`: its kind and text."""

    def __init__(self, what: str, said: str) -> None:
        super().__init__(f'{what}: {said}')
        self.said = said


class ForeignProcess:
    """The class `Server` of a script behind a pipe; closed with the object, or by `close`.

    :param what: names it in messages
    :param path: folder whose modules it may import
    :raises OSError: the interpreter cannot be started
    """

    def __init__(self, what: str, python: Path, script: Path, path: Path | None = None) -> None:
        self._what = what
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        environment = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'PYTHONHOME')}
        # One core: runs go side by side.
        environment |= dict.fromkeys(THREADS, '1')
        if path is not None:
            environment['PYTHONPATH'] = str(path)
        try:
            self._process = subprocess.Popen(
                [str(python), str(SERVE), str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=environment,
            )
        except OSError:
            self._errors.close()
            raise
        self._finalizer = weakref.finalize(self, _close, self._process, self._errors)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._process.stdout, selectors.EVENT_READ)

    def ask(self, request: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        """Return the answer to a request.

        :raises ForeignError: the request failed
        :raises RuntimeError: the process ended, or does not answer in time and is ended
        """
        try:
            self._process.stdin.write(json.dumps(request).encode() + b'\n')
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            raise RuntimeError(self._obituary()) from None
        if not self._selector.select(timeout_s):
            self.close()
            raise RuntimeError(f'{self._what}: no answer within {timeout_s:.0f} s')
        line = self._process.stdout.readline()
        if not line.endswith(b'\n'):
            raise RuntimeError(self._obituary())
        answer = json.loads(line)
        if 'error' in answer:
            raise ForeignError(self._what, f'{answer["kind"]}: {answer["error"]}')
        return answer

    def close(self) -> None:
        """End the process."""
        self._finalizer()

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
