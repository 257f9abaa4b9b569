# SPDX-License-Identifier: Apache-2.0
"""A wrench that was measured elsewhere, as it is at the tip: the lever between the two turns force into torque."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from q2rl_control.frame_tree import FrameTree
from q2rl_control.rigid_frames import RigidFrames
from q2rl_task import Pose
from q2rl_task.rotations import rotate


def moved(wrench: np.ndarray, place: Pose, *, turned_only: bool = False) -> np.ndarray:
    """Return a wrench (6,) [N, Nm] of one frame in another: its axes, its torque about the other's origin.

    :param place: pose of the frame that the wrench is in, in the frame in which it is wanted
    :param turned_only: the torque is about the wanted origin already, only the axes differ
    """
    force, torque = (rotate(place.quaternion, part) for part in (wrench[:3], wrench[3:]))
    if not turned_only:
        torque = torque + np.cross(place.position, force)
    return np.concatenate([force, torque])


class WrenchFrames:
    """Find the way from whatever frame a wrench is in to the tip.

    Known are the tip itself, the base and what stands with it (by the measured pose), what moves with the tip (by the
    description), and what TF says.

    :param base: name of the task's base frame
    :param tip: name of the task's tip frame
    :param links: of the description, if there is one
    :param tree: what TF says, if it is heard
    :param about_tip: the torque of a wrench in another frame is about the tip already
    """

    def __init__(
        self,
        base: str,
        tip: str,
        links: RigidFrames | None = None,
        tree: FrameTree | None = None,
        *,
        about_tip: bool = False,
    ) -> None:
        self._base, self._tip = base, tip
        self._links, self._tree, self._about_tip = links, tree, about_tip
        self._fixed: dict[str, tuple[Pose | None, Pose | None]] = {}

    def at_tip(
        self, frame: str, wrench: np.ndarray, tip_pose: Callable[[], Pose | None]
    ) -> np.ndarray:
        """Return a wrench (6,) that came in `frame` at the tip, in tip axes.

        :param tip_pose: tells the tip in the base frame at that time, None if it is not known; asked only if need be
        :raises LookupError: nobody knows where that frame is; the message is one line for a person
        """
        frame = frame.lstrip('/')
        if frame == self._tip:
            return wrench
        return moved(wrench, self._place(frame, tip_pose), turned_only=self._about_tip)

    def _place(self, frame: str, tip_pose: Callable[[], Pose | None]) -> Pose:
        if frame not in self._fixed:
            self._fixed[frame] = self._look(frame)
        in_tip, in_base = self._fixed[frame]
        if in_tip is not None:
            return in_tip
        if in_base is not None:
            tip = tip_pose()
            if tip is None:
                raise LookupError(
                    f'the wrench is in {frame!r}, and there is no pose of the tip to turn it by'
                )
            return tip.inverse() @ in_base
        if self._tree is not None:
            try:
                return self._tree.lookup(self._tip, frame)[0]
            except LookupError:
                pass
        raise LookupError(
            f'the wrench is in {frame!r}, and nothing says where that is on the tool: let the broadcaster name '
            f'{self._tip!r} or {self._base!r}, or set robot_description to a URDF in which {frame!r} moves with '
            f'{self._tip!r} (or pose_source to tf)'
        )

    def _look(self, frame: str) -> tuple[Pose | None, Pose | None]:
        """Return the constant pose of a frame in the tip and in the base, each None where there is none."""
        if frame == self._base:
            return None, Pose.of((0.0, 0.0, 0.0))
        if self._links is None:
            return None, None
        return self._links.in_tip(frame), self._links.in_base(frame)
