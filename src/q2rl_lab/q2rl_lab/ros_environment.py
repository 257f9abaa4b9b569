# SPDX-License-Identifier: Apache-2.0
"""The surroundings that the nodes of one run need: a DDS domain of their own, few threads, clean shared memory."""

from __future__ import annotations

from collections.abc import Mapping
import fcntl
import os
from pathlib import Path
import re
import socket
import tempfile
import time
from typing import IO

from q2rl_task.errors import InputError

# RTPS port mapping: a domain takes the ports from 7400 + 250 * domain on; above 101 they reach Linux's ephemeral range.
DOMAINS = range(1, 102)
PORT_BASE, PORTS_PER_DOMAIN = 7400, 250
SHARED_MEMORY = Path('/dev/shm')
SEGMENT = re.compile(r'^(?:sem\.)?fastrtps_')
YOUNG_S = 30.0


class Domain:
    """A DDS domain that nothing else on this machine uses; taken until `release` or the end of the process.

    :raises InputError: none is free, or the one asked for is in use
    """

    def __init__(self, wanted: int | None = None) -> None:
        # Start at a place that differs between processes: fewer collisions with tools that take the first free one.
        order = (
            [wanted]
            if wanted is not None
            else [DOMAINS[(os.getpid() + k) % len(DOMAINS)] for k in range(len(DOMAINS))]
        )
        busy = busy_domains()
        self._lock: IO[bytes] | None = None
        for number in order:
            if number not in busy and self._take(number):
                self.number = number
                return
        where, problem = (
            ('--domain', f'domain {wanted} is in use')
            if wanted is not None
            else ('DDS', 'no free domain')
        )
        raise InputError(where, problem, 'stop what uses it, or leave the choice to q2rl')

    def _take(self, number: int) -> bool:
        # World-readable and never removed: a lock file that is deleted can be held twice.
        path = Path(tempfile.gettempdir()) / f'q2rl-{os.getuid()}-domain-{number}.lock'
        lock = path.open('ab')
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            return False
        self._lock = lock
        return True

    def release(self) -> None:
        """Give the domain back."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def busy_domains() -> set[int]:
    """Return the domains of which some process on this machine has a UDP port bound."""
    busy = set()
    for table in ('/proc/net/udp', '/proc/net/udp6'):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            port = int(line.split()[1].rsplit(':', 1)[1], 16)
            if port >= PORT_BASE:
                busy.add((port - PORT_BASE) // PORTS_PER_DOMAIN)
    return busy


def require_free_port(option: str, port: int) -> None:
    """Make sure that a page can be served on a TCP port of this machine.

    :param option: what the user would say to choose another one
    :raises InputError: something listens there
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(('127.0.0.1', port))
        except OSError as error:
            raise InputError(
                option, f'port {port} cannot be used ({error.strerror})', 'name another one'
            ) from None


def node_environment(domain: int, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a run's nodes: this one's, local DDS only, one thread per numeric library.

    Two cores carry some eight processes; thread pools of the size of the machine would only fight each other.
    """
    environment = dict(os.environ if base is None else base)
    environment.update(
        {
            'ROS_DOMAIN_ID': str(domain),
            'Q2RL_PARENT_PID': str(os.getpid()),
            'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
            'OMP_NUM_THREADS': '1',
            'OPENBLAS_NUM_THREADS': '1',
            'MKL_NUM_THREADS': '1',
            'PYTHONUNBUFFERED': '1',
            'RCUTILS_COLORIZED_OUTPUT': '0',
        }
    )
    environment.pop('ROS_LOCALHOST_ONLY', None)  # its old name; set, it overrides the range
    return environment


def stale_segments(folder: Path = SHARED_MEMORY) -> list[Path]:
    """Return Fast DDS's shared memory files that killed processes left behind.

    Stale is what is ours, not young, neither mapped nor open in any process we can see, and whose lock nobody holds
    (a process of another container does not show in /proc, its lock does).
    """
    try:
        names = sorted(name for name in os.listdir(folder) if SEGMENT.match(name))
    except OSError:
        return []
    used = _names_in_use(folder) if names else set()
    stems = {_stem(name) for name in names}
    dead = {
        stem for stem in stems if all(_is_free(folder / n, used) for n in names if _stem(n) == stem)
    }
    return [folder / name for name in names if _stem(name) in dead]


def remove_stale_segments(folder: Path = SHARED_MEMORY) -> int:
    """Delete what `stale_segments` finds; returns how many files went."""
    removed = 0
    for path in stale_segments(folder):
        try:
            path.unlink()
            removed += 1
        except OSError:
            continue  # someone else was faster, or may
    return removed


def _stem(name: str) -> str:
    """Name of the segment that a file belongs to: `fastrtps_x`, `fastrtps_x_el`, `sem.fastrtps_x_mutex` are one."""
    return re.sub(r'(_el|_sl|_mutex)$', '', name.removeprefix('sem.'))


def _is_free(path: Path, used: set[str]) -> bool:
    try:
        status = path.stat()
        if (
            path.name in used
            or status.st_uid != os.getuid()
            or time.time() - status.st_ctime < YOUNG_S
        ):
            return False
        with path.open('rb') as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _names_in_use(folder: Path) -> set[str]:
    used: set[str] = set()
    prefix = f'{folder}/'
    for process in Path('/proc').iterdir():
        if not process.name.isdigit():
            continue
        try:
            for line in (process / 'maps').read_text().splitlines():
                at = line.find(prefix)
                if at >= 0:
                    used.add(line[at + len(prefix) :].removesuffix(' (deleted)'))
            for link in (process / 'fd').iterdir():
                target = os.readlink(link)
                if target.startswith(prefix):
                    used.add(target[len(prefix) :])
        except OSError:
            continue  # gone meanwhile, or another user's (whose files we leave alone anyway)
    return used
