# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
import threading

import pytest

from q2rl_control import safety_latch
from q2rl_control.safety_latch import SafetyLatch, state_folder
from q2rl_task import InputError


def reread(latch: SafetyLatch, path: Path) -> SafetyLatch:
    """Return what the next process finds."""
    latch.settle()
    return SafetyLatch(path)


def test_a_stop_outlives_the_process_and_takes_two_acts_to_undo(tmp_path):
    path = tmp_path / 'robots' / 'stop-arm.json'
    latch = SafetyLatch(path)
    assert not latch.stopped and not latch.held and not path.exists()
    latch.stop('the button')
    latch.stop('again')
    again = reread(latch, path)
    assert again.stopped and again.held and again.reason == 'the button'
    assert not again.release() and reread(again, path).stopped
    again.reset()
    again.reset()
    third = reread(again, path)
    assert not third.stopped and third.held and 'the button' in third.reason
    assert third.release() and third.release()
    assert not reread(third, path).held and not path.exists()


def test_a_hold_outlives_the_process_and_a_stop_overrides_it(tmp_path):
    path = tmp_path / 'stop.json'
    first = SafetyLatch(path)
    first.hold('lunch')
    latch = reread(first, path)
    assert latch.held and not latch.stopped and latch.reason == 'lunch'
    latch.stop('smoke')
    latch.settle()
    assert json.loads(path.read_text())['reason'] == 'smoke'


def test_a_stop_does_not_wait_for_the_disk_and_the_last_word_is_what_is_kept(tmp_path, monkeypatch):
    path, disk, waited = tmp_path / 'stop.json', threading.Event(), []
    write = safety_latch.write_atomically

    def busy(*args, **kwargs) -> None:
        waited.append(disk.wait(10.0))
        write(*args, **kwargs)

    monkeypatch.setattr(safety_latch, 'write_atomically', busy)
    latch = SafetyLatch(path)
    latch.stop('the button')
    latch.reset()
    assert latch.held and not latch.stopped and not path.exists()
    disk.set()
    again = reread(latch, path)
    assert waited == [True, True]
    assert again.held and not again.stopped


@pytest.mark.parametrize(
    'record', ['', '{"stopped": fal', '[]', '{"stopped": 0, "held": 0, "reason": ""}', '\x00\xff']
)
def test_a_record_that_cannot_be_read_counts_as_a_stop(tmp_path, record):
    path = tmp_path / 'stop.json'
    path.write_text(record, encoding='latin-1')
    latch = SafetyLatch(path)
    assert latch.stopped and latch.held and str(path) in latch.reason
    latch.reset()
    assert latch.release() and not reread(latch, path).stopped


def test_a_stop_that_cannot_be_written_still_stops_and_says_so(tmp_path):
    folder = tmp_path / 'gone'
    latch = SafetyLatch(folder / 'stop.json')
    folder.rmdir()
    latch.stop('the button')
    assert latch.stopped
    latch.settle()
    assert 'cannot be written' in latch.problem
    folder.mkdir()
    latch.reset()
    assert reread(latch, folder / 'stop.json').held and latch.problem == ''


def test_a_folder_that_cannot_be_made_is_refused_before_it_is_needed(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(InputError, match='state_dir'):
        SafetyLatch(tmp_path / 'file' / 'stop.json')


def test_each_simulation_has_its_own_latch_and_a_real_robot_one_for_all_runs(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_STATE_HOME', str(tmp_path))
    assert str(state_folder('here', 'run', lockstep=True)) == 'here'
    assert str(state_folder('', 'run', lockstep=True)) == 'run'
    assert state_folder('', 'run', lockstep=False) == tmp_path / 'q2rl'
    monkeypatch.delenv('XDG_STATE_HOME')
    assert state_folder('', '', lockstep=True).parts[-3:] == ('.local', 'state', 'q2rl')
