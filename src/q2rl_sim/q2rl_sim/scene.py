# SPDX-License-Identifier: Apache-2.0
"""What every simulated cell has: options, the arm's impedance law, lights; and the choice of a scene by the task.

A scene is a module that `TaskSpec.scene` names, with `build(task, visuals) -> Scene`; `seated(task, insert, opening)
-> bool`, the fixture's own signal by where the inserted end is in the fixture; and a class `Demonstrator`.

Impedance law. The spring-damper between tip and target is six MuJoCo actuators between the tip's site and a mocap body,
so that it runs at the physics rate in C: the law of Cartesian impedance controllers on a torque-controlled arm,
J^T (K e - D J dq) plus a posture term in the null space of J, with gravity compensated.
"""

from __future__ import annotations

from dataclasses import dataclass
import importlib
from types import ModuleType

import mujoco
import numpy as np

from q2rl_sim.panda import ARM_JOINTS, HOME
from q2rl_sim.round_insert import VISIBLE_GROUP
from q2rl_task import InputError, TaskSpec

PHYSICS_STEP_S = 0.002
DAMPING_N_S_M = 250.0
DAMPING_NM_S_RAD = 10.0
POSTURE_STIFFNESS_NM_RAD = 10.0
POSTURE_DAMPING_NM_S_RAD = 6.0
TIP, MOUNT, FIXTURE, TARGET = 'tip', 'mount', 'fixture', 'target'
"""Names that `compiled` looks for: the sites of the tip and of the force-torque sensor, the bodies of
fixture and target."""
MAX_PICTURE_PX = 1280


@dataclass(frozen=True)
class Payload:
    """What hangs behind the force-torque sensor and belongs to the arm: mass [kg], centre in mount axes (3,) [m]."""

    mass: float
    centre: np.ndarray


@dataclass(frozen=True)
class Scene:
    """A compiled scene and the ids and addresses that users of it need.

    insert_geoms, insert_site: what of the inserted thing touches, and the end of it that goes in first. fingers:
    number of finger joints; in qpos and qvel they follow the arm's, in ctrl their actuators are the last. loose:
    whether there is a loose part, whose free joint is the last of all.
    """

    model: mujoco.MjModel
    tip_site: int
    fixture_body: int
    fixture_mocap: int
    target_mocap: int
    insert_geoms: frozenset[int]
    insert_site: int
    payload: Payload
    tip_from_mount: np.ndarray
    """Tip in mount axes, from the mount (3,) [m]."""
    home: np.ndarray
    fingers: int
    loose: bool

    @property
    def joints(self) -> int:
        """Number of the robot's own joints."""
        return len(self.home) + self.fingers


def scene_module(task: TaskSpec) -> ModuleType:
    """Return the module that `task.scene` names: one of `q2rl_sim.scenes`, or by its dotted path.

    :raises InputError: the task has no scene, or there is no such module
    """
    where = f'task {task.name}: field `scene`'
    if not task.scene:
        raise InputError(where, 'is empty: nothing to simulate', 'name a scene, or say sim:=none')
    name = task.scene if '.' in task.scene else f'q2rl_sim.scenes.{task.scene}'
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f'{name}.'.startswith(f'{error.name}.'):
            raise
        raise InputError(
            where, f'there is no module {name}', 'name one of q2rl_sim.scenes or a dotted path'
        ) from None


def configuration_size(task: TaskSpec) -> int:
    """Return how many numbers say how a scene stands: joints of the arm and the gripper, and the part's pose."""
    fingers = len(task.gripper.joints) if task.gripper else 0
    return len(ARM_JOINTS) + fingers + (7 if task.part else 0)


def build_scene(task: TaskSpec, visuals: bool = False) -> Scene:
    """Compile the scene of `task`; `visuals` adds meshes, lights and a floor for rendering.

    :raises InputError: the task names no scene that there is
    """
    return scene_module(task).build(task, visuals)


def set_options(spec: mujoco.MjSpec, task: TaskSpec) -> None:
    """Set name, time step and solver of a scene."""
    spec.modelname = task.name
    option = spec.option
    option.timestep = PHYSICS_STEP_S
    option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    option.impratio = 10.0
    # An unconverged solve makes the pipe bounce on the rim; ten contacts take about ten iterations, a bad tick more.
    option.iterations = 100
    option.ls_iterations = 50


def compiled(
    spec: mujoco.MjSpec, task: TaskSpec, insert: str, insert_site: str, payload: Payload
) -> Scene:
    """Compile a scene whose sites and bodies have the names above; `insert`: the body that goes into the fixture."""
    model = spec.compile()
    body = model.body(insert).id
    return Scene(
        model=model,
        tip_site=model.site(TIP).id,
        fixture_body=model.body(FIXTURE).id,
        fixture_mocap=int(model.body(FIXTURE).mocapid[0]),
        target_mocap=int(model.body(TARGET).mocapid[0]),
        insert_geoms=frozenset(
            g for g in range(model.ngeom) if model.geom_bodyid[g] == body and model.geom_contype[g]
        ),
        insert_site=model.site(insert_site).id,
        payload=payload,
        tip_from_mount=np.array(model.site(TIP).pos) - np.array(model.site(MOUNT).pos),
        home=np.array(HOME),
        fingers=len(task.gripper.joints) if task.gripper else 0,
        loose=task.part is not None,
    )


def add_fixture(spec: mujoco.MjSpec, task: TaskSpec):
    """Add the body of the fixture, at its nominal pose; origin at the rim's centre, z into the hole."""
    nominal = task.fixture.nominal.pose
    x, y, z, w = nominal.quaternion
    return spec.worldbody.add_body(
        name=FIXTURE, mocap=True, pos=nominal.position, quat=[w, x, y, z]
    )


def add_wrist_sensors(spec: mujoco.MjSpec, *kinds: mujoco.mjtSensor) -> None:
    """Add sensors at the mount: force, torque, then `kinds`."""
    for kind in (mujoco.mjtSensor.mjSENS_FORCE, mujoco.mjtSensor.mjSENS_TORQUE, *kinds):
        spec.add_sensor(
            name=kind.name.removeprefix('mjSENS_').lower(),
            type=kind,
            objtype=mujoco.mjtObj.mjOBJ_SITE,
            objname=MOUNT,
        )


def add_impedance(spec: mujoco.MjSpec, task: TaskSpec) -> None:
    """Add the spring between tip and target, and the posture's."""
    target = spec.worldbody.add_body(name=TARGET, mocap=True)
    target.add_site(name=TARGET)
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
            target=TIP,
            refsite=TARGET,
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


def add_surroundings(spec: mujoco.MjSpec) -> None:
    """Add what only a picture needs: sky, floor, lights."""
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
    floor.contype = floor.conaffinity = 0
    floor.group = VISIBLE_GROUP
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
