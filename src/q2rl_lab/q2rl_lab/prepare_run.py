# SPDX-License-Identifier: Apache-2.0
"""The first process of a launch whose run lacks demonstrations or a clone (see q2rl_bringup's `run_preparation`).

ros2 run q2rl_lab prepare_run runs/one '{"task": "pipe_assembly", "seed": 3}'      fields of RunConfig, as JSON
"""

from __future__ import annotations

from collections.abc import Sequence
import json
from pathlib import Path
import sys

from q2rl_lab.console import EXIT_BAD_INPUT, EXIT_FAILED
from q2rl_lab.preparation import prepare, tell
from q2rl_lab.run_folder import RunConfig, RunFolder
from q2rl_lab.workspace import versions
from q2rl_task import InputError, load_task
from q2rl_task.errors import GivenUp


def prepare_run(run_dir: Path, config: RunConfig) -> None:
    """Record and clone what a run's folder lacks; keep there what was asked for, so that `q2rl report` can read it.

    :raises InputError: another process has the folder, or what was asked for cannot be used
    """
    folder = RunFolder(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    with folder.lock():
        if not folder.config.is_file():
            folder.write_config(config, versions())
        tell(prepare(folder, config))


def main(argv: Sequence[str] | None = None) -> int:
    """Prepare a run; returns the exit code."""
    run_dir, asked, *_ = sys.argv[1:] if argv is None else argv  # the rest is for ROS
    try:
        fields = json.loads(asked)
        prepare_run(Path(run_dir), RunConfig.of_task(load_task(fields['task']), **fields))
    except (InputError, GivenUp) as error:
        print(error, file=sys.stderr)
        return EXIT_BAD_INPUT if isinstance(error, InputError) else EXIT_FAILED
    return 0


if __name__ == '__main__':
    sys.exit(main())
