# SPDX-License-Identifier: Apache-2.0
"""What is compared, and on which budget: the suites of `q2rl bench learning` and the tasks in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
import hashlib
import json
from typing import TYPE_CHECKING, Any

from q2rl_learner.methods import variant_names
from q2rl_task import InputError, TaskSpec, load_task

if TYPE_CHECKING:  # what it imports is slow, and a worker refuses bad input before
    from q2rl_lab.cell import MakeCell


@dataclass(frozen=True)
class BenchTask:
    """A task that can be compared on. `record(task, count, seed)` returns demonstrations of its novice."""

    spec: TaskSpec
    make_cell: MakeCell
    record: Callable[[TaskSpec, int, int], Sequence[Any]]


@dataclass(frozen=True)
class Suite:
    """Tasks and the budget that every method gets on each.

    rollouts: BC-only episodes before. online_steps: environment steps of learning. evaluate_every: online steps between
    two evaluations on `probe_episodes` scenes; the last is on `evaluation_episodes`, of which those are the first.
    window: episodes that the shares of the learning-speed numbers are taken over. methods: what is compared if nothing
    else is asked for.
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
    window: int
    methods: tuple[str, ...] = ('q2rl', 'ibrl', 'rlpd', 'bc')

    def budget(self) -> dict[str, Any]:
        """Return what a run's result depends on beside method and seed."""
        return {k: v for k, v in asdict(self).items() if k not in ('name', 'tasks', 'methods')}


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
    window=50,
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
        window=20,
    ),
    'pipe': PIPE,
    # The budget of `pipe`, and runs of `q2rl` are the same in both.
    'ablation': replace(PIPE, name='ablation', methods=('q2rl', *variant_names())),
}


def bench_task(name: str) -> BenchTask:
    """Return a task by its name."""
    if name == 'tiny':
        from q2rl_lab.tiny_task import TinyCell, tiny_demonstrations, tiny_task

        return BenchTask(tiny_task(), TinyCell, tiny_demonstrations)
    spec = load_task(name)
    from q2rl_lab.cell import Cell
    from q2rl_sim.demonstrations import record_demonstrations

    def record(task: TaskSpec, count: int, seed: int) -> Sequence[Any]:
        return record_demonstrations(task, count, seed, task.demonstrations.noise)

    return BenchTask(spec, Cell, record)


def find_suite(name: str) -> Suite:
    """Return a suite by its name.

    :raises InputError: there is none of that name
    """
    if name not in SUITES:
        raise InputError(f'suite {name}', 'is unknown', f'name one of {", ".join(SUITES)}')
    return SUITES[name]


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
