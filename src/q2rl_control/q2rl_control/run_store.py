# SPDX-License-Identifier: Apache-2.0
"""What a run leaves in its directory: `run_state.json`, `episodes.jsonl`, and `outbox.bin`.

`run_state.json` is replaced atomically at every episode end. `episodes.jsonl` gets one line per finished
episode. `outbox.bin` holds the transitions that may not have been acknowledged, so that a killed
process neither loses one nor gives its number to another.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
import struct
import zlib

from q2rl_control.run_progress import RunProgress
from q2rl_task import InputError
from q2rl_task.atomic_file import write_atomically

FORMAT = 1
FRAME = struct.Struct('<QII')


class RunStore:
    """State and episode records of one run directory, which is made if it is not there.

    :raises InputError: the directory cannot be made or written
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                directory, f'cannot be made ({error.strerror})', 'name a directory you may write'
            ) from None
        self._state = self.directory / 'run_state.json'
        self._episodes = self.directory / 'episodes.jsonl'

    def load(self) -> tuple[RunProgress, dict] | None:
        """Return the saved progress and the extra data saved with it; None for a fresh directory.

        :raises InputError: the file is not one of ours
        """
        if not self._state.exists():
            return None
        try:
            data = json.loads(self._state.read_text())
            if data['format'] != FORMAT:
                raise ValueError(f'format {data["format"]}')
            return RunProgress.from_dict(data['progress']), data['extra']
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                self._state, f'cannot be resumed from ({error})', 'use another run directory'
            ) from None

    def save(self, progress: RunProgress, extra: dict, durable: bool = False) -> None:
        """Replace the saved state atomically; `durable` as in `replacing`."""
        data = {'format': FORMAT, 'progress': progress.to_dict(), 'extra': extra}
        write_atomically(self._state, json.dumps(data, indent=1), durable=durable)

    def append_episode(self, record: dict) -> None:
        """Add one finished episode; numbers that are not finite become null."""
        clean = {
            k: None if isinstance(v, float) and not math.isfinite(v) else v
            for k, v in record.items()
        }
        with self._episodes.open('ab') as file:
            file.write(json.dumps(clean).encode() + b'\n')

    def cut_episodes(self, count: int) -> None:
        """Keep the first `count` records only: later ones, whole or torn, are of an episode that was never saved."""
        if not self._episodes.exists():
            return
        data = self._episodes.read_bytes()
        kept = b''.join(data.splitlines(keepends=True)[:count])
        if len(kept) < len(data):
            write_atomically(self._episodes, kept)


class Outbox:
    """Append-only file of (sequence, payload), each with a checksum; a torn or damaged tail is cut off."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._file = None

    def load(self) -> list[tuple[int, bytes]]:
        """Return what is stored, in order, and cut off what follows the last whole entry."""
        self.close()
        if not self._path.exists():
            return []
        data = self._path.read_bytes()
        entries, end = [], 0
        while end + FRAME.size <= len(data):
            sequence, size, checksum = FRAME.unpack_from(data, end)
            payload = data[end + FRAME.size : end + FRAME.size + size]
            if len(payload) < size or _checksum(sequence, payload) != checksum:
                break
            entries.append((sequence, payload))
            end += FRAME.size + size
        if end < len(data):
            with self._path.open('r+b') as file:
                file.truncate(end)
        return entries

    def append(self, sequence: int, payload: bytes) -> None:
        """Store one entry; it survives the death of this process."""
        if self._file is None:
            self._file = self._path.open('ab')
        self._file.write(FRAME.pack(sequence, len(payload), _checksum(sequence, payload)) + payload)
        self._file.flush()

    def keep(self, entries: list[tuple[int, bytes]]) -> None:
        """Replace everything by `entries`, atomically."""
        self.close()
        frames = (FRAME.pack(n, len(p), _checksum(n, p)) + p for n, p in entries)
        write_atomically(self._path, b''.join(frames))

    def close(self) -> None:
        """Close the file; `append` opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _checksum(sequence: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(sequence.to_bytes(8, 'little')))
