# SPDX-License-Identifier: Apache-2.0
"""The command sink for MoveIt Servo: twists, its command type, and its status, which may stop the arm."""

from __future__ import annotations

from collections.abc import Callable
import time

from geometry_msgs.msg import TwistStamped

from q2rl_control.service_calls import RetryingCall
from q2rl_control.twist_tracking import TwistTracking
from q2rl_ros.node import Q2rlNode
from q2rl_task import InputError, Measurement, Pose

SILENT_S = 0.5
"""Without a status for so long Servo counts as gone."""
SWITCH_TIMEOUT_S = 1.0
POLL_S = 0.1
HALTS = ('INVALID', 'HALT_FOR_SINGULARITY', 'HALT_FOR_COLLISION', 'JOINT_BOUND')
SLOWS = (
    'DECELERATE_FOR_APPROACHING_SINGULARITY',
    'DECELERATE_FOR_LEAVING_SINGULARITY',
    'DECELERATE_FOR_COLLISION',
)
"""Names of the codes in moveit_msgs/ServoStatus at which Servo has stopped the arm, and at which it slows it down."""


class ServoTwistSink:
    """Twists of the tip for MoveIt Servo, on `<servo>/delta_twist_cmds`.

    Servo must be set to `command_in_type: speed_units` and to the task's tip as its end-effector frame. It is asked to
    take twists (`<servo>/switch_command_type`) at the start and whenever its status comes back after a silence. Until
    it has agreed, and while it says nothing, the sink is blocked. When it comes to a halt, `halted` is called with what
    it said: once, however long it goes on saying so, or no hold could be released before it is clear.

    :param servo: name of Servo's node
    :param gain_per_s: see `TwistTracking`
    :raises InputError: moveit_msgs is not there
    """

    def __init__(
        self,
        node: Q2rlNode,
        servo: str,
        gain_per_s: float,
        halted: Callable[[str], None],
    ) -> None:
        status, command_type = _servo_interfaces()
        self._node, self._halted = node, halted
        self._tracking = TwistTracking(node.task, gain_per_s)
        self._names = {getattr(status, name): name for name in (*HALTS, *SLOWS)}
        self._said = self._halt = ''
        self._heard = float('-inf')
        self._agreed = False
        self._refusal = ''
        self._request = command_type.Request(command_type=command_type.Request.TWIST)
        self._out = node.publisher(TwistStamped, f'{servo}/delta_twist_cmds', node.qos.command)
        self.topic = self._out.topic_name
        self._switch = RetryingCall(
            node.client(command_type, f'{servo}/switch_command_type'), SWITCH_TIMEOUT_S
        )
        node.subscribe(status, f'{servo}/status', self._on_status, node.qos.sensors)
        node.wall_timer(POLL_S, self._poll)

    def send(self, target: Pose, stamp: float, measured: Measurement | None) -> None:
        """Publish the twist towards the pose, stamped now: Servo takes an old stamp for a silent sender."""
        twist = self._tracking.follow(target, measured.tip_pose if measured else None).tolist()
        msg = TwistStamped()
        msg.header.stamp = self._node.get_clock().now().to_msg()
        msg.header.frame_id = self._node.task.frames.base
        linear, angular = msg.twist.linear, msg.twist.angular
        linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = twist
        self._out.publish(msg)

    def send_again(self) -> None:
        """Nothing: a twist that is repeated moves the arm on."""

    def go_on(self) -> None:
        """Nothing: Servo goes on by itself."""

    def forget(self) -> None:
        """Take the next target for one that stands still."""
        self._tracking.forget()

    def blocked(self) -> str:
        """Return why Servo does not follow just now, or an empty string."""
        if time.monotonic() - self._heard > SILENT_S:
            return 'no status of MoveIt Servo'
        if not self._agreed:
            return self._refusal or 'MoveIt Servo has not been switched to twists yet'
        return ''

    def diagnose(self) -> dict[str, object]:
        """Show what Servo says."""
        return {'servo': self.blocked() or self._said or 'follows'}

    def _on_status(self, msg) -> None:
        now = time.monotonic()
        if now - self._heard > SILENT_S:
            # It may have been started again since, with the command type that it starts with.
            self._agreed, self._halt = False, ''
        self._heard = now
        name = self._names.get(msg.code, '')
        self._said = f'{name}: {msg.message}'.removesuffix(': ') if name else ''
        before, self._halt = self._halt, name if name in HALTS else ''
        if self._halt:
            if self._halt != before:
                self._halted(f'MoveIt Servo stopped the arm: {self._said}')
        elif name:
            self._node.drop('servo_slows', f'MoveIt Servo slows down: {self._said}')

    def _poll(self) -> None:
        heard = time.monotonic() - self._heard <= SILENT_S
        if heard and not self._agreed and not self._switch.busy:
            self._switch.call(self._request, self._on_switched)
        self._switch.poll()

    def _on_switched(self, response) -> None:
        self._agreed = bool(response.success)
        self._refusal = '' if self._agreed else 'MoveIt Servo refuses to take twists'


def _servo_interfaces() -> tuple[type, type]:
    """Return the types ServoStatus and ServoCommandType of moveit_msgs, which only a system with MoveIt has."""
    try:
        from moveit_msgs.msg import ServoStatus
        from moveit_msgs.srv import ServoCommandType
    except ImportError:
        raise InputError(
            'parameter `command_sink`',
            'servo_twist needs moveit_msgs, which is not installed',
            'install ros-jazzy-moveit-servo, or choose pose_target or joint_position',
        ) from None
    return ServoStatus, ServoCommandType
