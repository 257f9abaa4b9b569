# SPDX-License-Identifier: Apache-2.0
"""`q2rl export`: what a run has learned, as files to act by without a learner."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from q2rl_lab.commands.options import Json, RunsDir


def export(
    run: Annotated[
        str | None, typer.Argument(help='Name or path of a run.', show_default='the latest')
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option('--out', '-o', help='Folder to write.', show_default='RUN/policy'),
    ] = None,
    force: Annotated[
        bool, typer.Option('--force', help='Replace the files that are there.')
    ] = False,
    runs_dir: RunsDir = Path('runs'),
    as_json: Json = False,
) -> None:
    """Write what a run has learned into a folder, to act by without a learner.

    actor.safetensors, critic.safetensors, the settings that they were learned
    with, and the BC policy. The contract of the task is in each file: arms and
    tasks that it does not fit refuse it.

    \b
    q2rl export                          the latest run, into its folder policy/
    q2rl export seven -o policy/         of runs/seven
    ros2 launch q2rl_bringup pipe_assembly.launch.py weights:=policy
    """  # noqa: D301
    from q2rl_bringup.run_preparation import policy_in
    from q2rl_lab.console import emit, say
    from q2rl_lab.evaluation import restored
    from q2rl_lab.preparation import keep_policy
    from q2rl_lab.run_folder import open_run
    from q2rl_learner.learned_weights import holds_weights, write_weights
    from q2rl_task import InputError, load_task
    from q2rl_task.atomic_file import check_writable, refuse_existing, saying_why

    folder = open_run(runs_dir, run)
    config = folder.read_config()
    target = out or folder.path / 'policy'
    learner = restored(folder.learner / 'state.safetensors', load_task(config.task))
    policy, there = folder.policy, policy_in(target)
    if not policy.is_file():
        raise InputError(policy, 'is not there: the BC policy of the run', 'bring it back')
    if there.is_file() and there.samefile(policy):
        raise InputError(target, 'holds the BC policy that is to be copied', 'name another folder')
    if holds_weights(target) or there.is_file():
        refuse_existing(target, force)
    check_writable(target, folder=True)
    with saying_why(target):
        files = [*write_weights(target, learner), keep_policy(policy, target)]
    if files[-1].suffix == '.yaml':
        say(f'{files[-1]} names code, or a folder, that has to be there where it is used')
    emit(
        {
            'of': folder.id,
            'task': config.task,
            'weights_version': learner.weights_version,
            'trained_steps': learner.trained_steps,
            'folder': str(target),
            'files': [path.name for path in files] if as_json else ', '.join(p.name for p in files),
        },
        as_json,
    )
