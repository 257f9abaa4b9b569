# SPDX-License-Identifier: Apache-2.0
"""`q2rl bench`: compare methods, resumably and side by side, and report how sure one may be."""

from __future__ import annotations

from collections.abc import Sequence
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from q2rl_lab.commands.options import PRESET_HELP, Device, Json

if TYPE_CHECKING:
    from q2rl_lab.bench_run import Given, Job
    from q2rl_lab.bench_suites import Suite

bench = typer.Typer(
    no_args_is_help=True,
    help=(
        'Compare methods on one budget; report what they reached and how often they failed.\n\n'
        '\b\n'
        'q2rl bench learning --suite tiny --methods q2rl,ibrl --seeds 0-4\n'
        'q2rl bench report bench/tiny.jsonl\n'
        'q2rl bench drift --disturbance weights\n'
        'q2rl bench stop --trials 200\n'
        'q2rl bench updates --devices cpu,cuda'
    ),
)


@bench.command()
def learning(
    suite: Annotated[
        str,
        typer.Option(
            help='Tasks and budget: tiny, pipe, kitting, tight, ablation, adroit, metaworld, '
            'metaworld_better_clones, robosuite, or the path of a suite YAML.'
        ),
    ] = 'tiny',
    tasks: Annotated[
        str | None,
        typer.Option(
            help='Tasks of the suite to run, several with commas between.', show_default='all'
        ),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            help='Methods, see `q2rl methods`; the first ones start first.',
            show_default="the suite's",
        ),
    ] = None,
    preset: Annotated[
        str | None, typer.Option('--preset', help=PRESET_HELP, show_default="the suite's")
    ] = None,
    seeds: Annotated[str, typer.Option(help='Seeds, like 0-4 or 0,2,7.')] = '0-4',
    out: Annotated[
        Path | None,
        typer.Option(help='Results.', show_default='bench/SUITE[-PRESET][-POLICY].jsonl'),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help='Online steps per run.', show_default="the suite's")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help='Runs side by side.', show_default='one per core')
    ] = None,
    bc: Annotated[
        Path | None,
        typer.Option(
            '--bc',
            help='A policy that `q2rl adopt` or `train-bc` wrote, for every seed, of one task.',
            show_default='a clone per seed',
        ),
    ] = None,
    demonstrations: Annotated[
        str | None,
        typer.Option(
            '--demonstrations',
            help='With --bc: a file of them (HDF5), or none: learn without.',
            metavar='FILE|none',
            show_default='recorded per seed',
        ),
    ] = None,
    device: Device = None,
    address: Annotated[
        str | None,
        typer.Option(
            help='Run on this Ray cluster, or on Ray here (`pip install ray` first).',
            metavar='HOST:PORT|local',
            show_default='without Ray',
        ),
    ] = None,
    explain: Annotated[
        bool, typer.Option('--explain', help='Only show what the methods set differently.')
    ] = False,
    as_json: Json = False,
) -> None:
    """Let methods learn, on the same clones (or --bc), demonstrations, rollouts, budget.

    Every evaluation is a line in the results file. A run that is in it to its end
    is not run again; one that was cut off starts over: after an interrupt, give
    the same command again.

    \b
    q2rl bench learning --suite tiny --methods q2rl,rlpd --seeds 0-2
    q2rl bench learning --suite pipe --methods q2rl,q2rl-legacy --explain
    q2rl bench learning --suite ablation --methods q2rl,q2rl/no-gate
    q2rl bench learning --suite metaworld --tasks peg_insert_side --seeds 0-2
    q2rl bench learning --suite pipe --bc bc.safetensors --methods q2rl,ibrl
    """  # noqa: D301
    import shlex

    from q2rl_lab.bench_suites import parse_seeds
    from q2rl_lab.commands.methods import explain_methods
    from q2rl_lab.console import EXIT_FAILED, EXIT_INTERRUPTED, say
    from q2rl_task import InputError

    chosen = _chosen(suite, steps, preset, tasks)
    if bc is None and demonstrations is not None:
        raise InputError('--demonstrations', 'goes with --bc only', 'add it, or leave this out')
    if bc is not None and len(chosen.tasks) > 1:
        known = ', '.join(chosen.tasks)
        raise InputError('--bc', 'is for one task only', f'name that task: --tasks, one of {known}')
    names = _names(methods) if methods is not None else list(chosen.methods)
    if explain:
        explain_methods(names, chosen.preset, as_json)
        return
    from q2rl_lab.bench_pool import LOCAL, run_here, run_on_ray
    from q2rl_lab.bench_run import Job
    from q2rl_policies.torch_runtime import find_device
    from q2rl_task.atomic_file import check_writable

    if jobs is not None and address not in (None, LOCAL):
        raise InputError('--jobs', 'a Ray cluster runs as many as it has cores', 'leave it out')
    if device is not None:
        find_device(device)
    if chosen.gym is not None:
        chosen.gym.host.check()
    given = _given(bc, demonstrations, chosen, names)
    named = '-'.join([chosen.name, *(Path(part).stem for part in (preset, bc) if part is not None)])
    out = (out or Path('bench') / f'{named}.jsonl').absolute()
    check_writable(out)
    folder = out.parent / 'starts'
    # Seeds go round fastest: runs that start together then do not wait for one another's start.
    planned = [
        Job(chosen, task, method, seed, folder, device or 'cpu', given)
        for task in chosen.tasks
        for method in names
        for seed in parse_seeds(seeds)
    ]
    left = _left(planned, out)
    say(f'{len(left)} of {len(planned)} runs to do, results in {out}')
    failed: list[str] = []

    def told(job: Job, problem: str) -> None:
        if problem:
            failed.append(job.name)
        say(f'{job.name}: {problem or "done"}')

    workers = min(jobs or os.cpu_count() or 1, len(left))
    try:
        if address is not None and left:
            run_on_ray(left, address, workers, out, told)
        elif left:
            run_here(left, workers, out, told)
    except KeyboardInterrupt:
        say('stopped; to go on, give the same command: finished runs are kept, others start over')
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if len(failed) < len(planned):
        show([out], None, as_json)
        say(f'curves and all numbers: ./q2rl bench report {shlex.quote(str(out))}')
    if failed:
        say(f'failed: {", ".join(failed)}; give the same command again to try them again')
        raise typer.Exit(EXIT_FAILED)


def _chosen(name: str, steps: int | None, preset: str | None, tasks: str | None) -> Suite:
    """Return a suite with what the command line changes of it."""
    import dataclasses

    from q2rl_lab.bench_suites import find_suite, pick_tasks
    from q2rl_learner.config import without_method
    from q2rl_task import InputError

    suite = find_suite(name)
    changes: dict[str, Any] = {}
    if steps is not None:
        changes |= {'online_steps': steps, 'evaluate_every': max(1, steps // 4)}
    if preset is not None:
        if without_method(preset) != preset:
            raise InputError(f'--preset {preset}', 'names a method', 'name it in --methods')
        changes['preset'] = preset
    if tasks is not None:
        changes['tasks'] = pick_tasks(suite, tasks.split(','))
    return dataclasses.replace(suite, **changes)


def _names(listed: str) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in listed.split(',')))


def _given(
    bc: Path | None, demonstrations: str | None, suite: Suite, methods: Sequence[str]
) -> Given | None:
    """Return the policy to start from in place of a clone per seed, once it was checked; None without one."""
    from q2rl_lab.bench_run import WITHOUT, Given
    from q2rl_lab.bench_suites import bench_task

    if bc is None:
        return None
    mixed = demonstrations or ''
    given = Given(bc.absolute(), mixed if mixed in ('', WITHOUT) else str(Path(mixed).absolute()))
    given.check(bench_task(*suite.tasks, suite.gym), [f'{suite.preset}+{m}' for m in methods])
    return given


def _left(planned: Sequence[Job], out: Path) -> list[Job]:
    """Return the runs that are not in the results to their end.

    :raises InputError: results of other settings are in the file
    """
    from q2rl_lab.bench_results import finished_runs, read_lines, refuse_other_settings

    settings = {(job.task, job.method): job.settings() for job in planned}
    keys = {(j.task, j.method, j.seed): settings[j.task, j.method] for j in planned}
    refuse_other_settings(out, keys)
    lines = read_lines(out) if out.is_file() else []
    done = {(run.task, run.method, run.seed) for run in finished_runs(lines)}
    return [job for job in planned if (job.task, job.method, job.seed) not in done]


@bench.command()
def report(
    results: Annotated[
        list[Path], typer.Argument(help='Results of bench learning (.jsonl), also of several.')
    ],
    methods: Annotated[
        str | None,
        typer.Option(
            help='Methods in the results to compare, several with commas between.',
            show_default='all',
        ),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help='Method that others are compared with.', show_default='q2rl')
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help='The page to write.', show_default='RESULTS.html')
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(
            min=1, help='Online episodes over which 80 and 95 % are counted.', show_default='20'
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare what has been run: a table, and a page with the curves.

    Interquartile mean with a stratified bootstrap interval, probability of
    improvement, episodes to 80 %, failures and force peaks until 95 %,
    performance profile. Runs that never got there are counted as such.

    \b
    q2rl bench report bench/tiny.jsonl
    q2rl bench report bench/pipe.jsonl --methods q2rl,ibrl --json
    q2rl bench report bench/pipe.jsonl --reference ibrl
    q2rl bench report first.jsonl second.jsonl --window 50
    """  # noqa: D301
    page = html or results[0].with_suffix('.html')
    show(results, reference, as_json, page, window, _names(methods) if methods else None)


@bench.command()
def stop(
    task: Annotated[
        str, typer.Option(help='Task: a shipped one or a YAML file.')
    ] = 'pipe_assembly',
    trials: Annotated[int, typer.Option(min=1, help='Stops per kind of event.')] = 200,
    seed: Annotated[int, typer.Option(help='Seed of motions and moments.')] = 0,
    command_sink: Annotated[
        Literal['pose_target', 'joint_position'],
        typer.Option(help='How the arm is commanded, as in `q2rl up`.'),
    ] = 'pose_target',
    as_json: Json = False,
) -> None:
    """Stop the simulated arm in full motion, again and again; say how long it takes.

    By events: decisions or measurements that stay away or are not finite, a hold,
    an emergency stop, the death of the node.

    \b
    q2rl bench stop --trials 200
    q2rl bench stop --command-sink joint_position
    """  # noqa: D301
    from q2rl_lab.console import emit
    from q2rl_lab.time_to_stop import as_table, measure_all
    from q2rl_task import load_task

    figures = measure_all(load_task(task), trials, seed, command_sink == 'joint_position')
    if as_json:
        emit(figures, True)
    else:
        print(as_table(figures))


@bench.command()
def updates(
    task: Annotated[
        str, typer.Option(help='Task: a shipped one or a YAML file.')
    ] = 'pipe_assembly',
    presets: Annotated[
        str, typer.Option(help='Settings of the learner, several with commas between.')
    ] = 'laptop,paper',
    devices: Annotated[str, typer.Option(help='Devices, like cpu,cuda.')] = 'cpu',
    seconds: Annotated[
        float, typer.Option(min=0.1, help='How long to measure each preset on each device.')
    ] = 10.0,
    as_json: Json = False,
) -> None:
    """Measure how many environment steps per second a learner keeps up with.

    The control rate of a task should not be above it, or the learner falls
    behind the robot. Small networks are often faster on the CPU than on a GPU.

    \b
    q2rl bench updates --devices cpu,cuda
    """  # noqa: D301
    from q2rl_lab.console import emit
    from q2rl_lab.update_rate import update_rate
    from q2rl_learner.config import load_preset
    from q2rl_policies.torch_runtime import find_device
    from q2rl_task import InputError, load_task

    spec, wanted = load_task(task), [device.strip() for device in devices.split(',')]
    configs = {name.strip(): load_preset(name.strip()) for name in presets.split(',')}
    for name, config in configs.items():
        if not config.critic_updates_per_step:
            raise InputError(
                f'--presets {name}',
                'learns nothing online, so there is no rate to measure',
                'leave it out, or take settings with `critic_updates_per_step` above 0',
            )
    for device in wanted:
        find_device(device)
    for name, config in configs.items():
        for device in wanted:
            rate = update_rate(config, spec, device, seconds)
            emit({'preset': name, 'device': device, 'env_steps_per_s': round(rate, 1)}, as_json)


@bench.command()
def drift(
    disturbance: Annotated[
        str, typer.Option(help='What strikes: none, weights, moved or moved-far.')
    ] = 'weights',
    seeds: Annotated[str, typer.Option(help='Seeds, like 0-4 or 0,2,7.')] = '0-4',
    at: Annotated[int, typer.Option(min=1, help='Online episode after which it strikes.')] = 70,
    steps: Annotated[int, typer.Option(min=1, help='Online steps.')] = 1900,
    drift_evidence: Annotated[
        float,
        typer.Option(
            min=0.0,
            help='Threshold of the alarm (drift_evidence in docs/parameters.md); 0: no alarm.',
        ),
    ] = 200.0,
    method: Annotated[str, typer.Option(help='Method, see `q2rl methods`.')] = 'q2rl',
    suite: Annotated[
        str,
        typer.Option(help='Suite whose first task is learned; moved and moved-far need `tiny`.'),
    ] = 'tiny',
    out: Annotated[Path, typer.Option(help='Folder of the clones.')] = Path('bench'),
) -> None:
    """Spoil weights, or change the task, while it is learned; say what came of it.

    One JSON line per seed: successes of the episodes learned from, by twenty,
    before and after; when the alarm came; what was found out.

    \b
    q2rl bench drift --disturbance weights --seeds 0-4
    q2rl bench drift --suite pipe --steps 8000 --seeds 0
    q2rl bench drift --disturbance moved-far --steps 2600 --method q2rl/refresh
    """  # noqa: D301
    from q2rl_lab.bench_suites import find_suite, parse_seeds
    from q2rl_lab.console import emit, say
    from q2rl_lab.drift_trial import DISTURBANCES, DriftTrial
    from q2rl_task import InputError

    if disturbance not in DISTURBANCES:
        raise InputError(
            f'--disturbance {disturbance}', 'is unknown', f'name one of {", ".join(DISTURBANCES)}'
        )
    chosen = find_suite(suite)
    for seed in parse_seeds(seeds):
        trial = DriftTrial(seed, disturbance, at, steps, drift_evidence, method, chosen)
        say(f'{suite} {method} seed {seed}: {disturbance} after online episode {at}, {steps} steps')
        emit(trial.run(out.absolute() / 'starts'), True)


def show(
    results: Sequence[Path],
    reference: str | None,
    as_json: bool,
    html: Path | None = None,
    window: int | None = None,
    methods: Sequence[str] | None = None,
) -> None:
    """Print the comparison of results, and write its page if one is named."""
    from q2rl_lab.bench_report import (
        COLUMNS,
        WINDOW,
        build_bench_result,
        meanings,
        notes,
        table_rows,
    )
    from q2rl_lab.bench_results import of_methods, read_files
    from q2rl_lab.console import emit, say
    from q2rl_task.atomic_file import check_writable, saying_why, write_atomically

    if html is not None:
        check_writable(html)
    lines = read_files(results)
    if methods is not None:
        lines = of_methods(lines, methods)
    result = build_bench_result(lines, reference, window or WINDOW)
    if html is not None:
        from q2rl_lab.bench_page import render_bench_page

        with saying_why(html):
            write_atomically(html, render_bench_page(lines, result))
        say(f'page: {html}')
    if as_json:
        emit(result, True)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(pad_edge=False, title=', '.join(result['tasks']), title_justify='left')
    for column in COLUMNS:
        table.add_column(column, overflow='fold', no_wrap=column == 'method')
    for row in table_rows(result):
        table.add_row(*row)
    console = Console()
    # In a file or a pipe nothing limits the width but what COLUMNS says, or else a guess of 80.
    asked = console.is_terminal or 'COLUMNS' in os.environ
    (console if asked else Console(width=160)).print(table)
    for said in (*meanings(result), *notes(result)):
        print(said)
