# SPDX-License-Identifier: Apache-2.0
"""Pictures: the pipe, the socket and the arm are on them, and a machine that cannot draw says so."""

import ctypes.util

import numpy as np
from PIL import Image
import pytest

from q2rl_sim import render
from q2rl_sim.collada import ColouredMesh, read_collada
from q2rl_sim.panda import HOME, mesh_path, panda_urdf
from q2rl_sim.render import RenderError, SceneRenderer, write_animation
from q2rl_task import InputError, Pose, load_task

TASK = load_task('pipe_assembly')
SOCKET = TASK.fixture.nominal.pose


@pytest.fixture(scope='module')
def renderer():
    try:
        with SceneRenderer(TASK, 320, 240) as opened:
            yield opened
    except RenderError as error:
        pytest.skip(f'no off-screen OpenGL: {error}')


def count(picture, colour, tolerance=0.06):
    """Pixels whose hue is that of an rgb colour, whatever the light on them."""
    shade = picture / np.maximum(picture.sum(axis=-1, keepdims=True), 1.0)
    wanted = np.asarray(colour) / np.sum(colour)
    return int((np.abs(shade - wanted).max(axis=-1) < tolerance).sum())


def test_a_frame_shows_pipe_and_socket_on_a_light_ground(renderer):
    frame = renderer.frame(np.array(HOME), SOCKET)
    assert frame.shape == (240, 320, 3) and frame.dtype == np.uint8
    assert count(frame, (0.93, 0.45, 0.13)) > 50
    assert count(frame, (0.16, 0.42, 0.66)) > 50
    assert np.median(frame) > 150
    assert (frame.reshape(-1, 3).max(axis=1) < 90).sum() > 100  # the arm's dark parts


def test_the_picture_follows_arm_and_socket(renderer):
    first = renderer.frame(np.array(HOME), SOCKET)
    again = renderer.frame(np.array(HOME), SOCKET)
    moved_socket = renderer.frame(np.array(HOME), SOCKET @ Pose.of([0.03, 0.0, 0.0]))
    moved_arm = renderer.frame(np.array(HOME) + 0.2, SOCKET)
    assert np.array_equal(first, again)
    assert (first != moved_socket).any(axis=-1).sum() > 100
    assert (first != moved_arm).any(axis=-1).sum() > 1000


def test_an_animation_keeps_frames_and_speed(renderer, tmp_path):
    joints = [np.array(HOME) + 0.05 * k for k in range(4)]
    path = tmp_path / 'insertion.webp'
    write_animation(path, renderer.frames((j, SOCKET) for j in joints), fps=20.0)
    with Image.open(path) as image:
        assert image.format == 'WEBP' and image.n_frames == 4
        assert image.size == (320, 240)
        image.seek(1)
        image.load()
        assert image.info['duration'] == 50
    assert list(tmp_path.iterdir()) == [path]


def test_no_frames_are_no_animation(tmp_path):
    with pytest.raises(ValueError, match='at least one'):
        write_animation(tmp_path / 'none.webp', [], fps=20.0)


def test_closing_twice_is_harmless(renderer):
    with SceneRenderer(TASK, 64, 64) as other:
        other.close()
    assert renderer.frame(np.array(HOME), SOCKET).any()


def test_a_machine_without_opengl_is_told_what_to_install(monkeypatch):
    monkeypatch.setattr(ctypes.util, 'find_library', lambda _: None)
    with pytest.raises(RenderError, match=r'libegl1.*libosmesa6'):
        SceneRenderer(TASK, 64, 64)


def test_a_broken_egl_falls_through_to_osmesa(monkeypatch):
    tried = []

    def fail(name, width, height):
        tried.append(name)
        raise RuntimeError(f'{name} has no display')

    monkeypatch.setattr(ctypes.util, 'find_library', lambda name: f'lib{name}.so')
    monkeypatch.setattr(render, '_open', fail)
    with pytest.raises(RenderError, match=r'egl has no display.*osmesa has no display'):
        SceneRenderer(TASK, 64, 64)
    assert tried == ['egl', 'osmesa']


@pytest.mark.parametrize('size', [(8, 480), (640, 4000)])
def test_an_absurd_picture_size_is_refused(size):
    with pytest.raises(InputError, match='picture size'):
        SceneRenderer(TASK, *size)


def test_visual_meshes_are_read_with_their_colours():
    urdf = panda_urdf()
    base = 'package://example-robot-data/robots/panda_description/meshes/visual/'
    parts = read_collada(mesh_path(base + 'finger.dae', urdf))
    assert len(parts) == 2
    for part in parts:
        assert part.triangles.max() == len(part.vertices) - 1 and part.triangles.min() == 0
        assert part.rgba.shape == (4,)
    points = np.concatenate([p.vertices for p in parts])
    assert 0.04 < np.ptp(points[:, 2]) < 0.07  # a finger is 5 cm long


def test_coarsening_merges_near_vertices_only():
    mesh = ColouredMesh(
        np.array([[0, 0, 0], [0.0001, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=float),
        np.array([[0, 1, 2], [0, 2, 3], [1, 3, 4], [2, 3, 4]]),
        np.ones(4),
    )
    coarse = mesh.coarsened(0.01)
    assert len(coarse.vertices) == 4 and len(coarse.triangles) == 3
    tiny = mesh.coarsened(10.0)
    assert tiny is mesh
