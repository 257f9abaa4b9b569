# SPDX-License-Identifier: Apache-2.0
"""The Panda arm: one URDF (of the `example-robot-data` wheel) for MuJoCo, RViz and planners alike.

For physics only the links' masses and the joints are kept; what touches anything is added by the scene.
"""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path
import xml.etree.ElementTree as ElementTree

import mujoco

from q2rl_sim.collada import read_collada
from q2rl_task import InputError

PACKAGE_PREFIX = 'package://example-robot-data/'
ARM_JOINTS = tuple(f'panda_joint{i}' for i in range(1, 8))
HOME = (0.0, -0.785398, 0.0, -2.356194, 0.0, 1.570796, 0.785398)
ARM_GROUP, HAND_GROUP = 1, 2
VISUAL_CELL_M = 0.003
"""Visual meshes of the arm are coarsened to this; at a metre's distance a picture does not show it."""
HAND_BODY = 'panda_hand'
GRASP_OFFSET_M = 0.1034
"""From the hand's frame to the point between the finger pads (`panda_hand_tcp`)."""

ARMATURE_KG_M2 = 0.1
"""Reflected rotor inertia per joint; the URDF has none, and without it the wrist is unrealistically nimble."""


def panda_urdf() -> Path:
    """Return the path of `panda.urdf` of the installed example-robot-data distribution.

    :raises InputError: the distribution, or the file in it, is missing
    """
    remedy = 'install the pinned requirements (pip install example-robot-data)'
    try:
        files = importlib.metadata.files('example-robot-data') or []
    except importlib.metadata.PackageNotFoundError:
        raise InputError('example-robot-data', 'is not installed', remedy) from None
    for entry in files:
        if entry.name == 'panda.urdf':
            path = Path(os.path.normpath(str(entry.locate())))
            if path.is_file():
                return path
    raise InputError('example-robot-data', 'has no panda.urdf', remedy)


def mesh_path(uri: str, urdf: Path) -> Path:
    """Resolve a `package://example-robot-data/...` URI beside the URDF it stands in."""
    root = next(p for p in urdf.parents if p.name == 'example-robot-data')
    return root / uri.removeprefix(PACKAGE_PREFIX)


def panda_spec(finger_opening_m: float | None, visuals: bool = False) -> mujoco.MjSpec:
    """Return the arm as an uncompiled model, its fingers fixed around an object or free to move.

    :param finger_opening_m: distance of each finger pad from the hand's middle plane; None: the fingers move
    :param visuals: whether to load the visual meshes (a second or so; physics never needs them)
    """
    urdf = panda_urdf()
    robot = ElementTree.parse(urdf).getroot()
    meshes: list[tuple[str, Path, list[float]]] = []
    for link in robot.iter('link'):
        for visual in link.findall('visual'):
            mesh = visual.find('geometry/mesh')
            origin = visual.find('origin')
            rpy = [float(v) for v in (origin.get('rpy') if origin is not None else '0 0 0').split()]
            meshes.append((link.get('name'), mesh_path(mesh.get('filename'), urdf), rpy))
        for part in (*link.findall('visual'), *link.findall('collision')):
            link.remove(part)
        mass = link.find('inertial/mass')
        if mass is not None and float(mass.get('value')) == 0.0:
            link.remove(link.find('inertial'))
    for joint in robot.iter('joint'):
        if joint.get('name').startswith('panda_finger_joint') and finger_opening_m is not None:
            _fix_finger(joint, finger_opening_m)
    # balanceinertia: link 1's inertia in the URDF violates the triangle inequality slightly.
    compiler = {'balanceinertia': 'true', 'fusestatic': 'false', 'strippath': 'false'}
    extension = ElementTree.SubElement(robot, 'mujoco')
    ElementTree.SubElement(extension, 'compiler', compiler)
    spec = mujoco.MjSpec.from_string(ElementTree.tostring(robot, encoding='unicode'))
    for name in ARM_JOINTS:
        joint = spec.joint(name)
        joint.armature = ARMATURE_KG_M2
        joint.damping = [0.1, 0.0, 0.0]
    spec.compiler.discardvisual = not visuals
    if visuals:
        for link, path, rpy in meshes:
            _add_visual(spec, link, path, rpy)
    return spec


def _fix_finger(joint: ElementTree.Element, opening: float) -> None:
    side = float(joint.find('axis').get('xyz').split()[1])
    joint.set('type', 'fixed')
    z = joint.find('origin').get('xyz').split()[2]
    joint.find('origin').set('xyz', f'0 {side * opening} {z}')
    for tag in ('axis', 'limit', 'mimic', 'dynamics'):
        if joint.find(tag) is not None:
            joint.remove(joint.find(tag))


def _add_visual(spec: mujoco.MjSpec, link: str, path: Path, rpy: list[float]) -> None:
    body = spec.body(link)
    if body is None:  # the base link is fused into the world
        body = spec.worldbody
    held = link in (HAND_BODY, 'panda_leftfinger', 'panda_rightfinger')
    for number, part in enumerate(read_collada(path)):
        if not held:
            part = part.coarsened(VISUAL_CELL_M)
        name = f'{link}_visual_{number}'
        mesh = spec.add_mesh(name=name)
        mesh.uservert = part.vertices.ravel()
        mesh.userface = part.triangles.ravel()
        mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL
        geom = body.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname=name, rgba=part.rgba)
        geom.alt.euler = rpy
        geom.contype = geom.conaffinity = 0
        geom.mass = 0.0
        geom.group = HAND_GROUP if held else ARM_GROUP
