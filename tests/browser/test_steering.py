# SPDX-License-Identifier: Apache-2.0
"""A person records a demonstration by dragging the arm: the command, real nodes, a real browser, a mouse."""

from __future__ import annotations

import os
from pathlib import Path
import re
import signal
import subprocess
import sys
import time

from geometry_msgs.msg import PoseArray, PoseStamped
import numpy as np
import pytest
import rclpy

sys.path.insert(0, str(Path(__file__).parent))
from chromium import CHROMIUM, Chromium
from spun_node import SpunNode

from q2rl_learner.demonstrations import load_demonstrations
from q2rl_ros.conversions import pose_from_msg
from q2rl_ros.qos import profiles
from q2rl_ros.testing import free_port
from q2rl_task import Pose, load_task

pytestmark = [
    pytest.mark.long,  # drawing by the CPU, a browser beside four nodes takes a minute, and minutes on a busy machine
    pytest.mark.skipif(CHROMIUM is None, reason='needs Chromium (apt install chromium)'),
    pytest.mark.timeout(300),
]
WAIT_S = 90.0
TASK = load_task('pipe_assembly')
WIDTH, HEIGHT = 1100, 700
FIELD_OF_VIEW, DISTANCE_M = np.radians(50.0), 0.24
VIEWS = {'Front': (1.0, 0.0, 0.3), 'Side': (0.0, -1.0, 0.3)}
GRIP_M = 0.051
"""Where on an arrow of the gizmo the mouse takes hold, from the tip: at its head, beyond the rings."""
CLOSE_M = 0.0004
REACH_M = 0.06
"""As far as the hand goes at most."""
LOOK_S = 0.25
"""For how long it looks at what it did."""


class Command:
    """`q2rl demos --teleop` as a process, and the eyes of the person: what the simulation truly looks like."""

    def __init__(self, file: Path, port: int, count: int) -> None:
        argv = [sys.executable, '-m', 'q2rl_lab.cli', 'demos', TASK.name, '--teleop']
        argv += ['-n', str(count), '-o', str(file), '--browser-port', str(port), '--json']
        self.said = file.with_suffix('.err')
        self.process = subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=self.said.open('wb'), text=True
        )
        self.tip: Pose | None = None
        self.hole: Pose | None = None
        domain = re.compile(r'ROS_DOMAIN_ID=(\d+)')
        self.until(lambda: domain.search(self.said.read_text()), 'a domain')
        os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
        rclpy.init(args=[], domain_id=int(domain.search(self.said.read_text())[1]))
        self._node = rclpy.create_node('eyes')
        qos = profiles(True, TASK.period_s)
        self._node.create_subscription(PoseStamped, 'current_pose', self._on_tip, qos.sensors)
        self._node.create_subscription(PoseArray, 'true_poses', self._on_truth, qos.sensors)
        self._spun = SpunNode(self._node)

    def _on_tip(self, msg: PoseStamped) -> None:
        self.tip = pose_from_msg(msg)

    def _on_truth(self, msg: PoseArray) -> None:
        self.hole = pose_from_msg(PoseStamped(header=msg.header, pose=msg.poses[0]))

    def until(self, condition, what: str) -> None:
        end = time.monotonic() + WAIT_S
        while not condition():
            assert self.process.poll() is None, self.said.read_text()
            assert time.monotonic() < end, f'{what}: not within {WAIT_S} s'
            time.sleep(0.02)

    def offset(self) -> np.ndarray:
        """Return the hole's rim, seen from the tip [m], base frame."""
        return self.hole.position - self.tip.position

    def close(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60.0)
        self._spun.close()


class Hand:
    """A mouse over the page, in a view that was chosen by a button."""

    def __init__(self, browser: Chromium, command: Command) -> None:
        self._browser, self._command = browser, command
        box = "document.querySelector('canvas').getBoundingClientRect()"
        self._width = browser.evaluate(f'{box}.width')

    def look_from(self, view: str) -> None:
        before = self._scene()
        self._browser.press(view)
        self._browser.until(lambda: self._scene() != before, f'the view {view}')
        direction = np.array(VIEWS[view]) / np.linalg.norm(VIEWS[view])
        at = self._command.tip.position
        self._camera = at + DISTANCE_M * direction
        right = np.cross(-direction, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        self._axes = np.stack([right, np.cross(-direction, right), -direction])

    def _scene(self) -> bytes:
        return self._browser.picture(self._width, HEIGHT)

    def pixel(self, point: np.ndarray) -> np.ndarray:
        x, y, depth = self._axes @ (point - self._camera)
        focal = HEIGHT / 2.0 / np.tan(FIELD_OF_VIEW / 2.0)
        return np.array([self._width / 2.0, HEIGHT / 2.0]) + focal * np.array([x, y]) / depth

    def drag(self, axis: int, left) -> None:
        """Drag one arrow of the gizmo, in axes of the tip, until `left()` says that it is not far any more [m].

        A hand that watches: it goes half of what it sees to be left, looks again, and lets go at the end.
        """
        tip = self._command.tip
        along = tip.rotation.as_matrix()[:, axis]
        grip, shift = tip.position + GRIP_M * along, 0.0
        self._browser.hold('mouseMoved', *self.pixel(grip))
        self._browser.hold('mousePressed', *self.pixel(grip))
        end = time.monotonic() + WAIT_S
        while abs(way := left()) > CLOSE_M:
            assert time.monotonic() < end, f'arrow {axis}: {1000.0 * way:.1f} mm are left'
            shift = float(np.clip(shift + 0.5 * way, -REACH_M, REACH_M))
            self._browser.hold('mouseMoved', *self.pixel(grip + shift * along))
            time.sleep(LOOK_S)
        self._browser.hold('mouseReleased', *self.pixel(grip + shift * along))


@pytest.fixture
def command(tmp_path):
    port = free_port()
    made = Command(tmp_path / 'mine.hdf5', port, count=1)
    made.port = port
    yield made
    made.close()


def test_a_demonstration_is_recorded_by_dragging_the_arm_in_the_browser(command, tmp_path):
    browser = None
    try:
        command.until(lambda: 'your turn' in command.said.read_text(), 'the nodes')
        browser = Chromium(f'http://127.0.0.1:{command.port}', WIDTH, HEIGHT)
        browser.until(lambda: 'YOUR TURN' in browser.text(), 'the gizmo')
        browser.evaluate("document.querySelector('.mantine-Notification-closeButton')?.click()")
        command.until(lambda: command.tip is not None and command.hole is not None, 'eyes')
        hand = Hand(browser, command)
        for view, side in 2 * [('Side', 0), ('Front', 1)]:
            hand.look_from(view)
            (tmp_path / f'{view}.png').write_bytes(browser.picture())
            along = command.tip.rotation.as_matrix()[:, side]
            hand.drag(side, lambda along=along: float(command.offset() @ along))
        recorded = tmp_path / 'mine.recording' / 'demonstrations.hdf5'
        hand.drag(2, lambda: 0.0 if recorded.exists() else 2.0 * REACH_M)
    finally:
        if browser is not None:
            (tmp_path / 'end.png').write_bytes(browser.picture())
            browser.close()
    assert command.process.wait(60.0) == 0
    (found,) = load_demonstrations(tmp_path / 'mine.hdf5', TASK)
    assert found.terminated
