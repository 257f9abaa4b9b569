# SPDX-License-Identifier: Apache-2.0
"""`q2rl task`: check a task, and show what depends on it."""

from __future__ import annotations

from typing import Annotated

import typer

from q2rl_lab.commands.options import TASK_HELP, Json


def task(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar='TASK',
            help=TASK_HELP,
            show_default='list the shipped ones',
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a task: its YAML, its scene, and whether the simulated arm reaches it.

    A mistake is reported in one line that names the field. Otherwise this shows
    sizes, and the contract: the hash by which demonstrations, policies and
    transitions know the task.

    \b
    q2rl task                what is shipped
    q2rl task my_task.yaml
    """  # noqa: D301
    from q2rl_lab.console import emit
    from q2rl_lab.task_check import check_simulated
    from q2rl_task import load_task
    from q2rl_task.settings_file import shipped_names

    if source is None:
        shipped = {
            name: load_task(name).description for name in shipped_names('q2rl_task', 'tasks')
        }
        if as_json:
            emit(shipped, True)
        else:
            print('\n'.join(f'{name:<22}{said}' for name, said in shipped.items()))
        return
    spec = load_task(source)
    if spec.scene:
        check_simulated(source, spec)
    result = {
        'task': spec.name,
        'contract': spec.contract_hash,
        'observation': spec.observation_size,
        'action': spec.action_size,
        'rate_hz': spec.rate_hz,
        'max_steps': spec.max_steps,
        'base_frame': spec.frames.base,
        'scene': spec.scene or None,
    }
    if not as_json:
        result['observation'] = f'{spec.observation_size} numbers'
        result['action'] = f'{spec.action_size} numbers'
        result['rate_hz'] = f'{spec.rate_hz:g}'
        result['max_steps'] = f'{spec.max_steps} ({spec.max_steps * spec.period_s:.1f} s)'
    emit(result, as_json)
