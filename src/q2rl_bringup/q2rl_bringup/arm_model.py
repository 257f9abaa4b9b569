# SPDX-License-Identifier: Apache-2.0
"""A robot description read for drawing: which parts hang on which joints, and how a joint's position moves them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlparse
import xml.etree.ElementTree as ElementTree

import numpy as np
from scipy.spatial.transform import Rotation

from q2rl_sim.collada import ColouredMesh, read_collada
from q2rl_task import InputError, Pose

GREY = (0.7, 0.7, 0.7, 1.0)
MESH_CELL_M = 0.003
"""Meshes are coarsened to this: a page gets a third of the bytes and looks the same."""


@dataclass(frozen=True)
class Cylinder:
    """A cylinder round z, its middle at the origin [m]; rgba in [0, 1]."""

    radius: float
    length: float
    rgba: tuple[float, ...]


@dataclass(frozen=True)
class Part:
    """Something visible on a link, at `origin` in its frame."""

    link: str
    origin: Pose
    shape: ColouredMesh | Cylinder


@dataclass(frozen=True)
class Joint:
    """What holds `child` to `parent`: at position 0 it stands at `origin` in the parent's frame.

    kind: as URDF calls it; every kind but revolute, continuous and prismatic stays at position 0. axis (3,): in the
    joint's own frame. mimic: the joint that it follows, with factor and offset, or None.
    """

    name: str
    parent: str
    child: str
    kind: str
    origin: Pose
    axis: np.ndarray
    mimic: tuple[str, float, float] | None = None

    def placement(self, positions: Mapping[str, float]) -> Pose:
        """Return the child's pose in the parent's frame, given joint positions [rad or m]; a missing one is 0."""
        name, factor, offset = self.mimic or (self.name, 1.0, 0.0)
        position = factor * positions.get(name, 0.0) + offset
        if self.kind in ('revolute', 'continuous'):
            turn = Rotation.from_rotvec(self.axis * position)
            return self.origin @ Pose.from_rotation(np.zeros(3), turn)
        if self.kind == 'prismatic':
            return self.origin @ Pose.of(self.axis * position)
        return self.origin


@dataclass(frozen=True)
class ArmModel:
    """The joints, parents before children, and the visible parts of a robot; `root` is its base link."""

    root: str
    joints: tuple[Joint, ...]
    parts: tuple[Part, ...]

    def poses(self, positions: Mapping[str, float]) -> dict[str, Pose]:
        """Return every link's pose in the frame of the root."""
        poses = {self.root: Pose.of(np.zeros(3))}
        for joint in self.joints:
            poses[joint.child] = poses[joint.parent] @ joint.placement(positions)
        return poses


def read_arm(urdf: str) -> ArmModel:
    """Read a description; of its meshes COLLADA files are drawn, others left out.

    :raises InputError: it is no tree of links
    """
    robot = ElementTree.fromstring(urdf)
    children: dict[str, list[Joint]] = {}
    for element in robot.findall('joint'):
        joint = _joint(element)
        children.setdefault(joint.parent, []).append(joint)
    held = {joint.child for joints in children.values() for joint in joints}
    links = [link.get('name') for link in robot.findall('link')]
    roots = [name for name in links if name not in held]
    if len(roots) != 1:
        raise InputError('robot description', f'has {len(roots)} base links', 'make it one tree')
    ordered: list[Joint] = []
    waiting = [roots[0]]
    while waiting:
        joints = children.get(waiting.pop(), [])
        ordered += joints
        waiting += [joint.child for joint in joints]
    parts = [part for link in robot.findall('link') for part in _parts(link)]
    return ArmModel(roots[0], tuple(ordered), tuple(parts))


def _joint(element: ElementTree.Element) -> Joint:
    axis, mimic = element.find('axis'), element.find('mimic')
    return Joint(
        name=element.get('name'),
        parent=element.find('parent').get('link'),
        child=element.find('child').get('link'),
        kind=element.get('type'),
        origin=_origin(element),
        axis=_numbers(axis.get('xyz') if axis is not None else '1 0 0'),
        mimic=None
        if mimic is None
        else (
            mimic.get('joint'),
            float(mimic.get('multiplier', '1')),
            float(mimic.get('offset', '0')),
        ),
    )


def _parts(link: ElementTree.Element) -> list[Part]:
    parts = []
    for visual in link.findall('visual'):
        origin = _origin(visual)
        colour = visual.find('material/color')
        rgba = GREY if colour is None else tuple(_numbers(colour.get('rgba')).tolist())
        mesh, cylinder = visual.find('geometry/mesh'), visual.find('geometry/cylinder')
        if cylinder is not None:
            size = float(cylinder.get('radius')), float(cylinder.get('length'))
            parts.append(Part(link.get('name'), origin, Cylinder(*size, rgba)))
        elif mesh is not None and mesh.get('filename').lower().endswith('.dae'):
            path = Path(unquote(urlparse(mesh.get('filename')).path))
            parts += [
                Part(link.get('name'), origin, piece.coarsened(MESH_CELL_M))
                for piece in read_collada(path)
            ]
    return parts


def _origin(element: ElementTree.Element) -> Pose:
    origin = element.find('origin')
    if origin is None:
        return Pose.of(np.zeros(3))
    turn = Rotation.from_euler('xyz', _numbers(origin.get('rpy', '0 0 0')))
    return Pose.from_rotation(_numbers(origin.get('xyz', '0 0 0')), turn)


def _numbers(text: str) -> np.ndarray:
    return np.array(text.split(), dtype=np.float64)
