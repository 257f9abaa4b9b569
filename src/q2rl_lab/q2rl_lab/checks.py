# SPDX-License-Identifier: Apache-2.0
"""What `q2rl doctor` looks at: each check is one function that says how things stand and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
import os
from pathlib import Path
import platform
import shutil
import subprocess
import sys

NEEDED_MEMORY_GB, NEEDED_DISK_GB = 3.0, 1.0
CHECK_TIMEOUT_S = 60.0


class Level(Enum):
    """How bad it is: FAIL stops `q2rl up`, WARN takes something away; SKIP: it was not checked."""

    SKIP = 'SKIP'
    OK = 'OK'
    WARN = 'WARN'
    FAIL = 'FAIL'


@dataclass(frozen=True)
class Finding:
    """One line of the doctor: `remedy` is empty where nothing is amiss."""

    name: str
    level: Level
    text: str
    remedy: str = ''


def show(finding: Finding) -> None:
    """Print a finding to stdout."""
    from rich.console import Console

    colour = {'SKIP': 'dim', 'OK': 'green', 'WARN': 'yellow', 'FAIL': 'red'}[finding.level.value]
    console = Console(highlight=False)
    console.print(f'[{colour}]{finding.level.value:<5}[/]', end='')
    console.print(f'{finding.name:<15} {finding.text}', markup=False, soft_wrap=True)
    if finding.remedy:
        console.print(f'{"":<21}-> {finding.remedy}', markup=False, style='dim', soft_wrap=True)


def check_python() -> Finding:
    """The interpreter that q2rl was built for."""
    found = platform.python_version()
    if (3, 10) <= sys.version_info[:2] <= (3, 12):
        return Finding('python', Level.OK, found)
    return Finding('python', Level.WARN, found, 'q2rl is tried with Python 3.10 to 3.12')


def check_packages() -> Finding:
    """The Python packages that the nodes import."""
    import importlib.util

    needed = (
        'torch', 'numpy', 'scipy', 'mujoco', 'h5py', 'safetensors', 'pydantic', 'yaml', 'typer',
        'rich', 'matplotlib', 'PIL', 'psutil', 'viser',
    )  # fmt: skip
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        return Finding(
            'packages', Level.FAIL, f'missing: {", ".join(missing)}', 'start q2rl with ./q2rl'
        )
    return Finding('packages', Level.OK, f'all {len(needed)} there')


def check_ros() -> Finding:
    """ROS and our own messages."""
    code = (
        'import rclpy, q2rl_msgs.msg, os; from rclpy.utilities import get_rmw_implementation_identifier as rmw;'
        ' print(os.environ.get("ROS_DISTRO", "unknown distribution"), rmw())'
    )
    remedy = 'start q2rl with ./q2rl, or source your ROS 2 and this workspace'
    return _in_process('ros', code, remedy)


def check_loopback() -> Finding:
    """A message from one process's publisher to its own subscriber through DDS, on a free domain."""
    from q2rl_lab.ros_environment import Domain, node_environment

    domain = Domain()
    try:
        return _in_process(
            'dds round trip',
            LOOPBACK,
            'allow UDP on the loopback interface; is a firewall or a VPN in the way?',
            node_environment(domain.number),
        )
    finally:
        domain.release()


LOOPBACK = """
import time, rclpy
from std_msgs.msg import String
rclpy.init()
node = rclpy.create_node('q2rl_doctor')
heard = []
node.create_subscription(String, 'q2rl_doctor', lambda m: heard.append(time.perf_counter()), 10)
publisher = node.create_publisher(String, 'q2rl_doctor', 10)
end = time.monotonic() + 10.0
while not heard and time.monotonic() < end:
    sent = time.perf_counter()
    publisher.publish(String(data='x'))
    rclpy.spin_once(node, timeout_sec=0.2)
node.destroy_node()
rclpy.shutdown()
if not heard:
    raise SystemExit('nothing heard in 10 s')
print(f'{1e3 * (heard[0] - sent):.1f} ms')
"""


def check_mujoco() -> Finding:
    """The simulator."""
    code = (
        'import mujoco; m = mujoco.MjModel.from_xml_string("<mujoco><worldbody/></mujoco>");'
        ' mujoco.mj_step(m, mujoco.MjData(m)); print(mujoco.__version__)'
    )
    return _in_process('mujoco', code, 'start q2rl with ./q2rl')


def check_rendering() -> Finding:
    """Off-screen OpenGL, for the report's clips only."""
    code = (
        'import os\n'
        'from q2rl_sim.render import SceneRenderer\n'
        'from q2rl_task import load_task\n'
        'SceneRenderer(load_task("pipe_assembly"), 64, 48).close()\n'
        'print("by", os.environ["MUJOCO_GL"])\n'
    )
    return _in_process(
        'rendering', code, 'the report goes without clips; apt-get install libegl1', bad=Level.WARN
    )


def check_cores() -> Finding:
    """The cores that this process may use."""
    cores = len(os.sched_getaffinity(0))
    if cores >= 2:
        return Finding('cores', Level.OK, str(cores))
    return Finding('cores', Level.WARN, str(cores), 'a run takes about twice as long on one core')


def check_memory() -> Finding:
    """Free memory."""
    import psutil

    free = psutil.virtual_memory().available / 1e9
    if free >= NEEDED_MEMORY_GB:
        return Finding('memory', Level.OK, f'{free:.1f} GB free')
    remedy = f'a run needs {NEEDED_MEMORY_GB:.0f} GB: close something'
    return Finding('memory', Level.WARN, f'{free:.1f} GB free', remedy)


def check_disk(folder: Path) -> Finding:
    """Free disk, and the right to write, where runs go."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 1e9
    if not os.access(place, os.W_OK):
        return Finding('disk', Level.FAIL, f'{place} is not writable', 'choose another --runs-dir')
    if free < NEEDED_DISK_GB:
        remedy = (
            f'a run needs up to {NEEDED_DISK_GB:.0f} GB: free some, or choose another --runs-dir'
        )
        return Finding('disk', Level.FAIL, f'{free:.1f} GB free in {place}', remedy)
    return Finding('disk', Level.OK, f'{free:.0f} GB free in {place}')


def check_shared_memory() -> Finding:
    """What killed processes left in /dev/shm, and what room is there."""
    from q2rl_lab.ros_environment import SHARED_MEMORY, stale_segments

    if not os.access(SHARED_MEMORY, os.W_OK):
        remedy = 'DDS falls back to UDP, which is slower; mount a tmpfs there'
        return Finding('shared memory', Level.WARN, f'{SHARED_MEMORY} is not writable', remedy)
    free = shutil.disk_usage(SHARED_MEMORY).free / 1e6
    if free < 64:
        remedy = 'give it 256 MB (docker: --shm-size=256m)'
        return Finding('shared memory', Level.WARN, f'{free:.0f} MB free', remedy)
    stale = stale_segments()
    if stale:
        size = sum(path.stat().st_size for path in stale if path.exists()) / 1e6
        text = f'{len(stale)} files ({size:.0f} MB) of killed processes'
        return Finding('shared memory', Level.WARN, text, 'the next `q2rl up` removes them')
    return Finding('shared memory', Level.OK, f'{free:.0f} MB free, nothing left behind')


def check_domains() -> Finding:
    """DDS domains, by their UDP ports."""
    from q2rl_lab.ros_environment import DOMAINS, busy_domains

    busy = sorted(busy_domains() & set(DOMAINS))
    if len(busy) == len(DOMAINS):
        return Finding('dds ports', Level.FAIL, 'no domain is free', 'stop some ROS processes')
    text = f'{len(DOMAINS) - len(busy)} of {len(DOMAINS)} domains free'
    return Finding('dds ports', Level.OK, text + (f', in use: {busy}' if busy else ''))


def check_supervision() -> Finding:
    """That nodes cannot outlive q2rl."""
    if shutil.which('setpriv'):
        return Finding('supervision', Level.OK, 'nodes die with q2rl')
    remedy = 'apt-get install util-linux, or nodes may outlive a q2rl that is killed'
    return Finding('supervision', Level.WARN, 'setpriv is missing', remedy)


def all_checks(runs_dir: Path) -> list[Callable[[], Finding]]:
    """Return the checks in the order in which they are shown."""
    return [
        check_python, check_packages, check_ros, check_loopback, check_mujoco, check_rendering,
        check_cores, check_memory, lambda: check_disk(runs_dir), check_shared_memory, check_domains,
        check_supervision,
    ]  # fmt: skip


def _in_process(
    name: str,
    code: str,
    remedy: str,
    environment: dict[str, str] | None = None,
    bad: Level = Level.FAIL,
) -> Finding:
    """Try something in a process of its own: what crashes or hangs there does not take the doctor with it."""
    try:
        done = subprocess.run(
            [sys.executable, '-c', code], capture_output=True, text=True, timeout=CHECK_TIMEOUT_S,
            env=environment, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Finding(name, bad, f'no answer in {CHECK_TIMEOUT_S:.0f} s', remedy)
    if done.returncode == 0:
        return Finding(name, Level.OK, done.stdout.strip())
    lines = done.stderr.strip().splitlines()
    said = lines[-1] if lines else f'exit code {done.returncode}'
    return Finding(name, bad, said[:160], remedy)
