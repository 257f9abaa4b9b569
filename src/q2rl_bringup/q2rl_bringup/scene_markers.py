# SPDX-License-Identifier: Apache-2.0
"""What is shown beside the robot, as markers: RViz draws them, and so does the page of `operator_view`.

Workspace, believed fixture, both policies' proposals and the gate's choice, contact force, and how the run goes.
"""

from __future__ import annotations

from collections.abc import Sequence

from geometry_msgs.msg import Point
import numpy as np
from scipy.spatial.transform import Rotation
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from q2rl_ros.conversions import pose_to_msg
from q2rl_task import Decision, ObservationRecord, Pose, Source, TaskSpec
from q2rl_task.spec import OBSERVATION_SIZES

COLOURS = {Source.BC: (0.85, 0.51, 0.17), Source.RL: (0.23, 0.51, 0.96)}
"""Those of the report; red is for what has gone wrong."""
CHOSEN_ALPHA, OTHER_ALPHA = 1.0, 0.35
TEXT_ABOVE_TIP_M = 0.03
FORCE_COLOUR = (0.65, 0.15, 0.70, 1.0)
LEAST_FORCE_N = 0.5
"""What the sensor's noise may be: a smaller force has no arrow."""
SUCCESS_COLOUR, FAILURE_COLOUR = (0.17, 0.63, 0.17, 1.0), (0.84, 0.15, 0.16, 1.0)
OUTCOME_M = 0.006
"""Diameter of the ball that stands for a finished episode."""


def believed_fixture(task: TaskSpec, tip: Pose, record: ObservationRecord) -> Pose | None:
    """Return the fixture's estimated pose in the base frame, from the observation and the tip pose it was built from.

    None where the task's observation does not hold the tip's position and rotation.
    """
    frame = record.observation[-task.frame_size :] * task.observation_scale()
    fields, start = {}, 0
    for field in task.observation.fields:
        size = OBSERVATION_SIZES[field.name]
        if field.limit is None:
            fields[field.name] = frame[start : start + size]
        start += size
    if not {'tip_position', 'tip_rotation'} <= set(fields):
        return None
    turn = Rotation.from_rotvec(fields['tip_rotation'])
    return tip @ Pose.from_rotation(fields['tip_position'], turn).inverse()


def scene_markers(task: TaskSpec, fixture: Pose | None) -> MarkerArray:
    """Return what stands still in an episode: the box of allowed tip positions, and the hole where it is believed."""
    box = task.limits.workspace
    low, high = np.array(box.low), np.array(box.high)
    middle = Pose.of((low + high) / 2.0)
    markers = [_marker(task, 'workspace', Marker.CUBE, middle, high - low, (0.3, 0.7, 0.3, 0.12))]
    if fixture is not None:
        hole = 2.0 * (task.fixture.insert_radius_m + task.fixture.radial_clearance_m)
        depth = task.fixture.depth_m
        centre = fixture @ Pose.of([0.0, 0.0, depth / 2.0])
        size = [hole, hole, depth]
        markers.append(
            _marker(task, 'fixture', Marker.CYLINDER, centre, size, (0.2, 0.4, 0.7, 0.5))
        )
    return MarkerArray(markers=markers)


def decision_markers(
    task: TaskSpec, tip: Pose, fixture: Pose, decision: Decision, stretch: float
) -> MarkerArray:
    """Return one tick: an arrow per policy from the tip (its translation, `stretch` times), and the values as text."""
    markers = []
    for source, action in ((Source.BC, decision.bc_action), (Source.RL, decision.rl_action)):
        alpha = CHOSEN_ALPHA if decision.source is source else OTHER_ALPHA
        size = [0.005, 0.011, 0.016]
        arrow = _marker(task, source.name, Marker.ARROW, None, size, (*COLOURS[source], alpha))
        if len(action) == 0:
            arrow.action = Marker.DELETE
        else:
            shift = fixture.rotation.apply(action[:3] * task.action.translation_m * stretch)
            arrow.points = [_point(tip.position), _point(tip.position + shift)]
        markers.append(arrow)
    above = Pose.of(tip.position + np.array([0.0, 0.0, TEXT_ABOVE_TIP_M]))
    text = _marker(task, 'gate', Marker.TEXT_VIEW_FACING, above, [0.0, 0.0, 0.008], (1, 1, 1, 1))
    text.text = (
        f'{decision.source.name} ({decision.reason.name.lower()})  '
        f'Q_RL {decision.q_rl:.2f}  Q_BC {decision.q_bc:.2f}'
    )
    return MarkerArray(markers=[*markers, text])


def no_decision_markers(task: TaskSpec) -> MarkerArray:
    """Return what takes the markers of the last decision away."""
    kinds = {'BC': Marker.ARROW, 'RL': Marker.ARROW, 'gate': Marker.TEXT_VIEW_FACING}
    gone = [_marker(task, name, kind, None, [0.0] * 3, [0.0] * 4) for name, kind in kinds.items()]
    for marker in gone:
        marker.action = Marker.DELETE
    return MarkerArray(markers=gone)


def force_marker(task: TaskSpec, tip: Pose, force: np.ndarray, stretch: float) -> Marker:
    """Return an arrow from the tip for the contact force.

    :param force: (3,) in the tip's frame [N]
    :param stretch: length of the arrow per force [m/N]
    """
    arrow = _marker(task, 'force', Marker.ARROW, None, [0.005, 0.010, 0.015], FORCE_COLOUR)
    if np.linalg.norm(force) < LEAST_FORCE_N:
        arrow.action = Marker.DELETE
    else:
        head = tip.position + tip.rotation.apply(force) * stretch
        arrow.points = [_point(tip.position), _point(head)]
    return arrow


def run_markers(task: TaskSpec, text: str, outcomes: Sequence[bool], places: int) -> MarkerArray:
    """Return how the run goes, on the far edge of the workspace: a row of balls, one per episode, and a text above.

    :param outcomes: whether each of the last episodes succeeded, the newest last; at most `places`
    """
    low, high = np.array(task.limits.workspace.low), np.array(task.limits.workspace.high)
    row = np.linspace([low[0], low[1], high[2]], [low[0], high[1], high[2]], places)
    balls = _marker(
        task, 'history', Marker.SPHERE_LIST, Pose.of(np.zeros(3)), [OUTCOME_M] * 3, [1.0] * 4
    )
    balls.points = [_point(place) for place in row[: len(outcomes)]]
    balls.colors = [
        ColorRGBA(**dict(zip('rgba', SUCCESS_COLOUR if success else FAILURE_COLOUR, strict=True)))
        for success in outcomes
    ]
    if not outcomes:
        balls.action = Marker.DELETE
    above = Pose.of([low[0], (low[1] + high[1]) / 2.0, high[2] + TEXT_ABOVE_TIP_M])
    words = _marker(task, 'run', Marker.TEXT_VIEW_FACING, above, [0.0, 0.0, 0.012], (1, 1, 1, 1))
    words.text = text
    return MarkerArray(markers=[balls, words])


def _marker(task: TaskSpec, namespace: str, kind: int, pose: Pose | None, size, colour) -> Marker:
    """Return a marker in the base frame; its stamp is zero: always the latest transform."""
    marker = Marker(ns=namespace, type=kind, action=Marker.ADD)
    marker.header.frame_id = task.frames.base
    if pose is not None:
        marker.pose = pose_to_msg(pose, task.frames.base, 0.0).pose
    marker.scale.x, marker.scale.y, marker.scale.z = (float(value) for value in size)
    marker.color.r, marker.color.g, marker.color.b, marker.color.a = (float(v) for v in colour)
    return marker


def _point(position: np.ndarray) -> Point:
    return Point(**dict(zip('xyz', position.tolist(), strict=True)))
