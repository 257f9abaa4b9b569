# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
import signal
import sqlite3
import struct
import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st
from learner_helpers import EMPTY, toy_task, transition
import numpy as np
import pytest

from q2rl_learner.ingest import Ingest
from q2rl_learner.transition_log import TransitionLog, decode, encode
from q2rl_task import InputError, Source, Transition

TASK = toy_task()
CONTRACT = TASK.contract_hash


def run(count: int, start: int = 1, **changes) -> list[Transition]:
    return [transition(TASK, start + i, step=start + i - 1, **changes) for i in range(count)]


def same(a: Transition, b: Transition) -> bool:
    """Whether all fields are equal, NaN to NaN."""
    for field in dataclasses.fields(Transition):
        x, y = getattr(a, field.name), getattr(b, field.name)
        equal = np.array_equal(x, y, equal_nan=True) if not isinstance(x, str | tuple) else x == y
        if not equal or type(x) is not type(y):
            return False
    return True


def test_every_field_comes_back(tmp_path):
    stored = transition(
        TASK, 1, interventions=('lead', 'force'), bc_action=EMPTY, q_rl=float('nan'), force=np.pi,
        rl_action=np.full(TASK.action_size, 0.5, dtype=np.float32), would_act=Source.RL,
    )  # fmt: skip
    assert same(decode(encode(stored)), stored)
    log = TransitionLog(tmp_path / 'log.db', CONTRACT)
    log.append([stored])
    (read,) = TransitionLog(tmp_path / 'log.db', read_only=True).replay()
    assert same(read, stored)


def test_a_row_from_before_the_proposals_of_rl_were_logged_is_read(tmp_path):
    body = encode(transition(TASK, 1))
    (size,) = struct.unpack_from('<I', body)
    header = json.loads(body[4 : 4 + size])
    assert header['lengths'].pop() == len(transition(TASK, 1).rl_action) == 0
    del header['would_act']
    text = json.dumps(header).encode()
    read = decode(struct.pack('<I', len(text)) + text + body[4 + size :])
    assert same(read, transition(TASK, 1)) and read.would_act is Source.HOLD


def test_what_a_person_did_comes_back_as_such_through_the_log_and_in_order(tmp_path):
    human = np.full(TASK.action_size, 0.5, dtype=np.float32)
    sent = [*run(2), *run(1, start=3, source=Source.HUMAN, action=human)]
    log = TransitionLog(tmp_path / 'log.db', CONTRACT)
    Ingest(log).store([sent[2], *sent[:2]])
    replayed = Ingest(TransitionLog(tmp_path / 'log.db', CONTRACT)).replay()
    assert [t.source for t in replayed] == [Source.BC, Source.BC, Source.HUMAN]
    assert (replayed[2].action == human).all() and len(replayed[2].bc_action) > 0


def test_repetitions_are_stored_once(tmp_path):
    log = TransitionLog(tmp_path / 'log.db', CONTRACT)
    first = run(5)
    assert [t.sequence for t in log.append(first)] == [1, 2, 3, 4, 5]
    assert [t.sequence for t in log.append(run(4, start=4))] == [6, 7]
    assert len(log) == 7 and [t.sequence for t in log.replay()] == [1, 2, 3, 4, 5, 6, 7]


@settings(max_examples=40)
@given(st.lists(st.lists(st.integers(1, 12), max_size=5), max_size=8))
def test_the_acknowledged_run_has_no_gap(batches):
    log = TransitionLog(':memory:', CONTRACT)
    seen: set[int] = set()
    for batch in batches:
        log.append([transition(TASK, sequence) for sequence in batch])
        seen |= set(batch)
        expected = next(n for n in range(14) if n + 1 not in seen)
        assert log.contiguous('arm') == expected
    # A process that opens the log anew finds the same.
    assert log._find_contiguous('arm') == log.contiguous('arm')


def test_robots_are_numbered_apart(tmp_path):
    log = TransitionLog(tmp_path / 'log.db', CONTRACT)
    log.append(run(3) + run(2, robot='other') + run(1, start=4, robot='other'))
    assert (log.contiguous('arm'), log.contiguous('other'), log.contiguous('none')) == (3, 2, 0)
    log.close()
    again = TransitionLog(tmp_path / 'log.db', CONTRACT)
    assert (again.contiguous('arm'), again.contiguous('other')) == (3, 2)
    assert set(again.robots) == {'arm', 'other'}


def test_the_ticks_of_an_episode_and_the_count(tmp_path):
    log = TransitionLog(tmp_path / 'log.db', CONTRACT)
    log.append(
        [transition(TASK, 2, 'b', 1), transition(TASK, 1, 'b', 0), transition(TASK, 3, 'a', 0)]
    )
    assert [(t.episode, t.step) for t in log.episode('b')] == [('b', 0), ('b', 1)]
    assert not log.episode('c')
    log.append([transition(TASK, 3, 'a', 0), transition(TASK, 4, 'a', 1)])
    assert len(log) == 4 == len(TransitionLog(tmp_path / 'log.db', read_only=True))


def test_what_was_never_counted_is_cut_off_and_may_come_again(tmp_path):
    log = TransitionLog(tmp_path / 'log.db', CONTRACT)
    log.append(run(6) + run(2, robot='other'))
    log.cut('arm', 4)
    assert (len(log), log.contiguous('arm'), log.contiguous('other')) == (6, 4, 2)
    assert [t.sequence for t in log.append(run(3, start=5))] == [5, 6, 7]
    log.cut('nobody', 0)
    again = TransitionLog(tmp_path / 'log.db', CONTRACT)
    assert (len(again), again.contiguous('arm'), again.robots) == (9, 7, ('arm', 'other'))


def test_a_log_of_another_contract_is_refused(tmp_path):
    TransitionLog(tmp_path / 'log.db', CONTRACT).close()
    with pytest.raises(InputError, match=f'of contract {CONTRACT}, not 0123'):
        TransitionLog(tmp_path / 'log.db', '0123')


@pytest.mark.parametrize('content', [b'', b'no database at all' * 100])
def test_a_file_that_is_no_log_is_refused(tmp_path, content):
    path = tmp_path / 'log.db'
    path.write_bytes(content)
    with pytest.raises(InputError, match=r'log\.db'):
        TransitionLog(path, read_only=True)


def test_reading_needs_a_log(tmp_path):
    with pytest.raises(InputError, match='no such'):
        TransitionLog(tmp_path / 'log.db', read_only=True)


@pytest.mark.parametrize('damage', ['zeroblob(40)', 'substr(body, 1, 60)', "x'ffffffff00'"])
def test_a_damaged_row_is_named_and_skipped(tmp_path, damage):
    path = tmp_path / 'log.db'
    TransitionLog(path, CONTRACT).append(run(6))
    with sqlite3.connect(path) as db:
        db.execute(f'UPDATE transitions SET body = {damage} WHERE sequence = 3')
    log = TransitionLog(path, CONTRACT)
    assert [t.sequence for t in log.replay()] == [1, 2, 4, 5, 6]
    (line,) = log.damaged
    assert 'transition 3 of arm' in line and '\n' not in line
    # It was acknowledged, so it stays so, and the learner does not wait for it.
    assert log.contiguous('arm') == 6
    assert [t.sequence for t in Ingest(log).replay()] == [1, 2, 4, 5, 6]


def test_a_moved_row_is_noticed(tmp_path):
    path = tmp_path / 'log.db'
    TransitionLog(path, CONTRACT).append(run(3))
    with sqlite3.connect(path) as db:
        db.execute("UPDATE transitions SET robot = 'other' WHERE sequence = 2")
    log = TransitionLog(path, CONTRACT)
    assert [t.sequence for t in log.replay()] == [1, 3] and len(log.damaged) == 1


def test_a_file_damaged_in_the_middle_is_refused(tmp_path):
    path = tmp_path / 'log.db'
    log = TransitionLog(path, CONTRACT)
    log.append(run(400))
    log.close()
    content = bytearray(path.read_bytes())
    for page in range(2, len(content) // 4096):
        content[page * 4096 : page * 4096 + 8] = b'\xff' * 8
    path.write_bytes(content)
    with pytest.raises(InputError, match='not a readable transition log'):
        list(TransitionLog(path, CONTRACT).replay())


def test_the_learner_gets_each_robots_transitions_in_sequence(tmp_path):
    log = TransitionLog(tmp_path / 'log.db', CONTRACT)
    ingest = Ingest(log)
    one, two, three, four = run(4)
    assert ingest.store([three, one]) == [one]
    assert ingest.acknowledged('arm') == 1
    assert ingest.store([three, four, one]) == []
    assert ingest.store([two]) == [two, three, four]
    assert ingest.acknowledged('arm') == 4
    log.close()
    again = Ingest(TransitionLog(tmp_path / 'log.db', CONTRACT))
    assert [t.sequence for t in again.replay()] == [1, 2, 3, 4]


WRITER = """
import sys
from learner_helpers import toy_task, transition
from q2rl_learner.transition_log import TransitionLog
task = toy_task()
log = TransitionLog(sys.argv[1], task.contract_hash)
sequence = log.contiguous('arm')
while True:
    log.append([transition(task, sequence + i, step=sequence + i) for i in range(1, 8)])
    sequence = log.contiguous('arm')
    print(sequence, flush=True)  # the acknowledgement
"""


@pytest.mark.parametrize('lives', [3])
def test_a_killed_writer_loses_nothing_acknowledged_and_repeats_nothing(tmp_path, lives):
    path = tmp_path / 'log.db'
    environment = {
        **os.environ,
        'PYTHONPATH': os.pathsep.join([str(Path(__file__).parent), *sys.path]),
    }
    acknowledged = 0
    for life in range(lives):
        with subprocess.Popen(
            [sys.executable, '-c', WRITER, str(path)],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        ) as writer:
            for _ in range(4 + 3 * life):
                acknowledged = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            for line in writer.stdout:
                if line.endswith('\n'):
                    acknowledged = int(line)
        log = TransitionLog(path, CONTRACT)
        sequences = [t.sequence for t in log.replay()]
        assert not log.damaged
        assert sequences == list(range(1, len(sequences) + 1))
        assert len(sequences) >= acknowledged > 0
        log.close()
