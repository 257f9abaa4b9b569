# SPDX-License-Identifier: Apache-2.0
"""Short films of a run for its report, rendered from the simulation's trace."""

from __future__ import annotations

from pathlib import Path
import tempfile

import numpy as np

from q2rl_lab.report import Clip
from q2rl_lab.run_data import EpisodeRow, RunData
from q2rl_task import InputError, Mode, Pose

WIDTH, HEIGHT = 480, 360
EVERY = 2
"""One picture in so many steps; played at the pace of the robot."""
HOLD_PICTURES = 8
PLACE_TOLERANCE = 1e-9


def make_clips(data: RunData) -> tuple[list[Clip], str]:
    """Render BC failing and the gated policy succeeding, on the same scene where there is one.

    Returns the clips, and why there are none (empty where there are).
    """
    trace = data.folder.trace
    if not trace.is_file():
        return [], 'No clips: the run left no trace of the simulation.'
    chosen = choose_episodes(data.evaluated)
    if not chosen:
        return [], 'No clips: no evaluated episode to show yet.'
    from q2rl_sim.render import RenderError, SceneRenderer
    from q2rl_sim.scene import configuration_size
    from q2rl_sim.trace import TraceFile

    records = TraceFile.read(trace, configuration_size(data.task))
    try:
        with SceneRenderer(data.task, WIDTH, HEIGHT) as renderer:
            clips = [_film(data, renderer, records, title, row) for title, row in chosen]
    except RenderError as error:
        return [], f'No clips: {error}'
    made = [clip for clip in clips if clip is not None]
    return made, '' if made else 'No clips: the trace does not hold the evaluated episodes.'


def choose_episodes(evaluated: list[EpisodeRow]) -> list[tuple[str, EpisodeRow]]:
    """Pick what to show: a scene on which BC alone fails and the gated policy succeeds, else one of each."""
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


def find_steps(
    records: np.ndarray, stamps: tuple[float, float], fixture: Pose, period_s: float
) -> np.ndarray:
    """Return an episode's records out of a trace: of those stamps [s] and with the fixture at its place.

    The simulation's clock begins anew whenever it is started, so stamps alone do not tell sessions apart; the latest
    session that fits is taken. Empty where none has all of the episode.
    """
    first, last = stamps[0], stamps[1] + period_s
    ends = [*(np.flatnonzero(np.diff(records[:, 0]) < 0) + 1).tolist(), len(records)]
    place = np.concatenate([fixture.position, fixture.quaternion])
    for begin, end in reversed(list(zip([0, *ends[:-1]], ends, strict=True))):
        session = records[begin:end]
        inside = (session[:, 0] > first - 0.5 * period_s) & (session[:, 0] < last + 0.5 * period_s)
        there = np.abs(session[:, -len(place) :] - place).max(axis=1) < PLACE_TOLERANCE
        steps = session[inside & there]
        if len(steps) == round((last - first) / period_s) + 1:
            return steps
    return records[:0]


def _film(data: RunData, renderer, records: np.ndarray, title: str, row: EpisodeRow) -> Clip | None:
    from q2rl_sim.placement import draw_placement
    from q2rl_sim.render import write_animation

    span = _stamps(data, row)
    if span is None or row.seed is None:
        return None
    fixture = draw_placement(data.task, row.seed).truth
    steps = find_steps(records, span, fixture, data.task.period_s)
    if not len(steps):
        return None
    pictures = [
        renderer.frame(step[1:-7], Pose.of(step[-7:-4], step[-4:]))
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
