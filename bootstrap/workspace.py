# SPDX-License-Identifier: Apache-2.0
"""The environment of a clone: .venv from the requirement files, install/ from src/, their stamps."""

import fcntl
import glob
import hashlib
import json
import os
from pathlib import Path
import platform
import shutil
import subprocess

from bootstrap import machine
from bootstrap.setup_step import run_step, say

REQUIREMENTS = ('ros.txt', 'app.txt', 'formats.txt', 'test.txt')
WORKSPACE_FILES = ('colcon.meta', 'colcon_defaults.yaml', 'bootstrap/*.cmake')
BUILD_FILES = ('package.xml', 'setup.py', 'setup.cfg', 'CMakeLists.txt')
INTERFACE_FOLDERS = ('msg', 'srv', 'action', 'cmake')
STAMP = 'q2rl.json'
PATH_LISTS = ('PATH', 'PYTHONPATH', 'LD_LIBRARY_PATH')
SYSTEM_PREFIXES = ('', '/usr', '/usr/local')  # may be named as ROS prefixes, are never only that
ROS_VARIABLES = ('AMENT_PREFIX_PATH', 'CMAKE_PREFIX_PATH', 'COLCON_PREFIX_PATH')
# The wheels restart every interpreter to set LD_LIBRARY_PATH unless this says it is done; set
# without LD_LIBRARY_PATH it makes `import rclpy` fail. So: both, or neither.
BOOTSTRAP_DONE = '_ROS_WHEELS_BOOTSTRAP_COMPLETE'


def digest(parts: list) -> str:
    """Return one hash of strings and of the bytes of files."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.read_bytes() if isinstance(part, Path) else part.encode()
        sha.update(b'%d:' % len(data) + data)
    return sha.hexdigest()


def read_json(path: Path) -> dict:
    """Return the content of a stamp, {} where there is none or it was cut short."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}


def write_json(path: Path, content: dict) -> None:
    """Replace a stamp in one step, so that a reader sees the old one or the new one."""
    scratch = path.with_name(f'{path.name}.{os.getpid()}')
    scratch.write_text(json.dumps(content, indent=1))
    scratch.replace(path)


class Workspace:
    """The clone at root: its virtual environment, its colcon build, and their stamps."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.venv = root / '.venv'
        self.python = self.venv / 'bin' / 'python'
        self.install = root / 'install'
        self.log = root / '.q2rl' / 'setup.log'

    # -------------------------------------------------- what is asked for, and what is there

    def requirements_hash(self) -> str:
        """Return the hash of all that decides what is in .venv."""
        files = sorted((self.root / 'requirements').glob('*.txt'))
        return digest([str(self.root), *(part for file in files for part in (file.name, file))])

    def workspace_hash(self) -> str:
        """Return the hash of what every package is built with; a new one builds all anew."""
        files = [file for name in WORKSPACE_FILES for file in sorted(self.root.glob(name))]
        return digest([self.requirements_hash(), *files])

    def package_hashes(self) -> dict:
        """Return by package the hash of what its build reads: build files, interfaces, data names.

        Python modules are not in it, nor what data files say: the build links to them.
        """
        hashes = {}
        for manifest in sorted((self.root / 'src').glob('*/package.xml')):
            folder, parts = manifest.parent, []
            for directory, folders, names in os.walk(str(folder)):
                folders[:] = sorted(
                    name
                    for name in folders
                    if not name.startswith(('.', '__'))
                    and not name.endswith('.egg-info')
                    and name not in (folder.name, 'test')
                )
                for file in (Path(directory) / name for name in sorted(names)):
                    top = file.relative_to(folder).parts[0]
                    parts.append(str(file.relative_to(folder)))
                    if top in BUILD_FILES or top in INTERFACE_FOLDERS:
                        parts.append(file)
            hashes[folder.name] = digest(parts)
        return hashes

    def installed(self) -> bool:
        """Return whether .venv is complete and of these requirement files."""
        stamp = read_json(self.venv / STAMP)
        return self.python.exists() and stamp.get('requirements') == self.requirements_hash()

    def built(self) -> bool:
        """Return whether install/ is complete and of these sources."""
        stamp = read_json(self.install / STAMP)
        return (
            stamp.get('workspace') == self.workspace_hash()
            and stamp.get('packages') == self.package_hashes()
        )

    def usable(self) -> bool:
        """Return whether there is an environment to run in, of whatever sources."""
        venv, install = read_json(self.venv / STAMP), read_json(self.install / STAMP)
        whole = venv.get('root') == str(self.root) and venv.get('requirements') is not None
        return whole and self.python.exists() and 'environment' in install

    # -------------------------------------------------- making it

    def ensure(self) -> None:
        """Install and build what is missing or out of date; one start at a time."""
        if self.installed() and self.built():
            return
        self.log.parent.mkdir(exist_ok=True)
        with open(str(self.log.parent / 'lock'), 'w') as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                say('waiting for another start of q2rl that is setting up this clone')
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not self.installed():
                self.make_venv(lock.fileno())
            if not self.built():
                self.build(lock.fileno())

    def make_venv(self, lock: int) -> None:
        """Bring .venv to the requirement files.

        The stamp goes before pip starts and comes back when it is through. A .venv that is found
        with an empty stamp was interrupted: pip may then take half a package for installed, so
        it is made again (what was downloaded is still in the cache of pip).
        """
        machine.check_platform(platform.system(), platform.machine(), machine.c_library())
        machine.check_tools()
        # Renamed into and out of place: no .venv is ever without a stamp.
        scratch = self.root / '.venv.scratch'
        shutil.rmtree(str(scratch), ignore_errors=True)
        stamp = read_json(self.venv / STAMP)
        if self.venv.exists() and not (self.venv / STAMP).exists():
            raise machine.Failure(
                f'{self.venv} was not made by q2rl: move it away, mv .venv .venv.mine'
            )
        keep = (
            self.python.exists()
            and stamp.get('root') == str(self.root)
            and stamp.get('requirements') is not None
        )
        if not keep:
            base = machine.choose_python()
            free = shutil.disk_usage(str(self.root)).free
            if free < machine.MIN_FREE_BYTES:
                raise machine.Failure(
                    f'needs {machine.MIN_FREE_BYTES / 1e9:.0f} GB of free disk, {self.root} has '
                    f'{free / 1e9:.1f} GB: free some, or clone to another disk'
                )
            if self.venv.exists():
                say('the last installation is unfinished or out of date: installing again')
                self.venv.rename(scratch)
                shutil.rmtree(str(scratch), ignore_errors=True)
        begun = {'root': str(self.root), 'requirements': None}
        if keep:
            write_json(self.venv / STAMP, begun)
        else:
            scratch.mkdir()
            write_json(scratch / STAMP, begun)
            scratch.rename(self.venv)
        environment = self.setup_environment()
        if not keep:
            self._step(
                'making .venv',
                '10 seconds',
                [base, '-m', 'venv', str(self.venv)],
                environment,
                lock,
            )
            # colcon, when it is run by hand, must not take the wheels for sources.
            (self.venv / 'COLCON_IGNORE').touch()
        wanted = [
            argument
            for name in REQUIREMENTS
            for argument in ('-r', str(self.root / 'requirements' / name))
        ]
        self._step(
            'installing the Python packages, log in .q2rl/setup.log',
            '2 to 10 minutes, mostly downloading',
            [str(self.python), '-m', 'pip', 'install', '--no-input', '--progress-bar', 'off']
            # Modules are compiled when they are first imported, which most never are.
            + ['--disable-pip-version-check', '--no-compile', *wanted],
            environment,
            lock,
        )
        write_json(self.venv / STAMP, {**begun, 'requirements': self.requirements_hash()})

    def build(self, lock: int) -> None:
        """Build the packages that changed, and note the environment of the result."""
        machine.check_tools()
        stamp, packages = read_json(self.install / STAMP), self.package_hashes()
        before = stamp.get('packages', {})
        if stamp.get('workspace') != self.workspace_hash():
            for folder in ('build', 'install'):
                shutil.rmtree(str(self.root / folder), ignore_errors=True)
            before = {}
        for name in set(before) - set(packages):
            for folder in ('build', 'install'):
                shutil.rmtree(str(self.root / folder / name), ignore_errors=True)
        stale = [name for name in packages if packages[name] != before.get(name)]
        self.install.mkdir(exist_ok=True)
        if stale:
            usual = '1 to 2 minutes' if 'q2rl_msgs' in stale else '10 seconds'
            # Python modules are linked to, so who depends on a changed package need not follow.
            self._step(
                f'building {len(stale)} of {len(packages)} ROS packages, log in .q2rl/setup.log',
                usual,
                [str(self.venv / 'bin' / 'colcon'), 'build', '--packages-select', *stale],
                self.setup_environment(),
                lock,
            )
        content = {
            'workspace': self.workspace_hash(),
            'packages': packages,
            'environment': self.sourced_environment(),
        }
        write_json(self.install / STAMP, content)

    def _step(self, label: str, usual: str, command: list, environment: dict, lock: int) -> None:
        run_step(label, usual, command, environment, self.root, self.log, lock)

    # -------------------------------------------------- what commands run in

    def user_environment(self) -> dict:
        """Return the environment of the caller without any ROS, another one's or ours."""
        foreign = ['/opt/ros', str(self.venv), str(self.install), str(self.root / 'build')]
        for name in ROS_VARIABLES:
            foreign += [entry.rstrip('/') for entry in os.environ.get(name, '').split(':')]
        foreign = [f'{prefix}/' for prefix in foreign if prefix not in SYSTEM_PREFIXES]
        drop = (*ROS_VARIABLES, BOOTSTRAP_DONE, 'PYTHONHOME', 'CONDA_PREFIX', 'RMW_IMPLEMENTATION')
        environment = {name: os.environ[name] for name in os.environ if name not in drop}
        for name in PATH_LISTS:
            kept = [
                entry
                for entry in environment.pop(name, '').split(':')
                if entry and not f'{entry}/'.startswith(tuple(foreign))
            ]
            if kept:
                environment[name] = ':'.join(kept)
        return environment

    def setup_environment(self) -> dict:
        """Return what pip and colcon run in: .venv is the one ament prefix and the one Python."""
        environment = self.user_environment()
        environment.pop('PYTHONPATH', None)
        environment.update(
            {
                'PIP_USER': '0',  # into .venv, whatever pip's configuration says
                'PATH': f'{self.venv}/bin:{environment.get("PATH", os.defpath)}',
                'VIRTUAL_ENV': str(self.venv),
                'AMENT_PREFIX_PATH': str(self.venv),
                'CMAKE_PREFIX_PATH': str(self.venv),
                'COLCON_DEFAULTS_FILE': str(self.root / 'colcon_defaults.yaml'),
            }
        )
        return environment

    def sourced_environment(self) -> dict:
        """Return what install/setup.bash does, as variables to set and entries to put in front."""
        before = self.setup_environment()
        script = self.install / 'setup.bash'
        command = '[ ! -e "$0" ] || . "$0"; env -0'
        done = subprocess.run(
            ['bash', '--noprofile', '--norc', '-c', command, str(script)],
            env=before,
            stdout=subprocess.PIPE,
        )
        if done.returncode:
            raise machine.Failure(
                f'sourcing {script} failed: rm -r install, then start q2rl again', code=1
            )
        output = done.stdout.decode()
        after = dict(item.split('=', 1) for item in output.split('\0') if '=' in item)
        front = {}
        for name in PATH_LISTS:
            known = before.get(name, '').split(':')
            front[name] = [x for x in after.get(name, '').split(':') if x and x not in known]
        front['PATH'].insert(0, str(self.venv / 'bin'))
        libraries = glob.glob(f'{self.venv}/lib/python3.*/site-packages/ros_*.libs')
        front['LD_LIBRARY_PATH'] += [str(self.venv / 'lib'), *sorted(libraries)]
        values = {name: after[name] for name in ROS_VARIABLES if name in after}
        values.update(
            {
                'VIRTUAL_ENV': str(self.venv),
                'COLCON_DEFAULTS_FILE': before['COLCON_DEFAULTS_FILE'],
                'ROS_VERSION': '2',
                'ROS_PYTHON_VERSION': '3',
                'ROS_DISTRO': 'jazzy',
                'RMW_IMPLEMENTATION': 'rmw_fastrtps_cpp',
                'Q2RL_ROOT': str(self.root),
                BOOTSTRAP_DONE: '1',
            }
        )
        return {'values': values, 'front': front}

    def environment(self) -> dict:
        """Return the environment of the caller with that of the workspace in front."""
        noted, environment = read_json(self.install / STAMP)['environment'], self.user_environment()
        for name, entries in noted['front'].items():
            kept = environment.get(name, '').split(':')
            environment[name] = ':'.join(entries + [x for x in kept if x and x not in entries])
        environment.update(noted['values'])
        return environment
