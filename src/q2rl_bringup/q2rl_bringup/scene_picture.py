# SPDX-License-Identifier: Apache-2.0
"""The one list of what is shown of a cell: RViz gets it over topics, the page of `operator_view` draws it itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from visualization_msgs.msg import MarkerArray

from q2rl_bringup.scene_markers import (
    decision_markers,
    force_marker,
    no_decision_markers,
    run_markers,
    scene_markers,
)
from q2rl_bringup.scene_state import REMEMBERED, SceneState
from q2rl_task import TaskSpec


@dataclass(frozen=True)
class Scale:
    """How large things are drawn.

    stretch: length of a proposal's arrow over that of the motion it stands for. force: of the force's arrow [m/N].
    """

    stretch: float = 20.0
    force: float = 0.003


def picture(state: SceneState, part: str, scale: Scale) -> MarkerArray:
    """Return the markers of one of `scene_state.PARTS`."""
    task = state.task
    if part == 'scene':
        return scene_markers(task, state.fixture)
    if part == 'run':
        return run_markers(task, run_text(state), list(state.outcomes), REMEMBERED)
    if state.tip is None:
        return MarkerArray()
    if state.decision is None:
        shown = no_decision_markers(task)
    else:
        # Without an estimate the actions' axes are taken to be those of the nominal fixture.
        fixture = state.fixture or task.fixture.nominal.pose
        shown = decision_markers(task, state.tip, fixture, state.decision, scale.stretch)
    shown.markers.append(force_marker(task, state.tip, state.force, scale.force))
    return shown


def run_text(state: SceneState) -> str:
    """Say in three lines where the run stands, what the guard does, and how the last episodes ended."""
    guard = ': '.join(filter(None, (state.guard_state, state.guard_detail)))
    return f'{state.phase_text()}\nguard {guard}\n{state.success_text()}'


def view_point(task: TaskSpec) -> tuple[np.ndarray, np.ndarray]:
    """Return from where a person looks at the cell at first, and what at: two points in the base frame [m].

    Close enough for the workspace, far enough for the arm above it.
    """
    box = task.limits.workspace
    middle = (np.array(box.low) + np.array(box.high)) / 2.0
    reach = float(np.linalg.norm(middle[:2]))
    at = middle * [0.8, 0.8, 1.0] + [0.0, 0.0, 0.1 * reach]
    return at + 0.8 * reach * np.array([1.0, -1.3, 0.45]), at
