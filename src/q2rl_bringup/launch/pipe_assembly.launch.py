# SPDX-License-Identifier: Apache-2.0
"""Start the pipe assembly cell: `ros2 launch q2rl_bringup pipe_assembly.launch.py run_dir:=runs/one`."""

from __future__ import annotations

from launch import LaunchDescription

from q2rl_bringup.launch_graph import describe_launch


def generate_launch_description() -> LaunchDescription:
    """Return the node graph with this task as the default."""
    return describe_launch('pipe_assembly')
