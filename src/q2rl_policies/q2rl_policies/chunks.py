# SPDX-License-Identifier: Apache-2.0
"""Network files in pieces, so that sending one never stalls a control process."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
import hashlib

CHUNK_BYTES = 64 * 1024
MAX_FILE_BYTES = 256 * 1024 * 1024
LEARNERS = 64
"""Learners whose newest version is remembered."""


@dataclass(frozen=True)
class Chunk:
    """A piece of a network file (q2rl_msgs/WeightsChunk).

    learner: who numbers the versions. sha256: hex digits of the whole file.
    """

    kind: str
    learner: str
    version: int
    parent: int
    contract: str
    sha256: str
    index: int
    count: int
    data: bytes


def split(
    data: bytes,
    kind: str,
    learner: str,
    version: int,
    parent: int,
    contract: str,
    chunk_bytes: int = CHUNK_BYTES,
) -> list[Chunk]:
    """Cut a network file into chunks of at most `chunk_bytes`."""
    digest = hashlib.sha256(data).hexdigest()
    pieces = [data[start : start + chunk_bytes] for start in range(0, len(data), chunk_bytes)]
    return [
        Chunk(kind, learner, version, parent, contract, digest, index, len(pieces), piece)
        for index, piece in enumerate(pieces)
    ]


class ChunkAssembler:
    """Put chunks together again, in whatever order and however often they come.

    Memory is bounded: one file at a time, the newest, of at most `max_bytes`. Versions are ordered within a learner: a
    file of another one is newer than what came before, but for what was whole of that one already. `counts` tells what
    became of the chunks: 'kept'; dropped as 'foreign' (another kind or contract), 'absurd' (impossible numbers or too
    large), 'late' (of an older version than what is whole or under way), 'repeated', or 'mixed' (not of the same file
    as the others of its version); and of the files: 'superseded' (given up for a newer one), 'damaged' (another hash),
    'whole'. `learner` and `version` are those of the last whole file.

    :param kind: 'actor' or 'critic'
    :param contract: the task's contract hash
    """

    def __init__(self, kind: str, contract: str, max_bytes: int = MAX_FILE_BYTES) -> None:
        self.kind = kind
        self.contract = contract
        self.max_bytes = max_bytes
        self.counts: Counter[str] = Counter()
        self.learner = ''
        self.version = 0
        self._newest: dict[str, int] = {}
        self._first: Chunk | None = None
        self._pieces: dict[int, bytes] = {}
        self._bytes = 0

    def add(self, chunk: Chunk) -> bytes | None:
        """Take a chunk; return the verified file that it completes, else None."""
        verdict = self._judge(chunk)
        if verdict != 'kept':
            self.counts[verdict] += 1
            return None
        if self._is_newer(chunk):
            if self._first is not None:
                self.counts['superseded'] += 1
            self._start(chunk)
        if self._bytes + len(chunk.data) > self.max_bytes:
            self.counts['absurd'] += 1
            return None
        self.counts['kept'] += 1
        self._pieces[chunk.index] = bytes(chunk.data)
        self._bytes += len(chunk.data)
        if len(self._pieces) < chunk.count:
            return None
        data = b''.join(self._pieces[index] for index in range(chunk.count))
        self._start(None)
        if hashlib.sha256(data).hexdigest() != chunk.sha256:
            self.counts['damaged'] += 1
            return None
        self.counts['whole'] += 1
        self.learner, self.version = chunk.learner, chunk.version
        self._newest.pop(chunk.learner, None)
        self._newest[chunk.learner] = chunk.version
        if len(self._newest) > LEARNERS:
            del self._newest[next(iter(self._newest))]
        return data

    def _judge(self, chunk: Chunk) -> str:
        if chunk.kind != self.kind or chunk.contract != self.contract:
            return 'foreign'
        # No piece is empty, so a file of `max_bytes` has at most as many pieces as bytes.
        if not (
            0 <= chunk.index < chunk.count <= self.max_bytes
            and 0 < len(chunk.data) <= self.max_bytes
        ):
            return 'absurd'
        newest = self._newest.get(chunk.learner, 0)
        if chunk.version <= newest:
            return 'repeated' if chunk.version == newest else 'late'
        if self._is_newer(chunk):
            return 'kept'
        first = self._first
        if chunk.version < first.version:
            return 'late'
        if (chunk.sha256, chunk.count, chunk.parent) != (first.sha256, first.count, first.parent):
            return 'mixed'
        return 'repeated' if chunk.index in self._pieces else 'kept'

    def _is_newer(self, chunk: Chunk) -> bool:
        """Whether it belongs to a file that takes the place of the one under way."""
        first = self._first
        return first is None or chunk.learner != first.learner or chunk.version > first.version

    def _start(self, first: Chunk | None) -> None:
        self._first = first
        self._pieces = {}
        self._bytes = 0
