# SPDX-License-Identifier: Apache-2.0
"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

TASK_HELP = 'Task: the name of a shipped one, or the path of a task YAML.'
RunTask = Annotated[
    str | None, typer.Argument(help=TASK_HELP, show_default='with --resume, that of the run')
]
Json = Annotated[bool, typer.Option('--json', help='Write the result as JSON to stdout.')]
Seed = Annotated[int, typer.Option('--seed', min=0, help='Seed of everything random.')]
RunSeed = Annotated[
    int | None,
    typer.Option('--seed', min=0, help='Seed of scenes, samples and networks.', show_default='0'),
]
RunName = Annotated[
    str | None,
    typer.Option('--run', help='Name of the run.', show_default='the time, or the latest run'),
]
Resume = Annotated[
    bool, typer.Option('--resume', help='Go on with a run (--run, else the latest).')
]
EvalEpisodes = Annotated[
    int | None,
    typer.Option(
        '--eval-episodes',
        min=0,
        help='Fresh scenes at the end, each run by BC, gated and RL.',
        show_default='100',
    ),
]
RunsDir = Annotated[Path, typer.Option('--runs-dir', help='Folder of all runs.')]
Task = Annotated[str, typer.Option('--task', help=TASK_HELP)]
PRESET_HELP = "The learner's settings: laptop, laptop-long, paper, or the path of a YAML."
Preset = Annotated[
    str,
    typer.Option('--preset', help=PRESET_HELP),
]
TaskPreset = Annotated[
    str | None,
    typer.Option(
        '--preset',
        help=PRESET_HELP,
        show_default="the task's",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        '--device',
        help='Where the learner computes: cpu, cuda, or one GPU of several, cuda:1.',
        show_default='cpu',
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        '--steps',
        min=0,
        help='Steps of the online phase; with --resume more of them: the run learns on.',
        show_default="the task's",
    ),
]
Rollouts = Annotated[
    int | None,
    typer.Option(
        '--rollouts',
        min=2,
        help='BC-only episodes that V is fitted on.',
        show_default="the task's",
    ),
]
Goal = Annotated[
    int | None,
    typer.Option(
        '--goal',
        min=0,
        max=100,
        help='Stop learning early, once so many percent of the last 50 gated episodes succeeded; 0: never.',
        show_default='0',
    ),
]
DropBC = Annotated[
    bool,
    typer.Option(
        '--drop-bc',
        help='Once it is shown that RL alone beats BC, RL alone acts, without the gate.',
    ),
]
Bc = Annotated[
    Path | None,
    typer.Option(
        '--bc',
        help='A BC policy that `q2rl adopt` or `train-bc` wrote.',
        show_default='a new clone',
    ),
]
Demonstrations = Annotated[
    str | None,
    typer.Option(
        '--demonstrations',
        help='How many to record in simulation, or a file of them (HDF5).',
        metavar='COUNT|FILE',
        show_default="the task's",
    ),
]
Method = Annotated[
    str | None,
    typer.Option(
        '--method',
        help='Method laid over the preset, see `q2rl methods`.',
        show_default="the task's, else q2rl",
    ),
]
