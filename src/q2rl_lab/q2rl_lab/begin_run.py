# SPDX-License-Identifier: Apache-2.0
"""The run that `q2rl up` or `q2rl learn` is asked for: a new one, or one that is gone on with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from q2rl_lab.preparation import check_adopted, wanted_demonstrations
from q2rl_lab.run_folder import (
    RunConfig,
    RunFolder,
    create_run,
    open_run,
    resume_config,
    task_of_run,
)
from q2rl_lab.workspace import versions
from q2rl_learner.config import load_preset
from q2rl_policies.torch_runtime import find_device
from q2rl_task import InputError, TaskSpec, load_task


def begin_run(
    verb: Literal['up', 'learn'],
    asked: dict[str, Any],
    method: str | None,
    name: str | None,
    resume: bool,
    runs_dir: Path,
    check: Callable[[RunConfig, TaskSpec], None],
) -> tuple[RunFolder, RunConfig, TaskSpec]:
    """Return the folder of a run, what it is to do, and its task; nothing is made before all of it was checked.

    :param asked: options by their names in RunConfig, None where not given; `demonstrations` as it was typed
    :param method: laid over the preset; None where not given
    :param name: of the run; with `resume` None is the latest
    :param check: whether the robot, or the simulation, can do it
    :raises InputError: something of it cannot be used, or the run to go on with is of another command
    """
    folder = open_run(runs_dir, name) if resume else None
    spec = load_task(task_of_run(asked['task'], folder))
    asked = {
        **asked,
        'demonstrations': wanted_demonstrations(asked['demonstrations'], spec),
        'bc': str(asked['bc'].absolute()) if asked['bc'] else None,
    }
    adopted: Path | None = None
    if folder is None:
        config = RunConfig.of_task(spec, method, **asked, in_process=verb == 'learn')
        load_preset(config.preset)
        if config.bc is not None:
            adopted = Path(config.bc)
    else:
        begun_by = folder.read_config().verb
        if begun_by != verb:
            remedy = f'go on with it: ./q2rl {begun_by} --resume, or start a new one'
            raise InputError(folder.path, f'is a run of `q2rl {begun_by}`', remedy)
        config = resume_config(folder, asked, method)
        if config.bc is not None and folder.bc.is_file():
            adopted = folder.bc
    find_device(config.device)
    if adopted is not None:
        check_adopted(adopted, spec, config.preset)
    check(config, spec)
    if folder is None:
        folder = create_run(runs_dir, name, config, versions())
    return folder, config, spec
