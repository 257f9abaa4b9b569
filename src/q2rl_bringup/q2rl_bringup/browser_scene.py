# SPDX-License-Identifier: Apache-2.0
"""Markers and the arm drawn on a viser page: what RViz makes of the same markers, as far as we use them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import itertools

import numpy as np
import viser
from visualization_msgs.msg import Marker, MarkerArray

from q2rl_bringup.arm_model import ArmModel, Cylinder
from q2rl_task import Pose

PAPER = np.array([255.0, 255.0, 255.0])
"""Arrows on the page have no transparency: what should be faint is mixed with the page's ground instead."""
ARM = 'arm'
CORNERS = np.array(list(itertools.product((-0.5, 0.5), repeat=3)))
BOX_EDGES = np.array(
    [pair for pair in itertools.combinations(CORNERS, 2) if np.ptp(pair, axis=0).sum() == 1.0]
)
"""The twelve edges of a unit cube, (12, 2, 3)."""


class MarkerPainter:
    """Keep what a page shows equal to the markers that were last drawn, by namespace and id as RViz does.

    Draws CUBE, CYLINDER, ARROW between two points, SPHERE_LIST and TEXT_VIEW_FACING, all in the base frame.
    """

    def __init__(self, scene: viser.SceneApi) -> None:
        self._scene = scene
        self._shown: dict[str, object] = {}
        self._last: dict[str, Marker] = {}
        self._painters: dict[int, Callable[[str, Marker], object]] = {
            Marker.CUBE: self._box,
            Marker.CYLINDER: self._cylinder,
            Marker.ARROW: self._arrow,
            Marker.SPHERE_LIST: self._balls,
            Marker.TEXT_VIEW_FACING: self._text,
        }

    def draw(self, markers: MarkerArray) -> None:
        """Draw, redraw or remove each marker."""
        for marker in markers.markers:
            name = f'/markers/{marker.ns}/{marker.id}'
            if marker == self._last.get(name):
                continue
            self._last[name] = marker
            if marker.action == Marker.DELETE:
                handle = self._shown.pop(name, None)
                if handle is not None:
                    handle.remove()
            else:
                self._shown[name] = self._painters[marker.type](name, marker)

    def _box(self, name: str, marker: Marker):
        size = (marker.scale.x, marker.scale.y, marker.scale.z)
        colour, opacity, place = _rgb(marker.color), marker.color.a, _place(marker)
        frame = self._scene.add_box(
            name, colour, size, opacity=opacity, cast_shadow=False, receive_shadow=False, **place
        )
        edges = np.array(size) * BOX_EDGES
        self._scene.add_line_segments(f'{name}/edges', edges, colour, line_width=2.0)
        return frame

    def _cylinder(self, name: str, marker: Marker):
        return self._scene.add_cylinder(
            name,
            marker.scale.x / 2.0,
            marker.scale.z,
            _rgb(marker.color),
            opacity=marker.color.a,
            cast_shadow=False,
            **_place(marker),
        )

    def _arrow(self, name: str, marker: Marker):
        """Draw an arrow; the scale of one between two points is shaft diameter, head diameter, head length."""
        points = np.array([[[p.x, p.y, p.z] for p in marker.points]], dtype=np.float32)
        faint = PAPER + (np.array(_rgb(marker.color)) - PAPER) * marker.color.a
        colours = faint.astype(np.uint8)
        arrow = self._shown.get(name)
        if arrow is None:
            return self._scene.add_arrows(
                name,
                points,
                colours,
                shaft_radius=marker.scale.x / 2.0,
                head_radius=marker.scale.y / 2.0,
                head_length=marker.scale.z,
            )
        arrow.points, arrow.colors = points, colours
        return arrow

    def _balls(self, name: str, marker: Marker):
        points = np.array([[p.x, p.y, p.z] for p in marker.points], dtype=np.float32)
        colours = np.array([_rgb(colour) for colour in marker.colors], dtype=np.uint8)
        return self._scene.add_point_cloud(
            name, points, colours, point_size=marker.scale.x, point_shape='circle'
        )

    def _text(self, name: str, marker: Marker):
        position = _place(marker)['position']
        label = self._shown.get(name)
        if label is None:
            return self._scene.add_label(name, marker.text, position=position, anchor='bottom-left')
        label.text, label.position = marker.text, position
        return label


class ArmPainter:
    """Draw an arm once, and then only move its joints."""

    def __init__(self, scene: viser.SceneApi, arm: ArmModel) -> None:
        self._arm = arm
        paths = {arm.root: f'/{ARM}'}
        scene.add_frame(paths[arm.root], show_axes=False)
        self._frames = {}
        for joint in arm.joints:
            paths[joint.child] = f'{paths[joint.parent]}/{joint.child}'
            self._frames[joint.name] = scene.add_frame(paths[joint.child], show_axes=False)
        for number, part in enumerate(arm.parts):
            name, shape = f'{paths[part.link]}/part_{number}', part.shape
            colour, place = _bytes(shape.rgba), _of_pose(part.origin)
            if isinstance(shape, Cylinder):
                scene.add_cylinder(name, shape.radius, shape.length, colour, **place)
            else:
                scene.add_mesh_simple(
                    name, shape.vertices, shape.triangles, color=colour, side='double', **place
                )
        self._placed: dict[str, tuple] = {}
        self.move({})

    def move(self, positions: Mapping[str, float]) -> None:
        """Show the arm at these joint positions [rad or m], by joint name."""
        for joint in self._arm.joints:
            place = _of_pose(joint.placement(positions))
            if place == self._placed.get(joint.name):
                continue
            self._placed[joint.name] = place
            frame = self._frames[joint.name]
            frame.position, frame.wxyz = place['position'], place['wxyz']


def _rgb(colour) -> tuple[int, int, int]:
    return _bytes((colour.r, colour.g, colour.b))


def _bytes(rgba) -> tuple[int, int, int]:
    return tuple(round(255.0 * float(value)) for value in rgba[:3])


def _place(marker: Marker) -> dict[str, tuple[float, ...]]:
    point, turn = marker.pose.position, marker.pose.orientation
    return {'position': (point.x, point.y, point.z), 'wxyz': (turn.w, turn.x, turn.y, turn.z)}


def _of_pose(pose: Pose) -> dict[str, tuple[float, ...]]:
    x, y, z, w = pose.quaternion.tolist()
    return {'position': tuple(pose.position.tolist()), 'wxyz': (w, x, y, z)}
