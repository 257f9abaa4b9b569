# SPDX-License-Identifier: Apache-2.0
"""Pictures of a trajectory, rendered off screen: EGL first, then OSMesa, then a word on what to install."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
import ctypes.util
import importlib
import os
from pathlib import Path
import sys

import mujoco
import numpy as np
from PIL import Image

from q2rl_sim.panda import ARM_GROUP
from q2rl_sim.round_insert import VISIBLE_GROUP
from q2rl_sim.scene import MAX_PICTURE_PX, build_scene
from q2rl_task import InputError, Pose, TaskSpec
from q2rl_task.atomic_file import replacing
from q2rl_task.errors import one_line

BACKENDS = {'egl': 'libegl1', 'osmesa': 'libosmesa6'}
"""OpenGL platforms in the order they are tried, and the Debian package of each."""


class RenderError(RuntimeError):
    """No way to render on this machine; the message names the package to install."""


class SceneRenderer:
    """Render a task's scene; a wide view with a close-up of the insertion in its corner.

    :param width: of the picture [px], at most 1280
    :param height: of the picture [px], at most 1280
    :raises RenderError: neither EGL nor OSMesa works here
    """

    def __init__(self, task: TaskSpec, width: int = 640, height: int = 480) -> None:
        if not (16 <= width <= MAX_PICTURE_PX and 16 <= height <= MAX_PICTURE_PX):
            raise InputError(
                'picture size', f'{width} x {height} px', f'choose 16 to {MAX_PICTURE_PX} px'
            )
        self._scene = build_scene(task, visuals=True)
        self._model = self._scene.model
        self._data = mujoco.MjData(self._model)
        self._size = (width, height)
        self._gl = _open_context(width, height)
        self._context = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._visible = mujoco.MjvScene(self._model, maxgeom=500)
        self._option = mujoco.MjvOption()
        self._option.geomgroup[:] = 0
        self._option.geomgroup[VISIBLE_GROUP] = 1
        self._option.sitegroup[:] = 0
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._visible.flags[flag] = False
        rim = task.fixture.nominal.pose.position
        self._wide = _camera(rim + np.array([-0.10, 0.16, 0.17]), 1.4, 128.0, -16.0)
        self._close = _camera(rim + np.array([0.0, 0.0, 0.015]), 0.26, 150.0, -24.0)

    def __enter__(self) -> SceneRenderer:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Free the OpenGL context; calling it again does nothing."""
        if self._gl is not None:
            self._gl.make_current()
            self._context.free()
            self._gl.free()
            self._gl = None

    def frame(self, configuration: np.ndarray, fixture: Pose) -> np.ndarray:
        """Return one picture, (height, width, 3) uint8, of a configuration (nq,) and the fixture's true pose."""
        data = self._data
        data.qpos[:] = configuration
        x, y, z, w = fixture.quaternion
        data.mocap_pos[self._scene.fixture_mocap] = fixture.position
        data.mocap_quat[self._scene.fixture_mocap] = (w, x, y, z)
        mujoco.mj_kinematics(self._model, data)
        mujoco.mj_comPos(self._model, data)
        mujoco.mj_camlight(self._model, data)
        self._gl.make_current()
        width, height = self._size
        self._option.geomgroup[ARM_GROUP] = 1
        picture = self._view(self._wide, width, height)
        inset_width, inset_height = round(0.36 * width), round(0.36 * width)
        inset_height = min(inset_height, height - 16)
        self._option.geomgroup[ARM_GROUP] = 0  # hardly in this view, and most of the triangles
        inset = self._view(self._close, inset_width, inset_height)
        edge = max(2, width // 320)
        bordered = np.full((inset_height + 2 * edge, inset_width + 2 * edge, 3), 255, np.uint8)
        bordered[edge:-edge, edge:-edge] = inset
        gap = max(4, width // 64)
        picture[gap : gap + bordered.shape[0], width - gap - bordered.shape[1] : width - gap] = (
            bordered
        )
        return picture

    def frames(self, trajectory: Iterable[tuple[np.ndarray, Pose]]) -> list[np.ndarray]:
        """Return a picture for every (configuration, fixture pose) of a trajectory."""
        return [self.frame(configuration, fixture) for configuration, fixture in trajectory]

    def _view(self, camera: mujoco.MjvCamera, width: int, height: int) -> np.ndarray:
        mujoco.mjv_updateScene(
            self._model,
            self._data,
            self._option,
            None,
            camera,
            mujoco.mjtCatBit.mjCAT_ALL,
            self._visible,
        )
        rect = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_render(rect, self._visible, self._context)
        pixels = np.empty((height, width, 3), np.uint8)
        mujoco.mjr_readPixels(pixels, None, rect, self._context)
        return pixels[::-1].copy()


def write_animation(path: str | Path, frames: Sequence[np.ndarray], fps: float) -> None:
    """Write frames (each (H, W, 3) uint8) as an endless animated WebP of `fps` pictures per second."""
    if not frames:
        raise ValueError('an animation needs at least one frame')
    images = [Image.fromarray(frame) for frame in frames]
    with replacing(path) as partial:
        images[0].save(
            partial,
            format='WEBP',
            save_all=True,
            append_images=images[1:],
            duration=round(1000.0 / fps),
            loop=0,
            quality=80,
            method=2,
        )


def _camera(lookat: np.ndarray, distance: float, azimuth: float, elevation: float):
    camera = mujoco.MjvCamera()
    camera.type = mujoco.mjtCamera.mjCAMERA_FREE
    camera.lookat[:] = lookat
    camera.distance, camera.azimuth, camera.elevation = distance, azimuth, elevation
    return camera


def _open_context(width: int, height: int):
    """Return a current OpenGL context of the first platform that works."""
    reasons = []
    for name, package in BACKENDS.items():
        if ctypes.util.find_library({'egl': 'EGL', 'osmesa': 'OSMesa'}[name]) is None:
            reasons.append(f'{name}: its library is missing (apt-get install {package})')
            continue
        try:
            return _open(name, width, height)
        except Exception as error:  # the platforms fail with errors of many kinds
            reasons.append(f'{name}: {one_line(error, 120)} (Debian package {package})')
    raise RenderError('no off-screen OpenGL; ' + '; '.join(reasons))


def _open(name: str, width: int, height: int):
    if os.environ.get('PYOPENGL_PLATFORM', name) != name:
        # PyOpenGL binds to one platform at import: forget it before trying another.
        for module in [
            m for m in sys.modules if m.split('.')[0] == 'OpenGL' or m == f'mujoco.{name}'
        ]:
            del sys.modules[module]
    os.environ['PYOPENGL_PLATFORM'] = os.environ['MUJOCO_GL'] = name
    context = importlib.import_module(f'mujoco.{name}').GLContext(width, height)
    context.make_current()
    return context
