# SPDX-License-Identifier: Apache-2.0
"""Fits that can be watched, and given up between two steps, by whoever runs them in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Told = Callable[[str, int, int], None]
"""Is told what is fitted, how many steps of it are made, and how many there are to be at most."""


def _nobody(what: str, made: int, planned: int) -> None:
    pass


_asked: ContextVar[Callable[[], bool]] = ContextVar('asked', default=lambda: False)
_told: ContextVar[Told] = ContextVar('told', default=_nobody)


class Interrupted(Exception):
    """A fit was given up: what it fitted is half done, and to be thrown away."""


@contextmanager
def given_up_when(asked: Callable[[], bool]) -> Iterator[None]:
    """Let fits within this block, in this thread, raise `Interrupted` at their next step once `asked()` holds."""
    token = _asked.set(asked)
    try:
        yield
    finally:
        _asked.reset(token)


@contextmanager
def watched_by(told: Told) -> Iterator[None]:
    """Let fits within this block, in this thread, tell of every step before they make it."""
    token = _told.set(told)
    try:
        yield
    finally:
        _told.reset(token)


def interruptible(steps: range, what: str) -> Iterator[int]:
    """Yield the steps of a fit of `what`.

    :raises Interrupted: it was asked for, see `given_up_when`
    """
    asked, told = _asked.get(), _told.get()
    for made, step in enumerate(steps):
        if asked():
            raise Interrupted
        told(what, made, len(steps))
        yield step
