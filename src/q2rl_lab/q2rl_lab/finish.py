# SPDX-License-Identifier: Apache-2.0
"""From a run's files to its result and report."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from q2rl_lab.clips import make_clips
from q2rl_lab.report import write_report
from q2rl_lab.result import write_result
from q2rl_lab.run_data import read_run
from q2rl_lab.run_folder import RunFolder
from q2rl_lab.up_run import keep_wall_time


def finish_run(
    folder: RunFolder, started: float | None = None, clips: bool = True
) -> dict[str, Any]:
    """Write `result.json` and `report.html`; returns the result.

    :param started: when the run was launched, on the monotonic clock; None leaves its wall time as it is
    :raises InputError: not the folder of a run
    """
    data = read_run(folder)
    films, note = make_clips(data) if clips else ([], '')
    if started is not None:
        data = replace(data, session=keep_wall_time(folder, started))
    result = write_result(data)
    write_report(data, result, films, note)
    return result
