# SPDX-License-Identifier: Apache-2.0
"""The parameters of `arm_interface`."""

from __future__ import annotations

from q2rl_control.arm_readiness import declare_readiness_parameters
from q2rl_control.gripper_command import declare_gripper_parameters
from q2rl_control.planner_parameters import declare_planner
from q2rl_control.sensor_inputs import declare_sensor_parameters
from q2rl_control.sink_choice import declare_sink_parameters
from q2rl_control.tare_choice import declare_tare_parameters
from q2rl_ros.node import Q2rlNode


def declare_arm_parameters(node: Q2rlNode) -> None:
    """Declare all parameters of the node; those about the tick stand here, the others where they are read."""
    declare_sink_parameters(node)
    declare_readiness_parameters(node)
    declare_sensor_parameters(node)
    declare_gripper_parameters(node)
    declare_tare_parameters(node)
    declare_planner(node)
    node.declare_lockstep_timeout()
    node.declare(
        'republish_period',
        0.5,
        'Lockstep: wall time [s] after which what was not answered is published again.',
        low=0.02,
        high=60.0,
    )
    node.declare(
        'lost_after',
        1.0,
        'Real time: seconds without fresh sensors, or of a blocked arm, after which a running episode ends.',
        low=0.1,
        high=60.0,
    )
    node.declare(
        'hold_at_start',
        True,
        'Real time: hold from each start on, a respawn included, and after a reset that was blocked for longer than '
        '`lost_after`, until a person lets go of the hold.',
    )
    node.declare(
        'state_dir',
        '',
        "Folder where an emergency stop is remembered; empty: the run's folder in lockstep, "
        'else $XDG_STATE_HOME/q2rl.',
    )
