# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest

from q2rl_control.run_progress import RunProgress
from q2rl_control.run_store import Outbox, RunStore
from q2rl_task import InputError, Phase


def progress() -> RunProgress:
    return RunProgress('r', 1, Phase.ONLINE, detail='d', attempts=2)


def test_state_survives_and_a_fresh_directory_has_none(tmp_path):
    store = RunStore(tmp_path / 'a' / 'b')
    assert store.load() is None
    store.save(progress(), {'next_sequence': 7}, durable=True)
    assert RunStore(tmp_path / 'a' / 'b').load() == (progress(), {'next_sequence': 7})
    assert [p.name for p in store.directory.iterdir()] == ['run_state.json']


@pytest.mark.parametrize(
    'content', ['', '{', '[]', '{"format": 99, "progress": {}}', '{"format": 1, "progress": {}}']
)
def test_a_state_that_is_not_ours_is_refused_in_one_line(tmp_path, content):
    store = RunStore(tmp_path)
    (tmp_path / 'run_state.json').write_text(content)
    with pytest.raises(InputError, match=r'run_state\.json') as error:
        store.load()
    assert '\n' not in str(error.value)


def test_a_directory_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(InputError, match='cannot be made'):
        RunStore(tmp_path / 'file' / 'run')


def test_a_state_of_other_contents_is_no_state(tmp_path):
    progress = RunProgress('a', 1).to_dict()
    for damage in ({'counts': []}, {'counts': {'ONLINE': 3}}, {'events': 3}, {'watch': None}):
        text = json.dumps({'format': 1, 'extra': {}, 'progress': progress | damage})
        (tmp_path / 'run_state.json').write_text(text)
        with pytest.raises(InputError, match='cannot be resumed from'):
            RunStore(tmp_path).load()


def test_episode_records_beyond_the_saved_state_are_cut_off(tmp_path):
    store = RunStore(tmp_path)
    store.cut_episodes(0)
    for number in range(3):
        store.append_episode({'number': number, 'mean_q_bc': float('nan')})
    path = tmp_path / 'episodes.jsonl'
    with path.open('ab') as file:
        file.write(b'{"number": 3, "torn')
    store.cut_episodes(2)
    lines = path.read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {'number': 0, 'mean_q_bc': None},
        {'number': 1, 'mean_q_bc': None},
    ]
    store.append_episode({'number': 2})
    assert len(path.read_text().splitlines()) == 3


@pytest.mark.parametrize('cut', range(1, 30, 4))
def test_a_torn_outbox_loses_only_its_last_entry(tmp_path, cut):
    path = tmp_path / 'outbox.bin'
    outbox = Outbox(path)
    for number in (1, 2, 3):
        outbox.append(number, bytes([number]) * 20)
    outbox.close()
    path.write_bytes(path.read_bytes()[:-cut])
    again = Outbox(path)
    assert [n for n, _ in again.load()] == [1, 2]
    again.append(3, b'new')
    again.close()
    assert Outbox(path).load()[2] == (3, b'new')


def test_a_damaged_entry_and_what_follows_are_left_out(tmp_path):
    path = tmp_path / 'outbox.bin'
    outbox = Outbox(path)
    for number in (1, 2, 3):
        outbox.append(number, bytes(50))
    outbox.close()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert [n for n, _ in Outbox(path).load()] == [1]


def test_keep_replaces_everything(tmp_path):
    outbox = Outbox(tmp_path / 'outbox.bin')
    assert outbox.load() == []
    outbox.append(1, b'a')
    outbox.keep([(5, b'e'), (6, b'f')])
    outbox.append(7, b'g')
    assert Outbox(tmp_path / 'outbox.bin').load() == [(5, b'e'), (6, b'f'), (7, b'g')]
