# SPDX-License-Identifier: Apache-2.0
"""Start the driver of an FR3 with the pipe: `ros2 launch q2rl_bringup fr3_driver.launch.py robot_ip:=172.16.0.2`."""

from __future__ import annotations

from launch import LaunchDescription

from q2rl_bringup.launch_graph import describe_cell


def generate_launch_description() -> LaunchDescription:
    """Return the processes of this start."""
    return describe_cell('fr3_driver')
