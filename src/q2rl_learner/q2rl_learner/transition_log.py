# SPDX-License-Identifier: Apache-2.0
"""The append-only log of transitions on disk: what is in it survives any kill, and is in it exactly once.

One SQLite file in WAL mode. A row is (robot, sequence, episode, step, body, crc32): the body is a JSON header with
the scalar fields and the lengths of the vectors, followed by the vectors as little-endian float32. The crc32 covers
key and body and is checked at every read. Transitions are acknowledged only after the commit (and its fsync).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
import dataclasses
import json
from pathlib import Path
import sqlite3
import struct
import zlib

import numpy as np

from q2rl_task import EndReason, InputError, Mode, Phase, Reason, Source, Transition

FORMAT = 1
_VECTORS = (
    'observation',
    'action',
    'executed_action',
    'next_observation',
    'bc_action',
    'next_bc_action',
    'rl_action',
)
_ENUMS = {
    'phase': Phase,
    'mode': Mode,
    'source': Source,
    'reason': Reason,
    'end_reason': EndReason,
    'would_act': Source,
}
BEFORE_PROPOSALS = 6
"""Vectors in a row from before RL's proposal and `would_act` were logged; such rows stay readable."""
_SCALARS = tuple(f.name for f in dataclasses.fields(Transition) if f.name not in _VECTORS)


def encode(transition: Transition) -> bytes:
    """Return the body of a transition's row."""
    header = {name: getattr(transition, name) for name in _SCALARS}
    for name in _ENUMS:
        header[name] = int(header[name])
    vectors = [np.asarray(getattr(transition, name), dtype='<f4') for name in _VECTORS]
    header['lengths'] = [len(v) for v in vectors]
    text = json.dumps(header, separators=(',', ':')).encode()
    return struct.pack('<I', len(text)) + text + b''.join(v.tobytes() for v in vectors)


def decode(body: bytes) -> Transition:
    """Return the transition of a row's body.

    :raises ValueError: the body is not one that `encode` makes
    """
    try:
        (size,) = struct.unpack_from('<I', body)
        header = json.loads(body[4 : 4 + size])
        lengths = header.pop('lengths')
        if len(lengths) == BEFORE_PROPOSALS:
            lengths.append(0)
            header['would_act'] = Source.HOLD
        flat = np.frombuffer(body, dtype='<f4', offset=4 + size, count=sum(lengths))
        parts = np.split(flat.astype(np.float32), np.cumsum(lengths)[:-1])
        for name, kind in _ENUMS.items():
            header[name] = kind(header[name])
        header['interventions'] = tuple(header['interventions'])
        return Transition(**header, **dict(zip(_VECTORS, parts, strict=True)))
    except (struct.error, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f'not a transition: {error}') from None


def _checksum(robot: str, sequence: int, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(f'{robot}\0{sequence}\0'.encode()))


class TransitionLog:
    """The log at `path`; made if it does not exist. Use from one thread.

    :param contract: contract hash of the task; a log of another one is refused
    :param read_only: open an existing log for reading alone, also while a learner writes it
    :raises InputError: not a log, a damaged file, or the log of another contract
    """

    def __init__(
        self, path: str | Path, contract: str | None = None, read_only: bool = False
    ) -> None:
        self.path = Path(path)
        self.damaged: list[str] = []
        self.damaged_keys: set[tuple[str, int]] = set()
        if read_only and not self.path.is_file():
            raise InputError(self.path, 'no such transition log', 'name the log of a run')
        try:
            self._db = self._open(contract, read_only)
            self._contiguous = {
                robot: self._find_contiguous(robot)
                for (robot,) in self._db.execute('SELECT DISTINCT robot FROM transitions')
            }
            self._count = int(self._db.execute('SELECT COUNT(*) FROM transitions').fetchone()[0])
        except (sqlite3.DatabaseError, OSError) as error:
            raise self._unreadable(error) from None

    def _open(self, contract: str | None, read_only: bool) -> sqlite3.Connection:
        if read_only:
            uri = f'{self.path.resolve().as_uri()}?mode=ro'
            db = sqlite3.connect(uri, uri=True, check_same_thread=False)
        else:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(self.path, check_same_thread=False)
            db.execute('PRAGMA journal_mode=WAL')
            db.execute('PRAGMA synchronous=FULL')
            with db:
                db.execute('CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT)')
                db.execute(
                    'CREATE TABLE IF NOT EXISTS transitions (robot TEXT NOT NULL, sequence INTEGER NOT NULL, '
                    'episode TEXT NOT NULL, step INTEGER NOT NULL, body BLOB NOT NULL, crc INTEGER NOT NULL, '
                    'PRIMARY KEY (robot, sequence))'
                )
                db.execute(
                    'CREATE INDEX IF NOT EXISTS of_an_episode ON transitions (episode, step)'
                )
                db.execute('INSERT OR IGNORE INTO about VALUES (?, ?)', ('format', str(FORMAT)))
                db.execute(
                    'INSERT OR IGNORE INTO about VALUES (?, ?)', ('contract', contract or '')
                )
        about = dict(db.execute('SELECT name, value FROM about'))
        if about.get('format') != str(FORMAT):
            raise InputError(
                self.path,
                f'is a log of format {about.get("format")}, not {FORMAT}',
                'start a new run',
            )
        if contract is not None and about.get('contract') != contract:
            raise InputError(
                self.path,
                f'holds transitions of contract {about.get("contract")}, not {contract}',
                'use the task it was recorded with, or start a new run',
            )
        self.contract = about.get('contract', '')
        return db

    def _unreadable(self, error: Exception) -> InputError:
        return InputError(
            self.path,
            f'is not a readable transition log ({error})',
            'restore a copy or start a new run',
        )

    def _unwritable(self, error: Exception) -> InputError:
        return InputError(
            self.path, f'cannot be written ({error})', 'free disk space or check its permissions'
        )

    def _find_contiguous(self, robot: str) -> int:
        count, last = self._db.execute(
            'SELECT COUNT(*), MAX(sequence) FROM transitions WHERE robot = ? AND sequence > 0',
            (robot,),
        ).fetchone()
        if count == (last or 0):
            return count
        rows = self._db.execute(
            'SELECT sequence FROM transitions WHERE robot = ? AND sequence > 0 ORDER BY sequence',
            (robot,),
        )
        return next(i for i, (sequence,) in enumerate(rows) if sequence != i + 1)

    def __len__(self) -> int:
        return self._count

    @property
    def robots(self) -> tuple[str, ...]:
        """Robots with transitions in the log."""
        return tuple(self._contiguous)

    def contiguous(self, robot: str) -> int:
        """Return the sequence up to which every transition of `robot` is on disk (0: none)."""
        return self._contiguous.get(robot, 0)

    def append(self, transitions: Sequence[Transition]) -> list[Transition]:
        """Commit transitions to disk and return those that were not there before, in order.

        :raises InputError: the file cannot be written; nothing of this call is then stored
        """
        fresh: list[Transition] = []
        try:
            with self._db:
                for t in transitions:
                    body = encode(t)
                    cursor = self._db.execute(
                        'INSERT OR IGNORE INTO transitions VALUES (?, ?, ?, ?, ?, ?)',
                        (
                            t.robot,
                            t.sequence,
                            t.episode,
                            t.step,
                            body,
                            _checksum(t.robot, t.sequence, body),
                        ),
                    )
                    if cursor.rowcount:
                        fresh.append(t)
        except sqlite3.DatabaseError as error:
            raise self._unwritable(error) from None
        self._count += len(fresh)
        for robot in {t.robot for t in fresh}:
            self._advance(robot, {t.sequence for t in fresh if t.robot == robot})
        return fresh

    def _advance(self, robot: str, added: set[int]) -> None:
        end = self._contiguous.get(robot, 0)
        while end + 1 in added or self._holds(robot, end + 1):
            end += 1
        self._contiguous[robot] = end

    def _holds(self, robot: str, sequence: int) -> bool:
        query = 'SELECT 1 FROM transitions WHERE robot = ? AND sequence = ?'
        return self._db.execute(query, (robot, sequence)).fetchone() is not None

    def cut(self, robot: str, count: int) -> None:
        """Keep the first `count` transitions of a robot only: later ones are of an episode that was never counted.

        :raises InputError: the file cannot be written
        """
        try:
            with self._db:
                self._count -= self._db.execute(
                    'DELETE FROM transitions WHERE robot = ? AND sequence > ?', (robot, count)
                ).rowcount
        except sqlite3.DatabaseError as error:
            raise self._unwritable(error) from None
        if robot in self._contiguous:
            self._contiguous[robot] = min(self._contiguous[robot], count)

    def replay(self) -> Iterator[Transition]:
        """Yield the transitions in the order they came; a damaged row is skipped and named in `damaged`.

        :raises InputError: the file itself is damaged
        """
        yield from self._read(
            'SELECT robot, sequence, body, crc FROM transitions ORDER BY rowid', ()
        )

    def episode(self, name: str) -> list[Transition]:
        """Return the transitions of one episode by step."""
        query = 'SELECT robot, sequence, body, crc FROM transitions WHERE episode = ? ORDER BY step'
        return list(self._read(query, (name,)))

    def _read(self, query: str, parameters: Iterable) -> Iterator[Transition]:
        try:
            for robot, sequence, body, crc in self._db.execute(query, tuple(parameters)):
                try:
                    if _checksum(robot, sequence, body) != crc:
                        raise ValueError('checksum differs')
                    transition = decode(body)
                except (ValueError, TypeError) as error:
                    line = f'{self.path}: transition {sequence} of {robot} is damaged ({error}); skipped'
                    if (robot, sequence) not in self.damaged_keys:
                        self.damaged_keys.add((robot, sequence))
                        self.damaged.append(line)
                    continue
                yield transition
        except sqlite3.DatabaseError as error:
            raise self._unreadable(error) from None

    def close(self) -> None:
        """Close the file; what was appended is in it already."""
        self._db.close()
