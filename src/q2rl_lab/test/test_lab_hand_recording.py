# SPDX-License-Identifier: Apache-2.0
"""A person's recording is begun, gone on with and thrown away by one process at a time."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
import socket

import pytest
from typer.testing import CliRunner

from q2rl_lab.cli import app
from q2rl_lab.hand_recording import open_recording
from q2rl_lab.run_folder import RunConfig
from q2rl_task import InputError

CONFIG = RunConfig('pipe_assembly', seed=4)


@pytest.fixture
def port() -> int:
    """A port that nothing listens on."""
    with closing(socket.socket()) as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / 'mine.hdf5'


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def record(file: Path, port: int) -> Path:
    """Begin a recording and leave something in it; return its folder."""
    with open_recording(CONFIG, 2, file, False, port) as recording:
        recording.folder.demonstrations.write_bytes(b'an hour of work')
        recording.folder.logs.mkdir()
        (recording.folder.logs / 'arm.log').write_text('moved')
    return recording.folder.path


def test_one_in_progress_survives_force(file, port):
    folder = record(file, port)
    with open_recording(CONFIG, 2, file, False, port):
        before = contents(folder)
        options = ('--teleop', '--force', '--browser-port', str(port), '-o', str(file))
        result = CliRunner().invoke(app, ['demos', 'pipe_assembly', *options])
        assert result.exit_code == 2, result.output
        assert result.stderr.startswith(f'q2rl: {folder}: another q2rl is at work')
        assert result.stderr.count('\n') == 1
        assert contents(folder) == before


def test_one_survives_force_where_the_port_is_taken(file, port):
    folder = record(file, port)
    before = contents(folder)
    with closing(socket.socket()) as taken:
        taken.bind(('127.0.0.1', port))
        taken.listen()
        with (
            pytest.raises(InputError, match=f'port {port} cannot be used'),
            open_recording(CONFIG, 2, file, True, port),
        ):
            pass
    assert contents(folder) == before


def test_force_begins_anew_under_the_lock_that_others_know(file, port):
    folder = record(file, port)
    lock = (folder / '.lock').stat().st_ino
    changed = RunConfig('pipe_assembly', seed=5)
    with open_recording(changed, 2, file, True, port) as recording:
        assert sorted(path.name for path in folder.iterdir()) == ['.lock', 'config.json']
        assert recording.folder.read_config() == changed
        assert (folder / '.lock').stat().st_ino == lock
        with pytest.raises(InputError, match='another q2rl is at work'):
            recording.folder.lock()
    recording.folder.lock().close()


def test_one_that_was_thrown_away_in_part_is_thrown_away_again(file, port, monkeypatch):
    folder = record(file, port)
    with monkeypatch.context() as patched:
        patched.setattr('shutil.rmtree', lambda path: (_ for _ in ()).throw(OSError(16, 'Busy')))
        with (
            pytest.raises(InputError, match=r'cannot be written \(Busy\)'),
            open_recording(CONFIG, 2, file, True, port),
        ):
            pass
    with open_recording(CONFIG, 2, file, True, port):
        assert sorted(path.name for path in folder.iterdir()) == ['.lock', 'config.json']


def test_it_is_gone_on_with_as_it_was_begun(file, port):
    folder = record(file, port)
    before = contents(folder)
    with open_recording(CONFIG, 3, file, False, port) as recording:
        assert (recording.wanted, contents(folder)) == (3, before)
    changed = RunConfig('pipe_assembly', seed=5)
    with (
        pytest.raises(InputError, match=r'begun with other options \(seed 4, not 5\)'),
        open_recording(changed, 2, file, False, port),
    ):
        pass
    assert contents(folder) == before


@pytest.mark.parametrize('force', [False, True])
def test_a_folder_of_something_else_is_left_alone(file, port, force):
    folder = file.with_suffix('.recording')
    folder.mkdir()
    (folder / 'song.wav').write_bytes(b'la')
    with (
        pytest.raises(InputError, match='holds something else') as caught,
        open_recording(CONFIG, 2, file, force, port),
    ):
        pass
    assert '\n' not in str(caught.value)
    assert (folder / 'song.wav').read_bytes() == b'la'


def test_a_file_of_something_else_is_left_alone(file, port):
    file.write_bytes(b'other')
    with (
        pytest.raises(InputError, match='is there already'),
        open_recording(CONFIG, 2, file, False, port),
    ):
        pass
    assert list(file.parent.iterdir()) == [file]


@pytest.fixture
def any_content(monkeypatch):
    """Take any file for one demonstration."""
    monkeypatch.setattr('q2rl_lab.hand_recording.load_demonstrations', lambda path, task: [path])


def test_a_file_that_has_become_another_is_not_replaced(file, port, any_content):
    record(file, port)
    with open_recording(CONFIG, 2, file, False, port) as recording:
        for content in (b'an hour of work', b'two hours of work'):
            recording.folder.demonstrations.write_bytes(content)
            assert recording.keep() == 1 and file.read_bytes() == content
        file.write_bytes(b'merged with others')
        for made in (True, False):
            with pytest.raises(InputError, match='is no longer what was copied') as caught:
                recording.keep()
            assert str(caught.value).startswith(f'{file}: ') and '--force' in caught.value.remedy
            assert '\n' not in str(caught.value) and file.read_bytes() == b'merged with others'
            if made:
                recording.folder.demonstrations.unlink()
        recording.folder.demonstrations.write_bytes(content)
        file.unlink()
        assert recording.keep() == 1 and file.read_bytes() == content


def test_a_file_that_force_gave_up_stays_until_there_is_another(file, port, any_content):
    file.write_bytes(b'other')
    with open_recording(CONFIG, 2, file, True, port) as recording:
        assert recording.keep() == 0 and file.read_bytes() == b'other'
    with open_recording(CONFIG, 2, file, False, port) as recording:
        recording.folder.demonstrations.write_bytes(b'an hour of work')
        assert recording.keep() == 1 and file.read_bytes() == b'an hour of work'
