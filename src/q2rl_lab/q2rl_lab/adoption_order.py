# SPDX-License-Identifier: Apache-2.0
"""What `q2rl adopt` was asked for: which task that is, and which command then improves the policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
import shlex

from q2rl_lab.bench_suites import BenchTask, bench_task, find_suite, pick_tasks
from q2rl_lab.console import say
from q2rl_lab.gym_scaling import name_in, read_fixed, task_beside
from q2rl_learner.config import without_method
from q2rl_task import Contract, InputError

Improving = Callable[[str], str]
"""From a method to the command that improves an adopted policy by it."""


@dataclass(frozen=True)
class Order:
    """What was asked for; see `q2rl adopt --help`."""

    policy: str
    spec: Path | None
    interpreter: Path | None
    suite: str | None
    task: str
    output: Path | None
    episodes: int
    distil: bool
    demonstrations: Path | None
    seed: int
    force: bool

    def check(self) -> None:
        """See that the options go together.

        :raises InputError: they do not
        """
        if self.episodes == 1:
            raise InputError('-n 1', 'is too few', 'give 2 or more, or 0: run none')
        if self.demonstrations is not None and not self.distil and self.episodes:
            remedy = 'add one of them, or leave this out'
            raise InputError('--demonstrations', 'goes with --distil or -n 0 only', remedy)
        if self.demonstrations is None and not self.episodes:
            remedy = 'name a file of demonstrations: --demonstrations FILE'
            raise InputError('-n 0', 'needs recorded observations to check the policy on', remedy)


def suite_of(order: Order) -> str | None:
    """Return the suite whose task it is; the task `tiny` is of its own, and has no other commands."""
    return order.suite or ('tiny' if order.task == 'tiny' else None)


def adopted_task(order: Order) -> BenchTask:
    """Return the task that a policy is adopted for; a Gymnasium one whole, with its scaling.

    That is read from the file which `--task` names or which lies beside the policy, else made of demonstrations.

    :raises InputError: no such suite or task, or it cannot be used as was asked
    """
    if order.suite is None:
        return _robot_task(order)
    suite = find_suite(order.suite)
    file = Path(order.task) if order.task.endswith('.json') else None
    (name,) = pick_tasks(suite, [name_in(file) if file else order.task])
    case = bench_task(name, suite.gym)
    if suite.gym is None:
        return case
    suite.gym.host.check()
    if file is None and Path(order.policy).is_file():
        file = task_beside(Path(order.policy))
    if file is not None:
        say(f'scaling of observations: {file}')
        return replace(case, spec=read_fixed(file, case.spec))
    say(f'demonstrations of seed {order.seed}, for the scaling of observations')
    whole, _ = case.record(case.spec, suite.demonstrations, order.seed)
    return replace(case, spec=whole)


def _robot_task(order: Order) -> BenchTask:
    case = bench_task(order.task)
    if order.episodes and not case.spec.scene:
        raise InputError(
            f'task {case.spec.name}',
            'has no scene that a policy could be measured in',
            'check it on recorded observations: -n 0 --demonstrations FILE',
        )
    return case


def improving(order: Order, task: Contract, output: Path) -> Improving:
    """Return what improves the policy that was written."""
    suite = suite_of(order)
    on_robot = suite is None and not task.scene
    policy, mixed = (
        shlex.quote(str(path.absolute() if on_robot else path)) if path else ''
        for path in (output, order.demonstrations)
    )

    def command(method: str) -> str:
        other = '' if method == 'q2rl' else method
        if suite is not None:
            words = [f'./q2rl bench learning --suite {shlex.quote(suite)} --tasks {task.name}']
            words += [
                f'--bc {policy}',
                mixed and f'--demonstrations {mixed}',
                f'--methods {method}',
            ]
        elif on_robot:
            words = ['ros2 launch q2rl_bringup pipe_assembly.launch.py sim:=none']
            words += [f'task:={shlex.quote(order.task)} bc_checkpoint:={policy}']
            words += [mixed and f'demos:={mixed}']
            words += [other and f'preset:={without_method(task.learning.preset)}+{other}']
            words += ['(and what your cell needs: docs/bring-your-own-robot.md)']
        else:
            words = [f'./q2rl up {shlex.quote(order.task)} --bc {policy}']
            words += [mixed and f'--demonstrations {mixed}', other and f'--method {other}']
        return ' '.join(filter(None, words))

    return command
