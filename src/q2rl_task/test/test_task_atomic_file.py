# SPDX-License-Identifier: Apache-2.0
"""A file is replaced whole or not at all."""

from __future__ import annotations

import os

import pytest

from q2rl_task.atomic_file import replacing, write_atomically


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
