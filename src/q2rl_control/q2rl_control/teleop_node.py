# SPDX-License-Identifier: Apache-2.0
"""Node `teleop`: a SpaceMouse or a gamepad takes over, labels, pauses and stops. A thin shell round `Teleop`."""

from __future__ import annotations

import sys
import time

from geometry_msgs.msg import Twist
from sensor_msgs.msg import Joy
from std_msgs.msg import Bool

from q2rl_control.arm_state import ArmState
from q2rl_control.teleop_mapping import LAYOUTS, Teleop, layout
from q2rl_msgs.msg import ArmStatus, EpisodeLabel, GuardState, HumanAction
from q2rl_ros.conversions import to_array
from q2rl_ros.node import Q2rlNode
from q2rl_ros.spin import spin


class TeleopNode(Q2rlNode):
    """Publish `human_action` at the control rate while the dead man's button is down, and what other buttons say.

    It commands nothing: the arm's right of way and guard decide what becomes of it. In lockstep a simulation runs
    faster than a person can act; use it in real time.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__('teleop', **kwargs)
        self.declare(
            'device',
            'spacenav',
            'spacenav (spacenav/twist and spacenav/joy) or gamepad (joy).',
            choices=tuple(LAYOUTS),
        )
        self.declare(
            'axes',
            [''],
            "Six texts: the device's axis of each component of an action with its sign, such as +0, -3 or none; "
            'empty: as is usual for the device.',
        )
        self.declare(
            'buttons',
            [''],
            'NAME=NUMBER of dead_man, success, failure, pause, emergency_stop, open, close; empty: as is usual for '
            'the device.',
        )
        self.declare(
            'dead_zone', 0.08, 'Share of an axis in which it says nothing.', low=0.0, high=0.9
        )
        self.declare(
            'linear_scale', 0.6, 'Translation at full deflection, in actions.', low=0.0, high=1.0
        )
        self.declare(
            'angular_scale', 0.4, 'Rotation at full deflection, in actions.', low=0.0, high=1.0
        )
        self.declare(
            'silent_after',
            0.5,
            'Silence of the buttons after which the dead man counts as up [s]; 0: never, for a driver that '
            'reports changes only: then the end of the driver does.',
            low=0.0,
            high=10.0,
        )

    def configure(self) -> None:
        """Read the layout and make the topics.

        :raises InputError: a layout that says nothing sensible
        """
        device = self.value('device')
        usual = LAYOUTS[device]
        axes, buttons = ([t for t in self.value(name) if t] for name in ('axes', 'buttons'))
        given = layout(
            axes or [f'{"-" if a[1] < 0 else "+"}{a[0]}' if a else 'none' for a in usual.axes],
            buttons or [f'{name}={number}' for name, number in usual.buttons.items()],
        )
        silent = self.value('silent_after') or float('inf')
        self._teleop = Teleop(
            given,
            self.task.action_size,
            self.value('dead_zone'),
            (self.value('linear_scale'), self.value('angular_scale')),
            silent,
        )
        self._stamp = 0
        self._acts = False
        self._held = False
        self._episode = ''
        qos = self.qos
        self._action_out = self.publisher(HumanAction, 'human_action', qos.sensors)
        self._label_out = self.publisher(EpisodeLabel, 'episode_label', qos.events)
        self._hold_out = self.publisher(Bool, 'hold', qos.events)
        self._stop_out = self.publisher(Bool, 'emergency_stop', qos.events)
        self._buttons_topic = 'spacenav/joy' if device == 'spacenav' else 'joy'
        self.subscribe(Joy, self._buttons_topic, self._on_joy, qos.events)
        if device == 'spacenav':
            self.subscribe(Twist, 'spacenav/twist', self._on_twist, qos.sensors)
        self._sticks = device != 'spacenav'
        self.subscribe(ArmStatus, 'arm_status', self._on_arm, qos.latched, while_inactive=True)
        self.subscribe(GuardState, 'guard_state', self._on_guard, qos.latched, while_inactive=True)
        self.wall_timer(self.task.period_s, self._tick)

    def deactivate(self) -> None:
        """Let go."""
        self._teleop.forget()
        self._tick()

    def diagnose(self) -> dict[str, object]:
        """Show whether a person acts."""
        return {'acts': self._teleop.action(time.monotonic()) is not None, 'episode': self._episode}

    def _on_joy(self, msg: Joy) -> None:
        now = time.monotonic()
        if self._sticks:
            self._teleop.hear_axes(msg.axes, now)
        for name, down in self._teleop.hear_buttons(msg.buttons, now):
            if name == 'emergency_stop':
                self._stop_out.publish(Bool(data=down))
            elif down and name == 'pause':
                self._hold_out.publish(Bool(data=not self._held))
            elif down:
                self._label(name == 'success')
        if self._acts and self._teleop.action(now) is None:
            self._tick()  # letting go waits for no tick

    def _on_twist(self, msg: Twist) -> None:
        linear, angular = msg.linear, msg.angular
        axes = (linear.x, linear.y, linear.z, angular.x, angular.y, angular.z)
        self._teleop.hear_axes(axes, time.monotonic())

    def _label(self, success: bool) -> None:
        if not self._episode:
            self.drop('labels_unused', 'a label was given, and no episode runs')
            return
        msg = EpisodeLabel(episode=self._episode, success=success)
        msg.header.stamp = self.get_clock().now().to_msg()
        self._label_out.publish(msg)

    def _on_arm(self, msg: ArmStatus) -> None:
        if msg.robot == self.robot:
            self._episode = msg.episode if msg.state == ArmState.RUNNING else ''

    def _on_guard(self, msg: GuardState) -> None:
        if msg.robot == self.robot:
            self._held = msg.held

    def _tick(self) -> None:
        if self.count_publishers(self._buttons_topic) == 0:
            self._teleop.forget()
        action = self._teleop.action(time.monotonic())
        now = self.get_clock().now()
        # Each action needs another stamp than the last; a simulation's clock may stand still, and any clock go back.
        if (action is None and not self._acts) or now.nanoseconds == self._stamp:
            return
        self._stamp, self._acts = now.nanoseconds, action is not None
        msg = HumanAction(contract=self.task.contract_hash)
        if action is not None:
            msg.action = to_array(action)
        msg.header.stamp = now.to_msg()
        self._action_out.publish(msg)


def main(args=None) -> int:
    """Run the node."""
    return spin(TeleopNode, args)


if __name__ == '__main__':
    sys.exit(main())
