# SPDX-License-Identifier: Apache-2.0
"""`q2rl up`: the whole run, from demonstrations to the report, on the ROS 2 nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

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


def up(
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
    realtime: Annotated[
        bool, typer.Option('--realtime', help="Tick by the wall clock, at the robot's own pace.")
    ] = False,
    planner: Annotated[
        Literal['straight', 'ompl', 'moveit'] | None,
        typer.Option(
            '--planner',
            help='How the way to a start pose is found: a line, or round obstacles.',
            show_default='straight',
        ),
    ] = None,
    shadow: Annotated[
        bool,
        typer.Option(
            '--shadow', help='BC acts throughout; RL learns beside it and is only scored.'
        ),
    ] = False,
    sim: Annotated[
        str | None,
        typer.Option(
            '--sim',
            help='mujoco, or mock or gazebo where a ROS 2 with these is sourced (in real time).',
            show_default='mujoco',
        ),
    ] = None,
    robot_type: Annotated[
        str | None,
        typer.Option(
            '--robot-type', help='Arm of mock and gazebo: panda, fr3 or ur5e.', show_default='panda'
        ),
    ] = None,
    command_sink: Annotated[
        str | None,
        typer.Option(
            '--command-sink',
            help='How the arm is commanded: auto, pose_target, joint_position or servo_twist.',
            show_default='auto',
        ),
    ] = None,
    name: RunName = None,
    resume: Resume = False,
    runs_dir: RunsDir = Path('runs'),
    browser: Annotated[
        bool, typer.Option('--browser', help='Serve a page to watch and stop the arm on.')
    ] = False,
    browser_port: Annotated[
        int, typer.Option('--browser-port', min=1, max=65535, help='TCP port of that page.')
    ] = 8080,
    domain: Annotated[
        int | None,
        typer.Option('--domain', min=0, max=232, help='ROS_DOMAIN_ID.', show_default='a free one'),
    ] = None,
    as_json: Json = False,
) -> None:
    """Bring a task up: record, clone, start the nodes, learn, evaluate, report.

    Records a few noisy demonstrations, clones them, then runs the ROS 2 nodes
    (arm, policies, gate, learner) on a simulated arm: BC rollouts, Q-Estimation,
    gated learning, and at the end fresh scenes for BC, gated and RL.

    Everything is kept in runs/NAME: report.html, result.json, episodes,
    transitions, weights, one log per node. Ctrl-C stops after the step under
    way; --resume goes on from there, also after a crash or a power cut.

    \b
    q2rl up pipe_assembly                        a quarter of an hour on two cores
    q2rl up pipe_assembly --seed 7 --run seven   another seed, in runs/seven
    q2rl up --resume                             go on with the latest run
    q2rl up --resume --steps 40000               not good enough: learn on
    q2rl up pipe_assembly --browser              and a page with a stop button
    q2rl up pipe_assembly --shadow --run dark    then: q2rl shadow dark
    q2rl up pipe_assembly --json > result.json   only the result in the file
    """  # noqa: D301
    import time

    started = time.monotonic()
    from q2rl_lab.begin_run import begin_run
    from q2rl_lab.console import EXIT_FAILED, EXIT_INTERRUPTED, say
    from q2rl_lab.display import open_display
    from q2rl_lab.finish import finish_run, shown_again, tell_result
    from q2rl_lab.preparation import prepare, tell
    from q2rl_lab.ros_environment import require_free_port
    from q2rl_lab.run_folder import latest_run, resume_line
    from q2rl_lab.start_check import check_start
    from q2rl_lab.up_run import End, keep_wall_time, node_processes, read_session, run_graph

    if browser:
        require_free_port('--browser-port', browser_port)
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
        'realtime': realtime or sim not in (None, 'mujoco') or None,
        'bc': bc,
        'planner': planner,
        'shadow': shadow or None,
        'sim': sim,
        'robot_type': robot_type,
        'command_sink': command_sink,
    }
    folder, config, spec = begin_run('up', asked, method, name, resume, runs_dir, check_start)
    with folder.lock():
        started -= read_session(folder).get('wall_s', 0.0)
        how = resume_line('up', folder, runs_dir)
        if shown_again(folder, config, how, as_json):
            return
        try:
            say(f'run {folder.id} in {folder.path}')
            with latest_run(folder):
                folder.keep_length(config)
                tell(prepare(folder, config))
                specs = node_processes(folder, config, resume, browser_port if browser else None)
                if browser:
                    say(f'watch and stop the arm at http://127.0.0.1:{browser_port}')
                display = open_display(f'q2rl up {config.task}, run {folder.id}')
                ending = run_graph(folder, config, spec, specs, display, started, domain)
            keep_wall_time(folder, started)
            if ending.end is not End.FINISHED:
                say(ending.text or 'stopped')
                say(f'{"mend that first, then " if ending.lasting else ""}go on with: {how}')
                code = EXIT_INTERRUPTED if ending.end is End.INTERRUPTED else EXIT_FAILED
                raise typer.Exit(code)
            result = finish_run(folder, started)
        except KeyboardInterrupt:
            say(f'stopped; go on with: {how}')
            raise typer.Exit(EXIT_INTERRUPTED) from None
    tell_result(folder, result, as_json)
