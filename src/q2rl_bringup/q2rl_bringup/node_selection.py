# SPDX-License-Identifier: Apache-2.0
"""Which of q2rl's nodes a run has: one table, from which the arguments of its start choose."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from q2rl_bringup.arguments import Value
from q2rl_bringup.node_parameters import DEMONSTRATE, RECORDER, TRANSITION_RECORDER
from q2rl_bringup.tip_pose import wants_tip_state

Arguments = Mapping[str, Value]


def always(args: Arguments) -> bool:
    """In every start."""
    return True


def demonstrated(args: Arguments) -> bool:
    """Where a person acts."""
    return args['policy_mode'] == DEMONSTRATE


def by_policies(args: Arguments) -> bool:
    """Where policies act."""
    return not demonstrated(args)


def learned(args: Arguments) -> bool:
    """Where RL has a say, by the weights that its learner has."""
    return by_policies(args) and args['policy_mode'] != 'bc' and not args['weights']


def without_learner(args: Arguments) -> bool:
    """Where policies act as they are."""
    return by_policies(args) and not learned(args)


NODES: tuple[tuple[str, str, Callable[[Arguments], bool]], ...] = (
    ('gazebo_scene', 'q2rl_sim', lambda args: args['sim'] == 'gazebo'),
    ('tip_state', 'q2rl_control', wants_tip_state),
    ('fixed_scene', 'q2rl_control', lambda args: args['scene'] == 'fixed'),
    (RECORDER, 'q2rl_learner', demonstrated),
    ('mujoco_arm', 'q2rl_sim', lambda args: args['sim'] == 'mujoco'),
    ('arm_interface', 'q2rl_control', always),
    ('bc_policy', 'q2rl_policies', by_policies),
    ('rl_policy', 'q2rl_policies', by_policies),
    ('q_gate', 'q2rl_policies', by_policies),
    ('learner', 'q2rl_learner', learned),
    (TRANSITION_RECORDER, 'q2rl_learner', without_learner),
    ('episode_manager', 'q2rl_control', always),
)
"""(node, its package, whether a run has it), in the order in which they start."""


def nodes_of_the_run(args: Arguments) -> dict[str, str]:
    """Return the nodes of a run, whichever machine they are on, each with its package."""
    return {node: package for node, package, is_wanted in NODES if is_wanted(args)}


def runs_here(node: str, part: str) -> bool:
    """Return whether a start of this `part` of a run has the node."""
    return part == 'all' or (part == 'learner') == (node == 'learner')
