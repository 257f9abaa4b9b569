# SPDX-License-Identifier: Apache-2.0
"""The part of the page with which a person steers: gizmo, true scene, gripper, views, and what to do in a line."""

from __future__ import annotations

import math
import time

import mujoco
import numpy as np
import viser

from q2rl_bringup.scene_state import SceneState
from q2rl_bringup.steering import Steering
from q2rl_sim.round_insert import VISIBLE_GROUP
from q2rl_sim.scene import build_scene
from q2rl_task import Pose, TaskSpec

GIZMO_M = 0.06
OPEN, CLOSE = 'Open', 'Close'
VIEWS = {'Front': (1.0, 0.0, 0.3), 'Side': (0.0, -1.0, 0.3), 'Corner': (1.0, -1.0, 0.8)}
"""From where a button looks at the tip; nothing of the arm is in the way."""
VIEW_M = 0.24
FIELD_OF_VIEW = math.radians(50.0)
HOW = 'drag an arrow, a plane or a ring of the gizmo: the arm follows; Failure gives this try up'
WHY = 'the arm goes to its next start'


class SteeringPanel:
    """What `steering` shows and takes on a page; `draw` is called from one thread, the rest by viser.

    :raises InputError: the task has no scene
    """

    def __init__(self, server: viser.ViserServer, task: TaskSpec, steering: Steering) -> None:
        self._server, self._task, self._steering = server, task, steering
        self._gizmo: viser.TransformControlsHandle | None = None
        self._episode = ''
        self._objects = _add_objects(server.scene, task)
        self._text = server.gui.add_html('')
        if task.gripper:
            gripper = server.gui.add_button_group('Gripper', [OPEN, CLOSE])
            gripper.on_click(self._press)
        views = server.gui.add_button_group('View', list(VIEWS))
        views.on_click(self._look)
        server.on_client_disconnect(self._gone)
        # At first as from a button, at the middle of where episodes start.
        below = task.part if task.part is not None and task.reset.above == 'part' else task.fixture
        start = below.nominal.pose @ Pose.of([0.0, 0.0, -task.reset.height_m])
        camera = server.initial_camera
        camera.fov = FIELD_OF_VIEW
        camera.position, camera.look_at = _view('Corner', start)

    def draw(self, state: SceneState) -> None:
        """Show the gizmo where the command is, unless somebody drags it, and things where they are."""
        steering = self._steering
        for frame, pose in zip(self._objects, steering.truth, strict=False):
            _place(frame, pose)
        offered = steering.offered(time.monotonic())
        if offered != self._episode:
            self._episode = offered
            # A new gizmo for every episode: a drag of the last one moves nothing in this.
            if self._gizmo is not None:
                self._gizmo.remove()
            self._gizmo = self._add_gizmo() if offered else None
        if self._gizmo is not None and not steering.held:
            _place(self._gizmo, steering.commanded)
        said = _turn_html(self._task, state.step_of(offered) if offered else None)
        if said != self._text.content:
            self._text.content = said

    def _add_gizmo(self) -> viser.TransformControlsHandle:
        gizmo = self._server.scene.add_transform_controls(
            f'/steering/{self._episode}', scale=GIZMO_M, line_width=3.0, depth_test=False
        )
        gizmo.on_update(self._dragged)
        return gizmo

    # Coroutines keep the order of what the hand did; they run in viser's own thread.

    async def _dragged(self, event: viser.TransformControlsEvent) -> None:
        if event.target is not self._gizmo or event.client_id is None:
            return
        now = time.monotonic()
        if event.phase == 'start':
            self._steering.grab(event.client_id, now)
        elif event.phase == 'end':
            self._steering.let_go(event.client_id)
        else:
            w, x, y, z = event.target.wxyz
            pose = Pose(np.array(event.target.position), np.array([x, y, z, w]))
            self._steering.move(event.client_id, pose, now)

    async def _gone(self, client: viser.ClientHandle) -> None:
        self._steering.let_go(client.client_id)

    async def _press(self, event: viser.GuiEvent) -> None:
        opening = 1.0 if event.target.value == OPEN else -1.0
        self._steering.press(opening, time.monotonic())

    async def _look(self, event: viser.GuiEvent) -> None:
        if event.client is not None:
            camera = event.client.camera
            with event.client.atomic():
                camera.position, camera.look_at = _view(event.target.value, self._at())

    def _at(self) -> Pose:
        return self._steering.commanded or self._task.fixture.nominal.pose


def _turn_html(task: TaskSpec, step: int | None) -> str:
    """Return whose turn it is and how much of the episode's time is left; `step`: it has come to, None: none runs."""
    kind, title, text = 'holding', 'WAIT', WHY
    if step is not None:
        left = (task.max_steps - step) * task.period_s
        kind, title, text = 'acting', f'YOUR TURN: {left:.1f} s left', HOW
    return f'<div class="q2rl-guard q2rl-{kind}"><b>{title}</b><span>{text}</span></div>'


def _view(name: str, at: Pose) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return camera and what it looks at, for the tip at a pose and one of `VIEWS`."""
    direction = np.array(VIEWS[name])
    camera = at.position + VIEW_M * direction / np.linalg.norm(direction)
    return tuple(camera), tuple(at.position)


def _add_objects(scene: viser.SceneApi, task: TaskSpec) -> list[viser.FrameHandle]:
    """Draw what the simulation holds beside the arm; return the frames of the fixture and of the loose part."""
    built = build_scene(task, visuals=True)
    model = built.model
    moving = [built.fixture_body]
    if built.loose:
        moving.append(int(model.jnt_bodyid[-1]))
    frames = [scene.add_frame(f'/truth/{body}', show_axes=False) for body in (0, *moving)]
    for frame, body in zip(frames, (0, *moving), strict=True):
        for geom in range(model.ngeom):
            if model.geom_bodyid[geom] == body and model.geom_group[geom] == VISIBLE_GROUP:
                _add_geom(scene, f'{frame.name}/{geom}', model, geom)
    return frames[1:]


def _add_geom(scene: viser.SceneApi, name: str, model: mujoco.MjModel, geom: int) -> None:
    """Draw a box or a mesh; round things are meshes in these scenes."""
    colour = tuple(round(255.0 * float(c)) for c in model.geom_rgba[geom][:3])
    place = {'position': model.geom_pos[geom], 'wxyz': model.geom_quat[geom]}
    kind = model.geom_type[geom]
    if kind == mujoco.mjtGeom.mjGEOM_BOX:
        scene.add_box(name, colour, tuple(2.0 * model.geom_size[geom]), **place)
    elif kind == mujoco.mjtGeom.mjGEOM_MESH:
        mesh = model.geom_dataid[geom]
        first, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
        vertices = model.mesh_vert[first : first + count]
        first, count = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
        faces = model.mesh_face[first : first + count]
        scene.add_mesh_simple(name, vertices, faces, color=colour, side='double', **place)


def _place(handle: viser.SceneNodeHandle, pose: Pose) -> None:
    """Put something at a pose, if it is to move at all."""
    x, y, z, w = pose.quaternion.tolist()
    position, wxyz = pose.position, np.array([w, x, y, z])
    if not (np.array_equal(handle.position, position) and np.array_equal(handle.wxyz, wxyz)):
        handle.position, handle.wxyz = position, wxyz
