# SPDX-License-Identifier: Apache-2.0
"""Run the processes of a node graph: start, log, respawn, stop; none of them outlives this process.

Why not a library: circus brings a daemon with ZeroMQ and tornado, supervisor and honcho are command lines that are not
made to be embedded, simpervisor restarts without limit or log files, and launch (which has all of it) is not on PyPI.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
import contextlib
from dataclasses import dataclass, field
from enum import Enum
import os
from pathlib import Path
import shutil
import signal
import time

STABLE_AFTER_S = 30.0
TAIL_BYTES = 16384
"""So much of a log is read for its last lines."""


@dataclass(frozen=True)
class ProcessSpec:
    """One process to keep alive. At most `respawn_limit` respawns in `respawn_window_s`, with doubling pauses.

    An exit code in `final_codes` (2: bad input) would only come again: the process is given up at once. Only a
    `required` one that is given up is a crash of the whole.
    """

    name: str
    argv: tuple[str, ...]
    respawn: bool = True
    respawn_limit: int = 5
    respawn_window_s: float = 120.0
    backoff_s: float = 0.25
    backoff_max_s: float = 4.0
    final_codes: tuple[int, ...] = (2,)
    environment: Mapping[str, str] = field(default_factory=dict)
    required: bool = True
    once: bool = False  # does one thing and ends with 0


@dataclass(frozen=True)
class StopTimes:
    """How long a process may take after each signal [s]; SIGKILL follows."""

    interrupt_s: float = 8.0
    terminate_s: float = 3.0


class ProcessState(Enum):
    """Where one process stands."""

    STARTING = 'starting'
    RUNNING = 'running'
    WAITING = 'waiting'  # for the pause before a respawn
    FAILED = 'failed'
    STOPPED = 'stopped'


@dataclass(frozen=True)
class Crash:
    """A process that is not respawned any more. `returncode` is negative for a signal."""

    name: str
    returncode: int
    respawns: int
    log: Path
    last_lines: tuple[str, ...]
    lasting: bool = False
    """Whether its exit code says that it would only come again."""


class Supervisor:
    """Keep processes alive until `stop`; the first one that is given up is reported by `wait_crash`.

    Each process leads its own session: the terminal's Ctrl-C reaches only us, and what a process starts is stopped
    with it. The kernel kills the children when this process dies, however it dies (`setpriv --pdeathsig`, util-linux);
    only one that is just being started, within its first milliseconds, may miss that.

    :param folder: gets one log file per process, `<name>.log`, appended to
    :param environment: of every process; a spec's own variables come on top
    :param on_event: called with one line of text for each start, exit and escalation
    """

    def __init__(
        self,
        specs: Sequence[ProcessSpec],
        folder: Path,
        environment: Mapping[str, str] | None = None,
        on_event: Callable[[str], None] = lambda text: None,
        stop_times: StopTimes = StopTimes(),
    ) -> None:
        self._children = [
            _Child(spec, folder, dict(os.environ if environment is None else environment), on_event)
            for spec in specs
        ]
        self._folder = folder
        self._stop_times = stop_times
        self._tasks: list[asyncio.Task] = []
        self._crash: asyncio.Future[Crash] | None = None

    @property
    def states(self) -> dict[str, ProcessState]:
        """State of every process by name."""
        return {child.spec.name: child.state for child in self._children}

    @property
    def respawns(self) -> dict[str, int]:
        """How often each process was respawned."""
        return {child.spec.name: child.respawns for child in self._children}

    def pid(self, name: str) -> int | None:
        """Process id of a running process, None between two lives."""
        child = next(child for child in self._children if child.spec.name == name)
        return child.process.pid if child.process and child.process.returncode is None else None

    async def start(self) -> None:
        """Start all processes; returns once each was started or gave up."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._crash = asyncio.get_running_loop().create_future()
        self._tasks = [asyncio.create_task(self._keep(child)) for child in self._children]
        await asyncio.gather(*(child.started.wait() for child in self._children))

    async def wait_crash(self) -> Crash:
        """Wait until a process is given up."""
        assert self._crash is not None, 'start() comes first'
        return await asyncio.shield(self._crash)

    async def stop(self) -> None:
        """Stop all processes: SIGINT, then SIGTERM, then SIGKILL to what is left; bounded by the stop times."""
        for child in self._children:
            child.stopping = True
        await asyncio.gather(*(child.stop(self._stop_times) for child in self._children))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._crash is not None and not self._crash.done():
            self._crash.cancel()

    async def _keep(self, child: _Child) -> None:
        """Keep one process; a fault of our own (a log that cannot be written) is raised by `wait_crash`."""
        try:
            crash = await child.keep_alive()
        except Exception as error:
            if not self._crash.done():
                self._crash.set_exception(error)
            return
        finally:
            child.started.set()
        if crash is not None and child.spec.required and not self._crash.done():
            self._crash.set_result(crash)


class _Child:
    """One process over all its lives."""

    def __init__(
        self,
        spec: ProcessSpec,
        folder: Path,
        environment: dict[str, str],
        tell: Callable[[str], None],
    ) -> None:
        self.spec = spec
        self.log = folder / f'{spec.name}.log'
        self.state = ProcessState.STARTING
        self.process: asyncio.subprocess.Process | None = None
        self.respawns = 0
        self.stopping = False
        self.started = asyncio.Event()
        self._environment = {**environment, **spec.environment}
        self._tell = tell

    async def keep_alive(self) -> Crash | None:
        """Run, and respawn, until stopped (None) or given up (the crash)."""
        deaths: deque[float] = deque()
        pause = self.spec.backoff_s
        earlier = self.log.stat().st_size if self.log.exists() else 0
        while not self.stopping:
            born = time.monotonic()
            returncode = await self._live()
            if self.stopping:
                break
            if self.spec.once and returncode == 0:
                break
            now = time.monotonic()
            deaths.append(now)
            while now - deaths[0] > self.spec.respawn_window_s:
                deaths.popleft()
            hopeless = returncode in self.spec.final_codes or len(deaths) > self.spec.respawn_limit
            if hopeless or not self.spec.respawn:
                self.state = ProcessState.FAILED
                self._tell(
                    f'{self.spec.name} ended ({describe_exit(returncode)}) and is not started again'
                )
                return Crash(
                    self.spec.name,
                    returncode,
                    self.respawns,
                    self.log,
                    last_lines(self.log, since=earlier),
                    returncode in self.spec.final_codes,
                )
            pause = self.spec.backoff_s if now - born > STABLE_AFTER_S else pause
            self._tell(
                f'{self.spec.name} ended ({describe_exit(returncode)}); starting it again in {pause:.2g} s'
            )
            self.state = ProcessState.WAITING
            await asyncio.sleep(pause)
            pause = min(2.0 * pause, self.spec.backoff_max_s)
            self.respawns += 1
        self.state = ProcessState.STOPPED
        return None

    async def _live(self) -> int:
        """Run one life of the process; 127 when it could not be started.

        :raises OSError: its log cannot be written
        """
        with self.log.open('ab') as log:
            try:
                self.process = await asyncio.create_subprocess_exec(
                    *bound_to_parent(self.spec.argv),
                    env=self._environment,
                    start_new_session=True,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=asyncio.subprocess.STDOUT,
                )
            except OSError as error:
                log.write(f'q2rl: cannot start {self.spec.argv[0]}: {error.strerror}\n'.encode())
                self.started.set()
                return 127
        self.state = ProcessState.RUNNING
        self.started.set()
        returncode = await self.process.wait()
        self._signal(signal.SIGKILL)  # what it started and left behind
        return returncode

    async def stop(self, times: StopTimes) -> None:
        """Signal ever harder until the process is gone."""
        for number, patience in (
            (signal.SIGINT, times.interrupt_s),
            (signal.SIGTERM, times.terminate_s),
            (signal.SIGKILL, None),
        ):
            process = self.process
            if process is None or process.returncode is not None:
                break
            if number != signal.SIGINT:
                self._tell(f'{self.spec.name} is still there: {number.name}')
            self._signal(number)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(process.wait(), patience)
        self.state = ProcessState.STOPPED

    def _signal(self, number: signal.Signals) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)


def bound_to_parent(argv: Sequence[str]) -> tuple[str, ...]:
    """Return `argv` run so that the kernel kills it when its parent dies; unchanged where util-linux is missing."""
    setpriv = shutil.which('setpriv')
    return (setpriv, '--pdeathsig', 'KILL', '--', *argv) if setpriv else tuple(argv)


def describe_exit(returncode: int) -> str:
    """Say an exit status in words: 'exit code 1', 'SIGKILL'."""
    if returncode >= 0:
        return f'exit code {returncode}'
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f'signal {-returncode}'


def last_lines(path: Path, count: int = 20, since: int = 0) -> tuple[str, ...]:
    """Return the last lines of a log file; none when it cannot be read.

    :param since: so many bytes of it are of earlier sessions
    """
    try:
        with path.open('rb') as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(since, file.tell() - TAIL_BYTES))
            return tuple(file.read().decode(errors='replace').splitlines()[-count:])
    except OSError:
        return ()
