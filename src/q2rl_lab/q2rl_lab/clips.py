# SPDX-License-Identifier: Apache-2.0
"""Short films of a run for its report, rendered from the simulation's trace."""

from __future__ import annotations

from pathlib import Path
import tempfile

import numpy as np

from q2rl_lab.report import Clip
from q2rl_lab.run_data import EpisodeRow, RunData
from q2rl_task import InputError, Mode, Phase, Pose

JOINTS = 7
WIDTH, HEIGHT = 480, 360
EVERY = 2
"""One picture in so many steps; played at the pace of the robot."""
HOLD_PICTURES = 8


def make_clips(data: RunData) -> tuple[list[Clip], str]:
    """Render BC failing and the gated policy succeeding, on the same scene where there is one.

    Returns the clips, and why there are none (empty where there are).
    """
    trace = data.folder.trace
    if not trace.is_file():
        return [], 'No clips: the run left no trace of the simulation.'
    chosen = choose_episodes(data.episodes)
    if not chosen:
        return [], 'No clips: no evaluated episode to show yet.'
    from q2rl_sim.mujoco_arm_node import TraceFile
    from q2rl_sim.render import RenderError, SceneRenderer

    records = last_session(TraceFile.read(trace, JOINTS))
    try:
        with SceneRenderer(data.task, WIDTH, HEIGHT) as renderer:
            clips = [_film(data, renderer, records, title, row) for title, row in chosen]
    except RenderError as error:
        return [], f'No clips: {error}'
    made = [clip for clip in clips if clip is not None]
    return made, '' if made else 'No clips: the trace does not hold the evaluated episodes.'


def choose_episodes(rows: list[EpisodeRow]) -> list[tuple[str, EpisodeRow]]:
    """Pick what to show: a scene on which BC alone fails and the gated policy succeeds, else one of each."""
    evaluated = [row for row in rows if row.phase is Phase.EVALUATING]
    failing = [row for row in evaluated if row.mode is Mode.BC and not row.success]
    succeeding = [row for row in evaluated if row.mode is Mode.GATED and row.success]
    by_seed = {row.seed: row for row in succeeding if row.seed is not None}
    for row in failing:
        if row.seed in by_seed:
            return [
                ('BC alone, failing', row),
                ('Gated, succeeding on the same scene', by_seed[row.seed]),
            ]
    first = [('BC alone, failing', row) for row in failing[:1]]
    return first + [('Gated, succeeding', row) for row in succeeding[:1]]


def last_session(records: np.ndarray) -> np.ndarray:
    """Return the records since the simulation last started; its clock begins anew at each start."""
    restarts = np.flatnonzero(np.diff(records[:, 0]) < 0)
    return records[restarts[-1] + 1 :] if len(restarts) else records


def _film(data: RunData, renderer, records: np.ndarray, title: str, row: EpisodeRow) -> Clip | None:
    from q2rl_sim.render import write_animation

    span = _stamps(data, row)
    if span is None:
        return None
    half = 0.5 * data.task.period_s
    inside = (records[:, 0] > span[0] - half) & (
        records[:, 0] < span[1] + data.task.period_s + half
    )
    steps = records[inside]
    if abs(len(steps) - (row.steps + 1)) > 1:
        return None  # of an earlier session, or cut
    pictures = [
        renderer.frame(
            step[1 : 1 + JOINTS], Pose.of(step[1 + JOINTS : 4 + JOINTS], step[4 + JOINTS :])
        )
        for step in [*steps[:-1:EVERY], steps[-1]]
    ]
    pictures += [pictures[-1]] * HOLD_PICTURES
    with tempfile.TemporaryDirectory(prefix='q2rl-clip-') as scratch:
        path = Path(scratch) / 'clip.webp'
        write_animation(path, pictures, data.task.rate_hz / EVERY)
        image = path.read_bytes()
    reason = row.end_reason.name.lower().replace('_', ' ')
    seconds = row.steps * data.task.period_s
    return Clip(title, f'{row.episode}: {reason} after {seconds:.1f} s', image)


def _stamps(data: RunData, row: EpisodeRow) -> tuple[float, float] | None:
    """Return the stamps of an episode's first and last transition [s]."""
    from q2rl_learner.transition_log import TransitionLog

    try:
        log = TransitionLog(data.folder.transitions, data.task.contract_hash, read_only=True)
    except InputError:
        return None
    try:
        transitions = log.episode(row.episode)
    finally:
        log.close()
    return (transitions[0].stamp, transitions[-1].stamp) if transitions else None
