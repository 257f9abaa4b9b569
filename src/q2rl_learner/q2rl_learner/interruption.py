# SPDX-License-Identifier: Apache-2.0
"""Fits that can be given up between two of their gradient steps, by whoever runs them in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

Step = TypeVar('Step')
_asked: ContextVar[Callable[[], bool]] = ContextVar('asked', default=lambda: False)


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


def interruptible(steps: Iterable[Step]) -> Iterator[Step]:
    """Yield the steps of a fit.

    :raises Interrupted: it was asked for, see `given_up_when`
    """
    for step in steps:
        if _asked.get()():
            raise Interrupted
        yield step
