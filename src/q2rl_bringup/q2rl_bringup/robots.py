# SPDX-License-Identifier: Apache-2.0
"""The robots that a start knows by name: what of them is in which file, and what their controllers are called."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
import xml.etree.ElementTree as ElementTree

from q2rl_bringup.share import share_path

HARDWARE = ('none', 'mock', 'gazebo', 'vendor')
"""What is behind ros2_control in a description; none: no ros2_control at all; vendor: the real arm, by its packages."""


@dataclass(frozen=True)
class Robot:
    """A robot profile.

    base: the task's base frame. joints: of the arm, in the order of every command. active, inactive: controllers that a
    start with mock hardware or Gazebo loads. like: robot whose description it shares; the names differ. driven: whether
    there is a driver for ROS 2 Jazzy.
    """

    name: str
    base: str
    joints: tuple[str, ...]
    active: tuple[str, ...] = (
        'joint_state_broadcaster',
        'force_torque_sensor_broadcaster',
        'forward_position_controller',
    )
    inactive: tuple[str, ...] = ('joint_trajectory_controller',)
    like: str = ''
    driven: bool = True

    @property
    def description(self) -> Path:
        """Its xacro."""
        return share_path(f'urdf/{self.like or self.name}.urdf.xacro')

    @property
    def driver_description(self) -> Path | None:
        """The xacro of the real arm, which includes its vendor's; None where there is no driver."""
        return share_path(f'urdf/{self.name}_driver.urdf.xacro') if self.driven else None

    @property
    def controllers(self) -> Path:
        """Its controllers (a parameter file)."""
        return share_path(f'config/controllers_{self.name}.yaml')

    @property
    def moveit(self) -> Path:
        """The folder of its MoveIt configuration; the planning group is `arm`."""
        return share_path(f'config/moveit/{self.name}')


PANDA = Robot(
    name='panda',
    base='panda_link0',
    joints=tuple(f'panda_joint{k}' for k in range(1, 8)),
    driven=False,
)
FR3 = Robot(
    name='fr3',
    base='fr3_link0',
    joints=tuple(f'fr3_joint{k}' for k in range(1, 8)),
    like='panda',
)
UR5E = Robot(
    name='ur5e',
    base='base_link',
    joints=(
        'shoulder_pan_joint',
        'shoulder_lift_joint',
        'elbow_joint',
        'wrist_1_joint',
        'wrist_2_joint',
        'wrist_3_joint',
    ),
)
ROBOTS = {robot.name: robot for robot in (PANDA, FR3, UR5E)}


def robot_on(base: str) -> Robot | None:
    """Return the robot whose description a task on that base frame gets; None: there is none."""
    return next((robot for robot in ROBOTS.values() if robot.base == base), None)


def known_robot(base: str, urdf: str) -> Robot | None:
    """Return the robot that a description is of: by its base frame, which others may have too, and its arm's joints.

    None: it is of none of these, or no XML.
    """
    try:
        joints = {joint.get('name') for joint in ElementTree.fromstring(urdf).findall('joint')}
    except ElementTree.ParseError:
        return None
    for robot in ROBOTS.values():
        if robot.base == base and set(robot.joints) <= joints:
            return robot
    return None
