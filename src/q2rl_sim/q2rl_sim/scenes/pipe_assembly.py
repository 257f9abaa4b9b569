# SPDX-License-Identifier: Apache-2.0
"""The scene of pipe assembly: a Panda that holds a rigid pipe, and a socket on a board."""

from __future__ import annotations

import mujoco
import numpy as np

from q2rl_sim.demonstrator import Demonstrator
from q2rl_sim.panda import GRASP_OFFSET_M, HAND_BODY, panda_spec
from q2rl_sim.round_insert import (
    VISIBLE_GROUP,
    add_barrel,
    add_box,
    add_collar,
    add_tube,
    make_contact,
)
from q2rl_sim.scene import (
    FIXTURE,
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
from q2rl_sim.socket_parts import (
    BOARD_BELOW_RIM_M,
    hole_radius,
    is_deep,
    socket_floor_and_board,
    stand,
)
from q2rl_task import TaskSpec

__all__ = ['Demonstrator', 'build', 'seated']

STAVE_LENGTH_M = 0.04
PIPE_LENGTH_M = 0.09
PIPE_BEYOND_GRASP_M = 0.065
PIPE_MASS_KG = 0.12
PIPE_RGBA = (0.93, 0.45, 0.13, 1.0)


def build(task: TaskSpec, visuals: bool = False) -> Scene:
    """Compile the scene; `visuals` adds meshes, lights and a floor for rendering."""
    fixture = task.fixture
    spec = panda_spec(finger_opening_m=fixture.insert_radius_m, visuals=visuals)
    set_options(spec, task)
    _add_socket(spec, task)
    _add_pipe(spec, fixture.insert_radius_m)
    add_impedance(spec, task)
    if visuals:
        add_surroundings(spec)
        _add_stand(spec)
    for body in spec.bodies:
        body.gravcomp = 1.0  # as the arm's own controller does, payload included
    centre = np.array([0.0, 0.0, PIPE_LENGTH_M / 2.0])
    return compiled(spec, task, 'pipe', TIP, Payload(PIPE_MASS_KG, centre))


def seated(task: TaskSpec, insert: np.ndarray, opening: float) -> bool:
    """Whether the socket's switch is pressed: the pipe's end (3,) [m], socket frame, is deep enough in the hole."""
    return is_deep(task, insert)


def _add_pipe(spec: mujoco.MjSpec, radius: float) -> None:
    tip = GRASP_OFFSET_M + PIPE_BEYOND_GRASP_M
    pipe = spec.body(HAND_BODY).add_body(name='pipe', pos=[0.0, 0.0, tip])
    pipe.explicitinertial = True
    pipe.mass = PIPE_MASS_KG
    pipe.ipos = [0.0, 0.0, -PIPE_LENGTH_M / 2.0]
    across = PIPE_MASS_KG * (radius**2 / 2.0 + PIPE_LENGTH_M**2 / 12.0)
    pipe.inertia = [across, across, PIPE_MASS_KG * radius**2]
    pipe.add_site(name=TIP, pos=[0.0, 0.0, 0.0])
    pipe.add_site(name=MOUNT, pos=[0.0, 0.0, -PIPE_LENGTH_M])
    add_wrist_sensors(spec)
    add_tube(spec, pipe, 'pipe_visual', radius - 0.002, radius, -PIPE_LENGTH_M, 0.0, PIPE_RGBA)
    add_barrel(pipe, radius, 0.0, STAVE_LENGTH_M)


def _add_socket(spec: mujoco.MjSpec, task: TaskSpec) -> None:
    socket = add_fixture(spec, task)
    add_collar(spec, socket, hole_radius(task), BOARD_BELOW_RIM_M)
    for geom in (add_box(socket, box) for box in socket_floor_and_board(task)):
        geom.group = VISIBLE_GROUP
        make_contact(geom, 0, 1)


def _add_stand(spec: mujoco.MjSpec) -> None:
    added = add_box(spec.body(FIXTURE), stand())
    added.contype = added.conaffinity = 0
    added.group = VISIBLE_GROUP
