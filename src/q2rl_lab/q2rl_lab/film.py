# SPDX-License-Identifier: Apache-2.0
"""Pictures of one recorded episode, one per tick, out of the simulation's trace."""

from __future__ import annotations

from collections.abc import Sequence
import contextlib
import io

import numpy as np

from q2rl_lab.clips import find_steps
from q2rl_lab.episode_ticks import EpisodeTicks
from q2rl_lab.run_data import RunData
from q2rl_task import Pose

WIDTH, HEIGHT = 560, 420
FILM_BYTES = 2_600_000
"""What a film may take; base64 makes it a third more."""
STEPS_DOWN = ((1.0, 72), (1.0, 50), (0.75, 50), (0.75, 30), (0.5, 30))
"""Size and WebP quality, tried in this order until a film is small enough."""


class FilmMaker:
    """Films of a run's episodes; `note` says why there are none.

    Use as a context: it holds an OpenGL context once the first film is made.
    """

    def __init__(self, data: RunData) -> None:
        self._data = data
        self._records: np.ndarray | None = None
        self._resources = contextlib.ExitStack()
        self._renderer = None
        self.note = ''
        if not data.folder.trace.is_file():
            self.note = 'No film: the run left no trace of the simulation.'

    def __enter__(self) -> FilmMaker:
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def film(self, ticks: EpisodeTicks) -> tuple[list[bytes], str]:
        """Return a WebP picture per row of `ticks`; and why there is none, empty where there are."""
        if self.note:
            return [], self.note
        steps = self._steps(ticks)
        if not len(steps):
            return [], f'No film: the trace does not hold {ticks.row.episode} whole.'
        from q2rl_sim.render import RenderError, SceneRenderer

        if self._renderer is None:
            try:
                renderer = SceneRenderer(self._data.task, WIDTH, HEIGHT)
            except RenderError as error:
                self.note = f'No film: {error}'
                return [], self.note
            self._renderer = self._resources.enter_context(renderer)
        pictures = [
            self._renderer.frame(step[1:-7], Pose.of(step[-7:-4], step[-4:])) for step in steps
        ]
        return encode(pictures), ''

    def _steps(self, ticks: EpisodeTicks) -> np.ndarray:
        """Return the trace's records of the rows of `ticks`; empty where it does not hold all."""
        from q2rl_sim.placement import draw_placement
        from q2rl_sim.scene import configuration_size
        from q2rl_sim.trace import TraceFile

        task = self._data.task
        if self._records is None:
            self._records = TraceFile.read(self._data.folder.trace, configuration_size(task))
        if ticks.row.seed is None:
            return self._records[:0]
        fixture = draw_placement(task, ticks.row.seed).truth
        return find_steps(self._records, ticks.stamps, fixture, task.period_s)


def encode(pictures: Sequence[np.ndarray], most: int = FILM_BYTES) -> list[bytes]:
    """Return pictures (H, W, 3) uint8 as WebP, as good as fits into `most` bytes; the coarsest where nothing fits."""
    from PIL import Image

    images = [Image.fromarray(picture) for picture in pictures]
    made: list[bytes] = []
    for scale, quality in STEPS_DOWN:
        made = []
        for image in images:
            size = (round(image.width * scale), round(image.height * scale))
            buffer = io.BytesIO()
            shown = image if scale == 1.0 else image.resize(size)
            shown.save(buffer, format='WEBP', quality=quality, method=2)
            made.append(buffer.getvalue())
        if sum(map(len, made)) <= most:
            break
    return made
