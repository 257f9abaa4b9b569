# SPDX-License-Identifier: Apache-2.0
"""`q2rl train-bc`: clone demonstrations, and measure the clone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from q2rl_lab.commands.options import Json, Seed, Task, TaskPreset


def train_bc(
    demonstrations: Annotated[Path, typer.Argument(help='Demonstrations (HDF5).')],
    output: Annotated[
        Path, typer.Option('--output', '-o', help='File to write (safetensors).')
    ] = Path('bc.safetensors'),
    task: Task = 'pipe_assembly',
    preset: TaskPreset = None,
    episodes: Annotated[
        int, typer.Option('--episodes', '-n', min=0, help='Fresh scenes to measure it on.')
    ] = 50,
    seed: Seed = 0,
    force: Annotated[bool, typer.Option('--force', help='Replace an existing file.')] = False,
    as_json: Json = False,
) -> None:
    """Clone demonstrations by maximum likelihood, and measure the clone in simulation.

    The fit stops where held-out demonstrations are most likely; the network is
    that of the preset (a mixture of Gaussians).

    \b
    q2rl train-bc demos.hdf5 -o bc.safetensors
    q2rl train-bc demos.hdf5 --preset paper -n 100 --json
    """  # noqa: D301
    from q2rl_lab.console import emit
    from q2rl_lab.evaluation import bc_alone, summarize, summary_in_words
    from q2rl_lab.in_process import evaluate
    from q2rl_lab.preparation import clone
    from q2rl_lab.progress import EpisodeProgress
    from q2rl_task import Mode, load_task
    from q2rl_task.atomic_file import check_writable, refuse_existing

    check_writable(output)
    refuse_existing(output, force)
    spec = load_task(task)
    result = clone(spec, demonstrations, preset or spec.learning.preset, seed, output)
    if episodes:
        with EpisodeProgress(episodes) as progress:
            evaluate(spec, bc_alone(output, spec, seed), Mode.BC, episodes, seed, progress)
        found = summarize(Mode.BC, progress.records)
        result |= found if as_json else summary_in_words(found)
    emit(result, as_json)
