# SPDX-License-Identifier: Apache-2.0
"""Show a run while it runs: a live table on a terminal, a line now and then elsewhere. All on stderr."""

from __future__ import annotations

import sys
from typing import Protocol

from q2rl_lab.console import say
from q2rl_lab.run_view import RunView

PLAIN_PERIOD_S = 10.0


class Display(Protocol):
    """Something that shows a run."""

    def update(self, view: RunView, now: float) -> None:
        """Show the view as it is now."""

    def note(self, text: str) -> None:
        """Show one line that stays."""

    def close(self) -> None:
        """Show nothing any more; what was shown last stays."""


def open_display(title: str, live: bool | None = None) -> Display:
    """Return the display that fits stderr; `live` overrules."""
    return LiveDisplay(title) if (sys.stderr.isatty() if live is None else live) else PlainDisplay()


class PlainDisplay:
    """One line at every change of phase, else one in ten seconds, and only when it says something new."""

    def __init__(self) -> None:
        self._phase: object = None
        self._said = self._remark = ''
        self._next = 0.0

    def update(self, view: RunView, now: float) -> None:
        """Write a line if one is due, and a remark when it is new."""
        remark = view.remark(now)
        if remark and remark != self._remark:
            say(f'  {remark}')
        self._remark = remark
        if view.phase == self._phase and now < self._next:
            return
        line = view.line(now)
        content = line.partition('] ')[2]
        if view.phase != self._phase or content != self._said:
            say(line)
        self._phase, self._said, self._next = view.phase, content, now + PLAIN_PERIOD_S

    def note(self, text: str) -> None:
        """Write the line."""
        say(text)

    def close(self) -> None:
        """Do nothing: lines stay."""


class LiveDisplay:
    """A table that is drawn over itself, with notes above it."""

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.live import Live

        self._title = title
        # Drawn by `update` alone: a thread that redraws would take time from the run.
        self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=False)
        self._live.start()

    def update(self, view: RunView, now: float) -> None:
        """Draw the table anew."""
        from rich import box
        from rich.table import Table

        table = Table(title=self._title, title_justify='left', show_header=False, box=box.ROUNDED)
        table.add_column(style='dim', no_wrap=True)
        table.add_column(min_width=60)
        for name, text in view.rows(now):
            table.add_row(name, text)
        self._live.update(table, refresh=True)

    def note(self, text: str) -> None:
        """Write the line above the table."""
        self._live.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        """Leave the last table where it is."""
        self._live.stop()
