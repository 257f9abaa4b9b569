# SPDX-License-Identifier: Apache-2.0
"""From a run's files to its result and report, and to what is said of them."""

from __future__ import annotations

from dataclasses import replace
import json
import shlex
from typing import Any

from q2rl_control.run_store import RunStore
from q2rl_lab.clips import make_clips
from q2rl_lab.console import emit, say
from q2rl_lab.report import write_report
from q2rl_lab.result import build_result, short_result, write_result
from q2rl_lab.run_data import read_run
from q2rl_lab.run_folder import RunConfig, RunFolder, learn_on
from q2rl_lab.up_run import keep_wall_time
from q2rl_task import Phase

OF_THE_END = ('finished', 'env_steps', 'episodes')
"""Numbers that tell a result of the run's end from an earlier one."""


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
    result = build_result(data)
    write_report(data, result, films, note)
    write_result(data, result)  # last: where it is of the run's end, so is the report
    return result


def shown_again(folder: RunFolder, config: RunConfig, how: str, as_json: bool) -> bool:
    """Show the result of a run that has nothing left to do, and how it learns on; tell whether it is one.

    :param config: what the run is asked for now
    :param how: the command that goes on with it
    :raises InputError: what is kept of the run is damaged
    """
    saved = RunStore(folder.path).load()
    if saved is None or saved[0].phase is not Phase.FINISHED or not folder.report.is_file():
        return False
    # More may have been asked for in a session that ended before the run heard of it.
    heard = saved[0].learn_until in ([], [config.steps, config.goal])
    if not heard or config != folder.read_config():
        return False
    result = build_result(read_run(folder))
    if not _is_kept(folder, result):
        return False
    say(f'run {folder.id} is finished; to learn on: {how} {learn_on(config)}')
    tell_result(folder, result, as_json)
    return True


def _is_kept(folder: RunFolder, result: dict[str, Any]) -> bool:
    """Whether `result.json` is of the same end, and not of the time when the run was still at work."""
    try:
        kept = json.loads(folder.result.read_text(encoding='utf-8'))
        return all(kept[key] == result[key] for key in OF_THE_END)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def tell_result(folder: RunFolder, result: dict[str, Any], as_json: bool) -> None:
    """Print the whole result as JSON, or what a person wants to see first, and where the rest is."""
    if as_json:
        emit(result, True)
    else:
        found = {**short_result(result), 'report': folder.report, 'numbers': folder.result}
        if folder.learned:
            found['policy'] = f'./q2rl export {shlex.quote(str(folder.path))}'
        emit(found, False)
