# SPDX-License-Identifier: Apache-2.0
"""What is compared, and on which budget: the suites of `q2rl bench learning` and the tasks in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from q2rl_lab.gym_scaling import read_fixed, task_beside, task_file
from q2rl_lab.gym_task import FixedGymTask, GymHost, GymTask
from q2rl_lab.suite_file import read_suite, shipped_suites
from q2rl_learner.methods import variant_names
from q2rl_task import Contract, InputError, TaskSpec, load_task
from q2rl_task.file_hash import sha256_of

if TYPE_CHECKING:  # what it imports is slow, and a worker refuses bad input before
    from q2rl_lab.cell import MakeCell


@dataclass(frozen=True)
class BenchTask:
    """A task that can be compared on.

    `record(spec, count, seed)` returns the task that is learned, and demonstrations of its novice: the task of a
    Gymnasium environment is whole only with what they fix. `restore` reads that task from its JSON. recordings: the
    file that demonstrations are taken from, if they are.
    """

    spec: TaskSpec | GymTask
    make_cell: MakeCell
    record: Callable[[Any, int, int], tuple[Contract, Sequence[Any]]]
    restore: Callable[[str], Contract] = TaskSpec.model_validate_json
    recordings: Path | None = None

    def content(self) -> dict[str, Any]:
        """Return all that makes the task what it is, of which its contract is a part only."""
        file = self.recordings
        recordings = sha256_of(file) if file is not None and file.is_file() else ''
        return {'task': self.spec.model_dump(mode='json'), 'recordings': recordings}

    def of_policy(self, policy: Path) -> Contract:
        """Return the task that an adopted policy is of: a Gymnasium one with the scaling that lies beside the policy.

        :raises InputError: none lies there, or it is of another task
        """
        if isinstance(self.spec, TaskSpec):
            return self.spec
        if (file := task_beside(policy)) is None:
            problem = (
                f'has no {task_file(policy).name} beside it, which says how observations are scaled'
            )
            raise InputError(policy, problem, 'adopt it for the suite (q2rl adopt --suite)')
        return read_fixed(file, self.spec)

    @property
    def force_soften_n(self) -> float | None:
        """The contact force above which an episode counts as a peak [N]; None where none is measured."""
        return self.spec.limits.force_soften_n if isinstance(self.spec, TaskSpec) else None


@dataclass(frozen=True)
class GymSuite:
    """The Gymnasium tasks of a suite, and where they run."""

    host: GymHost
    tasks: tuple[GymTask, ...]

    def bench_task(self, name: str) -> BenchTask:
        """Return a task by its name."""
        from q2rl_lab.gym_cell import GymCell
        from q2rl_lab.gym_demonstrations import record_gym_demonstrations

        (task,) = (task for task in self.tasks if task.name == name)
        return BenchTask(
            task,
            partial(GymCell, self.host),
            partial(record_gym_demonstrations, self.host),
            FixedGymTask.model_validate_json,
            self.host.folder / task.demonstrations.file if task.demonstrations.file else None,
        )


@dataclass(frozen=True)
class Suite:
    """Tasks and the budget that every method gets on each.

    rollouts: BC-only episodes before. online_steps: environment steps of learning. evaluate_every: online steps between
    two evaluations on `probe_episodes` scenes; the last is on `evaluation_episodes`, of which those are the first.
    methods: what is compared if nothing else is asked for. gym: where the tasks are Gymnasium environments, those; each
    then says how many demonstrations it gets, and `demonstrations` is 0.
    """

    name: str
    tasks: tuple[str, ...]
    preset: str
    demonstrations: int
    rollouts: int
    online_steps: int
    evaluate_every: int
    probe_episodes: int
    evaluation_episodes: int
    methods: tuple[str, ...] = ('q2rl', 'ibrl', 'rlpd', 'bc')
    gym: GymSuite | None = None

    def budget(self) -> dict[str, Any]:
        """Return what a run's result depends on beside method and seed."""
        left_out = 'name', 'tasks', 'methods', 'gym'
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in left_out}


PIPE = Suite(
    'pipe',
    ('pipe_assembly',),
    'laptop',
    demonstrations=40,
    rollouts=20,
    online_steps=8000,
    evaluate_every=2000,
    probe_episodes=30,
    evaluation_episodes=100,
)
SUITES = {
    'tiny': Suite(
        'tiny',
        ('tiny',),
        'tiny',
        demonstrations=40,
        rollouts=20,
        online_steps=1500,
        evaluate_every=500,
        probe_episodes=20,
        evaluation_episodes=60,
    ),
    'pipe': PIPE,
    'tight': replace(PIPE, name='tight', tasks=('pipe_assembly_tight',), demonstrations=60),
    'kitting': replace(
        PIPE,
        name='kitting',
        tasks=('kitting',),
        preset='laptop-long',
        demonstrations=70,
        rollouts=30,
        evaluate_every=4000,
        probe_episodes=20,
    ),
    # The budget of `pipe`, and runs of `q2rl` are the same in both.
    'ablation': replace(PIPE, name='ablation', methods=('q2rl', *variant_names('q2rl'))),
}


def bench_task(name: str, gym: GymSuite | None = None) -> BenchTask:
    """Return a task by its name.

    :param gym: where Gymnasium tasks are looked up, which is everywhere then
    """
    if gym is not None:
        return gym.bench_task(name)
    if name == 'tiny':
        from q2rl_lab.tiny_task import TinyCell, tiny_demonstrations, tiny_task

        def act(task: TaskSpec, count: int, seed: int) -> tuple[TaskSpec, Sequence[Any]]:
            return task, tiny_demonstrations(task, count, seed)

        return BenchTask(tiny_task(), TinyCell, act)
    spec = load_task(name)
    from q2rl_lab.cell import Cell
    from q2rl_sim.demonstrations import record_demonstrations

    def record(task: TaskSpec, count: int, seed: int) -> tuple[TaskSpec, Sequence[Any]]:
        return task, record_demonstrations(task, count, seed, task.demonstrations.noise)

    return BenchTask(spec, Cell, record)


def find_suite(name: str) -> Suite:
    """Return a suite by its name, or by the path of its YAML file.

    :raises InputError: there is none of that name, or its file is of no use
    """
    if name in SUITES:
        return SUITES[name]
    if name not in shipped_suites() and not Path(name).is_file():
        known = ', '.join([*SUITES, *shipped_suites()])
        raise InputError(f'suite {name}', 'is unknown', f'name one of {known}, or a suite YAML')
    file, host = read_suite(name)
    return Suite(
        name=host.suite,
        tasks=tuple(task.name for task in file.tasks),
        demonstrations=0,
        gym=GymSuite(host, file.tasks),
        **file.model_dump(exclude={'description', 'python', 'tasks'}),
    )


def pick_tasks(suite: Suite, names: Sequence[str]) -> tuple[str, ...]:
    """Return those of the suite's tasks, each once and in the order given.

    :raises InputError: one of them is not in the suite
    """
    picked = tuple(dict.fromkeys(name.strip() for name in names))
    for name in picked:
        if name not in suite.tasks:
            known = ', '.join(suite.tasks)
            raise InputError(f'--tasks {name}', f'is not in suite {suite.name}', f'it has {known}')
    return picked


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds of a list like '0-4' or '0,2,7-9', each once and in order.

    :raises InputError: it is no such list
    """
    seeds: list[int] = []
    try:
        for part in text.split(','):
            first, dash, last = part.strip().partition('-')
            seeds += range(int(first), int(last if dash else first) + 1)
    except ValueError:
        seeds = []
    if not seeds:
        raise InputError(f'--seeds {text}', 'is no list of seeds', 'give a list like 0-4 or 0,2,7')
    return tuple(dict.fromkeys(seeds))


def fingerprint(content: dict[str, Any]) -> str:
    """Return 12 hex digits that tell one set of settings from another."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
