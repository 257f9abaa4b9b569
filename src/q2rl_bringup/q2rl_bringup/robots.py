# SPDX-License-Identifier: Apache-2.0
"""The robots that a start knows by name: what of them is in which file, and what their controllers are called."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from q2rl_bringup.share import share_path

HARDWARE = ('none', 'mock', 'gazebo', 'vendor')
"""What is behind ros2_control in a description; none: no ros2_control at all."""


@dataclass(frozen=True)
class Robot:
    """A robot profile.

    base, holder: links; the task's base frame and what holds the tool. joints: of the arm, in the order of every
    command. group: its planning group in MoveIt. active, inactive: controllers that a start with mock hardware or Gazebo
    loads.
    """

    name: str
    base: str
    holder: str
    joints: tuple[str, ...]
    group: str
    active: tuple[str, ...] = (
        'joint_state_broadcaster',
        'force_torque_sensor_broadcaster',
        'forward_position_controller',
    )
    inactive: tuple[str, ...] = ('joint_trajectory_controller',)

    @property
    def description(self) -> Path:
        """Its xacro."""
        return share_path(f'urdf/{self.name}.urdf.xacro')

    @property
    def controllers(self) -> Path:
        """Its controllers (a parameter file)."""
        return share_path(f'config/controllers_{self.name}.yaml')

    def moveit(self, file: str) -> Path:
        """Return a file of its MoveIt configuration."""
        return share_path(f'config/moveit/{self.name}/{file}')


PANDA = Robot(
    name='panda',
    base='panda_link0',
    holder='panda_hand',
    joints=tuple(f'panda_joint{k}' for k in range(1, 8)),
    group='panda_arm',
)
UR5E = Robot(
    name='ur5e',
    base='base_link',
    holder='tool0',
    joints=(
        'shoulder_pan_joint',
        'shoulder_lift_joint',
        'elbow_joint',
        'wrist_1_joint',
        'wrist_2_joint',
        'wrist_3_joint',
    ),
    group='ur_manipulator',
)
ROBOTS = {robot.name: robot for robot in (PANDA, UR5E)}
