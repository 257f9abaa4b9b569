# SPDX-License-Identifier: Apache-2.0
"""The scene of kitting: a Panda with a gripper, a loose cylinder on a table, and a tray with a round pocket.

What touches what is told by bits. WALL: the part's barrel and the pocket's collar (see `round_insert`). FLOOR: small
balls at both ends of the part and at the fingertips, and table, tray and pocket floor; a barrel of 32 capsules on a
plane would cost 64 contacts. GRIP: the part's barrel and the finger pads, the only surfaces that hold by friction.
"""

from __future__ import annotations

import mujoco
import numpy as np

from q2rl_sim.kitting_demonstrator import Demonstrator
from q2rl_sim.panda import GRASP_OFFSET_M, HAND_BODY, panda_spec
from q2rl_sim.round_insert import (
    COLLAR_WALL_M,
    CONTACT_GROUP,
    EDGE_RADIUS_M,
    VISIBLE_GROUP,
    add_barrel,
    add_collar,
    add_tube,
    make_contact,
)
from q2rl_sim.scene import (
    MOUNT,
    TIP,
    Payload,
    Scene,
    add_fixture,
    add_impedance,
    add_surroundings,
    add_wrist_sensors,
    compiled,
    set_options,
)
from q2rl_sim.socket_parts import is_deep
from q2rl_task import InputError, TaskSpec

__all__ = ['Demonstrator', 'build', 'seated']

PART = 'part'
WALL, FLOOR, GRIP = 1, 2, 4
FLOOR_M = 0.005
"""Thickness of the tray under the pocket."""
FEET = 6
LET_GO_M = 0.0005
"""The fingers have let go when their mean distance from the part's skin is more than this."""
FINGERS = {'panda_leftfinger': 1.0, 'panda_rightfinger': -1.0}
"""The finger bodies, and the side of the hand that each is on."""
PAD_IN_FINGER_M = GRASP_OFFSET_M - 0.0584
PAD_M = (0.010, 0.004, 0.009)
"""Half sizes of a finger pad: across, thickness, along the finger."""
PAD_FRICTION = 1.0
TIP_BALL_M = 0.003
FINGER_ARMATURE_KG = 0.1
FINGER_STIFFNESS_N_M = 5000.0
FINGER_DAMPING_N_S_M = 50.0
PART_RGBA = (0.93, 0.45, 0.13, 1.0)
TRAY_RGBA = (0.82, 0.80, 0.76, 1.0)
TABLE_RGBA = (0.70, 0.72, 0.75, 1.0)


def build(task: TaskSpec, visuals: bool = False) -> Scene:
    """Compile the scene; `visuals` adds meshes, lights and a floor for rendering.

    :raises InputError: the task has no gripper or no part
    """
    if task.gripper is None or task.part is None:
        missing = 'gripper' if task.gripper is None else 'part'
        raise InputError(
            f'task {task.name}: field `{missing}`',
            'the scene `kitting` needs one',
            'set it as kitting.yaml does',
        )
    spec = panda_spec(finger_opening_m=None, visuals=visuals)
    set_options(spec, task)
    _add_table(spec, task)
    _add_tray(spec, task)
    add_impedance(spec, task)
    payload = _add_hand(spec, task)
    if visuals:
        add_surroundings(spec)
    for body in spec.bodies:
        body.gravcomp = 1.0  # as the arm's own controller does, the hand included
    # The part is nobody's payload: it has weight. Its joint must be the last, so it comes after the arm.
    _add_part(spec, task)
    return compiled(spec, task, PART, 'part_end', payload)


def seated(task: TaskSpec, insert: np.ndarray, opening: float) -> bool:
    """Whether the pocket's switch is pressed: the part's end (3,) [m], pocket frame, is down, and nothing holds it."""
    held = opening * task.gripper.open_m < task.fixture.insert_radius_m + LET_GO_M
    return not held and is_deep(task, insert)


def _add_table(spec: mujoco.MjSpec, task: TaskSpec) -> None:
    x, y, z = task.part.nominal.position
    table = spec.worldbody.add_geom(
        name='table',
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[0.14, 0.16, 0.02],
        pos=[x, y + 0.03, z - task.part.below_m - 0.02],
        rgba=TABLE_RGBA,
    )
    table.group = VISIBLE_GROUP
    make_contact(table, 0, FLOOR)


def _add_tray(spec: mujoco.MjSpec, task: TaskSpec) -> None:
    fixture = task.fixture
    tray = add_fixture(spec, task)
    inner = fixture.insert_radius_m + fixture.radial_clearance_m
    add_collar(spec, tray, inner, fixture.depth_m + FLOOR_M)
    bottom = tray.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[inner + COLLAR_WALL_M, inner + COLLAR_WALL_M, FLOOR_M / 2.0],
        pos=[0.0, 0.0, fixture.depth_m + FLOOR_M / 2.0],
        rgba=TRAY_RGBA,
    )
    bottom.group = VISIBLE_GROUP
    make_contact(bottom, 0, FLOOR)
    # Fingertips meet the rim as a flat ring would be met: balls against the collar's boxes.
    for geom in tray.geoms:
        if geom.conaffinity:
            geom.conaffinity |= FLOOR


def _add_part(spec: mujoco.MjSpec, task: TaskSpec) -> None:
    part, radius = task.part, task.fixture.insert_radius_m
    length = part.above_m + part.below_m
    x, y, z, w = part.nominal.quaternion
    body = spec.worldbody.add_body(name=PART, pos=part.nominal.position, quat=[w, x, y, z])
    body.add_freejoint()
    body.explicitinertial = True
    body.mass = part.mass_kg
    body.ipos = [0.0, 0.0, part.below_m - length / 2.0]
    across = part.mass_kg * (radius**2 / 4.0 + length**2 / 12.0)
    body.inertia = [across, across, part.mass_kg * radius**2 / 2.0]
    body.add_site(name='part_end', pos=[0.0, 0.0, part.below_m])
    add_barrel(body, radius, part.below_m, length - EDGE_RADIUS_M)
    for stave in body.geoms:
        stave.contype |= GRIP
    for angle in np.arange(FEET) * (2.0 * np.pi / FEET):
        for end in (part.below_m - EDGE_RADIUS_M, -part.above_m + EDGE_RADIUS_M):
            circle = radius - EDGE_RADIUS_M
            foot = body.add_geom(
                type=mujoco.mjtGeom.mjGEOM_SPHERE,
                size=[EDGE_RADIUS_M, 0.0, 0.0],
                pos=[circle * np.cos(angle), circle * np.sin(angle), end],
            )
            foot.group = CONTACT_GROUP
            make_contact(foot, FLOOR, 0)
    low, high = -part.above_m, part.below_m
    add_tube(spec, body, 'part_visual', 0.001, radius, low, high, PART_RGBA)


def _add_hand(spec: mujoco.MjSpec, task: TaskSpec) -> Payload:
    """Add pads, the gripper's drive and the wrist's sensors; return what hangs behind the sensors."""
    hand, gripper = spec.body(HAND_BODY), task.gripper
    hand.add_site(name=TIP, pos=[0.0, 0.0, GRASP_OFFSET_M])
    hand.add_site(name=MOUNT)
    add_wrist_sensors(spec, mujoco.mjtSensor.mjSENS_ACCELEROMETER)
    for name, side in FINGERS.items():
        _add_pad(spec.body(name), side)
    if set(gripper.joints) != {f'panda_finger_joint{i}' for i in (1, 2)}:
        raise InputError(
            f'task {task.name}: field `gripper.joints`',
            "the scene `kitting` simulates a Panda's two fingers, not these",
            'name panda_finger_joint1 and panda_finger_joint2; for another arm, without a '
            'simulation, set `scene: ""`',
        )
    for name in gripper.joints:
        joint = spec.joint(name)
        joint.armature = FINGER_ARMATURE_KG
        actuator = spec.add_actuator(
            name=f'drive_{name}', trntype=mujoco.mjtTrn.mjTRN_JOINT, target=name
        )
        actuator.set_to_position(kp=FINGER_STIFFNESS_N_M, kv=FINGER_DAMPING_N_S_M)
        actuator.forcelimited = True
        actuator.forcerange = [-gripper.force_n, gripper.force_n]
    # One motor drives both fingers: what is between them is centred.
    coupling = spec.add_equality(
        name='fingers',
        type=mujoco.mjtEq.mjEQ_JOINT,
        objtype=mujoco.mjtObj.mjOBJ_JOINT,
        name1=gripper.joints[0],
        name2=gripper.joints[1],
    )
    coupling.data[:5] = [0.0, 1.0, 0.0, 0.0, 0.0]
    coupling.solref = [0.005, 1.0]
    return _payload(spec.copy())


def _payload(spec: mujoco.MjSpec) -> Payload:
    """Return mass and centre of the hand with its fingers, which move symmetrically about it."""
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    hand = model.body(HAND_BODY).id
    mount = data.site(MOUNT)
    centre = mount.xmat.reshape(3, 3).T @ (data.subtree_com[hand] - mount.xpos)
    return Payload(float(model.body_subtreemass[hand]), centre)


def _add_pad(finger, side: float) -> None:
    across, thick, along = PAD_M
    pad = finger.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=PAD_M,
        pos=[0.0, side * thick, PAD_IN_FINGER_M],
        mass=0.0,
    )
    pad.group = CONTACT_GROUP
    make_contact(pad, 0, GRIP)
    pad.friction = [PAD_FRICTION, 0.0, 0.0]
    pad.priority = 1
    end = PAD_IN_FINGER_M + along - TIP_BALL_M
    for x in (-across + TIP_BALL_M, 0.0, across - TIP_BALL_M):
        ball = finger.add_geom(
            type=mujoco.mjtGeom.mjGEOM_SPHERE,
            size=[TIP_BALL_M, 0.0, 0.0],
            pos=[x, side * (TIP_BALL_M + 0.001), end],
            mass=0.0,
        )
        ball.group = CONTACT_GROUP
        make_contact(ball, FLOOR, 0)
