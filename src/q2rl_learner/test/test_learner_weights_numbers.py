# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest

from q2rl_learner.weights_numbers import WeightsNumbers
from q2rl_task import InputError


def test_a_folder_keeps_its_learner_and_never_gives_a_number_twice(tmp_path):
    path = tmp_path / 'learner' / 'version.json'
    first = WeightsNumbers(path)
    assert first.version == 0
    first.sent(7)
    again = WeightsNumbers(path)
    assert (again.learner, again.version) == (first.learner, 7)
    assert WeightsNumbers(tmp_path / 'other').learner != first.learner


def test_a_file_from_before_learners_had_ids_keeps_its_number(tmp_path):
    path = tmp_path / 'version.json'
    path.write_text(json.dumps({'version': 5}))
    numbers = WeightsNumbers(path)
    assert numbers.version == 5 and numbers.learner
    numbers.sent(6)
    assert WeightsNumbers(path).learner == numbers.learner


@pytest.mark.parametrize('text', ['', '[]', '{}', '{"version": "x"}'])
def test_a_damaged_file_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / 'version.json'
    path.write_text(text)
    with pytest.raises(InputError, match=r'version\.json: is damaged'):
        WeightsNumbers(path)
