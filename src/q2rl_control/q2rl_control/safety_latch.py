# SPDX-License-Identifier: Apache-2.0
"""The emergency stop and the operator's hold, remembered in a file: they survive this process and the machine."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait
import json
import os
from pathlib import Path
import time

from q2rl_task import InputError
from q2rl_task.atomic_file import write_atomically


class SafetyLatch:
    """Two switches that only a person turns back.

    stopped: emergency stop; only `reset` takes it back, and turns it into a hold. held: nothing moves of
    itself; `release` takes it back. So after a stop it takes two deliberate acts before the arm moves.

    Both take effect in memory at once and are then written, through to the disk, by a thread of their own: a busy
    disk may take seconds over it, in which the arm has to be braked. A record that cannot be read counts as an
    emergency stop. `problem` says why the record could not be written, else is empty.

    :param path: of the record, which exists only while a switch is on; None keeps none
    :raises InputError: the folder of the record cannot be made or written to
    """

    def __init__(self, path: Path | None = None) -> None:
        self.stopped = self.held = False
        self.reason = self.problem = ''
        self._path = path
        self._writer = ThreadPoolExecutor(1, thread_name_prefix='safety_latch')
        self._written: Future | None = None
        if path is not None:
            self._check_folder(path.parent)
            self._read(path)

    def stop(self, reason: str) -> None:
        """Latch the emergency stop; the first reason stands."""
        if not self.stopped:
            self.stopped, self.held, self.reason = True, True, reason or 'no reason given'
            self._write()

    def reset(self) -> None:
        """Turn the emergency stop into a hold; nothing to do where there is none."""
        if self.stopped:
            self.stopped, self.reason = False, f'after an emergency stop: {self.reason}'
            self._write()

    def hold(self, reason: str, remember: bool = True) -> None:
        """Latch the hold; one that is there stays as it is.

        :param remember: across restarts too
        """
        if not self.held:
            self.held, self.reason = True, reason
            if remember:
                self._write()

    def release(self) -> bool:
        """Let go of the hold; refused (False) while stopped."""
        if self.stopped:
            return False
        if self.held:
            self.held, self.reason = False, ''
            self._write()
        return True

    def settle(self, timeout_s: float = 10.0) -> None:
        """Wait until the record says what the switches do, or until the time is up."""
        if self._written is not None:
            wait([self._written], timeout_s)

    def _read(self, path: Path) -> None:
        try:
            record = json.loads(path.read_text(encoding='utf-8'))
            stopped, held, reason = record['stopped'], record['held'], record['reason']
            if not (isinstance(stopped, bool) and isinstance(held, bool)):
                raise ValueError('no switches in it')
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError):
            self.stopped = self.held = True
            self.reason = f'the record of the last stop cannot be read: {path}'
            return
        self.stopped, self.held, self.reason = stopped, held or stopped, str(reason)

    def _write(self) -> None:
        if self._path is None:
            return
        record = {
            'stopped': self.stopped,
            'held': self.held,
            'reason': self.reason,
            'since': time.strftime('%Y-%m-%dT%H:%M:%S%z'),
        }
        said = json.dumps(record) if self.held else None
        self._written = self._writer.submit(self._save, self._path, said)

    def _save(self, path: Path, record: str | None) -> None:
        """Make `record` all that is in the file, None: take the file away. Runs in the writer's thread, in order."""
        try:
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                if record is not None:
                    write_atomically(path, record, durable=True)
                else:
                    path.unlink(missing_ok=True)
                # Without this a power cut could undo the change of name.
                os.fsync(folder)
            finally:
                os.close(folder)
            self.problem = ''
        except OSError as error:
            self.problem = f'{path} cannot be written ({error.strerror}): a restart forgets this'

    def _check_folder(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            trial = folder / f'.writable.{os.getpid()}'
            trial.touch()
            trial.unlink()
        except OSError as error:
            raise InputError(
                f'parameter `state_dir`: {folder}',
                f'an emergency stop could not be remembered there ({error.strerror})',
                'name a folder that can be written to',
            ) from None


def state_folder(given: str, run_dir: str, lockstep: bool) -> Path:
    """Return where a robot's latch is kept.

    `given` if set. Else a simulation in lockstep has a robot of its own, in its run's folder, and a robot of
    the real world has one for all runs: `$XDG_STATE_HOME/q2rl`, by default `~/.local/state/q2rl`.
    """
    if given:
        return Path(given)
    if lockstep and run_dir:
        return Path(run_dir)
    return Path(os.environ.get('XDG_STATE_HOME') or Path.home() / '.local' / 'state') / 'q2rl'
