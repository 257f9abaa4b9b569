# SPDX-License-Identifier: Apache-2.0
"""Replace a file whole or not at all, and say in one line why it cannot be written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path
import tempfile

from q2rl_task.errors import InputError


@contextmanager
def replacing(path: str | Path, *, durable: bool = False) -> Iterator[Path]:
    """Give the path of a file beside `path` to write to; it takes the place of `path` at the end of the block.

    Readers see the old file or the whole new one. A block that raises leaves the old file and nothing else. Folders
    that are missing are made.

    :param durable: wait for the disk before, which takes up to seconds on a busy one; without it the death of this
        process is survived, a power cut perhaps not
    :raises OSError: it cannot be written
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.{path.name}.{os.getpid()}.partial')
    try:
        yield partial
        if durable:
            with partial.open('rb+') as file:
                os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_atomically(path: str | Path, content: bytes | str, *, durable: bool = False) -> None:
    """Make `content` (text as UTF-8) all that is in the file `path`; see `replacing`."""
    data = content.encode() if isinstance(content, str) else content
    with replacing(path, durable=durable) as partial:
        partial.write_bytes(data)


def check_writable(path: str | Path, *, folder: bool = False) -> None:
    """Make sure that a file can be made at `path`, before the work whose result it is to hold. Nothing is left there.

    :param folder: it is a folder that is to be made
    :raises InputError: something else is there, or its folder cannot be made or written to
    """
    path = Path(path)
    with saying_why(path):
        if path.exists() and path.is_dir() is not folder:
            is_, wanted = ('a file', 'folder') if folder else ('no file but a folder', 'file')
            raise InputError(path, f'is {is_}', f'name another {wanted}')
        beside = path.absolute().parent
        while not beside.exists():
            beside = beside.parent
        # Tried, not asked for: what a folder's mode says does not hold for root, nor on every file system.
        with tempfile.TemporaryFile(dir=beside):
            pass


def refuse_existing(path: str | Path, force: bool) -> None:
    """Keep what is at `path` from being replaced, unless that was asked for by the option --force.

    :raises InputError: something is there
    """
    if Path(path).exists() and not force:
        raise InputError(path, 'is there already', 'name another file, or say --force')


@contextmanager
def saying_why(path: str | Path) -> Iterator[None]:
    """Turn what keeps the block from writing `path` into one line.

    :raises InputError: in the place of an OSError
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            path,
            f'cannot be written ({error.strerror or error})',
            'name another file, or make room where the disk is full',
        ) from None
