# SPDX-License-Identifier: Apache-2.0
"""Node `mujoco_arm`: a simulated arm behind the topics of a real arm's controllers, in lockstep or in real time."""

from __future__ import annotations

from dataclasses import replace
import math
from pathlib import Path
import sys
import time

from geometry_msgs.msg import PoseArray, PoseStamped
import numpy as np
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Float64MultiArray

from q2rl_msgs.msg import LearnerStatus, Transition
from q2rl_msgs.srv import PrepareScene
from q2rl_ros.conversions import pose_from_msg, pose_to_msg
from q2rl_ros.errors import MessageError
from q2rl_ros.gripper import GRIPPER_TOPIC, gripper_from_msg
from q2rl_ros.joint_command import JOINT_TOPIC, joints_from_msg, stamp_label
from q2rl_ros.node import Q2rlNode
from q2rl_ros.sensors import SENSOR_TOPICS, SensorMessages, measurement_to_msgs
from q2rl_ros.spin import spin
from q2rl_sim.arm import ARM, SimArm
from q2rl_sim.placement import placement_refusal
from q2rl_sim.trace import TraceFile
from q2rl_task import Pose

TRUTH_PERIOD_S = 0.05


class MujocoArmNode(Q2rlNode):
    """Publish one measurement per control period, track what is commanded, move the gripper as it is told.

    What is commanded: poses of the tip on `target_pose`, as by a Cartesian controller, or joint positions on
    `forward_position_controller/commands`, as by that of ros2_control.
    `true_poses` (fixture, and the loose part) is published while somebody listens.
    Lockstep: a control period is simulated when a target answers the current measurement, that is, carries its stamp,
    and the learner has granted the step. A target with another stamp means that the current measurement got lost, so
    it is sent again; so is one that nobody answers. With a gripper its command, which has no stamp, must be in too.
    Real time: a wall timer simulates a period, the last target is tracked, stamps are the node's clock.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__('mujoco_arm', **kwargs)
        self.declare(
            'command_interface',
            'pose',
            'What the arm is commanded by: pose (target_pose) or joints (forward_position_controller/commands).',
            choices=('pose', 'joints'),
        )
        self.declare('seed', 0, 'Seed of the sensor noise.', low=0, high=2**62)
        self.declare(
            'repeat_period',
            0.25,
            'Lockstep: wall time after which a measurement is sent again [s].',
            low=0.01,
            high=60.0,
        )
        self.declare(
            'clock_period',
            0.02,
            'Lockstep: least wall time between two messages on `clock` [s]; every node hears each of them.',
            low=0.0,
            high=1.0,
        )
        self.declare(
            'trace_file',
            '',
            'File that a record of every step is appended to (see TraceFile); empty: none.',
        )
        self._trace: TraceFile | None = None

    def configure(self) -> None:
        """Load the model and let the arm settle; open the trace."""
        joints = self.value('command_interface') == 'joints'
        self._arm = SimArm(self.task, self.value('seed'), joint_servo=joints)
        model = self._arm.model
        self._joint_names = [model.joint(k).name for k in range(self._arm.scene.joints)]
        path = self.value('trace_file')
        self._trace = TraceFile(Path(path), model.nq) if path else None
        self._target: Pose | np.ndarray = self._arm.target
        self._answer: Pose | np.ndarray | None = None
        self._opening = math.nan  # what the gripper was told since the last step
        self._sequence = self._credit = 0
        self._stepped = False
        self._clock_period = self.value('clock_period')
        self._clock_sent = float('-inf')
        qos = self.qos
        self._truth_out = self.publisher(PoseArray, 'true_poses', qos.sensors)
        self._truth_sent = float('-inf')
        self._sensors = [
            self.publisher(kind, topic, qos.sensors) for topic, kind in SENSOR_TOPICS.items()
        ]
        if joints:
            self.subscribe(Float64MultiArray, JOINT_TOPIC, self._on_joints, qos.commanded)
        else:
            self.subscribe(PoseStamped, 'target_pose', self._on_target, qos.commanded)
        if self.task.gripper:
            self.subscribe(Float64MultiArray, GRIPPER_TOPIC, self._on_gripper, qos.commanded)
        self.serve(PrepareScene, 'prepare_scene', self._on_prepare_scene)
        if self.lockstep:
            self._clock_out = self.publisher(Clock, 'clock', qos.tick)
            self.subscribe(Transition, 'transition', self._on_transition, qos.replay)
            self.subscribe(
                LearnerStatus,
                'learner_status',
                self._on_learner_status,
                qos.latched,
                while_inactive=True,
            )
            self.wall_timer(self.value('repeat_period'), self._repeat_unanswered)
        else:
            self.wall_timer(self.task.period_s, self._step)
        self._compose()

    def activate(self) -> None:
        """Offer the first measurement."""
        self._send()

    def deactivate(self) -> None:
        """Stop simulating; what the trace holds back goes to disk."""
        if self._trace:
            self._trace.flush()

    def release(self) -> None:
        """Close the trace and drop the model."""
        if self._trace:
            self._trace.flush()
        self._trace = self._answer = None

    def diagnose(self) -> dict[str, object]:
        """Simulated time and the learner's credit."""
        return {
            'simulated_s': round(self._arm.time, 3),
            'sequence': self._sequence,
            'credit': self._credit,
        }

    def _on_target(self, msg: PoseStamped) -> None:
        pose = pose_from_msg(msg, self.task.frames.base)
        if not pose.is_finite():
            raise MessageError('not_finite', 'no finite pose with a unit quaternion')
        self._take(pose, msg.header.stamp == self._messages.pose.header.stamp)

    def _on_joints(self, msg: Float64MultiArray) -> None:
        positions, answers = joints_from_msg(msg, ARM)
        self._take(positions, answers == stamp_label(self._stamp))

    def _take(self, target: Pose | np.ndarray, is_answer: bool) -> None:
        """Take a target; in lockstep only one that answers the current measurement."""
        if not self.lockstep:
            self._target = target
        elif is_answer:
            self._answer = target
            self._step_if_granted()
        else:
            self.count('repeats')
            self._send()

    def _on_gripper(self, msg: Float64MultiArray) -> None:
        self._opening = gripper_from_msg(msg, self.task)
        if self.lockstep:
            self._step_if_granted()

    def _step_if_granted(self) -> None:
        """Simulate a period if the current measurement is answered and the learner's credit allows."""
        if self._answer is None or (self._credit and self._sequence >= self._credit):
            return
        if self.task.gripper and math.isnan(self._opening):
            return
        self._target, self._answer = self._answer, None
        self._step()

    def _step(self) -> None:
        self._arm.step(self._target, self._opening)
        self._opening = math.nan
        self._stepped = True
        self.count('steps')
        self._compose()
        self._send()
        if self._trace:
            self._trace.add(self._stamp, self._arm.data.qpos, self._arm.fixture_pose)

    def _compose(self) -> None:
        """Make the messages of the current state; they are kept for repeats."""
        measurement = self._arm.measure()
        # Zero is ROS's word for a clock that has not started.
        shown = self.task.period_s + measurement.stamp
        stamp = shown if self.lockstep else self.stamp_now()
        self._stamp = stamp
        self._messages: SensorMessages = measurement_to_msgs(
            replace(measurement, stamp=stamp), self._joint_names, self.task
        )

    def _send(self) -> None:
        if self.lockstep:
            self._send_clock()
        for publisher, msg in zip(self._sensors, self._messages, strict=True):
            publisher.publish(msg)
        self._send_truth()

    def _send_truth(self) -> None:
        """Tell a person who demonstrates, and so must see, where things truly stand; nobody else may listen."""
        now = time.monotonic()
        if now - self._truth_sent < TRUTH_PERIOD_S or not self._truth_out.get_subscription_count():
            return
        self._truth_sent = now
        poses = filter(None, (self._arm.fixture_pose, self._arm.part_pose))
        msg = PoseArray(header=self._messages.pose.header)
        msg.poses = [pose_to_msg(pose, '', 0.0).pose for pose in poses]
        self._truth_out.publish(msg)

    def _send_clock(self) -> None:
        """Tell the time, yet not at every step of a fast simulation: the tick runs on stamps, not on the clock."""
        now = time.monotonic()
        if now - self._clock_sent >= self._clock_period:
            self._clock_sent = now
            self._clock_out.publish(Clock(clock=self._messages.pose.header.stamp))

    def _repeat_unanswered(self) -> None:
        if not self._stepped and self._answer is None:
            self._send()
        self._stepped = False

    def _on_transition(self, msg: Transition) -> None:
        if msg.robot != self.robot:
            self.count('foreign')
            return
        self._sequence = max(self._sequence, msg.sequence)

    def _on_learner_status(self, msg: LearnerStatus) -> None:
        self._credit = msg.credit
        if self.active:
            self._step_if_granted()

    def _on_prepare_scene(self, request: PrepareScene.Request, response: PrepareScene.Response):
        tip = self._arm.measure().tip_pose
        response.message = placement_refusal(self.task, tip) if self.active else 'not active'
        response.success = not response.message
        if not response.success:
            return response
        estimate = self._arm.place_fixture(request.seed)
        self._compose()
        if self._trace:
            self._trace.flush()
        response.estimate = pose_to_msg(estimate, self.task.frames.base, self._stamp)
        if (part := self._arm.part_estimate) is not None:
            response.part = pose_to_msg(part, self.task.frames.base, self._stamp)
        return response


def main(args=None) -> int:
    """Run the node."""
    return spin(MujocoArmNode, args)


if __name__ == '__main__':
    sys.exit(main())
