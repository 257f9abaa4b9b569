# SPDX-License-Identifier: Apache-2.0
"""Which scaling of a Gymnasium task's observations a policy is fitted to: a `FixedGymTask` in a file beside it.

A start of the bench keeps it as `task.json`, `q2rl adopt` beside `bc.safetensors` as `bc.task.json`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from q2rl_lab.gym_task import FixedGymTask, GymTask
from q2rl_learner.methods import flat
from q2rl_task import InputError

SCALING = frozenset({'action_size', 'mean', 'scale'})
"""What demonstrations add to a task."""


def task_file(policy: Path) -> Path:
    """Return where the task of an adopted policy is kept."""
    return policy.with_suffix('.task.json')


def task_beside(policy: Path) -> Path | None:
    """Return the file of the task that lies beside a policy; None where there is none."""
    places = task_file(policy), policy.parent / 'task.json'
    return next((place for place in places if place.is_file()), None)


def name_in(path: Path) -> str:
    """Return the name of the task that a file holds.

    :raises InputError: it cannot be read, or holds no task of a Gymnasium environment
    """
    return _read(path).name


def read_fixed(path: Path, task: GymTask) -> FixedGymTask:
    """Read a task with its scaling, and see that it is `task`.

    :raises InputError: it cannot be read, or is of another task
    """
    found = _read(path)
    theirs, ours = flat(found.contract_fields), flat(task.contract_fields)
    names = (theirs.keys() | ours.keys()) - SCALING
    if differing := sorted(name for name in names if theirs.get(name) != ours.get(name)):
        said = ', '.join(f'`{name}`' for name in differing)
        problem = f'is not task {task.name} of the suite: it differs in {said}'
        raise InputError(path, problem, 'name the suite that it was made with')
    # Names of numbers are no part of what they mean, and a file of before has none.
    return found.model_copy(update={'observation': task.observation})


def _read(path: Path) -> FixedGymTask:
    try:
        return FixedGymTask.model_validate_json(path.read_bytes())
    except OSError as error:
        problem = f'cannot be read ({error.strerror})'
    except ValidationError as error:
        first = error.errors()[0]
        problem = f'is no task of a Gymnasium environment ({_place(first)}{first["msg"]})'
    remedy = 'give a task.json of bench/starts, or one that q2rl adopt wrote'
    raise InputError(path, problem, remedy)


def _place(error: Any) -> str:
    place = '.'.join(map(str, error['loc']))
    return f'`{place}`: ' if place else ''
