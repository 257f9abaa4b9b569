# SPDX-License-Identifier: Apache-2.0
"""Which arguments of a start are at odds with one another."""

from __future__ import annotations

from collections.abc import Mapping

from q2rl_bringup.arguments import BROWSER, DEVICES, Value
from q2rl_bringup.node_parameters import ACTING_BY_WEIGHTS, DEMONSTRATE, command_sink
from q2rl_bringup.robots import PANDA
from q2rl_task import InputError


def refuse_conflicts(args: Mapping[str, Value]) -> None:
    """Check the arguments of a start against one another.

    :raises InputError: two are at odds
    """
    for conflict, argument, problem, remedy in conflicts(args):
        if conflict:
            raise InputError(f'argument `{argument}`', problem, remedy)


def conflicts(args: Mapping[str, Value]) -> tuple[tuple[bool, str, str, str], ...]:
    """Return (whether it is there, argument, problem, remedy) of every conflict."""
    sim, part, sink = args['sim'], args['part'], command_sink(args)
    simulated, demonstrated = sim == 'mujoco', args['policy_mode'] == DEMONSTRATE
    steered, lockstep = args['teleop'] == BROWSER, args['lockstep'] == 'true'
    return (
        (
            # A late network or a closed page could not be afforded.
            steered and not (simulated and demonstrated),
            'teleop',
            "browser is to demonstrate in a simulation: a page has no dead man's button",
            f'say sim:=mujoco policy_mode:={DEMONSTRATE}, or teleop:=gamepad',
        ),
        (
            steered and sink != 'pose_target',
            'command_sink',
            'the page steers poses of the tip',
            'say pose_target',
        ),
        (
            simulated and args['robot_type'] != PANDA.name,
            'robot_type',
            'the MuJoCo scenes have a panda only',
            'say sim:=mock or sim:=gazebo',
        ),
        (
            lockstep and not simulated,
            'lockstep',
            f'{"a real robot" if sim == "none" else f"sim:={sim}"} does not wait',
            'say lockstep:=false, or sim:=mujoco',
        ),
        (
            lockstep and demonstrated and args['teleop'] in DEVICES,
            'lockstep',
            'no hand keeps up with a simulation',
            'say lockstep:=false',
        ),
        (
            demonstrated and part != 'all',
            'part',
            'demonstrations have no learner',
            'say part:=all',
        ),
        (
            args['policy_mode'] == 'bc' and part == 'learner',
            'part',
            'nothing learns with policy_mode:=bc',
            'say part:=all or robot',
        ),
        (
            bool(args['weights']) and part == 'learner',
            'part',
            'nothing learns with weights that are given',
            'say part:=all or robot',
        ),
        (
            bool(args['weights']) and args['policy_mode'] not in ACTING_BY_WEIGHTS,
            'weights',
            f'nothing acts by them with policy_mode:={args["policy_mode"]}',
            f'say one of {", ".join(ACTING_BY_WEIGHTS)}, or leave them out',
        ),
        (
            sim != 'none' and args['scene'] != 'elsewhere',
            'scene',
            'a simulation has its own',
            'leave it out, or say sim:=none',
        ),
        (
            simulated and sink == 'servo_twist',
            'command_sink',
            'the MuJoCo simulation takes no twists',
            'say pose_target or joint_position, or another sim',
        ),
    )
