# SPDX-License-Identifier: Apache-2.0
"""Read the triangles and colours of a COLLADA (.dae) file, which MuJoCo itself does not load."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
import xml.etree.ElementTree as ElementTree

import numpy as np

NAMESPACE = '{http://www.collada.org/2005/11/COLLADASchema}'


@dataclass(frozen=True)
class ColouredMesh:
    """One mesh: vertices (V, 3) [m], triangles (T, 3) of vertex indices, rgba (4,)."""

    vertices: np.ndarray
    triangles: np.ndarray
    rgba: np.ndarray

    def coarsened(self, cell_m: float) -> ColouredMesh:
        """Return the mesh with all vertices of one grid cell merged into their mean; flat triangles go."""
        _, cells = np.unique(np.round(self.vertices / cell_m), axis=0, return_inverse=True)
        cells = cells.ravel()
        counts = np.bincount(cells)
        vertices = np.stack(
            [np.bincount(cells, column) / counts for column in self.vertices.T], axis=1
        )
        corners = cells[self.triangles]
        a, b, c = corners.T
        triangles = corners[(a != b) & (b != c) & (c != a)]
        if len(np.unique(triangles)) < 4:  # a part smaller than a cell
            return self
        used, renumbered = np.unique(triangles, return_inverse=True)
        return ColouredMesh(vertices[used], renumbered.reshape(-1, 3).astype(np.int32), self.rgba)


def _find(element: ElementTree.Element, path: str) -> ElementTree.Element | None:
    return element.find('/'.join(NAMESPACE + p for p in path.split('/')))


def _colours(root: ElementTree.Element) -> dict[str, np.ndarray]:
    effects = {}
    for effect in root.iter(NAMESPACE + 'effect'):
        diffuse = next(effect.iter(NAMESPACE + 'diffuse'), None)
        colour = _find(diffuse, 'color') if diffuse is not None else None
        if colour is not None:
            effects['#' + effect.get('id')] = np.array(colour.text.split(), dtype=np.float64)
    materials = {}
    for material in root.iter(NAMESPACE + 'material'):
        materials['#' + material.get('id')] = effects.get(
            _find(material, 'instance_effect').get('url')
        )
    return materials


def read_collada(path: Path) -> list[ColouredMesh]:
    """Return the meshes of `path`, their nodes' transforms applied, one per triangle group.

    Reads what robot descriptions use: Z up, metres, `<triangles>` of one node level. Normals and textures are left out.
    """
    root = ElementTree.parse(path).getroot()
    colours = _colours(root)
    geometries = {'#' + g.get('id'): g for g in root.iter(NAMESPACE + 'geometry')}
    meshes = []
    for node in root.iter(NAMESPACE + 'node'):
        matrix = _find(node, 'matrix')
        transform = (
            np.eye(4)
            if matrix is None
            else np.array(matrix.text.split(), dtype=np.float64).reshape(4, 4)
        )
        for instance in node.findall(NAMESPACE + 'instance_geometry'):
            bound = {
                m.get('symbol'): colours.get(m.get('target'))
                for m in instance.iter(NAMESPACE + 'instance_material')
            }
            for mesh in geometries[instance.get('url')].iter(NAMESPACE + 'mesh'):
                meshes += _triangle_groups(mesh, transform, bound)
    return meshes


def _triangle_groups(
    mesh: ElementTree.Element, transform: np.ndarray, bound: dict
) -> list[ColouredMesh]:
    sources = {'#' + s.get('id'): s for s in mesh.iter(NAMESPACE + 'source')}
    positions = next(i for i in _find(mesh, 'vertices') if i.get('semantic') == 'POSITION').get(
        'source'
    )
    points = np.array(
        _find(sources[positions], 'float_array').text.split(), dtype=np.float64
    ).reshape(-1, 3)
    points = points @ transform[:3, :3].T + transform[:3, 3]
    groups = []
    for triangles in mesh.iter(NAMESPACE + 'triangles'):
        inputs = triangles.findall(NAMESPACE + 'input')
        stride = 1 + max(int(i.get('offset')) for i in inputs)
        offset = next(int(i.get('offset')) for i in inputs if i.get('semantic') == 'VERTEX')
        indices = np.array(_find(triangles, 'p').text.split(), dtype=np.int32).reshape(-1, stride)[
            :, offset
        ]
        used, renumbered = np.unique(indices, return_inverse=True)
        rgba = bound.get(triangles.get('material'))
        rgba = np.array([0.9, 0.9, 0.9, 1.0]) if rgba is None else rgba
        groups.append(ColouredMesh(points[used], renumbered.reshape(-1, 3).astype(np.int32), rgba))
    return groups
