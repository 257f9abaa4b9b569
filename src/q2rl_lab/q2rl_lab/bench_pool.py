# SPDX-License-Identifier: Apache-2.0
"""Run the jobs of a benchmark side by side: in processes of this machine, or on a Ray cluster.

Jobs are long, few and independent, and the results file is shared, so the standard library's process pool is all that
one machine needs. Ray adds other machines; it is not among the requirements (`pip install ray`), and only imported
when an address is given, which may be `local`: Ray then starts for the runs and ends with them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
import importlib
import multiprocessing
import os
from pathlib import Path
import signal
import socket
from typing import Any
from urllib.parse import urlsplit

from q2rl_lab.bench_results import append_line
from q2rl_lab.bench_run import Emit, Job, run_job
from q2rl_lab.console import say
from q2rl_policies.foreign_process import THREADS
from q2rl_task import InputError
from q2rl_task.errors import one_line

LISTENER_S = 5.0
LOCAL = 'local'
Told = Callable[[Job, str], None]
"""Hears of a job's end: '' for done, else what went wrong."""


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM interrupt the block as Ctrl-C does: it would leave the workers behind, at work."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@_sigterm_interrupts()
def run_here(jobs: Sequence[Job], workers: int, out: Path, told: Told) -> None:
    """Run jobs in `workers` processes; their lines go to `out` as they come. One worker: in this process.

    What interrupts it ends the runs under way at once. So does the end of a worker that is killed; the jobs that had
    not begun then go to new workers.
    """
    if workers == 1:
        for job in jobs:
            told(job, _work(job, out))
        return
    # Before numpy and torch start in the workers: one core each.
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, '1'))
    waiting = deque(jobs)
    try:
        while waiting:
            _run_in_pool(waiting, workers, out, told)
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _run_in_pool(waiting: deque[Job], workers: int, out: Path, told: Told) -> None:
    """Run jobs of `waiting`, and take them from it, until none is left or a worker was killed."""
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context('spawn'))
    running: dict[Future[str], Job] = {}
    try:
        while waiting or running:
            try:
                # No more than there are workers: all that a pool holds fails with it.
                while waiting and len(running) < workers:
                    future = pool.submit(_work, waiting[0], out)
                    running[future] = waiting.popleft()
            except BrokenProcessPool:
                if not running:
                    return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                told(running.pop(future), _answer(future.result))
    except BaseException:
        # A shutdown waits for the runs under way, for minutes.
        for worker in multiprocessing.active_children():
            worker.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def run_on_ray(jobs: Sequence[Job], address: str, workers: int, out: Path, told: Told) -> None:
    """Run jobs on a Ray cluster, one core each; a job's lines are appended here when it is done.

    q2rl has to be installed on the cluster's machines. Each makes the shared starts it needs for itself: they follow
    from task and seed.

    :param address: of a cluster, or `LOCAL` for one of `workers` cores on this machine
    :raises InputError: Ray is not installed, or nobody answers at the address
    """
    try:
        ray = importlib.import_module('ray')
    except ImportError:
        remedy = 'install it beside q2rl (pip install ray), or leave --address out'
        raise InputError('--address', 'Ray is not installed', remedy) from None
    try:
        if address == LOCAL:
            # A robot's machine reports nothing to anyone unasked.
            os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
            ray.init(address=LOCAL, num_cpus=workers, include_dashboard=False, log_to_driver=False)
        else:
            _require_listener(address)
            ray.init(address=address, log_to_driver=False)
    except (OSError, RuntimeError, ValueError) as error:
        problem = f'no Ray cluster answers ({one_line(error, 200)})'
        raise InputError(f'--address {address}', problem, 'start one with: ray start') from None
    try:
        remote = ray.remote(num_cpus=1, max_retries=0)(_collect)
        pending = {remote.remote(job): job for job in jobs}
        while pending:
            (done,), _ = ray.wait(list(pending), num_returns=1)
            told(pending.pop(done), _answer(partial(_fetch, ray, done, out)))
    finally:
        ray.shutdown()


def _require_listener(address: str) -> None:
    """See that somebody listens at HOST:PORT; other forms of an address are Ray's own matter.

    Ray itself goes on trying for minutes.

    :raises OSError: nobody does
    :raises ValueError: no such port
    """
    parts = urlsplit(address if '://' in address else f'//{address}')
    if parts.hostname and parts.port:
        socket.create_connection((parts.hostname, parts.port), LISTENER_S).close()


def _fetch(ray: Any, done: Any, out: Path) -> str:
    lines, problem = ray.get(done)
    for line in lines:
        append_line(out, line)
    return problem


def _work(job: Job, out: Path) -> str:
    def emit(line: dict[str, Any]) -> None:
        append_line(out, line)
        if not line['final']:  # of its end the caller is told
            say(f'{job.name}: {line["success"]:.0%} after {line["online_steps"]} steps')

    return _answer(partial(_run, job, emit))


def _collect(job: Job) -> tuple[list[dict[str, Any]], str]:
    lines: list[dict[str, Any]] = []
    return lines, _answer(partial(_run, job, lines.append))


def _run(job: Job, emit: Emit) -> str:
    run_job(job, emit)
    return ''


def _answer(call: Callable[[], str]) -> str:
    """Return what `call` returns, or in one line what it raised: other jobs may still do well.

    In words, since not every exception finds its way from another process.
    """
    try:
        return call()
    except BrokenProcessPool:
        return 'a worker process was killed, for want of memory perhaps'
    except Exception as error:
        return f'{type(error).__name__}: {one_line(error)}'
