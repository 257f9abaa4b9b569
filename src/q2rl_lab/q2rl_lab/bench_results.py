# SPDX-License-Identifier: Apache-2.0
"""The file of a benchmark: one JSON object per line and evaluation, appended whole by any number of processes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
import fcntl
import json
import os
from pathlib import Path
from typing import Any

from q2rl_lab.console import finite_or_none
from q2rl_task import InputError

FORMAT = 1


def append_line(path: Path, line: dict[str, Any]) -> None:
    """Append one line so that readers and other writers never see a part of it, and it outlives a crash.

    What a writer that was killed left of its own line is ended first.

    :raises OSError: it cannot be written whole; the file is as before then
    """
    text = json.dumps(finite_or_none({'format': FORMAT, **line})) + '\n'
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('ab+') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
            if file.read(1) != b'\n':
                text = '\n' + text
        left = text.encode()
        try:
            while left:  # a disk that is almost full takes a part
                left = left[os.write(file.fileno(), left) :]
            os.fsync(file.fileno())
        except OSError:
            file.truncate(size)
            raise


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return all whole lines of a results file; what a crash cut short is left out.

    :raises InputError: no such file, or it holds no results
    """
    try:
        texts = path.read_text(encoding='utf-8', errors='replace').splitlines()
    except OSError as error:
        remedy = 'make one with: ./q2rl bench learning --suite tiny'
        raise InputError(path, f'cannot be read ({error.strerror})', remedy) from None
    lines = [line for text in texts if (line := _parsed(text)) is not None]
    if texts and not lines:
        raise InputError(path, 'holds no results', 'name a file of q2rl bench learning')
    return lines


def read_files(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Return all whole lines of several results files.

    :raises InputError: as `read_lines`, or a run is finished in two of them
    """
    lines: list[dict[str, Any]] = []
    finished: dict[tuple[str, str, int], Path] = {}
    for path in dict.fromkeys(paths):
        own = read_lines(path)
        for key in {key_of(line) for line in own if line['final']}:
            if key in finished:
                task, method, seed = key
                raise InputError(
                    path,
                    f'{method} on {task}, seed {seed}, is finished in {finished[key]} as well',
                    'report them apart',
                )
            finished[key] = path
        lines += own
    return lines


def of_methods(lines: Sequence[dict[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the lines of some methods, task by task, in the order in which the methods are named.

    :raises InputError: there are none of one of them
    """
    known = list(dict.fromkeys(line['method'] for line in lines))
    for name in names:
        if name not in known:
            remedy = f'name some of {", ".join(known)}'
            raise InputError(f'--methods {name}', 'is not in these results', remedy)
    tasks = list(dict.fromkeys(line['task'] for line in lines))
    kept = [line for line in lines if line['method'] in names]
    return sorted(kept, key=lambda line: (tasks.index(line['task']), names.index(line['method'])))


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) and line.get('format') == FORMAT else None


def key_of(line: dict[str, Any]) -> tuple[str, str, int]:
    """Return task, method and seed."""
    return line['task'], line['method'], line['seed']


@dataclass(frozen=True)
class FinishedRun:
    """A run to its end: its evaluations in order, of one attempt. The last is final and has the run's training."""

    task: str
    method: str
    seed: int
    evaluations: Sequence[dict[str, Any]]

    @property
    def final(self) -> dict[str, Any]:
        """The last evaluation."""
        return self.evaluations[-1]

    @property
    def outcomes(self) -> list[bool]:
        """Success of the online episodes."""
        return [mark == '1' for mark in self.final['training']['outcomes']]


def finished_runs(lines: Iterable[dict[str, Any]]) -> list[FinishedRun]:
    """Return the runs that came to their end, in the order in which they did; of a repeated one the last."""
    attempts: dict[str, list[dict[str, Any]]] = {}
    done: dict[tuple[str, str, int], FinishedRun] = {}
    for line in lines:
        attempts.setdefault(line['attempt'], []).append(line)
        if line['final']:
            done[key_of(line)] = FinishedRun(*key_of(line), tuple(attempts[line['attempt']]))
    return list(done.values())


def refuse_other_settings(path: Path, wanted: dict[tuple[str, str, int], str]) -> None:
    """See that a file has no results of the same task, method and seed under other settings.

    :param wanted: fingerprint of the settings, by task, method and seed
    :raises InputError: it has
    """
    for line in read_lines(path) if path.is_file() else []:
        if wanted.get(key_of(line), line['settings']) != line['settings']:
            task, method, seed = key_of(line)
            raise InputError(
                path,
                f'has {method} on {task}, seed {seed}, with other settings or budget, or of another form of the task',
                'choose another --out',
            )
