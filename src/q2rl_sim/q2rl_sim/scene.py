# SPDX-License-Identifier: Apache-2.0
"""The MuJoCo scene of a task: a Panda holding a rigid pipe, a socket on a board, a spring at the pipe's tip.

Contact model. A MuJoCo cylinder among boxes gets clamped by contact normals of opposite sign, so the pipe's end is a
barrel of thin capsules: capsule against box is computed in closed form, and its normal is right as long as the
capsule's axis is outside the box. The capsules' radius is also the rounding of the pipe's edge (a 0.5 mm chamfer).
The socket is a collar of boxes, each wide enough to reach into its neighbours, with a floor and a board underneath.
Being hollow, the pipe can be touched from inside as well, when tilted by more than about 7 degrees over an outer
corner of the collar or the board.

Impedance law. The spring-damper between tip and target is six MuJoCo actuators between the tip's site and a mocap body,
so that it runs at the physics rate in C: the law of Cartesian impedance controllers on a torque-controlled arm,
J^T (K e - D J dq) plus a posture term in the null space of J, with gravity compensated.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from q2rl_sim.panda import ARM_JOINTS, GRASP_OFFSET_M, HAND_BODY, HAND_GROUP, HOME, panda_spec
from q2rl_task import TaskSpec

PHYSICS_STEP_S = 0.002
EDGE_RADIUS_M = 0.0005
STAVES = 32
"""Capsules along the pipe's skin, like the staves of a barrel; their round ends are the edge of its mouth."""
STAVE_LENGTH_M = 0.04
COLLAR_BOXES = 24
COLLAR_WALL_M = 0.012
BOARD_BELOW_RIM_M = 0.035
BOARD_HALF_M = 0.008
PIPE_LENGTH_M = 0.09
PIPE_BEYOND_GRASP_M = 0.065
PIPE_MASS_KG = 0.12
FRICTION = 0.2
DAMPING_N_S_M = 250.0
DAMPING_NM_S_RAD = 10.0
POSTURE_STIFFNESS_NM_RAD = 10.0
POSTURE_DAMPING_NM_S_RAD = 6.0

PIPE_RGBA = (0.93, 0.45, 0.13, 1.0)
COLLAR_RGBA = (0.16, 0.42, 0.66, 1.0)
BOARD_RGBA = (0.82, 0.80, 0.76, 1.0)
VISIBLE_GROUP, CONTACT_GROUP = HAND_GROUP, 3
MAX_PICTURE_PX = 1280


@dataclass(frozen=True)
class Scene:
    """A compiled scene and the ids and addresses that users of it need."""

    model: mujoco.MjModel
    tip_site: int
    mount_site: int
    socket_body: int
    socket_mocap: int
    target_mocap: int
    pipe_geoms: frozenset[int]
    pipe_mass: float
    pipe_centre: np.ndarray
    """Centre of mass of the pipe in tip axes, from the tip (3,) [m]."""
    tip_from_mount: np.ndarray
    """Tip in mount axes, from the mount (3,) [m]."""
    home: np.ndarray


def build_scene(task: TaskSpec, visuals: bool = False) -> Scene:
    """Compile the scene of `task`; `visuals` adds meshes, lights and a floor for rendering."""
    fixture = task.fixture
    spec = panda_spec(finger_opening_m=fixture.pipe_radius_m, visuals=visuals)
    spec.modelname = task.name
    option = spec.option
    option.timestep = PHYSICS_STEP_S
    option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    option.impratio = 10.0
    # An unconverged solve makes the pipe bounce on the rim; ten contacts take about ten iterations, a bad tick more.
    option.iterations = 100
    option.ls_iterations = 50
    _add_socket(spec, task)
    _add_pipe(spec, fixture.pipe_radius_m)
    _add_impedance(spec, task)
    if visuals:
        _add_surroundings(spec)
    for body in spec.bodies:
        body.gravcomp = 1.0  # as the arm's own controller does, payload included
    return _compiled(spec)


def _compiled(spec: mujoco.MjSpec) -> Scene:
    model = spec.compile()
    pipe = model.body('pipe')
    return Scene(
        model=model,
        tip_site=model.site('pipe_tip').id,
        mount_site=model.site('pipe_mount').id,
        socket_body=model.body('socket').id,
        socket_mocap=int(model.body('socket').mocapid[0]),
        target_mocap=int(model.body('target').mocapid[0]),
        pipe_geoms=frozenset(
            g
            for g in range(model.ngeom)
            if model.geom_bodyid[g] == pipe.id and model.geom_contype[g]
        ),
        pipe_mass=float(pipe.mass[0]),
        pipe_centre=np.array(pipe.ipos) - np.array(model.site('pipe_tip').pos),
        tip_from_mount=np.array(model.site('pipe_tip').pos)
        - np.array(model.site('pipe_mount').pos),
        home=np.array(HOME),
    )


def _contact(geom, contype: int, conaffinity: int) -> None:
    geom.contype, geom.conaffinity = contype, conaffinity
    geom.friction = [FRICTION, 0.0, 0.0]
    geom.condim = 3
    geom.solref = [0.005, 1.0]
    geom.solimp = [0.95, 0.99, 0.0005, 0.5, 2.0]


def _add_pipe(spec: mujoco.MjSpec, radius: float) -> None:
    tip = GRASP_OFFSET_M + PIPE_BEYOND_GRASP_M
    pipe = spec.body(HAND_BODY).add_body(name='pipe', pos=[0.0, 0.0, tip])
    pipe.explicitinertial = True
    pipe.mass = PIPE_MASS_KG
    pipe.ipos = [0.0, 0.0, -PIPE_LENGTH_M / 2.0]
    across = PIPE_MASS_KG * (radius**2 / 2.0 + PIPE_LENGTH_M**2 / 12.0)
    pipe.inertia = [across, across, PIPE_MASS_KG * radius**2]
    pipe.add_site(name='pipe_tip', pos=[0.0, 0.0, 0.0])
    pipe.add_site(name='pipe_mount', pos=[0.0, 0.0, -PIPE_LENGTH_M])
    for kind in (mujoco.mjtSensor.mjSENS_FORCE, mujoco.mjtSensor.mjSENS_TORQUE):
        spec.add_sensor(
            name=kind.name.removeprefix('mjSENS_').lower(),
            type=kind,
            objtype=mujoco.mjtObj.mjOBJ_SITE,
            objname='pipe_mount',
        )
    add_tube(spec, pipe, 'pipe_visual', radius - 0.002, radius, -PIPE_LENGTH_M, 0.0, PIPE_RGBA)
    _add_pipe_end(pipe, radius)


def _add_pipe_end(pipe, radius: float) -> None:
    """Add what touches: staves whose outer skin is the pipe's."""
    circle = radius - EDGE_RADIUS_M
    for angle in np.arange(STAVES) * (2.0 * np.pi / STAVES):
        x, y = circle * np.cos(angle), circle * np.sin(angle)
        stave = pipe.add_geom(
            type=mujoco.mjtGeom.mjGEOM_CAPSULE,
            size=[EDGE_RADIUS_M, 0.0, 0.0],
            fromto=[x, y, -EDGE_RADIUS_M, x, y, -STAVE_LENGTH_M],
        )
        stave.group = CONTACT_GROUP
        _contact(stave, 1, 0)


def _add_socket(spec: mujoco.MjSpec, task: TaskSpec) -> None:
    fixture = task.fixture
    nominal = fixture.nominal.pose
    x, y, z, w = nominal.quaternion
    socket = spec.worldbody.add_body(
        name='socket', mocap=True, pos=nominal.position, quat=[w, x, y, z]
    )
    socket.add_site(name='socket_rim')
    inner = fixture.pipe_radius_m + fixture.radial_clearance_m
    outer = inner + COLLAR_WALL_M
    # A box's inner face is tangent to the hole; past the vertex it runs inside its neighbour, never into the hole.
    half_width = outer * np.tan(np.pi / COLLAR_BOXES)
    for angle in np.arange(COLLAR_BOXES) * (2.0 * np.pi / COLLAR_BOXES):
        middle = inner + COLLAR_WALL_M / 2.0
        wall = socket.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[COLLAR_WALL_M / 2.0, half_width, BOARD_BELOW_RIM_M / 2.0],
            pos=[middle * np.cos(angle), middle * np.sin(angle), BOARD_BELOW_RIM_M / 2.0],
            quat=[np.cos(angle / 2.0), 0.0, 0.0, np.sin(angle / 2.0)],
        )
        wall.group = CONTACT_GROUP
        _contact(wall, 0, 1)
    thickness = (BOARD_BELOW_RIM_M - fixture.depth_m) / 2.0
    floor = socket.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[inner, inner, thickness],
        pos=[0.0, 0.0, fixture.depth_m + thickness],
        rgba=(0.1, 0.27, 0.42, 1.0),
    )
    board = socket.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[0.08, 0.08, BOARD_HALF_M],
        pos=[0.0, 0.0, BOARD_BELOW_RIM_M + BOARD_HALF_M],
        rgba=BOARD_RGBA,
    )
    for geom in (floor, board):
        geom.group = VISIBLE_GROUP
        _contact(geom, 0, 1)
    add_tube(spec, socket, 'collar_visual', inner, outer, 0.0, BOARD_BELOW_RIM_M, COLLAR_RGBA)


def _add_impedance(spec: mujoco.MjSpec, task: TaskSpec) -> None:
    target = spec.worldbody.add_body(name='target', mocap=True)
    target.add_site(name='target')
    limits = task.limits
    for axis in range(6):
        stiffness, damping = (
            (limits.stiffness_n_m, DAMPING_N_S_M)
            if axis < 3
            else (limits.stiffness_nm_rad, DAMPING_NM_S_RAD)
        )
        actuator = spec.add_actuator(
            name=f'impedance_{axis}',
            trntype=mujoco.mjtTrn.mjTRN_SITE,
            target='pipe_tip',
            refsite='target',
        )
        actuator.gear = [float(axis == i) for i in range(6)]
        actuator.set_to_position(kp=stiffness, kv=damping)
    # One tendon whose coefficients are the null vector of the tip's Jacobian (set anew every control period).
    posture = spec.add_tendon(name='posture')
    for name in ARM_JOINTS:
        posture.wrap_joint(name, 0.0)
    posture.stiffness = [POSTURE_STIFFNESS_NM_RAD, 0.0, 0.0]
    posture.damping = [POSTURE_DAMPING_NM_S_RAD, 0.0, 0.0]
    posture.springlength = [0.0, 0.0]


def add_tube(
    spec: mujoco.MjSpec, body, name: str, inner: float, outer: float, low: float, high: float, rgba
) -> None:
    """Add a visual tube along z from `low` to `high` to `body`; it touches nothing and weighs nothing."""
    segments = 48
    angles = np.arange(segments) * (2.0 * np.pi / segments)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    rims = [(outer, low), (outer, high), (inner, high), (inner, low)]
    vertices = np.concatenate(
        [np.column_stack([r * circle, np.full(segments, z)]) for r, z in rims]
    )
    faces = []
    for k in range(4):
        a, b = k * segments, ((k + 1) % 4) * segments
        for i in range(segments):
            j = (i + 1) % segments
            faces += [(a + i, a + j, b + i), (a + j, b + j, b + i)]
    mesh = spec.add_mesh(name=name)
    mesh.uservert = vertices.ravel()
    mesh.userface = np.array(faces, dtype=np.int32).ravel()
    mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL
    geom = body.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname=name, rgba=rgba)
    geom.contype = geom.conaffinity = 0
    geom.mass = 0.0
    geom.group = VISIBLE_GROUP


def _add_surroundings(spec: mujoco.MjSpec) -> None:
    """Add what only a picture needs: sky, floor, a stand under the board, lights."""
    spec.add_texture(
        name='sky',
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.97, 0.98, 1.0],
        rgb2=[0.80, 0.85, 0.91],
        width=64,
        height=384,
    )
    floor = spec.worldbody.add_geom(
        type=mujoco.mjtGeom.mjGEOM_PLANE, size=[2.0, 2.0, 0.1], rgba=[0.84, 0.86, 0.88, 1.0]
    )
    stand = spec.body('socket').add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[0.05, 0.05, 0.0475],
        pos=[0.0, 0.0, BOARD_BELOW_RIM_M + 2.0 * BOARD_HALF_M + 0.0475],
        rgba=[0.60, 0.62, 0.65, 1.0],
    )
    for geom in (floor, stand):
        geom.contype = geom.conaffinity = 0
        geom.group = VISIBLE_GROUP
    for position, strength in (([0.9, -0.8, 1.6], 0.45), ([0.2, 1.0, 1.5], 0.25)):
        light = spec.worldbody.add_light(pos=position)
        light.dir = [0.5 - position[0], -position[1], 0.2 - position[2]]
        light.type = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
        light.diffuse = [strength] * 3
        light.specular = [0.15] * 3
        light.castshadow = False
    headlight = spec.visual.headlight
    headlight.ambient = [0.34] * 3
    headlight.diffuse = [0.26] * 3
    headlight.specular = [0.05] * 3
    # Software rendering: a shadow map or multisampling costs twenty times the rest.
    spec.visual.quality.shadowsize = 0
    spec.visual.quality.offsamples = 0
    getattr(spec.visual, 'global').offwidth = MAX_PICTURE_PX
    getattr(spec.visual, 'global').offheight = MAX_PICTURE_PX
    spec.visual.map.znear = 0.005
