# SPDX-License-Identifier: Apache-2.0
import pickle

from q2rl_task import InputError


def test_an_input_error_comes_back_whole_from_another_process():
    error = pickle.loads(pickle.dumps(InputError('task.yaml: rate', 'is -1', 'say 10')))
    assert str(error) == 'task.yaml: rate: is -1; say 10'
    assert (error.where, error.problem, error.remedy) == ('task.yaml: rate', 'is -1', 'say 10')
