# SPDX-License-Identifier: Apache-2.0
"""`q2rl doctor`: whether this machine can do a run, and what to do where it cannot."""

from __future__ import annotations

from pathlib import Path

import typer

from q2rl_lab.commands.options import Json, RunsDir


def doctor(runs_dir: RunsDir = Path('runs'), as_json: Json = False) -> None:
    """Check this machine: Python, ROS, DDS, MuJoCo, rendering, memory, disk, left-overs.

    One line each: OK; WARN, a run goes but misses something; FAIL, a run cannot go. Exit code 1 with a FAIL.
    """
    from q2rl_lab.checks import Level, all_checks
    from q2rl_lab.console import EXIT_FAILED, emit

    findings = []
    for check in all_checks(runs_dir):
        finding = check()
        findings.append(finding)
        if not as_json:
            _show(finding)
    worst = max((f.level for f in findings), key=list(Level).index)
    if as_json:
        lines = {
            f.name: {'level': f.level.value, 'text': f.text, 'remedy': f.remedy} for f in findings
        }
        emit({'verdict': worst.value, 'checks': lines}, True)
    if worst is Level.FAIL:
        raise typer.Exit(EXIT_FAILED)


def _show(finding) -> None:
    from rich.console import Console

    colour = {'OK': 'green', 'WARN': 'yellow', 'FAIL': 'red'}[finding.level.value]
    console = Console(highlight=False)
    console.print(f'[{colour}]{finding.level.value:<5}[/]', end='')
    console.print(f'{finding.name:<15} {finding.text}', markup=False, soft_wrap=True)
    if finding.remedy:
        console.print(f'{"":<21}-> {finding.remedy}', markup=False, style='dim', soft_wrap=True)
