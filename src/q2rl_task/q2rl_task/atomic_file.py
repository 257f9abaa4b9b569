# SPDX-License-Identifier: Apache-2.0
"""Replace a file whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path


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
