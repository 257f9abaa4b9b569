# SPDX-License-Identifier: Apache-2.0
"""The film of a simulation on disk: what stood where at every step, to be rendered later."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from q2rl_task import InputError, Pose


class TraceFile:
    """A film of the simulation: per step `1 + nq + 7` float64, little endian, without a header.

    stamp [s]; configuration qpos (nq,), a loose part's pose at its end; true fixture pose in the base frame, position
    [m] and quaternion xyzw.
    Records are held back until `flush`; one that a crash or a full disk cut in two is dropped when the file is opened
    again.
    """

    def __init__(self, path: Path, joints: int) -> None:
        self._path = path
        self._size = 8 * (1 + joints + 7)
        self._records: list[np.ndarray] = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._append(b'')
        except OSError as error:
            raise InputError(
                path, f'cannot be written ({error.strerror})', 'set `trace_file` to a writable path'
            ) from None

    def add(self, stamp: float, positions: np.ndarray, fixture: Pose) -> None:
        """Take a record: joint positions (nq,) of MuJoCo, and the fixture's pose in the base frame, at `stamp` [s]."""
        self._records.append(
            np.concatenate(([stamp], positions, fixture.position, fixture.quaternion))
        )

    def flush(self) -> None:
        """Append the records taken since the last call."""
        if self._records:
            self._append(np.asarray(self._records, dtype='<f8').tobytes())
            self._records.clear()

    def _append(self, records: bytes) -> None:
        with self._path.open('ab') as file:
            file.truncate(file.tell() - file.tell() % self._size)
            file.write(records)

    @staticmethod
    def read(path: Path, joints: int) -> np.ndarray:
        """Return the whole records of a trace, (n, 1 + joints + 7)."""
        values = np.fromfile(path, dtype='<f8')
        width = 1 + joints + 7
        return values[: len(values) // width * width].reshape(-1, width)
