# SPDX-License-Identifier: Apache-2.0
"""Read a run's folder: its episodes, its ticks, its learner's timeline. What is missing is empty, never invented."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from q2rl_lab.run_folder import RunConfig, RunFolder
from q2rl_task import EndReason, InputError, Mode, Phase, Source, TaskSpec, load_task
from q2rl_task.episode import INTERRUPTIONS
from q2rl_task.spec import OBSERVATION_SIZES


@dataclass(frozen=True)
class EpisodeRow:
    """One finished episode, as q2rl_msgs/EpisodeSummary has it."""

    episode: str
    number: int
    phase: Phase
    mode: Mode
    success: bool
    end_reason: EndReason
    steps: int
    rl_steps: int
    bc_steps: int
    hold_steps: int
    guard_interventions: int
    peak_force: float
    duration: float
    episode_return: float = math.nan
    mean_q_bc: float = math.nan
    mean_q_rl: float = math.nan
    weights_version: int = 0
    explored: bool = False
    robot: str = 'arm'
    seed: int | None = None

    @property
    def interrupted(self) -> bool:
        """Whether the episode measures no policy: someone asked for its end, or sensing was lost."""
        return self.end_reason in INTERRUPTIONS

    @property
    def failed(self) -> bool:
        """Whether the episode came to its end without success."""
        return not self.success and not self.interrupted

    @staticmethod
    def parse(content: dict[str, Any]) -> EpisodeRow:
        """Make a row of a line's content; enums by number or name, null for not known.

        :raises (KeyError, TypeError, ValueError): not an episode
        """
        kinds = {'phase': Phase, 'mode': Mode, 'end_reason': EndReason}
        values = {
            f.name: content[f.name] for f in fields(EpisodeRow) if content.get(f.name) is not None
        }
        for name, kind in kinds.items():
            value = values[name]
            values[name] = kind[value.upper()] if isinstance(value, str) else kind(value)
        return EpisodeRow(**values)


@dataclass(frozen=True)
class Ticks:
    """One row per logged transition, in the order they came. Depth [m] is along the estimated hole, 0 at the rim."""

    episode: np.ndarray  # (n,) of str
    phase: np.ndarray
    mode: np.ndarray
    source: np.ndarray
    depth: np.ndarray
    q_bc: np.ndarray
    q_rl: np.ndarray
    force: np.ndarray
    limited: np.ndarray  # the guard intervened
    highest: dict[str, int] = field(default_factory=dict)  # by robot: last contiguous sequence
    count: int = 0
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunData:
    """All that a result and a report are made of."""

    folder: RunFolder
    config: RunConfig
    about: dict[str, Any]
    task: TaskSpec
    state: dict[str, Any]
    episodes: list[EpisodeRow]
    timeline: list[dict[str, Any]]
    session: dict[str, Any]
    ticks: Ticks | None
    notes: tuple[str, ...]

    def select(self, phase: Phase, mode: Mode) -> list[EpisodeRow]:
        """Episodes of a phase (of evaluations: the last) and a mode, in order, but for those that were interrupted."""
        rows = self.evaluated if phase is Phase.EVALUATING else self.episodes
        return [e for e in rows if e.phase is phase and e.mode is mode and not e.interrupted]

    @property
    def evaluated(self) -> list[EpisodeRow]:
        """Episodes of the last evaluation, in order."""
        superseded = self.progress.get('superseded') or [[0, 0]]
        return self._evaluation(superseded[-1][0], math.inf)

    @property
    def evaluated_before(self) -> list[tuple[int, list[EpisodeRow]]]:
        """Episodes of earlier evaluations, which the run learned on after: with its online steps until then."""
        found, first = [], 0
        for last, steps in self.progress.get('superseded', []):
            found.append((steps, self._evaluation(first, last)))
            first = last
        return found

    def _evaluation(self, after: int, last: float) -> list[EpisodeRow]:
        return [
            e for e in self.episodes if e.phase is Phase.EVALUATING and after < e.number <= last
        ]

    def learned_from(self) -> list[EpisodeRow]:
        """Online episodes in which the run acted to learn, not to measure a policy, in order; none interrupted."""
        return [
            e for e in self.episodes if e.phase is Phase.ONLINE and e.explored and not e.interrupted
        ]

    @property
    def phase(self) -> Phase | None:
        """Where the run stands; None where its state is missing."""
        try:
            return Phase[self.state['progress']['phase']]
        except (KeyError, TypeError):
            return None

    @property
    def progress(self) -> dict[str, Any]:
        """What the run had saved of its course; empty where its state is missing."""
        return self.state.get('progress') or {}

    @property
    def learner(self) -> dict[str, Any]:
        """The learner's last status; empty if it never reported."""
        return self.timeline[-1] if self.timeline else {}


def read_run(folder: RunFolder) -> RunData:
    """Read a run's folder; `notes` tell of files that are missing or damaged.

    :raises InputError: not the folder of a run
    """
    config = folder.read_config()
    task = load_task(config.task)
    notes: list[str] = []
    rows = read_episodes(folder, notes)
    ticks = _read_ticks(folder, task, notes)
    return RunData(
        folder=folder,
        config=config,
        about=_read_object(folder.config, notes),
        task=task,
        state=_read_object(folder.state, notes),
        episodes=rows,
        timeline=_read_lines(folder.timeline, notes),
        session=_read_session(folder, config.in_process, notes),
        ticks=ticks,
        notes=tuple(notes),
    )


def _read_session(folder: RunFolder, in_process: bool, notes: list[str]) -> dict[str, Any]:
    # A run in one process leaves one only once it has ended.
    absent = in_process and not folder.session.exists()
    return {} if absent else _read_object(folder.session, notes)


def read_episodes(folder: RunFolder, notes: list[str]) -> list[EpisodeRow]:
    """Return the finished episodes of a run, each once; what is wrong with the file is added to `notes`."""
    rows: dict[tuple[str, str], EpisodeRow] = {}
    for content in _read_lines(folder.episodes, notes):
        try:
            row = EpisodeRow.parse(content)
        except (KeyError, TypeError, ValueError) as error:
            notes.append(f'{folder.episodes.name}: a line is not an episode ({error})')
            continue
        rows.setdefault((row.robot, row.episode), row)
    return list(rows.values())


def _read_object(path: Path, notes: list[str]) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        notes.append(f'{path.name}: {_reason(error)}')
        return {}
    return content if isinstance(content, dict) else {}


def _read_lines(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except (OSError, ValueError) as error:
        notes.append(f'{path.name}: {_reason(error)}')
        return []
    contents = []
    for number, line in enumerate(lines, 1):
        try:
            content = json.loads(line)
        except ValueError:
            content = None
        if isinstance(content, dict):
            contents.append(content)
        else:
            notes.append(f'{path.name}: line {number} is cut or damaged')
    return contents


def _reason(error: Exception) -> str:
    return 'not there' if isinstance(error, FileNotFoundError) else f'cannot be read ({error})'


def _read_ticks(folder: RunFolder, task: TaskSpec, notes: list[str]) -> Ticks | None:
    from q2rl_learner.transition_log import TransitionLog

    try:
        log = TransitionLog(folder.transitions, task.contract_hash, read_only=True)
    except InputError as error:
        notes.append(str(error))
        return None
    try:
        offset, scale = _depth_component(task)
        columns: list[tuple] = []
        try:
            for t in log.replay():
                depth = float(t.observation[offset]) * scale if offset is not None else math.nan
                values = t.q_bc, t.q_rl, t.force, bool(t.interventions)
                columns.append((t.episode, t.phase, t.mode, t.source, depth, *values))
        except InputError as error:  # what comes before the damage counts
            notes.append(str(error))
        arrays = (
            [np.array(column) for column in zip(*columns, strict=True)]
            if columns
            else [np.zeros(0)] * 9
        )
        highest = {robot: log.contiguous(robot) for robot in log.robots}
        notes.extend(log.damaged)
        return Ticks(*arrays, highest=highest, count=len(log), damaged=tuple(log.damaged))
    finally:
        log.close()


def _depth_component(task: TaskSpec) -> tuple[int | None, float]:
    """Return where in the newest frame of an observation the depth is, and its scale [m]."""
    at = task.observation_size - task.frame_size
    for block in task.observation.fields:
        if block.name == 'tip_position':
            return at + 2, block.scale
        at += OBSERVATION_SIZES[block.name]
    return None, 1.0


def source_counts(ticks: Ticks | None) -> dict[str, int]:
    """Count ticks by who acted."""
    if ticks is None:
        return {}
    return {source.name.lower(): int((ticks.source == source).sum()) for source in Source}
