# SPDX-License-Identifier: Apache-2.0
"""Show episodes as they end: a bar on a terminal, elsewhere a line at every quarter; on stderr."""

from __future__ import annotations

import sys
from typing import Any

from q2rl_lab.console import say


class EpisodeProgress:
    """Call it with each finished episode (anything with `success`); `records` keeps them."""

    def __init__(self, total: int) -> None:
        self.records: list[Any] = []
        self._total = total
        self._bar = _make_bar() if sys.stderr.isatty() else None
        self._row = self._bar.add_task('', total=total) if self._bar else None

    def __enter__(self) -> EpisodeProgress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def __call__(self, record: Any) -> None:
        """Take in an episode."""
        self.records.append(record)
        done = len(self.records)
        text = f'{sum(bool(r.success) for r in self.records)} of {done} succeeded'
        if self._bar:
            self._bar.update(self._row, completed=done, description=text)
        elif done == self._total or done % max(1, self._total // 4) == 0:
            say(f'episode {done} of {self._total}: {text}')


def _make_bar() -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn('{task.description}'))
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
