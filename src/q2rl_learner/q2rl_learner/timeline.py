# SPDX-License-Identifier: Apache-2.0
"""How learning went over time, beside the run: one line of JSON every few seconds, for the report."""

from __future__ import annotations

from collections.abc import Mapping
import contextlib
import json
import math
from pathlib import Path
from typing import Any

from q2rl_task.atomic_file import saying_why

PERIOD_S = 2.0


class Timeline:
    """Keep numbers in a file, at most every `PERIOD_S` and whenever `state` changes; null where one is not finite.

    `t`: seconds that the learner has run, of earlier processes too, since the file tells theirs.

    :param now: the monotonic clock [s]
    """

    def __init__(self, path: Path, now: float) -> None:
        self._path = path
        text = path.read_text(encoding='utf-8', errors='replace') if path.is_file() else ''
        self._began = now - _last(text)
        # A line that a crash cut short is ended before the next one.
        self._before = '' if text.endswith('\n') or not text else '\n'
        self._written, self._state = -math.inf, None

    def tell(self, now: float, numbers: Mapping[str, Any]) -> None:
        """Take the numbers of this moment.

        :raises InputError: the file cannot be written
        """
        state = numbers.get('state')
        if now - self._written < PERIOD_S and state == self._state:
            return
        self._written, self._state = now, state
        entry = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in {'t': now - self._began, **numbers}.items()
        }
        with saying_why(self._path), self._path.open('a', encoding='utf-8') as file:
            file.write(f'{self._before}{json.dumps(entry)}\n')
        self._before = ''


def _last(text: str) -> float:
    """Return the `t` of the last line that is whole; 0 without one."""
    for line in reversed(text.splitlines()):
        with contextlib.suppress(ValueError, TypeError, KeyError):
            return float(json.loads(line)['t'])
    return 0.0
