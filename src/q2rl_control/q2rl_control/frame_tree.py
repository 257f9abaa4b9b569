# SPDX-License-Identifier: Apache-2.0
"""The pose of one frame in another out of what /tf and /tf_static say, latest values only; no ROS."""

from __future__ import annotations

from dataclasses import dataclass

from q2rl_task import Pose


@dataclass(frozen=True)
class _Edge:
    parent: str
    pose: Pose
    stamp: float | None


class FrameTree:
    """The latest transform from each frame to its parent.

    Nothing is interpolated between stamps: it is meant for chains that one publisher sends whole, with one stamp, as
    robot_state_publisher does.
    """

    def __init__(self) -> None:
        self._edges: dict[str, _Edge] = {}

    def set(self, parent: str, child: str, pose: Pose, stamp: float | None) -> None:
        """Take the pose of `child` in `parent`; one that is not finite, or older than the last one, is left out.

        :param stamp: [s]; None: static, true at all times
        """
        before = self._edges.get(child)
        late = (
            before is not None
            and stamp is not None
            and before.stamp is not None
            # Far back is not a late message but a clock that was set back.
            and before.stamp - 1.0 < stamp < before.stamp
        )
        if not late and pose.is_finite():
            self._edges[child] = _Edge(parent, pose, stamp)

    def lookup(self, base: str, tip: str) -> tuple[Pose, float | None]:
        """Return the pose of `tip` in `base` and the oldest stamp of the transforms between, None if all are static.

        :raises LookupError: the two are not connected
        """
        to_base = self._way_up(base)
        to_tip = self._way_up(tip)
        common = next((name for name in to_tip if name in to_base), None)
        if common is None:
            raise LookupError(f'no transform from {base} to {tip}')
        above_base, above_tip = (list(way)[: list(way).index(common)] for way in (to_base, to_tip))
        edges = [self._edges[name] for name in (*above_base, *above_tip)]
        stamps = [edge.stamp for edge in edges if edge.stamp is not None]
        pose = self._down(above_base).inverse() @ self._down(above_tip)
        return pose, min(stamps, default=None)

    def _way_up(self, name: str) -> dict[str, None]:
        """Return the frame and its ancestors in order; a loop is cut where it closes."""
        way = {name: None}
        while (edge := self._edges.get(name)) is not None and edge.parent not in way:
            name = edge.parent
            way[name] = None
        return way

    def _down(self, way: list[str]) -> Pose:
        """Return the pose of the first frame of a way up in the parent of the last."""
        pose = Pose.of((0.0, 0.0, 0.0))
        for name in way:
            pose = self._edges[name].pose @ pose
        return pose
