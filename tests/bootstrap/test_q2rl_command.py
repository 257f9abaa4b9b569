# SPDX-License-Identifier: Apache-2.0
"""The one command on a small clone: real venv, real pip and real locks; a wheel in place of colcon."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
import json
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import zipfile

import pytest

from bootstrap import machine, workspace

ROOT = Path(__file__).resolve().parents[2]
PYTHON = os.path.realpath(getattr(sys, '_base_executable', sys.executable))

# Stands for colcon: notes its arguments, can be told to fail, waits where there is a gate (a FIFO).
COLCON = """
import os, sys
from pathlib import Path

def main():
    with open('colcon.calls', 'a') as calls:
        calls.write(' '.join(sys.argv[1:]) + '\\n')
    if os.path.exists('gate'):
        open('gate').read()
    if os.path.exists('fail'):
        sys.exit('the build went wrong')
    for package in sys.argv[3:]:
        Path('install', package).mkdir(parents=True, exist_ok=True)
    here = os.getcwd()
    Path('install/setup.bash').write_text(
        f'export PYTHONPATH={here}/src/q2rl_lab\\n'
        f'export AMENT_PREFIX_PATH={here}/install/q2rl_lab:$AMENT_PREFIX_PATH\\n'
        f'export LD_LIBRARY_PATH={here}/install/q2rl_msgs/lib:$LD_LIBRARY_PATH\\n'
    )
"""

CLI = """
import json, os, sys
print(json.dumps({'arguments': sys.argv[1:], 'python': sys.executable, **os.environ}))
"""


@pytest.fixture(scope='module')
def caller(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment of the caller: pip takes its packages from a folder that only pip is told about."""
    wheels = tmp_path_factory.mktemp('wheels')
    info = 'standin_colcon-1.0.dist-info'
    with zipfile.ZipFile(wheels / 'standin_colcon-1.0-py3-none-any.whl', 'w') as wheel:
        wheel.writestr('standin_colcon.py', COLCON)
        wheel.writestr(
            f'{info}/METADATA', 'Metadata-Version: 2.1\nName: standin-colcon\nVersion: 1.0\n'
        )
        wheel.writestr(
            f'{info}/WHEEL', 'Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n'
        )
        wheel.writestr(
            f'{info}/entry_points.txt', '[console_scripts]\ncolcon = standin_colcon:main\n'
        )
        wheel.writestr(f'{info}/RECORD', '')
    return {
        'PATH': f'{Path(PYTHON).parent}:/usr/bin:/bin',
        'HOME': str(tmp_path_factory.mktemp('home')),
        'PIP_NO_INDEX': '1',
        'PIP_FIND_LINKS': str(wheels),
        'PIP_CONFIG_FILE': os.devnull,
    }


def make_clone(root: Path) -> Path:
    root.mkdir(exist_ok=True)
    shutil.copy(ROOT / 'q2rl', root)
    shutil.copytree(ROOT / 'bootstrap', root / 'bootstrap')
    (root / 'requirements').mkdir()
    for name in workspace.REQUIREMENTS:
        (root / 'requirements' / name).write_text('')
    (root / 'requirements' / 'ros.txt').write_text('standin-colcon==1.0\n')
    for package in ('q2rl_lab', 'q2rl_msgs'):
        (root / 'src' / package / package).mkdir(parents=True)
        (root / 'src' / package / 'package.xml').write_text('<package/>')
        (root / 'src' / package / package / '__init__.py').write_text('')
    (root / 'src' / 'q2rl_lab' / 'q2rl_lab' / 'cli.py').write_text(CLI)
    return root


def start(root: Path, *arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PYTHON, str(root / 'q2rl'), *arguments],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.fixture
def launch(caller: dict[str, str]) -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    """Return a function that begins a start of a clone; none outlives the test."""
    processes = []

    def begin(root: Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [PYTHON, str(root / 'q2rl'), 'shell', 'true'],
            env=caller,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def read_until(process: subprocess.Popen[str], text: str) -> None:
    """Read stderr up to a line with the text; the end of stderr is a failure."""
    assert process.stderr is not None
    seen = ''
    for line in process.stderr:
        seen += line
        if text in line:
            return
    pytest.fail(f'{text!r} not in: {seen}')


def colcon_calls(root: Path) -> list[list[str]]:
    """Return the packages of each build since the last question."""
    calls = root / 'colcon.calls'
    lines = calls.read_text().splitlines() if calls.exists() else []
    calls.unlink(missing_ok=True)
    assert all(line.startswith('build --packages-select ') for line in lines)
    return [line.split()[2:] for line in lines]


@pytest.fixture(scope='module')
def ready(tmp_path_factory: pytest.TempPathFactory, caller: dict[str, str]) -> Path:
    """Return a clone after its first start."""
    root = make_clone(tmp_path_factory.mktemp('clone'))
    done = start(root, 'up', env=caller)
    assert done.returncode == 0, done.stderr
    assert colcon_calls(root) == [['q2rl_lab', 'q2rl_msgs']]
    return root


@pytest.fixture
def current(ready: Path, caller: dict[str, str]) -> Path:
    """Return the same clone, brought up to date whatever the last test left."""
    (ready / 'fail').unlink(missing_ok=True)
    assert start(ready, 'shell', 'true', env=caller).returncode == 0
    colcon_calls(ready)
    return ready


@pytest.fixture
def gate(current: Path) -> Iterator[Path]:
    """Return a FIFO at which colcon waits; to open it for writing is to wait for colcon."""
    path = current / 'gate'
    os.mkfifo(path)
    yield path
    if path.exists():
        os.close(os.open(path, os.O_RDWR))  # lets go whoever still waits
        path.unlink()


def test_command_runs_in_the_environment_of_the_workspace(
    current: Path, caller: dict[str, str]
) -> None:
    done = start(current, 'up', 'pipe_assembly', '--seed', '3', env=caller)
    seen = json.loads(done.stdout)
    assert seen['arguments'] == ['up', 'pipe_assembly', '--seed', '3']
    assert seen['python'] == str(current / '.venv/bin/python3')
    assert seen['Q2RL_ROOT'] == str(current)
    assert seen['PYTHONPATH'] == str(current / 'src/q2rl_lab')
    assert seen['AMENT_PREFIX_PATH'].split(':') == [
        str(current / 'install/q2rl_lab'),
        str(current / '.venv'),
    ]
    assert seen['RMW_IMPLEMENTATION'] == 'rmw_fastrtps_cpp'


def test_wheel_guard_comes_with_its_library_path(current: Path, caller: dict[str, str]) -> None:
    seen = json.loads(start(current, 'status', env=caller).stdout)
    assert seen[workspace.BOOTSTRAP_DONE] == '1'
    assert seen['LD_LIBRARY_PATH'].split(':') == [
        str(current / 'install/q2rl_msgs/lib'),
        str(current / '.venv/lib'),
    ]


def test_sourced_ros_is_left_out_and_the_rest_of_the_caller_kept(
    current: Path, caller: dict[str, str]
) -> None:
    sourced = {
        **caller,
        'AMENT_PREFIX_PATH': '/home/me/ws/install/arm:/opt/ros/jazzy',
        'PYTHONPATH': '/home/me/ws/install/arm/lib/python3.12/site-packages:/home/me/policies',
        'LD_LIBRARY_PATH': '/opt/ros/jazzy/lib:/usr/local/cuda/lib64',
        'PATH': f'/opt/ros/jazzy/bin:{caller["PATH"]}',
        'RMW_IMPLEMENTATION': 'rmw_cyclonedds_cpp',
        'ROS_DOMAIN_ID': '17',
    }
    seen = json.loads(start(current, 'status', env=sourced).stdout)
    assert seen['PYTHONPATH'].split(':') == [str(current / 'src/q2rl_lab'), '/home/me/policies']
    assert seen['LD_LIBRARY_PATH'].split(':')[2:] == ['/usr/local/cuda/lib64']
    assert seen['PATH'] == f'{current}/.venv/bin:{caller["PATH"]}'
    assert '/opt/ros' not in seen['AMENT_PREFIX_PATH']
    assert seen['RMW_IMPLEMENTATION'] == 'rmw_fastrtps_cpp'
    assert seen['ROS_DOMAIN_ID'] == '17'


def test_environment_does_not_pile_up_when_nested(current: Path, caller: dict[str, str]) -> None:
    inner = start(current, 'shell', PYTHON, str(current / 'q2rl'), 'status', env=caller)
    outer = start(current, 'status', env=caller)
    names = (*workspace.PATH_LISTS, *workspace.ROS_VARIABLES)
    nested, plain = json.loads(inner.stdout), json.loads(outer.stdout)
    assert {name: nested.get(name) for name in names} == {name: plain.get(name) for name in names}


def test_second_start_does_nothing_but_start(current: Path, caller: dict[str, str]) -> None:
    stamp = (current / 'install' / workspace.STAMP).read_bytes()
    done = start(current, 'status', env=caller)
    assert done.stderr == ''
    assert colcon_calls(current) == []
    assert (current / 'install' / workspace.STAMP).read_bytes() == stamp


def test_new_message_rebuilds_its_package_alone(current: Path, caller: dict[str, str]) -> None:
    (current / 'src/q2rl_msgs/msg').mkdir(exist_ok=True)
    message = current / 'src/q2rl_msgs/msg/Reading.msg'
    for content in ('float64 force\n', 'float64 torque\n'):
        message.write_text(content)
        start(current, 'status', env=caller)
        assert colcon_calls(current) == [['q2rl_msgs']]
    message.unlink()
    start(current, 'status', env=caller)
    assert colcon_calls(current) == [['q2rl_msgs']]


def test_data_files_count_by_name_and_modules_not_at_all(
    current: Path, caller: dict[str, str]
) -> None:
    (current / 'src/q2rl_lab/config').mkdir(exist_ok=True)
    (current / 'src/q2rl_lab/config/arm.yaml').write_text('rate: 20\n')
    start(current, 'status', env=caller)
    assert colcon_calls(current) == [['q2rl_lab']]
    (current / 'src/q2rl_lab/config/arm.yaml').write_text('rate: 50\n')
    (current / 'src/q2rl_lab/q2rl_lab/fresh.py').write_text('')
    (current / 'src/q2rl_lab/test').mkdir(exist_ok=True)
    (current / 'src/q2rl_lab/test/test_lab_fresh.py').write_text('')
    start(current, 'status', env=caller)
    assert colcon_calls(current) == []


def test_removed_package_leaves_no_installation(current: Path, caller: dict[str, str]) -> None:
    (current / 'src/q2rl_extra').mkdir()
    (current / 'src/q2rl_extra/package.xml').write_text('<package/>')
    start(current, 'status', env=caller)
    assert colcon_calls(current) == [['q2rl_extra']]
    assert (current / 'install/q2rl_extra').is_dir()
    shutil.rmtree(current / 'src/q2rl_extra')
    start(current, 'status', env=caller)
    assert not (current / 'install/q2rl_extra').exists()
    assert (current / 'install/q2rl_lab').is_dir()


def test_new_requirements_go_into_the_same_venv(current: Path, caller: dict[str, str]) -> None:
    witness = current / '.venv/witness'
    witness.touch()
    with (current / 'requirements/app.txt').open('a') as file:
        file.write('# a comment is a change, too\n')
    done = start(current, 'status', env=caller)
    assert 'installing the Python packages' in done.stderr
    assert witness.exists()
    assert colcon_calls(current) == [['q2rl_lab', 'q2rl_msgs']]


def test_a_stop_waits_for_no_build(current: Path, caller: dict[str, str]) -> None:
    with (current / 'requirements/app.txt').open('a') as file:
        file.write('# changed while a run is at work\n')
    done = start(current, 'stop', '--hold', env=caller)
    assert json.loads(done.stdout)['arguments'] == ['stop', '--hold']
    assert done.stderr == '' and colcon_calls(current) == []
    # Half of an installation is none to stop with.
    stamp = current / '.venv' / workspace.STAMP
    whole = json.loads(stamp.read_text())
    stamp.write_text(json.dumps(whole | {'requirements': None}))
    assert_says_how_to_stop(start(current, 'stop', env=caller))
    assert colcon_calls(current) == []
    stamp.write_text(json.dumps(whole))
    start(current, 'status', env=caller)
    assert colcon_calls(current) == [['q2rl_lab', 'q2rl_msgs']]


def assert_says_how_to_stop(done: subprocess.CompletedProcess[str]) -> None:
    [line] = done.stderr.splitlines()
    assert done.returncode == 2 and 'NOTHING IS STOPPED' in line
    assert '`ros2 service call /arm_interface/emergency_stop std_srvs/srv/Trigger`' in line


def test_a_stop_on_a_fresh_clone_sets_nothing_up_and_says_what_to_type(
    tmp_path: Path, caller: dict[str, str]
) -> None:
    root = make_clone(tmp_path / 'clone')
    assert_says_how_to_stop(start(root, 'stop', env=caller))
    assert not (root / '.venv').exists() and not (root / '.q2rl').exists()


def test_failed_step_shows_the_end_of_its_log_and_is_tried_again(
    current: Path, caller: dict[str, str]
) -> None:
    (current / 'src/q2rl_lab/package.xml').write_text('<package><!-- broken --></package>')
    (current / 'fail').touch()
    done = start(current, 'status', env=caller)
    assert done.returncode == 1
    assert 'the build went wrong' in done.stderr
    assert str(current / '.q2rl/setup.log') in done.stderr
    assert 'Traceback' not in done.stderr
    assert done.stdout == ''
    (current / 'fail').unlink()
    assert start(current, 'status', env=caller).returncode == 0
    assert colcon_calls(current) == [['q2rl_lab'], ['q2rl_lab']]


def test_second_start_waits_for_the_first_and_builds_nothing_twice(
    current: Path, gate: Path, launch: Callable[[Path], subprocess.Popen[str]]
) -> None:
    (current / 'src/q2rl_lab/package.xml').write_text('<package><!-- two starts --></package>')
    first = launch(current)
    with gate.open('w'):
        second = launch(current)
        read_until(second, 'waiting for another start')
        assert first.poll() is None
    assert (first.wait(60), second.wait(60)) == (0, 0)
    assert colcon_calls(current) == [['q2rl_lab']]


def test_child_of_a_killed_start_still_holds_the_lock(
    current: Path, gate: Path, launch: Callable[[Path], subprocess.Popen[str]]
) -> None:
    (current / 'src/q2rl_lab/package.xml').write_text('<package><!-- killed --></package>')
    first = launch(current)
    with gate.open('w'):
        first.kill()
        first.wait(60)
        second = launch(current)
        read_until(second, 'waiting for another start')
        gate.unlink()  # for the second start, which builds for itself
    assert second.wait(60) == 0
    assert colcon_calls(current) == [['q2rl_lab'], ['q2rl_lab']]


def test_interrupted_installation_is_made_again(
    tmp_path: Path, caller: dict[str, str], launch: Callable[[Path], subprocess.Popen[str]]
) -> None:
    root = make_clone(tmp_path / 'clone')
    process = launch(root)
    read_until(process, 'installing the Python packages')
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130
    stamp = workspace.read_json(root / '.venv' / workspace.STAMP)
    assert stamp == {'root': str(root), 'requirements': None}
    # What pip leaves of a package when it is stopped: enough to pass for installed.
    [packages] = (root / '.venv/lib').glob('python3.*/site-packages')
    half = packages / 'standin_colcon-1.0.dist-info'
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir()
    (half / 'METADATA').write_text('Metadata-Version: 2.1\nName: standin-colcon\nVersion: 1.0\n')
    done = start(root, 'status', env=caller)
    assert done.returncode == 0, done.stderr
    assert 'waiting' not in done.stderr, 'the installer outlived the start that was ended'
    assert 'unfinished' in done.stderr
    assert (half / 'RECORD').exists()
    assert colcon_calls(root) == [['q2rl_lab', 'q2rl_msgs']]


def test_foreign_venv_is_never_touched(tmp_path: Path, caller: dict[str, str]) -> None:
    root = make_clone(tmp_path / 'clone')
    (root / '.venv').mkdir()
    (root / '.venv/mine').touch()
    done = start(root, 'status', env=caller)
    assert done.returncode == 2
    assert 'mv .venv .venv.mine' in done.stderr
    assert (root / '.venv/mine').exists()


def test_moved_clone_does_not_use_the_old_paths(current: Path, tmp_path: Path) -> None:
    shutil.copytree(current, tmp_path / 'elsewhere', symlinks=True)
    moved = workspace.Workspace(tmp_path / 'elsewhere')
    assert workspace.Workspace(current).installed()
    assert not moved.installed()
    assert not moved.built()


def test_help_on_a_fresh_clone_sets_nothing_up(tmp_path: Path, caller: dict[str, str]) -> None:
    root = make_clone(tmp_path / 'clone')
    done = start(root, '--help', env=caller)
    assert done.returncode == 0
    assert './q2rl up pipe_assembly' in done.stdout
    assert not (root / '.venv').exists()


def test_shell_passes_on_exit_code_and_names_unknown_command(
    current: Path, caller: dict[str, str]
) -> None:
    assert start(current, 'shell', 'sh', '-c', 'exit 7', env=caller).returncode == 7
    done = start(current, 'shell', 'no-such-command', env=caller)
    assert (done.returncode, done.stderr) == (
        2,
        'q2rl: error: no-such-command: command not found\n',
    )


def test_system_ros_is_used_only_as_it_was_sourced(tmp_path: Path, caller: dict[str, str]) -> None:
    root = make_clone(tmp_path / 'clone')
    wish = {**caller, 'Q2RL_USE_SYSTEM_ROS': '1'}
    done = start(root, 'status', env=wish)
    assert done.returncode == 2
    assert '. /opt/ros/jazzy/setup.bash' in done.stderr
    sourced = {
        **wish,
        'AMENT_PREFIX_PATH': '/opt/ros/jazzy',
        'PYTHONPATH': str(root / 'src/q2rl_lab'),
    }
    seen = json.loads(start(root, 'status', env=sourced).stdout)
    assert seen['AMENT_PREFIX_PATH'] == '/opt/ros/jazzy'
    assert not (root / '.venv').exists()


@pytest.mark.parametrize('missing', ['c++', 'make'])
def test_missing_tool_is_named_with_the_line_that_installs_it(
    tmp_path: Path, caller: dict[str, str], missing: str
) -> None:
    root = make_clone(tmp_path / 'clone')
    tools = tmp_path / 'bin'
    tools.mkdir()
    for name in {'c++', 'make'} - {missing}:
        (tools / name).write_text('#!/bin/sh\n')
        (tools / name).chmod(0o755)
    done = start(root, 'status', env={**caller, 'PATH': str(tools)})
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert ('a C++ compiler' if missing == 'c++' else 'make') in line
    assert 'sudo apt install build-essential' in line
    assert not (root / '.venv').exists()


def fake_python(path: Path, **facts: object) -> str:
    path.write_text(
        f"#!/bin/sh\necho '{json.dumps(facts)}'\n" if facts else '#!/bin/sh\nexit 127\n'
    )
    path.chmod(0o755)
    return str(path)


def test_fitting_python_is_found_behind_a_newer_one_and_a_dead_shim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = fake_python(tmp_path / 'python3', version=[3, 14], executable='x', venv=1, headers=1)
    fake_python(tmp_path / 'python3.12')
    fake_python(tmp_path / 'python3.11', version=[3, 11], executable='/it', venv=1, headers=1)
    monkeypatch.setattr(sys, 'executable', newer)
    monkeypatch.setenv('PATH', f'{tmp_path}:/bin')
    assert machine.choose_python() == '/it'


def test_unfit_python_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    newer = fake_python(tmp_path / 'python3', version=[3, 14], executable='x', venv=1, headers=1)
    monkeypatch.setattr(sys, 'executable', newer)
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(machine.Failure, match=r'needs Python 3\.10, 3\.11 or 3\.12') as caught:
        machine.choose_python()
    assert caught.value.code == 2


@pytest.mark.parametrize('lacks', ['venv', 'headers'])
def test_python_without_its_parts_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    facts = {'version': [3, 12], 'executable': 'x', 'venv': True, 'headers': True, lacks: False}
    monkeypatch.setattr(sys, 'executable', fake_python(tmp_path / 'python3', **facts))
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(machine.Failure, match=rf'lacks its {lacks}: .*python3\.12-venv'):
        machine.choose_python()


@pytest.mark.parametrize(
    ('system', 'cpu', 'libc', 'named'),
    [
        ('Darwin', 'arm64', '', 'Darwin'),
        ('Linux', 'aarch64', 'glibc 2.39', 'aarch64'),
        ('Linux', 'x86_64', 'glibc 2.27', 'glibc 2.27'),
        ('Linux', 'x86_64', '', 'another C library'),
    ],
)
def test_machine_without_wheels_is_told_so(system: str, cpu: str, libc: str, named: str) -> None:
    with pytest.raises(machine.Failure, match=named):
        machine.check_platform(system, cpu, libc)


def test_machine_with_wheels_passes() -> None:
    machine.check_platform('Linux', 'x86_64', 'glibc 2.28')


def test_little_disk_stops_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_clone(tmp_path / 'clone')
    monkeypatch.setattr(machine, 'MIN_FREE_BYTES', 10**18)
    with pytest.raises(machine.Failure, match='GB of free disk'):
        workspace.Workspace(root).ensure()
    assert not (root / '.venv').exists()


def test_an_old_python_can_read_the_command() -> None:
    for file in (ROOT / 'q2rl', *(ROOT / 'bootstrap').glob('*.py')):
        ast.parse(file.read_text(), feature_version=(3, 7))
