# SPDX-License-Identifier: Apache-2.0
"""`q2rl doctor`: whether this machine can do a run, and what to do where it cannot."""

from __future__ import annotations

from pathlib import Path

import typer

from q2rl_lab.commands.options import Json, RunsDir


def doctor(runs_dir: RunsDir = Path('runs'), as_json: Json = False) -> None:
    """Check this machine: Python, ROS, DDS, MuJoCo, rendering, memory, disk, left-overs.

    One line each: OK; WARN: a run works, but lacks something; FAIL: a run cannot work. Any FAIL: exit code 1.
    """
    from q2rl_lab.checks import Level, all_checks, show
    from q2rl_lab.console import EXIT_FAILED, emit

    findings = []
    for check in all_checks(runs_dir):
        finding = check()
        findings.append(finding)
        if not as_json:
            show(finding)
    worst = max((f.level for f in findings), key=list(Level).index)
    if as_json:
        lines = {
            f.name: {'level': f.level.value, 'text': f.text, 'remedy': f.remedy} for f in findings
        }
        emit({'verdict': worst.value, 'checks': lines}, True)
    if worst is Level.FAIL:
        raise typer.Exit(EXIT_FAILED)
