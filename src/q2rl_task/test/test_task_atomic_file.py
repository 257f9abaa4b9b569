# SPDX-License-Identifier: Apache-2.0
"""A file is replaced whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from q2rl_task import InputError, load_task
from q2rl_task.atomic_file import check_writable, replacing, saying_why, write_atomically
from q2rl_task.demonstration_file import RecordedEpisode, write_demonstration_file


@pytest.mark.parametrize('durable', [False, True])
def test_a_file_is_made_with_its_folders_and_replaced(tmp_path, durable):
    path = tmp_path / 'deep' / 'er' / 'x.json'
    write_atomically(path, 'täglich', durable=durable)
    assert path.read_bytes() == 'täglich'.encode()
    write_atomically(path, b'new', durable=durable)
    assert path.read_bytes() == b'new' and os.listdir(path.parent) == ['x.json']


def test_readers_see_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / 'x'
    path.write_text('old')
    with replacing(path) as partial:
        partial.write_text('half')
        assert path.read_text() == 'old'
        partial.write_text('whole')
    assert path.read_text() == 'whole'


def test_a_write_that_fails_leaves_the_old_file_and_no_rest(tmp_path):
    path = tmp_path / 'x'
    path.write_text('old')
    with pytest.raises(RuntimeError, match='no more'), replacing(path) as partial:
        partial.write_text('half')
        raise RuntimeError('no more')
    assert path.read_text() == 'old' and os.listdir(tmp_path) == ['x']


@pytest.mark.parametrize('step', ['fsync', 'replace'])
def test_a_disk_that_is_full_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch, step):
    path = tmp_path / 'x'
    path.write_text('old')

    def full(*_):
        raise OSError('no space left')

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match='no space'):
        write_atomically(path, 'new', durable=True)
    assert path.read_text() == 'old' and os.listdir(tmp_path) == ['x']


def test_a_path_that_can_be_written_is_left_as_it_is(tmp_path):
    check_writable(tmp_path / 'deep' / 'er' / 'x')
    check_writable(tmp_path / 'set', folder=True)
    (tmp_path / 'x').write_text('old')
    check_writable(tmp_path / 'x')
    assert os.listdir(tmp_path) == ['x'] and (tmp_path / 'x').read_text() == 'old'


@pytest.mark.parametrize(
    ('path', 'folder', 'problem'),
    [
        ('/proc/none/x', False, 'cannot be written'),
        ('HERE/file/x', False, r'cannot be written \(Not a directory\)'),
        ('HERE/' + 300 * 'x', False, r'cannot be written \(File name too long\)'),
        ('HERE', False, 'is no file but a folder'),
        ('HERE/file', True, 'is a file; name another folder'),
    ],
)
def test_a_path_that_cannot_be_written_is_said_before(tmp_path, path, folder, problem):
    (tmp_path / 'file').touch()
    with pytest.raises(InputError, match=problem):
        check_writable(path.replace('HERE', str(tmp_path)), folder=folder)


def test_demonstrations_for_a_full_disk_are_one_line_and_no_rest(tmp_path, monkeypatch):
    task, steps = load_task('pipe_assembly'), 3
    seen = np.zeros((steps, task.observation_size))
    episode = RecordedEpisode(
        seen, seen, np.zeros((steps, task.action_size)), np.zeros(steps), True
    )

    def full(path: Path, data: bytes) -> None:
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, 'write_bytes', full)
    path = tmp_path / 'x.hdf5'
    with (
        pytest.raises(InputError, match=r'x\.hdf5: cannot be written \(No space'),
        saying_why(path),
    ):
        write_demonstration_file(path, task, [episode])
    assert not list(tmp_path.iterdir())
