# SPDX-License-Identifier: Apache-2.0
"""`q2rl learn`: the same run as `q2rl up`, in one process and without ROS."""

from __future__ import annotations

from pathlib import Path
import shlex

import typer

from q2rl_lab.commands.options import (
    Bc,
    Demonstrations,
    Device,
    DropBC,
    EvalEpisodes,
    Goal,
    Json,
    Method,
    Resume,
    Rollouts,
    RunName,
    RunsDir,
    RunSeed,
    RunTask,
    Steps,
    TaskPreset,
)


def learn(
    task: RunTask = None,
    seed: RunSeed = None,
    preset: TaskPreset = None,
    method: Method = None,
    device: Device = None,
    steps: Steps = None,
    rollouts: Rollouts = None,
    goal: Goal = None,
    drop_bc: DropBC = False,
    eval_episodes: EvalEpisodes = None,
    demonstrations: Demonstrations = None,
    bc: Bc = None,
    name: RunName = None,
    resume: Resume = False,
    runs_dir: RunsDir = Path('runs'),
    as_json: Json = False,
) -> None:
    """Learn a task in one process, without ROS: for experiments and many seeds.

    Phases, scenes, guard, gate and updates are those of up, and so are the files
    in runs/NAME. It waits for every gradient step, so one core is enough.

    Ctrl-C stops at once; --resume goes on from the last whole episode, also after
    a crash or a power cut.

    \b
    q2rl learn pipe_assembly --seed 3
    q2rl learn pipe_assembly --method ibrl
    q2rl learn --resume                          go on with the latest run
    q2rl learn --resume --steps 40000            not good enough: learn on
    for s in 0 1 2 3 4; do q2rl learn pipe_assembly --seed $s --run s$s; done
    """  # noqa: D301
    import time

    started = time.monotonic()
    from q2rl_lab.begin_run import begin_run
    from q2rl_lab.console import EXIT_FAILED, EXIT_INTERRUPTED, say
    from q2rl_lab.finish import finish_run, shown_again, tell_result
    from q2rl_lab.preparation import prepare, tell
    from q2rl_lab.run_folder import latest_run, resume_line
    from q2rl_lab.task_check import check_simulated
    from q2rl_lab.up_run import keep_wall_time, read_session
    from q2rl_task import Phase
    from q2rl_task.errors import GivenUp

    asked = {
        'task': task,
        'seed': seed,
        'preset': preset,
        'device': device,
        'demonstrations': demonstrations,
        'steps': steps,
        'rollouts': rollouts,
        'goal': goal,
        'drop_bc': drop_bc or None,
        'eval_episodes': eval_episodes,
        'bc': bc,
    }
    folder, config, _ = begin_run(
        'learn',
        asked,
        method,
        name,
        resume,
        runs_dir,
        lambda c, spec: check_simulated(c.task, spec),
    )
    how = resume_line('learn', folder, runs_dir)
    with folder.lock():
        started -= read_session(folder).get('wall_s', 0.0)
        if shown_again(folder, config, how, as_json):
            return
        say(f'run {folder.id} in {folder.path}')
        try:
            with latest_run(folder):
                folder.keep_length(config)
                tell(prepare(folder, config))
                from q2rl_lab.learn_run import learn_in_process

                plan = learn_in_process(folder, config, say)
            problem = None if plan.phase is Phase.FINISHED else plan.detail
        except GivenUp as error:
            problem = str(error)
        except KeyboardInterrupt:
            keep_wall_time(folder, started)
            say(f'stopped; go on with: {how}')
            if folder.learned:
                path = shlex.quote(str(folder.path))
                say(f'what it learned so far: ./q2rl eval {path}, ./q2rl report {path}')
            raise typer.Exit(EXIT_INTERRUPTED) from None
        if problem is not None:
            keep_wall_time(folder, started)
            say(f'the run stopped: {problem}')
            say(f'go on with: {how}')
            raise typer.Exit(EXIT_FAILED)
        result = finish_run(folder, started)
    tell_result(folder, result, as_json)
