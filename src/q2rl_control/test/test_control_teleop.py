# SPDX-License-Identifier: Apache-2.0
"""A person's device: the dead man's button, the mapping of its axes, and what its other buttons say."""

from __future__ import annotations

import os

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2')
pytest.importorskip('q2rl_msgs', reason='needs the built workspace')

from geometry_msgs.msg import Twist
from sensor_msgs.msg import Joy
from test_control_nodes import DOMAINS, RUN, Bench, LiveCell

from q2rl_control.arm_interface_node import ArmInterface
from q2rl_control.episode_manager_node import EpisodeManager
from q2rl_control.teleop_mapping import LAYOUTS, Teleop, layout
from q2rl_control.teleop_node import TeleopNode
from q2rl_msgs.msg import ExecutedStep, GateDecision, HumanAction
from q2rl_task import InputError

FULL = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
DEVICE = layout(
    ['+0', '-1', '+2', 'none', '+4', '-5'],
    ['dead_man=0', 'success=1', 'failure=2', 'pause=3', 'emergency_stop=4', 'open=5', 'close=6'],
)
UP = [0] * 7


def down(*names: str) -> list[int]:
    buttons = [0] * 7
    for name in names:
        buttons[DEVICE.buttons[name]] = 1
    return buttons


@pytest.fixture
def device():
    return Teleop(DEVICE, 6, dead_zone=0.1, scale=(0.5, 0.25), silent_after_s=0.5)


def test_nobody_acts_without_the_dead_mans_button(device):
    device.hear_axes(FULL, 0.0)
    assert device.action(0.0) is None
    device.hear_buttons(UP, 0.0)
    assert device.action(0.0) is None
    device.hear_buttons(down('dead_man'), 0.1)
    assert device.action(0.1) is not None
    device.hear_buttons(UP, 0.2)
    assert device.action(0.2) is None


def test_a_button_that_was_never_seen_up_is_stuck_and_counts_for_nothing(device):
    for k in range(5):
        device.hear_buttons(down('dead_man'), 0.1 * k)
        assert device.action(0.1 * k) is None
    device.hear_buttons(UP, 0.6)
    device.hear_buttons(down('dead_man'), 0.7)
    assert device.action(0.7) is not None
    device.forget()  # the device was unplugged with the button down
    device.hear_buttons(down('dead_man'), 0.8)
    assert device.action(0.8) is None


def test_a_device_that_falls_silent_lets_go(device):
    device.hear_buttons(UP, 0.0)
    device.hear_buttons(down('dead_man'), 0.0)
    assert device.action(0.5) is not None and device.action(0.51) is None


def test_axes_are_mapped_scaled_and_have_a_dead_zone(device):
    device.hear_buttons(UP, 0.0)
    device.hear_buttons(down('dead_man'), 0.0)
    for axes, wanted in (
        (FULL, [0.5, -0.5, 0.5, 0.0, 0.25, -0.25]),
        ((0.1, -0.1, 0.05, 0.1, 0.0, 0.0), [0.0] * 6),
        ((0.55, 0.0, 0.0, 1.0, 0.0, 0.0), [0.25, 0.0, 0.0, 0.0, 0.0, 0.0]),
        ((9.0, np.nan, 0.0, 0.0, 0.0, 0.0), [0.5, 0.0, 0.0, 0.0, 0.0, 0.0]),
        ((), [0.0] * 6),
    ):
        device.hear_axes(axes, 0.0)
        np.testing.assert_allclose(device.action(0.1), wanted, atol=1e-6)
    # Axes that fell silent hold still, with the button down.
    device.hear_axes(FULL, 0.0)
    device.hear_buttons(down('dead_man'), 1.2)
    assert not device.action(1.2).any()


def test_buttons_of_a_gripper_open_and_close_it():
    device = Teleop(DEVICE, 7, 0.1, (1.0, 1.0), 0.5)
    device.hear_buttons(UP, 0.0)
    for name, wanted in (('open', 1.0), ('close', -1.0)):
        device.hear_buttons(down('dead_man', name), 0.0)
        assert device.action(0.0)[6] == wanted
    device.hear_buttons(down('dead_man'), 0.0)
    assert device.action(0.0)[6] == 0.0


def test_a_button_says_something_when_it_goes_down_and_not_what_was_down_before(device):
    assert device.hear_buttons(down('success', 'pause'), 0.0) == ()
    assert device.hear_buttons(UP, 0.1) == (('success', False), ('pause', False))
    assert device.hear_buttons(down('failure'), 0.2) == (('failure', True),)
    assert device.hear_buttons(down('failure'), 0.3) == ()


def test_an_emergency_stop_that_is_down_from_the_first_is_pressed(device):
    assert device.hear_buttons(down('emergency_stop'), 0.0) == (('emergency_stop', True),)
    assert device.hear_buttons(UP, 0.1) == (('emergency_stop', False),)


@pytest.mark.parametrize(
    ('axes', 'buttons', 'said'),
    [
        (['+0'], ['dead_man=0'], 'six'),
        (['0'] * 6, ['dead_man=0'], 'no axis'),
        (['+0'] * 6, ['jump=0'], 'no button'),
        (['+0'] * 6, ['success=0'], 'no dead_man'),
        (['+0'] * 6, ['dead_man=0', 'pause=0'], 'share'),
    ],
)
def test_a_layout_that_says_nothing_sensible_is_refused(axes, buttons, said):
    with pytest.raises(InputError, match=said):
        layout(axes, buttons)


def test_every_device_has_a_dead_mans_button():
    assert all('dead_man' in device.buttons for device in LAYOUTS.values())


@pytest.fixture
def bench():
    bench = Bench(domain=1 + (os.getpid() + next(DOMAINS)) % 100)
    yield bench
    bench.close()


def test_a_space_mouse_takes_over_labels_pauses_and_stops(
    bench, task, tmp_path, unhurried, patient
):
    cell = bench.add(LiveCell, lockstep=False)
    cell.succeed_at = 1000
    arm = bench.add(ArmInterface, state_dir=str(tmp_path), **patient)
    bench.add(EpisodeManager, lockstep=False, **RUN | {'rollouts': 9})
    buttons = ['dead_man=0', 'success=1', 'failure=2', 'pause=3', 'emergency_stop=4']
    bench.add(TeleopNode, lockstep=False, buttons=buttons, silent_after=10.0)
    joy = cell.create_publisher(Joy, 'spacenav/joy', 10)
    twist = cell.create_publisher(Twist, 'spacenav/twist', 10)
    bench.until(lambda: joy.get_subscription_count() and twist.get_subscription_count())
    bench.until(lambda: len(cell.steps) > 2)
    cap = Twist()
    cap.linear.x = 1.0

    def press(*numbers):
        joy.publish(Joy(buttons=[int(k in numbers) for k in range(5)]))

    def sources():
        return [s.decision.source for s in cell.steps]

    twist.publish(cap)
    press()
    press(0)

    def moved():
        twist.publish(cap)
        return (
            sources()[-1] == GateDecision.SOURCE_HUMAN and cell.steps[-1].decision.action[0] > 0.5
        )

    bench.until(moved)
    released = []
    cell.create_subscription(
        HumanAction,
        'human_action',
        lambda msg: released.append(not msg.action),
        cell.qos.sensors,
    )
    bench.until(lambda: released)
    press()
    bench.until(lambda: any(released))
    bench.until(lambda: sources()[-1] == GateDecision.SOURCE_BC)
    assert released[-1] and sum(released) == 1  # it is said once, and nothing after it

    def ends():
        return [s.end_reason for s in cell.steps if s.final]

    def has_time():
        last = cell.steps[-1]
        return not last.final and 2 < last.step < task.max_steps // 2

    for button, end in ((1, ExecutedStep.END_SUCCESS), (2, ExecutedStep.END_FAILURE)):
        bench.until(has_time)  # a verdict that comes when its episode is over is for nothing
        press(button)
        bench.until(lambda end=end: end in ends())
        press()
    press(3)
    bench.until(lambda: arm._logic.latch.held)
    press()
    press(4)
    bench.until(lambda: arm._logic.latch.stopped)
    assert arm._panel._pressed
    press()
    bench.until(lambda: not arm._panel._pressed)
    assert arm._logic.latch.stopped
