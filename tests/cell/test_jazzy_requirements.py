# SPDX-License-Identifier: Apache-2.0
"""What the images and the workflow for ROS from apt install by pip can be installed together."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
import subprocess
import sys

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
import pytest

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / 'requirements'
FILES = ('jazzy.txt', 'formats.txt', 'test.txt')
PYTHON = {'python_version': '3.12', 'python_full_version': '3.12.3'}
OFFLINE = ('NewConnectionError', 'NameResolutionError', 'Read timed out', 'ConnectTimeoutError')


def pins(*names):
    """Return {name: requirement} of requirement files for Python 3.12, with all files that they name."""
    found = {}
    for name in names:
        for line in (REQUIREMENTS / name).read_text().splitlines():
            line = line.partition('#')[0].strip()
            if line.startswith('-r '):
                found |= pins(line[3:])
            elif line and not line.startswith('-'):
                requirement = Requirement(line)
                if requirement.marker is None or requirement.marker.evaluate(PYTHON):
                    found[canonicalize_name(requirement.name)] = requirement
    return found


def version(requirement):
    return str(requirement.specifier).removeprefix('==')


def wanted_by(name, extras, pin):
    """Return what the installed distribution `name` requires; [] where that is not here, or of another version."""
    try:
        if pin is not None and metadata.version(name) != version(pin):
            return []
        lines = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []
    environments = [{**default_environment(), **PYTHON, 'extra': extra} for extra in ('', *extras)]
    wanted = [Requirement(line) for line in lines]
    return [
        each
        for each in wanted
        if each.marker is None or any(each.marker.evaluate(where) for where in environments)
    ]


def test_no_pin_of_jazzy_is_refused_by_what_is_installed_with_it():
    pinned = pins('constraints.txt') | pins(*FILES)
    waiting, seen, refused = list(pins(*FILES).values()), set(), []
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in seen:
            continue
        seen.add(name)
        for each in wanted_by(name, requirement.extras, pinned.get(name)):
            pin = pinned.get(canonicalize_name(each.name))
            if pin is not None and not each.specifier.contains(version(pin), prereleases=True):
                refused.append(f'{name} wants {each}, not {version(pin)}')
            waiting.append(each)
    assert {'numpy', 'scipy', 'torch', 'ml-dtypes', 'viser'} <= seen
    assert not refused


def test_numpy_is_ubuntus_and_pinocchio_comes_from_apt():
    jazzy = pins('jazzy.txt')
    assert version(jazzy['numpy']) == '1.26.4' and 'pin' not in jazzy
    assert version(jazzy['torch']) == version(pins('app.txt')['torch'])
    for file in ('docker/Dockerfile', '.github/workflows/ci.yml'):
        text = (ROOT / file).read_text()
        assert '-r requirements/jazzy.txt' in text
        assert 'ros-jazzy-pinocchio ' in text and 'ros-jazzy-coal ' in text


def test_setuptools_is_the_one_that_colcon_can_link_with():
    # torch brings setuptools along, and of later ones colcon's `setup.py develop` goes through pip.
    assert version(pins('jazzy.txt')['setuptools']) == '79.0.1'


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_pip_finds_a_set_for_ubuntus_python(tmp_path):
    command = [sys.executable, '-m', 'pip', 'install', '--dry-run', '--only-binary=:all:']
    command += ['--python-version', '3.12', '--target', str(tmp_path)]
    for name in FILES:
        command += ['-r', str(REQUIREMENTS / name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1400, check=False)
    if done.returncode and any(sign in done.stderr for sign in OFFLINE):
        pytest.skip('no package index within reach')
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'numpy-1.26.4' in done.stdout and 'torch-2.13.0' in done.stdout
