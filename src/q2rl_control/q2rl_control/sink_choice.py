# SPDX-License-Identifier: Apache-2.0
"""The parameters of `arm_interface` that say how the arm is commanded and what it is, and the sink that they choose."""

from __future__ import annotations

from collections.abc import Callable

from q2rl_control.command_sinks import CommandSink, JointPositionSink, PoseTargetSink
from q2rl_control.joint_tracking import JointTracking
from q2rl_control.kinematics import ArmKinematics
from q2rl_control.rigid_frames import RigidFrames
from q2rl_control.servo_sink import ServoTwistSink
from q2rl_ros.joint_command import JOINT_TOPIC
from q2rl_ros.node import Q2rlNode
from q2rl_task import InputError

SINKS = ('pose_target', 'joint_position', 'servo_twist')


def declare_sink_parameters(node: Q2rlNode) -> None:
    """Declare what `make_kinematics` and `make_sink` read."""
    node.declare(
        'command_sink',
        'pose_target',
        'How the arm is commanded: pose_target (a Cartesian controller), joint_position (a '
        'forward_command_controller), or servo_twist (MoveIt Servo).',
        choices=SINKS,
    )
    node.declare('target_topic', 'target_pose', 'pose_target: topic of the controller.')
    node.declare(
        'target_rate',
        100.0,
        'pose_target, real time: interpolated poses per second [Hz]; 0: one per tick.',
        low=0.0,
        high=1000.0,
    )
    node.declare('joint_command_topic', JOINT_TOPIC, 'joint_position: topic of the controller.')
    node.declare(
        'joint_command_rate',
        100.0,
        'joint_position, real time: interpolated commands per second [Hz].',
        low=1.0,
        high=1000.0,
    )
    node.declare(
        'joint_speed',
        0.5,
        'joint_position: share of the velocity limits in the description that joints may take.',
        low=0.01,
        high=1.0,
    )
    node.declare(
        'joint_acceleration',
        20.0,
        'joint_position: largest acceleration of a joint [rad/s2 or m/s2].',
        low=0.1,
        high=1000.0,
    )
    node.declare('servo_node', 'servo_node', "servo_twist: name of MoveIt Servo's node.")
    node.declare(
        'servo_gain',
        4.0,
        'servo_twist: share of the way from the tip to its target per second [1/s].',
        low=0.0,
        high=20.0,
    )
    node.declare(
        'robot_description',
        '',
        'URDF of the robot with what it holds (meshes by absolute paths), or the path of a file with it: where joint '
        'positions are commanded, a pose or twist is computed from the joints, or a planner looks for obstacles.',
    )
    node.declare(
        'joints',
        [''],
        "The arm's joints in the order of the controller; none: those from base to tip, from the base on.",
    )


def make_kinematics(node: Q2rlNode) -> ArmKinematics | None:
    """Return the arm of the description, or None where nothing needs it.

    :raises InputError: the description is missing or is not of this arm
    """
    needed = node.value('command_sink') == 'joint_position' or 'joints' in (
        node.value('pose_source'),
        node.value('twist_source'),
    )
    if not needed:
        return None
    frames = node.task.frames
    names = [name for name in node.value('joints') if name]
    return ArmKinematics(node.value('robot_description'), frames.base, frames.tip, names)


def make_links(node: Q2rlNode) -> RigidFrames | None:
    """Return where the links of the description are, or None without one or where no wrench needs it.

    :raises InputError: the description is not of this arm
    """
    description, frames = node.value('robot_description'), node.task.frames
    # Lockstep has one source, a simulation, whose wrench is at the tip.
    if not description or node.lockstep:
        return None
    return RigidFrames(description, frames.base, frames.tip)


def make_sink(
    node: Q2rlNode,
    kinematics: ArmKinematics | None,
    halted: Callable[[str], None],
    stopped: Callable[[str], None],
) -> CommandSink:
    """Return the sink that the parameters choose.

    :param halted: called with a reason when the controller below has stopped the arm
    :param stopped: called with a reason when the arm does not follow
    :raises InputError: the sink is impossible here
    """
    chosen = node.value('command_sink')
    if chosen == 'pose_target':
        return PoseTargetSink(node, node.value('target_topic'), node.value('target_rate'))
    if chosen == 'joint_position':
        speed, acceleration = node.value('joint_speed'), node.value('joint_acceleration')
        tracking = JointTracking(kinematics, node.task.period_s, speed, acceleration)
        topic, rate = node.value('joint_command_topic'), node.value('joint_command_rate')
        return JointPositionSink(node, topic, tracking, rate, stopped)
    if node.lockstep:
        raise InputError(
            'parameter `command_sink`',
            'servo_twist has no lockstep: MoveIt Servo runs on a clock of its own',
            'set `lockstep` to false, or choose another sink',
        )
    return ServoTwistSink(node, node.value('servo_node'), node.value('servo_gain'), halted)
