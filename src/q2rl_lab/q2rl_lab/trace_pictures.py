# SPDX-License-Identifier: Apache-2.0
"""Pictures of a run's episodes, drawn from the trace of its simulation."""

from __future__ import annotations

import contextlib

import numpy as np

from q2rl_lab.run_data import EpisodeRow, RunData
from q2rl_task import Pose

PLACE_TOLERANCE = 1e-9


class TracePictures:
    """Draw episodes of a run; `note` says why none can be drawn, else is empty.

    Use as a context: it holds an OpenGL context once the first episode is drawn.

    :param width: of a picture [px]
    :param height: of a picture [px]
    """

    def __init__(self, data: RunData, width: int, height: int) -> None:
        self._data, self._size = data, (width, height)
        self._records: np.ndarray | None = None
        self._resources = contextlib.ExitStack()
        self._renderer = None
        self.note = ''
        if not data.folder.trace.is_file():
            self.note = 'the run left no trace of the simulation'

    def __enter__(self) -> TracePictures:
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def draw(
        self, row: EpisodeRow, stamps: tuple[float, float], every: int = 1
    ) -> list[np.ndarray]:
        """Return a picture (H, W, 3) uint8 of one tick in so many and of the last.

        Empty where the trace does not hold the episode whole, or where none can be drawn: `note` then says why.

        :param stamps: of the episode's first and last transition [s]
        """
        if self.note:
            return []
        steps = self.steps(row, stamps)
        if not len(steps) or not self._ready():
            return []
        return [
            self._renderer.frame(step[1:-7], Pose.of(step[-7:-4], step[-4:]))
            for step in [*steps[:-1:every], steps[-1]]
        ]

    def steps(self, row: EpisodeRow, stamps: tuple[float, float]) -> np.ndarray:
        """Return the trace's records of an episode, one per tick; empty where it does not hold all."""
        from q2rl_sim.placement import draw_placement
        from q2rl_sim.scene import configuration_size
        from q2rl_sim.trace import TraceFile

        task = self._data.task
        if self._records is None:
            self._records = TraceFile.read(self._data.folder.trace, configuration_size(task))
        if row.seed is None:
            return self._records[:0]
        return find_steps(
            self._records, stamps, draw_placement(task, row.seed).truth, task.period_s
        )

    def _ready(self) -> bool:
        from q2rl_sim.render import RenderError, SceneRenderer

        if self._renderer is None:
            try:
                renderer = SceneRenderer(self._data.task, *self._size)
            except RenderError as error:
                self.note = str(error)
                return False
            self._renderer = self._resources.enter_context(renderer)
        return True


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
