# SPDX-License-Identifier: Apache-2.0
"""Short films of a run for its report, rendered from the simulation's trace."""

from __future__ import annotations

from pathlib import Path
import tempfile

from q2rl_lab.episode_ticks import read_ticks
from q2rl_lab.report import Clip
from q2rl_lab.run_data import EpisodeRow, RunData
from q2rl_lab.trace_pictures import TracePictures
from q2rl_task import InputError, Mode

WIDTH, HEIGHT = 480, 360
EVERY = 2
"""One picture in so many steps; played at the pace of the robot."""
HOLD_PICTURES = 8


def make_clips(data: RunData) -> tuple[list[Clip], str]:
    """Render BC failing and the gated policy succeeding, on the same scene where there is one.

    Returns the clips, and why there are none (empty where there are).
    """
    with TracePictures(data, WIDTH, HEIGHT) as pictures:
        chosen = [] if pictures.note else choose_episodes(data.evaluated)
        clips = [_clip(data, pictures, title, row) for title, row in chosen]
    made = [clip for clip in clips if clip is not None]
    if made:
        return made, ''
    held = 'the trace does not hold the evaluated episodes'
    why = pictures.note or (held if chosen else 'no evaluated episode to show yet')
    return [], f'No clips: {why}.'


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


def _clip(data: RunData, pictures: TracePictures, title: str, row: EpisodeRow) -> Clip | None:
    from q2rl_sim.render import write_animation

    try:
        stamps = read_ticks(data, row).stamps
    except InputError:
        return None
    frames = pictures.draw(row, stamps, EVERY)
    if not frames:
        return None
    frames += [frames[-1]] * HOLD_PICTURES
    with tempfile.TemporaryDirectory(prefix='q2rl-clip-') as scratch:
        path = Path(scratch) / 'clip.webp'
        write_animation(path, frames, data.task.rate_hz / EVERY)
        image = path.read_bytes()
    reason = row.end_reason.name.lower().replace('_', ' ')
    seconds = row.steps * data.task.period_s
    return Clip(title, f'{row.episode}: {reason} after {seconds:.1f} s', image)
