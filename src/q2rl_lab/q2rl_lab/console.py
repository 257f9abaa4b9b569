# SPDX-License-Identifier: Apache-2.0
"""How the command line talks: results on stdout, everything else on stderr, one line for what users can act on."""

from __future__ import annotations

import errno
import json
import math
import signal
import sys
from typing import Any

import typer
from typer.core import TyperGroup

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
"""A disk that is full or write-protected, a folder that is someone else's: no fault of a program."""


class CommandGroup(TyperGroup):
    """The group of all verbs: bad input becomes one line and exit code 2, what was given up 1, Ctrl-C becomes 130."""

    def invoke(self, ctx: typer.Context) -> Any:
        """Run the verb and turn the errors that users can act on into exit codes."""
        pressed = []

        def interrupt(number: int, frame: Any) -> None:
            pressed.append(number)
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGINT, interrupt)
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, Exception) as error:
            # Native modules that are interrupted while they are imported raise an ImportError instead.
            if pressed or isinstance(error, KeyboardInterrupt):
                code = error.exit_code if isinstance(error, typer.Exit) else EXIT_INTERRUPTED
                if not isinstance(error, typer.Exit):
                    say('stopped')
                raise typer.Exit(code) from None
            if (code := _exit_code(error)) is not None:
                say(f'q2rl: {error}')
                raise typer.Exit(code) from None
            if isinstance(error, OSError) and error.errno in NO_PLACE:
                where = error.filename or 'a file'
                say(f'q2rl: {where}: {error.strerror}; make room, or choose another place')
                raise typer.Exit(EXIT_FAILED) from None
            raise
        finally:
            signal.signal(signal.SIGINT, before)


def _exit_code(error: BaseException) -> int | None:
    """Return what an error that is told in its one line exits with; None for any other."""
    if not isinstance(error, ValueError | RuntimeError) or isinstance(error, typer.Exit):
        return None
    # Imported here: numpy and scipy come with it, and `--help` must not wait for them.
    from q2rl_task.errors import GivenUp, InputError

    if isinstance(error, InputError):
        return EXIT_BAD_INPUT
    return EXIT_FAILED if isinstance(error, GivenUp) else None


def say(text: str) -> None:
    """Write one line of progress or advice to stderr (stdout is for results)."""
    print(text, file=sys.stderr, flush=True)


def finite_or_none(value: Any) -> Any:
    """Return `value` with every non-finite float in it replaced by None, so that it is valid JSON."""
    if isinstance(value, dict):
        return {str(key): finite_or_none(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_none(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def emit(result: dict[str, Any], as_json: bool, title: str = '') -> None:
    """Write a result to stdout: as JSON, or as a two-column table for people."""
    if as_json:
        print(json.dumps(finite_or_none(result), indent=2), flush=True)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, show_header=False, title_justify='left', pad_edge=False)
    table.add_column(style='dim')
    table.add_column()
    for key, value in result.items():
        table.add_row(key.replace('_', ' '), _cell(value))
    Console().print(table)


def _cell(value: Any) -> str:
    if isinstance(value, dict) and {'success', 'n', 'wilson'} <= value.keys():
        return rate_text(value)
    if isinstance(value, float):
        return f'{value:.4g}'
    if isinstance(value, dict):
        return ', '.join(f'{key} {_cell(item)}' for key, item in value.items())
    if value is None:
        return '-'
    return str(value)


def rate_text(rate: dict[str, Any]) -> str:
    """Format `{success, n, wilson}` as '34.0 % of 100 (95 %: 25.5 to 43.7)'."""
    if not rate['n']:
        return 'not measured'
    low, high = rate['wilson']
    return (
        f'{100 * rate["success"]:.1f} % of {rate["n"]} (95 %: {100 * low:.1f} to {100 * high:.1f})'
    )
