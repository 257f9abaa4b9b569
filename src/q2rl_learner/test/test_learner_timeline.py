# SPDX-License-Identifier: Apache-2.0
"""The file that tells how learning went over time."""

from __future__ import annotations

import json

import pytest

from q2rl_learner.timeline import Timeline
from q2rl_task import InputError


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_one_line_in_two_seconds_and_one_at_each_change_of_state(tmp_path):
    path = tmp_path / 'timeline.jsonl'
    timeline = Timeline(path, 100.0)
    for tenth in range(50):
        state = 3 if tenth >= 25 else 2
        timeline.tell(100.0 + 0.1 * tenth, {'state': state, 'value_error': float('nan')})
    found = lines(path)
    assert [round(entry['t'], 1) for entry in found] == [0.0, 2.0, 2.5, 4.5]
    assert [entry['state'] for entry in found] == [2, 2, 3, 3]
    assert all(entry['value_error'] is None for entry in found)


def test_a_later_process_goes_on_where_the_last_whole_line_ended(tmp_path):
    path = tmp_path / 'timeline.jsonl'
    Timeline(path, 0.0).tell(7.0, {'state': 3})
    with path.open('a') as file:
        file.write('{"t": 9')
    Timeline(path, 1000.0).tell(1001.0, {'state': 3})
    assert lines_that_are_whole(path) == [7.0, 8.0]


def test_a_full_disk_is_told_in_one_line(tmp_path):
    path = tmp_path / 'timeline.jsonl'
    path.symlink_to('/dev/full')
    with pytest.raises(InputError, match=r'timeline\.jsonl: cannot be written \(No space left'):
        Timeline(path, 0.0).tell(0.0, {'state': 3})


def lines_that_are_whole(path):
    found = []
    for line in path.read_text().splitlines():
        try:
            found.append(json.loads(line)['t'])
        except ValueError:
            continue
    return found
