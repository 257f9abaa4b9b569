# SPDX-License-Identifier: Apache-2.0
"""What the machine must have before q2rl can set itself up, and the line that installs what is missing.

No annotations newer than Python 3.6 in this folder: an old python3 must get as far as the message.
"""

import json
import os
import shutil
import subprocess
import sys

PYTHONS = ((3, 12), (3, 11), (3, 10))
MIN_FREE_BYTES = 3 * 10**9
MIN_GLIBC = (2, 28)  # the ROS wheels are manylinux_2_28

PROBE = """
import importlib.util, json, os, sys, sysconfig
print(json.dumps({
    'version': sys.version_info[:2],
    'executable': os.path.realpath(getattr(sys, '_base_executable', sys.executable)),
    'venv': all(importlib.util.find_spec(name) for name in ('venv', 'ensurepip')),
    'headers': os.path.exists(os.path.join(sysconfig.get_paths()['include'], 'Python.h')),
}))
"""


class Failure(Exception):
    """Something the user has to mend (code 2), or a step of the setup that failed (code 1)."""

    def __init__(self, message: str, code: int = 2) -> None:
        super().__init__(message)
        self.code = code


def install_line(apt: str, dnf: str) -> str:
    """Return the line that installs system packages on this machine."""
    if shutil.which('dnf') and not shutil.which('apt-get'):
        return 'sudo dnf install ' + dnf
    return 'sudo apt install ' + apt


def check_platform(system: str, machine: str, libc: str) -> None:
    """Raise Failure unless wheels exist for this system; libc like 'glibc 2.36', or empty."""
    if system != 'Linux' or machine not in ('x86_64', 'AMD64'):
        raise Failure(
            f'needs Linux on x86-64, this is {system} on {machine}: there are no ROS 2 wheels for '
            'it; use ROS 2 Jazzy from apt or the container (docker/)'
        )
    name, _, version = libc.partition(' ')
    if name != 'glibc' or tuple(int(part) for part in version.split('.')[:2]) < MIN_GLIBC:
        raise Failure(
            f'needs glibc 2.28 or later, this is {libc or "another C library"}: use a newer '
            'distribution or the container (docker/)'
        )


def c_library() -> str:
    """Return the name and version of the C library, empty where it does not say."""
    try:
        return os.confstr('CS_GNU_LIBC_VERSION') or ''
    except (ValueError, OSError):
        return ''


def check_tools() -> None:
    """Raise Failure unless a C++ compiler and make are there; both come in one package."""
    compilers = [os.environ.get('CXX', ''), 'c++', 'g++', 'clang++']
    missing = []
    if not any(name and shutil.which(name.split()[0]) for name in compilers):
        missing.append('a C++ compiler')
    if not shutil.which('make'):
        missing.append('make')
    if missing:
        line = install_line('build-essential', 'gcc gcc-c++ make')
        raise Failure(f'{" and ".join(missing)} not found: {line}')


def probe(python: str) -> dict:
    """Return what a Python says about itself, {} where it does not run."""
    try:
        done = subprocess.run(
            [python, '-I', '-c', PROBE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        return json.loads(done.stdout.decode()) if done.returncode == 0 else {}
    except (OSError, ValueError):
        return {}


def choose_python() -> str:
    """Return the path of a Python that can make the environment, this one if possible."""
    names = [sys.executable] + ['python{}.{}'.format(*version) for version in PYTHONS]
    found = []
    for name in names:
        facts = probe(name)
        if facts and tuple(facts['version']) in PYTHONS:
            if facts['venv'] and facts['headers']:
                return facts['executable']
            found.append(facts)
    if found:
        version = '{}.{}'.format(*found[0]['version'])
        missing = [name for name in ('venv', 'headers') if not found[0][name]]
        line = install_line(f'python{version}-venv python{version}-dev', f'python{version}-devel')
        raise Failure(f'Python {version} lacks its {" and ".join(missing)}: {line}')
    raise Failure(
        'needs Python 3.10, 3.11 or 3.12, found only {}.{}: '.format(*sys.version_info)
        + python_install_line()
    )


def python_install_line() -> str:
    """Return the line that installs a fitting Python from a source this machine has."""
    for version in PYTHONS:
        name = 'python{}.{}'.format(*version)
        try:
            known = subprocess.run(
                ['apt-cache', 'show', name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        except OSError:
            break
        if known.returncode == 0:
            return f'sudo apt install {name} {name}-venv {name}-dev'
    return install_line('', 'python3.12-devel') if shutil.which('dnf') else 'uv python install 3.12'
