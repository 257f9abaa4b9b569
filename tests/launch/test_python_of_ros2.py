# SPDX-License-Identifier: Apache-2.0
"""A Python that knows of no virtual environment, as that of `ros2`, launches by PYTHONPATH, or says what is missing."""

import importlib.util
import os
from pathlib import Path
import subprocess
import sys

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / 'src' / 'q2rl_bringup' / 'launch'
LAUNCH_FILES = [FOLDER / 'pipe_assembly.launch.py', FOLDER / 'servo.launch.py']
LOAD = """
import runpy, sys
sys.path.insert(0, sys.argv[1])
import recording_launch
with recording_launch.installed():
    print(len(runpy.run_path(sys.argv[2])['generate_launch_description']().entities))
"""
IMPORTED = ('numpy', 'psutil', 'pydantic', 'scipy', 'yaml')


def requirements():
    """Return the folders that PYTHONPATH must name."""
    return sorted({str(Path(importlib.util.find_spec(m).origin).parents[1]) for m in IMPORTED})


def load(launch_file, *folders):
    """Load a launch file by the interpreter below any virtual environment, blind to what is installed beside it."""
    ours = [
        entry
        for entry in os.environ['PYTHONPATH'].split(os.pathsep)
        if not (Path(entry) / 'pydantic').exists()
    ]
    command = [sys._base_executable, '-S', '-c', LOAD, Path(__file__).parent, launch_file]
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([*ours, *folders])}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize('path', LAUNCH_FILES, ids=lambda p: p.name)
def test_a_launch_without_the_requirements_says_in_one_line_what_is_missing(path):
    done = load(path)
    assert done.returncode == 2 and not done.stdout
    (line,) = done.stderr.splitlines()
    assert 'No module named' in line and 'Install on Jazzy' in line
    heading = line.partition('"')[2].partition('"')[0]
    assert f'## {heading}\n' in (ROOT / line.rpartition('in ')[2]).read_text()


def test_so_does_one_that_finds_a_pydantic_of_another_major_version(tmp_path):
    (tmp_path / 'pydantic.py').touch()
    done = load(LAUNCH_FILES[0], str(tmp_path), *requirements())
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "from 'pydantic'" in line and 'Install on Jazzy' in line


@pytest.mark.parametrize('path', LAUNCH_FILES, ids=lambda p: p.name)
def test_with_the_requirements_on_pythonpath_every_launch_file_loads(path):
    done = load(path, *requirements())
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1
