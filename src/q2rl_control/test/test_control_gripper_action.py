# SPDX-License-Identifier: Apache-2.0
"""A gripper that takes goals: when one is sent, what becomes of one that runs or fails, and when nothing is said."""

from __future__ import annotations

import math
import os
from types import SimpleNamespace

from control_helpers import FollowingArm, above
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2')
pytest.importorskip('q2rl_msgs', reason='needs the built workspace')

import control_msgs_standin
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool
from test_control_nodes import DOMAINS, Bench
from test_control_operator_panel import HOLD

from q2rl_control import gripper_action
from q2rl_control.arm_interface_node import ArmInterface
from q2rl_control.gripper_action import ACTION_TYPES, ANSWER_S, GOAL_S, RETRY_S
from q2rl_control.gripper_command import GripperCommand
from q2rl_ros.node import Q2rlNode
from q2rl_ros.sensors import SENSOR_TOPICS, measurement_to_msgs
from q2rl_task import InputError, load_task

KITTING = load_task('kitting')
OPEN_M, FORCE_N = KITTING.gripper.open_m, KITTING.gripper.force_n
NAME = 'franka_gripper/gripper_action'


class FakeNode:
    """As much of a `Q2rlNode` as a gripper with an action uses."""

    task, lockstep = KITTING, False

    def __init__(self, **parameters) -> None:
        usual = {'gripper_action': NAME, 'gripper_action_type': ACTION_TYPES[0]}
        usual |= {'gripper_joints': [''], 'gripper_effort': 0.0}
        usual |= {'gripper_open_position': 0.0, 'gripper_closed_position': 0.0}
        self.value = (usual | parameters).__getitem__
        self.dropped, self.released = [], []
        self.when_released = self.released.append

    def drop(self, name, problem=''):
        self.dropped.append(problem)


class Gripper:
    """A `GripperCommand` on a stand-in server, told by hand what the logic wants and measures, with its own clock."""

    def __init__(self, monkeypatch, **parameters) -> None:
        self.server = control_msgs_standin.install(monkeypatch)
        self.node = FakeNode(**parameters)
        self.latch = SimpleNamespace(held=False, stopped=False)
        self.logic = SimpleNamespace(gripper=math.nan, latch=self.latch)
        self.logic.measurement = SimpleNamespace(gripper=1.0)
        self.now = 100.0
        clock = SimpleNamespace(monotonic=lambda: self.now)
        monkeypatch.setattr(gripper_action, 'time', clock)
        self.command = GripperCommand(self.node, self.logic)

    def tick(self, opening: float | None = None, after: float = 0.05):
        """Let a tick pass; return how many goals have been sent."""
        self.now += after
        if opening is not None:
            self.logic.gripper = opening
        self.command.send()
        return len(self.server.goals)

    @property
    def positions(self):
        return [handle.goal.command.position for handle in self.server.goals]


@pytest.fixture
def gripper(monkeypatch):
    return Gripper(monkeypatch)


def test_a_goal_is_sent_when_the_commanded_opening_changes_and_at_no_other_time(gripper):
    for _ in range(3):
        assert gripper.tick() == 0  # nothing was decided
    assert gripper.tick(1.0) == 1
    assert gripper.server.name == NAME
    for _ in range(3):
        assert gripper.tick() == 1
    gripper.server.last.answer().succeed()
    for _ in range(50):
        assert gripper.tick() == 1
    assert gripper.tick(0.0) == 2
    assert gripper.positions == [pytest.approx(OPEN_M), 0.0]
    assert gripper.server.last.goal.command.max_effort == FORCE_N and not gripper.node.dropped
    gripper.node.released[0]()
    assert gripper.server.closed


def test_the_newest_goal_replaces_one_that_runs_as_soon_as_that_one_has_ended(gripper):
    gripper.tick(0.0)
    assert gripper.tick(1.0) == 1  # not taken yet: there is nothing to cancel
    closing = gripper.server.last.answer()
    assert gripper.tick() == 1 and closing.cancelled
    assert gripper.tick(0.0) == 1
    assert gripper.tick(1.0) == 1
    closing.cancel()
    assert gripper.tick() == 2 and gripper.positions[-1] == pytest.approx(OPEN_M)
    assert not gripper.node.dropped  # all as it was asked for
    # A server that does not end what it was asked to cancel is not waited for.
    opening = gripper.server.last.answer()
    assert gripper.tick(0.0) == 2 and opening.cancelled
    assert gripper.tick(after=ANSWER_S / 2) == 2
    assert gripper.tick(after=ANSWER_S) == 3 and gripper.positions[-1] == 0.0
    assert 'not answered' in gripper.node.dropped[0]
    opening.succeed()  # of the past
    assert gripper.tick() == 3
    gripper.server.last.answer().succeed()
    assert gripper.tick(after=10.0) == 3


def test_a_goal_that_was_cancelled_is_sent_again_where_it_is_wanted_after_all(gripper):
    gripper.tick(0.0)
    closing = gripper.server.last.answer()
    gripper.tick(1.0)
    gripper.tick(0.0)
    closing.cancel()
    assert gripper.tick() == 2 and gripper.positions == [0.0, 0.0]
    # Nor does it count as closed on a part where the server calls that an abort.
    closing = gripper.server.last.answer()
    gripper.tick(1.0)
    gripper.tick(0.0)
    gripper.logic.measurement.gripper = 0.5
    closing.abort()
    assert gripper.tick() == 3
    # One that was reached before the word came is not.
    closing = gripper.server.last.answer()
    gripper.tick(1.0)
    gripper.tick(0.0)
    closing.succeed()
    assert gripper.tick() == 3


@pytest.mark.parametrize('how', ['rejected', 'aborted', 'given up', 'not answered'])
def test_a_goal_that_fails_is_told_of_and_sent_again_once_a_second(gripper, how):
    for again in range(1, 4):
        assert gripper.tick(1.0) == again
        if how == 'not answered':
            gripper.now += ANSWER_S
        else:
            handle = gripper.server.last.answer(accepted=how != 'rejected')
            if how != 'rejected':
                {'aborted': handle.abort, 'given up': handle.cancel}[how]()
            assert gripper.tick(after=0.5 * RETRY_S) == again
            gripper.now += RETRY_S
    assert gripper.tick() == 4
    assert len(gripper.node.dropped) == 3 and how in gripper.node.dropped[0]
    assert how in gripper.command.diagnose()['gripper']
    gripper.server.last.answer().succeed()
    assert gripper.command.diagnose()['gripper'] == 'as told'


def test_a_goal_that_is_taken_late_does_not_run_against_the_one_wanted_since(gripper):
    gripper.tick(0.0)
    closing = gripper.server.last
    gripper.tick(1.0, after=ANSWER_S + 0.1)
    assert gripper.tick() == 2
    gripper.server.last.answer().succeed()
    assert gripper.tick() == 2
    assert closing.answer().cancelled
    assert gripper.tick() == 3 and gripper.positions[-1] == pytest.approx(OPEN_M)


def test_a_goal_that_a_late_one_took_down_with_it_has_closed_on_nothing(gripper):
    gripper.tick(0.0)
    late = gripper.server.last
    gripper.tick(after=ANSWER_S + 0.1)
    assert gripper.tick(after=RETRY_S) == 2  # the same once more
    closing = gripper.server.last.answer()
    assert late.answer().cancelled
    gripper.logic.measurement.gripper = 0.5
    closing.abort()
    assert gripper.tick(after=RETRY_S) == 3 and gripper.positions[-1] == 0.0


def test_a_failed_goal_does_not_keep_another_one_waiting(gripper):
    gripper.tick(1.0)
    gripper.server.last.answer().abort()
    assert gripper.tick() == 1
    assert gripper.tick(0.0) == 2


def test_a_goal_that_never_ends_is_cancelled_and_sent_again(gripper):
    gripper.tick(1.0)
    handle = gripper.server.last.answer()
    assert gripper.tick(after=GOAL_S - 0.1) == 1 and not handle.cancelled
    assert gripper.tick(after=0.2) == 1 and handle.cancelled
    handle.cancel()
    assert gripper.tick() == 2 and 'given up' in gripper.node.dropped[0]


@pytest.mark.parametrize('stalled, measured', [(True, math.nan), (False, 0.5)])
def test_a_gripper_that_was_stopped_by_a_part_has_done_what_it_was_told(gripper, stalled, measured):
    # A controller of ros2_control says that it stalled; Franka's hand only that the width is not the one expected.
    gripper.tick(0.0)
    gripper.logic.measurement.gripper = measured
    gripper.server.last.answer().abort(stalled)
    for _ in range(5):
        assert gripper.tick(after=RETRY_S) == 1
    assert not gripper.node.dropped


def test_a_gripper_that_did_not_leave_the_open_end_has_not_closed_on_anything(gripper):
    gripper.tick(0.0)
    gripper.server.last.answer().abort()
    assert gripper.tick(after=RETRY_S) == 2 and 'to close was aborted' in gripper.node.dropped[0]


def test_a_gripper_without_its_server_blocks_the_arm_and_is_told_anew_when_it_is_back(gripper):
    gripper.server.ready = False
    assert gripper.tick(1.0) == 0
    assert gripper.command.blocked() == f'nobody serves the action {NAME} of the gripper'
    gripper.server.ready = True
    assert gripper.command.blocked() == '' and gripper.tick() == 1
    gripper.server.last.answer().succeed()
    assert gripper.tick() == 1
    gripper.server.ready = False
    assert gripper.command.blocked()
    gripper.server.ready = True
    assert gripper.tick() == 2


def test_a_gripper_is_told_nothing_in_a_hold_or_a_stop_and_not_to_try_again(gripper):
    gripper.tick(0.0)
    gripper.server.last.answer().abort()
    for stopped in (False, True):
        gripper.latch.held, gripper.latch.stopped = True, stopped
        assert gripper.tick(after=2 * RETRY_S) == 1
    gripper.latch.stopped = False
    assert gripper.tick() == 1
    gripper.latch.held = False
    assert gripper.tick() == 2


def test_a_person_who_acts_in_a_hold_has_the_gripper_too(gripper):
    gripper.tick(0.0)
    gripper.server.last.answer().succeed()
    gripper.latch.held = True
    assert gripper.tick() == 1
    assert gripper.tick(1.0) == 2


def test_an_arm_that_starts_anew_says_again_what_it_wants(gripper):
    gripper.tick(1.0)
    gripper.server.last.answer().succeed()
    gripper.command.forget()  # somebody may have closed it meanwhile
    assert gripper.tick() == 2


def test_a_parallel_gripper_is_told_by_the_angle_of_its_joint(monkeypatch):
    joint = 'robotiq_85_left_knuckle_joint'
    gripper = Gripper(
        monkeypatch,
        gripper_action_type='ParallelGripperCommand',
        gripper_joints=[joint],
        gripper_open_position=0.0,
        gripper_closed_position=0.7929,
        gripper_effort=40.0,
    )
    for opening, position in ((1.0, 0.0), (0.0, 0.7929)):
        gripper.tick(opening)
        command = gripper.server.last.goal.command
        assert list(command.name) == [joint] and list(command.effort) == [40.0]
        assert list(command.position) == [pytest.approx(position)]
        gripper.server.last.answer().succeed()


def test_without_its_messages_no_gripper_can_be_spoken_to(monkeypatch):
    control_msgs_standin.uninstall(monkeypatch)
    with pytest.raises(InputError, match='not installed') as caught:
        GripperCommand(FakeNode(), SimpleNamespace(gripper=math.nan))
    assert '\n' not in str(caught.value)


def test_a_simulation_in_lockstep_keeps_the_topic(monkeypatch):
    control_msgs_standin.uninstall(monkeypatch)
    node = FakeNode()
    node.lockstep, node.qos, topics = True, SimpleNamespace(command=None), []
    node.publisher = lambda kind, topic, qos: topics.append(topic)
    command = GripperCommand(node, SimpleNamespace())
    assert topics == ['gripper_controller/commands'] and command.blocked() == ''


class Fingers(Q2rlNode):
    """A real arm and its hand: the arm's state on the usual topics, the hand's on one of its own, as Franka has it."""

    def __init__(self, **kwargs) -> None:
        super().__init__('fingers', **kwargs)

    def configure(self) -> None:
        self.arm, self.position = FollowingArm(self.task, above(self.task, 0.05)), 0.01
        self.out = [self.publisher(k, t, self.qos.sensors) for t, k in SENSOR_TOPICS.items()]
        self.hand = self.publisher(JointState, 'hand/joint_states', self.qos.sensors)
        self.wall_timer(0.01, self.send)

    def send(self) -> None:
        self.arm.stamp = self.get_clock().now().nanoseconds / 1e9
        names = [f'fr3_joint{k}' for k in range(1, 8)]
        for out, msg in zip(
            self.out, measurement_to_msgs(self.arm.measure(), names, self.task), strict=True
        ):
            out.publish(msg)
        both = [self.position] * 2
        self.hand.publish(JointState(name=['left', 'right'], position=both, velocity=[0.0, 0.0]))


def test_an_arm_with_a_hand_is_blocked_without_its_server_and_opens_it_when_released(
    monkeypatch, tmp_path
):
    server = control_msgs_standin.install(monkeypatch)
    server.ready = False
    bench = Bench(domain=1 + (os.getpid() + next(DOMAINS)) % 100)
    try:
        bench.add(Fingers, lockstep=False, task='kitting')
        arm = bench.add(
            ArmInterface,
            lockstep=False,
            task='kitting',
            hold_at_start=True,
            state_dir=str(tmp_path),
            gripper_action=NAME,
            gripper_topic='hand/joint_states',
            gripper_joints=['left', 'right'],
            gripper_open_position=0.04,
        )
        bench.until(lambda: arm._logic.usable is not None)
        assert arm._logic.measurement.gripper == pytest.approx(0.25)
        assert arm._logic.measurement.joint_names[-2:] == tuple(KITTING.gripper.joints)
        assert arm._logic.retreat()
        bench.until(lambda: NAME in arm._logic.command.blocked)
        server.ready = True
        bench.until(lambda: not arm._logic.command.blocked)
        assert not server.goals  # held since it started
        assert bench.ask(SetBool, HOLD, SetBool.Request(data=False)).success
        bench.until(lambda: server.goals)
        assert server.last.goal.command.position == pytest.approx(0.04)
    finally:
        bench.close()
    assert server.closed
