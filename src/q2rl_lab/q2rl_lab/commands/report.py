# SPDX-License-Identifier: Apache-2.0
"""`q2rl report`: make a run's result and report anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from q2rl_lab.commands.options import Json, RunsDir


def report(
    run: Annotated[
        str | None, typer.Argument(help='Name or path of the run.', show_default='the latest')
    ] = None,
    clips: Annotated[bool, typer.Option(help='Render clips (some seconds).')] = True,
    runs_dir: RunsDir = Path('runs'),
    as_json: Json = False,
) -> None:
    """Write result.json and report.html of a run again, also while it is still at work.

    \b
    q2rl report                  of the latest run
    q2rl report seven            of runs/seven
    q2rl report --no-clips       without clips
    """  # noqa: D301
    from q2rl_lab.finish import finish_run, tell_result
    from q2rl_lab.run_folder import open_run

    folder = open_run(runs_dir, run)
    tell_result(folder, finish_run(folder, clips=clips), as_json)
