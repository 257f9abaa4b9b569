# SPDX-License-Identifier: Apache-2.0
"""Demonstrations of a person who steers the simulated arm in a browser: a run whose folder lies beside its file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
import hashlib
from pathlib import Path
import shutil
import time
from typing import Any

from q2rl_control.arm_state import MAY_BEGIN, ArmState
from q2rl_lab.console import say
from q2rl_lab.display import open_display
from q2rl_lab.ros_environment import require_free_port
from q2rl_lab.run_folder import RunConfig, RunFolder
from q2rl_lab.run_view import Plan, RunView, clock_text
from q2rl_lab.up_run import Ending, node_processes, run_graph
from q2rl_lab.workspace import versions
from q2rl_learner.demonstrations import load_demonstrations
from q2rl_task import InputError, Phase, TaskSpec, load_task
from q2rl_task.atomic_file import refuse_existing, saying_why, write_atomically

RUN_ID = 'hand'
COPIED = 'copied.sha256'
"""In the recording's folder: of the file as it was last written, or given up to be replaced."""


@dataclass
class HandView(RunView):
    """How a person's recording goes. wanted: how many demonstrations."""

    wanted: int = 0

    @property
    def failed(self) -> int:
        """Episodes that ended without success."""
        return sum(not episode.success for episode in self.episodes)

    def rows(self, now: float) -> list[tuple[str, str]]:
        """Return the table's rows as (name, text)."""
        return [
            ('recorded', self._count()),
            ('now', self._now()),
            ('time', f'{clock_text(now - self.started)} gone'),
        ]

    def line(self, now: float) -> str:
        """Return the state as one plain line."""
        return f'[{clock_text(now - self.started)}] {self._count()}; {self._now()}'

    def _count(self) -> str:
        recorded = sum(episode.success for episode in self.episodes)
        return f'{recorded} of {self.wanted} recorded, {self.failed} failed'

    def _now(self) -> str:
        if self.run is None or self.arm is None:
            return 'starting the nodes'
        if self.phase is not Phase.DEMONSTRATING:
            return f'{self.phase.name.lower()} {self.run.detail}'.rstrip()
        if self.arm.detail == MAY_BEGIN:
            return 'your turn'
        if self.arm.state == ArmState.RUNNING:
            return 'recording'
        return self.arm.detail or 'the arm goes to its next start'


@dataclass(frozen=True)
class HandRecording:
    """What is to be recorded, and where. folder: the run's, which a start with the same file goes on with."""

    task: TaskSpec
    config: RunConfig
    wanted: int
    file: Path
    folder: RunFolder

    def keep(self) -> int:
        """Copy what there is to the file; return how many demonstrations that are.

        :raises InputError: the file has become that of something else, or cannot be written
        """
        made, copied = self.folder.demonstrations, self.folder.path / COPIED
        content = made.read_bytes() if made.is_file() else b''
        own = _sha256(content)
        with saying_why(self.file):
            known = {own, copied.read_text() if copied.is_file() else own}
            if self.file.exists() and _sha256(self.file.read_bytes()) not in known:
                raise InputError(
                    self.file,
                    f'is no longer what was copied there from {self.folder.path}',
                    'move it away, name another file, or start over with --force',
                )
            if not content:
                return 0
            count = len(load_demonstrations(made, self.task))
            write_atomically(self.file, content, durable=True)
            write_atomically(copied, own)
        return count

    def run(self, port: int, domain: int | None) -> Ending:
        """Run the nodes until so many are recorded or the user has enough; what there is is in the file then."""
        resume = self.folder.state.is_file()
        changes = {
            'policy_mode': 'demonstrate',
            'demonstrations': self.wanted,
            'teleop': 'browser',
            'run_id': RUN_ID,
        }
        specs = node_processes(self.folder, self.config, resume, port, changes)
        started = time.monotonic()
        view = HandView(Plan(0, 0, 0), started, wanted=self.wanted)
        display = open_display(f'q2rl demos {self.config.task} --teleop')
        try:
            return run_graph(
                self.folder, self.config, self.task, specs, display, started, domain, view
            )
        finally:
            self.keep()

    def result(self) -> dict[str, Any]:
        """Return what was recorded, as of demonstrations by a script."""
        found = load_demonstrations(self.file, self.task)
        return {
            'file': str(self.file),
            'task': self.task.name,
            'seed': self.config.seed,
            'demonstrations': len(found),
            'steps': sum(len(episode) for episode in found),
        }


@contextmanager
def open_recording(
    config: RunConfig, count: int | None, file: Path, force: bool, port: int
) -> Iterator[HandRecording]:
    """Begin a recording, or go on with the one that `file` came from; its folder is this process's in the block.

    :param count: demonstrations; None: as many as the task says
    :param force: throw away what there is and begin anew; `file` goes at the first copy
    :raises InputError: `file` is of something else, the recording was begun otherwise, another process is at work on
        it, or the port is taken
    """
    task = load_task(config.task)
    wanted = task.demonstrations.count if count is None else count
    file = file.absolute()
    folder = RunFolder(file.with_suffix('.recording'))
    if not folder.config.is_file():
        refuse_existing(file, force)
    require_free_port('--browser-port', port)
    with saying_why(folder.path):
        folder.path.mkdir(parents=True, exist_ok=True)
    with folder.lock() as lock:
        _prepare(folder, config, force, Path(lock.name))
        if force and file.is_file():
            with saying_why(folder.path):
                write_atomically(folder.path / COPIED, _sha256(file.read_bytes()))
        yield HandRecording(task, config, wanted, file, folder)


def _prepare(folder: RunFolder, config: RunConfig, force: bool, lock: Path) -> None:
    """Make a folder, whose `lock` is held, that of a recording which begins, or goes on where `force` is not asked."""
    begun = folder.config.is_file()
    if begun and not force:
        before = folder.read_config()
        if before != config:
            raise InputError(
                folder.path,
                f'was begun with other options ({_difference(before, config)})',
                'give the same ones, name another file, or start over with --force',
            )
        return
    with saying_why(folder.path):
        there = [path for path in folder.path.iterdir() if path != lock]
        if begun:
            _remove(there, folder.config)
        elif there:
            problem = 'holds something else than a recording'
            raise InputError(folder.path, problem, 'move it away, or name another file')
        folder.write_config(config, versions())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _remove(paths: list[Path], last: Path) -> None:
    """Remove files and folders, `last` at the end: what is cut short is still a recording, to be thrown away again."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path != last:
            path.unlink()
    last.unlink()


def explain(port: int, recording: HandRecording) -> None:
    """Say what a person is to do."""
    pace = (
        'time runs on by the clock, so have a plan before you grab it'
        if recording.config.realtime
        else 'time stands still while you do not drag'
    )
    say(f'open http://127.0.0.1:{port} and drag the gizmo at the tip: the arm follows; {pace}')
    say('the simulation sees a success by itself; Failure on the page gives a try up')
    say(f'Ctrl-C ends: what was recorded is in {recording.file}; the same command goes on with it')


def _difference(before: RunConfig, now: RunConfig) -> str:
    was, is_ = vars(before), vars(now)
    return ', '.join(f'{k} {was[k]}, not {is_[k]}' for k in was if was[k] != is_[k])
