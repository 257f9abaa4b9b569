# SPDX-License-Identifier: Apache-2.0
"""`q2rl learn`: the same run as `q2rl up`, in one process and without ROS."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from q2rl_lab.commands.options import (
    Bc,
    Demonstrations,
    Device,
    Goal,
    Json,
    Method,
    Rollouts,
    RunsDir,
    Seed,
    Steps,
    TaskPreset,
)

if TYPE_CHECKING:
    from q2rl_lab.run_folder import RunFolder


def learn(
    task: Annotated[
        str, typer.Argument(help='Task: the name of a shipped one, or the path of a task YAML.')
    ],
    seed: Seed = 0,
    preset: TaskPreset = None,
    method: Method = None,
    device: Device = None,
    steps: Steps = None,
    rollouts: Rollouts = None,
    goal: Goal = None,
    eval_episodes: Annotated[
        int, typer.Option(min=0, help='Fresh scenes at the end, each run by BC, gated and RL.')
    ] = 100,
    demonstrations: Demonstrations = None,
    bc: Bc = None,
    name: Annotated[
        str | None, typer.Option('--run', help='Name of the run.', show_default='the time')
    ] = None,
    runs_dir: RunsDir = Path('runs'),
    as_json: Json = False,
) -> None:
    """Learn a task in one process, without ROS: for experiments and many seeds.

    Phases, scenes, guard, gate and updates are those of up, and so are the files
    in runs/NAME. It waits for every gradient step, so one core is enough.

    \b
    q2rl learn pipe_assembly --seed 3
    q2rl learn pipe_assembly --method ibrl
    for s in 0 1 2 3 4; do q2rl learn pipe_assembly --seed $s --run s$s; done
    """  # noqa: D301
    import time

    started = time.monotonic()
    from q2rl_lab.console import EXIT_FAILED, EXIT_INTERRUPTED, emit, say
    from q2rl_lab.finish import finish_run
    from q2rl_lab.preparation import check_adopted, prepare, tell, wanted_demonstrations
    from q2rl_lab.result import short_result
    from q2rl_lab.run_folder import RunConfig, create_run, latest_run
    from q2rl_lab.task_check import check_simulated
    from q2rl_lab.workspace import versions
    from q2rl_learner.config import load_preset
    from q2rl_policies.torch_runtime import find_device
    from q2rl_task import Phase, load_task

    spec = load_task(task)
    config = RunConfig.of_task(
        spec, method, task=task, seed=seed, preset=preset, device=device,
        demonstrations=wanted_demonstrations(demonstrations, spec), steps=steps, rollouts=rollouts,
        goal=goal, eval_episodes=eval_episodes, in_process=True, bc=str(bc.absolute()) if bc else None,
    )  # fmt: skip
    load_preset(config.preset)
    find_device(config.device)
    if bc is not None:
        check_adopted(bc, spec, config.preset)
    check_simulated(task, spec)
    folder = create_run(runs_dir, name, config, versions())
    with folder.lock():
        say(f'run {folder.id} in {folder.path}')
        try:
            with latest_run(folder):
                tell(prepare(folder, config))
                from q2rl_lab.learn_run import learn_in_process

                plan = learn_in_process(folder, config, say)
        except KeyboardInterrupt:
            say(kept_of(folder))
            raise typer.Exit(EXIT_INTERRUPTED) from None
        if plan.phase is not Phase.FINISHED:
            say(f'the run stopped: {plan.detail}')
            raise typer.Exit(EXIT_FAILED)
        result = finish_run(folder, started)
    if as_json:
        emit(result, True)
    else:
        emit({**short_result(result), 'report': folder.report, 'numbers': folder.result}, False)


def kept_of(folder: RunFolder) -> str:
    """Tell what an interrupted run leaves, and what one can do with it: there is no going on with it."""
    again = 'a new `q2rl learn` starts anew'
    if folder.learned:
        return f'stopped; what it learned is kept: q2rl eval {folder.path}, q2rl report {folder.path}; {again}'
    if folder.bc.is_file():
        return (
            f'stopped before anything was learned; demonstrations and clone are kept: {again}, with '
            f'--demonstrations {folder.demonstrations} --bc {folder.bc} from these'
        )
    if folder.demonstrations.is_file():
        return f'stopped; demonstrations are kept: {again}, with --demonstrations {folder.demonstrations}'
    return f'stopped before anything was kept; {again}'
