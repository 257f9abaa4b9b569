# SPDX-License-Identifier: Apache-2.0
"""Suites of Gymnasium tasks, each one YAML: shipped in `suites/`, or anybody's own file."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from pydantic import Field, model_validator

from q2rl_lab.gym_task import GymHost, GymTask, PythonEnvironment
from q2rl_task.settings_file import Section, load_settings, shipped_names


class SuiteFile(Section):
    """A suite; see `q2rl_lab.bench_suites.Suite` for the numbers.

    `python`: the Python environment that holds the environments; q2rl's own if it is not given.
    """

    description: str
    preset: str
    python: PythonEnvironment | None = None
    rollouts: int = Field(ge=2)
    online_steps: int = Field(ge=1)
    evaluate_every: int = Field(ge=1)
    probe_episodes: int = Field(ge=1)
    evaluation_episodes: int = Field(ge=1)
    tasks: tuple[GymTask, ...] = Field(min_length=1)

    @model_validator(mode='after')
    def _names(self):
        if len({task.name for task in self.tasks}) < len(self.tasks):
            raise ValueError('two `tasks` have the same `name`')
        if self.probe_episodes > self.evaluation_episodes:
            raise ValueError('`probe_episodes` are the first of the `evaluation_episodes`')
        return self


def shipped_suites() -> list[str]:
    """Return the names of the suites in this package."""
    return shipped_names('q2rl_lab', 'suites')


def read_suite(name_or_path: str) -> tuple[SuiteFile, GymHost]:
    """Read a suite by its name or the path of its YAML file.

    :raises InputError: no such suite, not YAML, or a field that is missing, unknown or out of range
    """
    suite = load_settings(SuiteFile, 'suite', 'q2rl_lab', 'suites', name_or_path)
    path = Path(name_or_path)
    if name_or_path in shipped_suites():
        path = Path(str(resources.files('q2rl_lab') / 'suites' / f'{name_or_path}.yaml'))
    return suite, GymHost(path.stem, suite.python, path.resolve().parent)
