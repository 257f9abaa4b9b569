# SPDX-License-Identifier: Apache-2.0
"""Start MoveIt Servo, beside q2rl: `ros2 launch q2rl_bringup servo.launch.py task:=pipe_assembly_ur5e`."""

from __future__ import annotations

from launch import LaunchDescription

from q2rl_bringup.launch_graph import describe_cell


def generate_launch_description() -> LaunchDescription:
    """Return the processes of this start."""
    return describe_cell('servo')
