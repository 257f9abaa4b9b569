# SPDX-License-Identifier: Apache-2.0
"""`q2rl eval`: measure a run's policies, or a cloned one, on fresh scenes."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from q2rl_lab.commands.options import Json, RunsDir


class Who(str, Enum):
    """Who acts."""

    bc = 'bc'
    gated = 'gated'
    rl = 'rl'


def evaluate_verb(
    run: Annotated[
        str | None, typer.Argument(help='Name or path of a run.', show_default='the latest')
    ] = None,
    bc: Annotated[
        Path | None, typer.Option('--bc', help='A cloned policy (safetensors) instead of a run.')
    ] = None,
    mode: Annotated[
        Who | None, typer.Option('--mode', help='Who acts.', show_default='gated; with --bc: bc')
    ] = None,
    episodes: Annotated[int, typer.Option('--episodes', '-n', min=1, help='Fresh scenes.')] = 100,
    seed: Annotated[
        int | None,
        typer.Option('--seed', min=0, help='Seed of the scenes.', show_default="the run's; else 0"),
    ] = None,
    task: Annotated[
        str, typer.Option('--task', help='With --bc: task by name, or path of a task YAML.')
    ] = 'pipe_assembly',
    record: Annotated[
        str | None,
        typer.Option('--record', help='Keep the episodes as a run of this name, for `q2rl why`.'),
    ] = None,
    csv: Annotated[Path | None, typer.Option('--csv', help='Write every episode here.')] = None,
    runs_dir: RunsDir = Path('runs'),
    as_json: Json = False,
) -> None:
    """Measure policies on fresh scenes in one process; nothing is learned.

    The scenes of a seed are those on which up evaluates with it, so results
    compare scene by scene. The interval is Wilson's at 95 %.

    \b
    q2rl eval                                  the latest run, gated
    q2rl eval seven --mode rl -n 200           RL alone, of runs/seven
    q2rl eval --bc bc.safetensors --seed 3     a cloned policy
    q2rl eval -n 10 --record look; q2rl why look
    """  # noqa: D301
    from q2rl_lab.console import emit
    from q2rl_lab.evaluation import bc_alone, learned, summarize, summary_in_words
    from q2rl_lab.in_process import evaluate
    from q2rl_lab.progress import EpisodeProgress
    from q2rl_lab.recorded_evaluation import record_episodes
    from q2rl_lab.run_folder import RunConfig, create_run, open_run
    from q2rl_lab.workspace import versions
    from q2rl_task import InputError, Mode, load_task
    from q2rl_task.atomic_file import check_writable

    if csv is not None:
        check_writable(csv)
    if bc is not None:
        if run is not None or mode not in (None, Who.bc):
            raise InputError('--bc', 'a cloned policy alone', 'leave out the run and --mode')
        scenes, source = seed or 0, task
        spec, who = load_task(source), Mode.BC
        policies, what = bc_alone(bc, spec, scenes), str(bc)
    else:
        folder = open_run(runs_dir, run)
        config = folder.read_config()
        scenes = config.seed if seed is None else seed
        source = config.task
        spec, who = load_task(source), Mode[(mode or Who.gated).name.upper()]
        what = folder.id
        if who is Mode.BC:
            policies = bc_alone(folder.policy, spec, scenes)
        else:
            policies = learned(folder.path, folder.policy, spec, config.preset, scenes)
    with EpisodeProgress(episodes) as progress:
        if record is None:
            evaluate(spec, policies, who, episodes, scenes, progress)
        else:
            asked = RunConfig(source, scenes, eval_episodes=episodes, steps=0, in_process=True)
            kept = create_run(runs_dir, record, asked, versions())
            record_episodes(kept, spec, policies, who, episodes, scenes, progress)
    records = progress.records
    if csv is not None:
        _write_csv(csv, records)
    found = summarize(who, records)
    emit({'of': what, 'seed': scenes, **(found if as_json else summary_in_words(found))}, as_json)


def _write_csv(path: Path, records: list[Any]) -> None:
    import csv
    from dataclasses import asdict

    from q2rl_task.atomic_file import replacing, saying_why

    rows = [asdict(record) for record in records]
    with (
        saying_why(path),
        replacing(path) as partial,
        partial.open('w', newline='', encoding='utf-8') as file,
    ):
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
