# SPDX-License-Identifier: Apache-2.0
"""A gizmo on a page drives the nodes of a demonstration, and a page that is gone does not; see tests/browser too."""

from __future__ import annotations

from geometry_msgs.msg import PoseStamped
import msgspec
import numpy as np
import pytest
import viser
from websockets.sync.client import connect

from q2rl_bringup.operator_view_node import OperatorView
from q2rl_control.arm_interface_node import ArmInterface
from q2rl_control.arm_state import MAY_BEGIN
from q2rl_control.episode_manager_node import EpisodeManager
from q2rl_learner.demonstration_recorder_node import DemonstrationRecorder
from q2rl_learner.demonstrations import load_demonstrations
from q2rl_msgs.msg import ArmStatus, GuardState, HumanAction
from q2rl_msgs.srv import LabelEpisode
from q2rl_ros.qos import profiles
from q2rl_ros.testing import free_port
from q2rl_sim.mujoco_arm_node import MujocoArmNode
from q2rl_task import Pose, load_task

PATIENCE_S = 60.0
HOVER_M, DEEP_M = 0.003, 0.04
CLOSE_M, CLOSE_RAD = 0.0005, 0.01


class Page:
    """What a browser says to viser when a gizmo is dragged, without a browser."""

    def __init__(self, port: int) -> None:
        self._socket = connect(
            f'ws://127.0.0.1:{port}',
            origin=f'http://127.0.0.1:{port}',
            subprotocols=[f'viser-v{viser.__version__}'],
            max_size=None,
            max_queue=None,
            proxy=None,
        )
        still = {'wxyz': (1.0, 0.0, 0.0, 0.0), 'position': (1.0, 0.0, 0.0)}
        axes = {'look_at': (0.0, 0.0, 0.0), 'up_direction': (0.0, 0.0, 1.0)}
        size = {'image_height': 600, 'image_width': 800, 'fov': 1.0, 'near': 0.1, 'far': 10.0}
        self._say('ViewerCameraMessage', **still, **axes, **size)

    def _say(self, kind: str, **fields) -> None:
        self._socket.send(msgspec.msgpack.encode({'type': kind, **fields}))

    def grab(self, gizmo: str) -> None:
        self._say('TransformControlsDragStartMessage', name=gizmo, owner='')

    def drag(self, gizmo: str, pose: Pose) -> None:
        x, y, z, w = pose.quaternion.tolist()
        place = {'position': tuple(pose.position.tolist()), 'wxyz': (w, x, y, z)}
        self._say('TransformControlsUpdateMessage', name=gizmo, owner='', **place)

    def let_go(self, gizmo: str) -> None:
        self._say('TransformControlsDragEndMessage', name=gizmo, owner='')

    def vanish(self) -> None:
        self._socket.close()


class Cell:
    """The nodes of a start with teleop:=browser; a late page comes when the arm waits already."""

    def __init__(self, bench, folder, late: bool = False) -> None:
        self.bench, self.run_dir, self.task = bench, folder / 'run', load_task('pipe_assembly')
        common = {'run_dir': str(self.run_dir), 'lockstep': True}
        qos = profiles(True, self.task.period_s)
        self.actions: list[HumanAction] = []
        self.arm: list[ArmStatus] = []
        self.guard: list[GuardState] = []
        for kind, topic, said, quality in (
            (HumanAction, 'human_action', self.actions, qos.sensors),
            (ArmStatus, 'arm_status', self.arm, qos.latched),
            (GuardState, 'guard_state', self.guard, qos.latched),
        ):
            bench.probe.create_subscription(kind, topic, said.append, quality)
        if not late:
            self.open_page(common)
        bench.start(MujocoArmNode, **common, seed=1)
        bench.start(ArmInterface, **common, lockstep_timeout=600.0)
        bench.start(DemonstrationRecorder, **common, demonstrations=2)
        own = {'run_id': 'r', 'seed': 1, 'demonstrations': 2, 'resend_after': 0.2}
        own['wait_for'] = ['arm_interface', 'demonstration_recorder']
        bench.start(EpisodeManager, **common, **own)
        if late:
            self.until(lambda: self.arm and self.arm[-1].detail == MAY_BEGIN)
            self.open_page(common)

    def open_page(self, common: dict) -> None:
        port = free_port()
        # One drag has to last for a whole way, on however slow a machine.
        own = {'port': port, 'steer': True, 'period': 0.05, 'silent_after': 10.0}
        self.view = self.bench.start(OperatorView, **common, **own)
        self.page = Page(port)

    def until(self, condition) -> None:
        self.bench.until(condition, PATIENCE_S)

    @property
    def panel(self):
        return self.view._page._steering

    @property
    def steering(self):
        return self.panel._steering

    def grab(self) -> str:
        """Take hold of the gizmo once there is one; return its name."""
        self.until(lambda: self.arm and self.arm[-1].detail == MAY_BEGIN)
        episode = self.arm[-1].episode
        self.until(lambda: self.panel._gizmo is not None and episode in self.panel._gizmo.name)
        gizmo = self.panel._gizmo.name
        self.page.grab(gizmo)
        self.until(lambda: self.steering.held)
        return gizmo

    def in_hole(self, depth: float) -> Pose:
        """Return the tip's pose at a depth [m] in the hole as it truly stands."""
        return self.steering.truth[0] @ Pose.of([0.0, 0.0, depth])


def is_near(pose: Pose, other: Pose) -> bool:
    metres, radians = pose.distance_to(other)
    return metres < CLOSE_M and radians < CLOSE_RAD


def test_a_drag_on_the_page_inserts_the_pipe_and_is_recorded(bench, tmp_path):
    cell = Cell(bench, tmp_path)
    gizmo = cell.grab()
    assert not cell.actions
    above = cell.in_hole(-HOVER_M)
    cell.page.drag(gizmo, above)
    cell.until(lambda: is_near(cell.steering.commanded, above))
    cell.page.drag(gizmo, cell.in_hole(DEEP_M))
    file = cell.run_dir / 'demonstrations.hdf5'
    cell.until(file.exists)
    (found,) = load_demonstrations(file, cell.task)
    assert found.terminated and len(found) < cell.task.max_steps
    said = [np.array(msg.action, np.float32) for msg in cell.actions]
    assert all(np.abs(action).max() <= 1.0 for action in said)
    # What is kept is what the hand said, and nothing else.
    kept = {action.tobytes() for action in found.actions.astype(np.float32)}
    assert kept <= {action.tobytes() for action in said}
    # The episode is over: the hand must let go and take hold of the next one's gizmo.
    cell.until(lambda: not cell.steering.held)
    cell.until(lambda: cell.arm[-1].detail == MAY_BEGIN)
    cell.actions.clear()
    cell.page.drag(gizmo, cell.in_hole(DEEP_M))
    hears_nothing(cell)


def test_a_page_that_came_after_the_arms_last_target_is_offered_the_gizmo_where_the_arm_stands(
    bench, tmp_path
):
    cell = Cell(bench, tmp_path, late=True)
    targets = []
    bench.probe.create_subscription(
        PoseStamped, 'target_pose', targets.append, profiles(True, cell.task.period_s).sensors
    )
    gizmo = cell.grab()
    assert not targets, 'an arm that waits is told nothing'
    cell.page.drag(gizmo, cell.in_hole(-HOVER_M))
    cell.until(lambda: len(cell.actions) > 3)


@pytest.mark.parametrize('end', ['let_go', 'vanish'])
def test_a_hand_that_lets_go_and_a_page_that_is_gone_stop_the_arm(bench, tmp_path, end):
    cell = Cell(bench, tmp_path)
    gizmo = cell.grab()
    cell.page.drag(gizmo, cell.in_hole(-0.10))
    cell.until(lambda: len(cell.actions) > 5)
    cell.page.let_go(gizmo) if end == 'let_go' else cell.page.vanish()
    cell.until(lambda: not cell.steering.held)
    hears_nothing(cell)
    assert not is_near(cell.steering.commanded, cell.in_hole(-0.10))
    # Time stands still now; a verdict is not kept waiting for it.
    request = LabelEpisode.Request(success=False)
    assert bench.call(LabelEpisode, 'arm_interface/label_episode', request).success
    before = cell.arm[-1].episode
    cell.until(lambda: cell.arm[-1].detail == MAY_BEGIN and cell.arm[-1].episode != before)


def hears_nothing(cell: Cell) -> None:
    """Hear no action for as long as the arm reports twice, but for one that was on its way."""
    heard, reports = len(cell.actions), len(cell.guard)
    cell.until(lambda: len(cell.guard) > reports + 1)
    assert len(cell.actions) <= heard + 1
