# SPDX-License-Identifier: Apache-2.0
"""What a real arm does when its node starts, is started again, and ends: nothing that a person has not asked for."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
import math
import os
from types import SimpleNamespace

from control_helpers import FollowingArm, above
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2')
pytest.importorskip('q2rl_msgs', reason='needs the built workspace')

from rclpy.lifecycle import TransitionCallbackReturn
from std_srvs.srv import SetBool
from test_control_nodes import DOMAINS, RUN, Bench, Cell, LiveCell
from test_control_operator_panel import HOLD, Desk
import yaml

from q2rl_control.arm_interface_node import ArmInterface
from q2rl_control.arm_logic import ArmLogic
from q2rl_control.arm_state import ArmState
from q2rl_control.episode_manager_node import EpisodeManager
from q2rl_control.gripper_command import GripperCommand
from q2rl_control.safety_latch import SafetyLatch
from q2rl_msgs.msg import GuardState
from q2rl_ros.qos import profiles
from q2rl_task import load_task

TASK = load_task('pipe_assembly')
KITTING = load_task('kitting')


@pytest.fixture
def bench():
    bench = Bench(domain=1 + (os.getpid() + next(DOMAINS)) % 100)
    yield bench
    bench.close()


def test_a_real_arm_waits_at_each_start_until_a_person_lets_go_of_the_hold(bench, tmp_path):
    cell = bench.add(LiveCell, lockstep=False)
    desk = Desk(cell)
    real = {'lockstep': False, 'hold_at_start': True, 'state_dir': str(tmp_path)}
    arm = bench.add(ArmInterface, **real)
    bench.add(EpisodeManager, lockstep=False, **RUN)
    start = cell.arm.pose
    assert arm._logic.latch.held

    def waits():
        told = cell.states and cell.states[-1].detail
        return arm._logic.state is ArmState.RETREATING and told and 'arm it' in told

    bench.until(waits)
    for said in (cell.states[-1].detail, desk.last.detail):
        assert 'not armed' in said and 'ros2 service call /arm_interface/hold' in said
    assert desk.last.state == GuardState.HOLDING and desk.last.held
    ticks = len(desk.states)
    bench.until(lambda: len(desk.states) > ticks + 1)  # once a second
    assert start.distance_to(cell.arm.pose)[0] < 1e-9 and not cell.steps
    assert not list(
        tmp_path.glob('stop-*')
    )  # each start holds by itself, the next simulation does not
    assert bench.ask(SetBool, HOLD, SetBool.Request(data=False)).success
    bench.until(lambda: len(cell.steps) > 2)
    bench.remove(arm)
    arm = bench.add(ArmInterface, **real)
    bench.until(waits)
    assert bench.ask(SetBool, HOLD, SetBool.Request(data=False)).success
    assert arm.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    assert arm.trigger_activate() == TransitionCallbackReturn.SUCCESS
    bench.until(waits)
    here = cell.arm.pose
    ticks = arm.counters['early_ticks'] + len(desk.states)
    bench.until(lambda: arm.counters['early_ticks'] + len(desk.states) > ticks + 1)
    assert here.distance_to(cell.arm.pose)[0] < 1e-9


def test_a_simulation_that_waits_for_the_arm_needs_nobody_to_arm_it(bench):
    cell = bench.add(Cell)
    bench.add(ArmInterface, hold_at_start=True)
    bench.add(EpisodeManager, **RUN)
    bench.until(lambda: len(cell.steps) > 2)


def test_an_arm_that_is_deactivated_in_motion_brakes_before_it_falls_silent(bench, tmp_path):
    task = TASK.model_dump(mode='json')
    task['limits'] |= {'acceleration_m_s2': 0.3, 'observation_max_age_s': 2.0}
    path = tmp_path / 'slow.yaml'
    path.write_text(yaml.safe_dump(task))
    cell = bench.add(LiveCell, lockstep=False)
    cell.arm.pose = above(TASK, -0.02)
    arm = bench.add(ArmInterface, lockstep=False, task=str(path))
    bench.until(lambda: arm._logic.guard.seeded)
    arm._logic.retreat()
    guard = arm._logic.guard
    bench.until(lambda: abs(guard._position.velocity).max() > 0.03)
    before, sent, send = guard.commanded, [], arm._sink.send
    arm._sink.send = lambda target, *rest: sent.append(target) or send(target, *rest)
    assert arm.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    steps = [a.distance_to(b)[0] for a, b in pairwise([before, *sent])]
    assert len(steps) > 2 and steps[0] > 0.0005 and steps[-1] == 0.0
    assert all(later <= earlier + 1e-9 for earlier, later in pairwise(steps))


class Heard:
    """The node that a `GripperCommand` needs, and what was published."""

    def __init__(self, lockstep: bool) -> None:
        self.task, self.lockstep = KITTING, lockstep
        self.qos = profiles(lockstep, KITTING.period_s)
        self.said = []

    def value(self, name):
        return ''

    def publisher(self, kind, topic, qos):
        return SimpleNamespace(publish=lambda msg: self.said.append(msg.data[0]))


def restarted(latch: SafetyLatch, lockstep: bool):
    """An arm that was started anew with a part in its half closed gripper."""
    arm = FollowingArm(KITTING, above(KITTING, 0.02))
    node, logic = Heard(lockstep), ArmLogic(KITTING, latch=latch)
    gripper = GripperCommand(node, logic)

    def tick():
        logic.tick(replace(arm.measure(), gripper=0.4))
        arm.stamp += KITTING.period_s
        gripper.send()

    return node, logic, tick


def test_a_gripper_is_told_nothing_before_something_was_decided_and_nothing_in_a_stop():
    latch = SafetyLatch()
    latch.stop('the button')
    node, logic, tick = restarted(latch, lockstep=False)
    for _ in range(5):
        tick()
    assert logic.reset_emergency_stop() == '' and logic.retreat()
    for _ in range(5):
        tick()  # held
    assert not node.said and math.isnan(logic.gripper)
    assert latch.release()
    tick()
    assert node.said == [pytest.approx(KITTING.gripper.open_m)]
    logic.emergency_stop('again')
    tick()
    assert len(node.said) == 1


def test_in_lockstep_a_gripper_that_nobody_has_told_anything_is_told_to_keep_still():
    latch = SafetyLatch()
    latch.stop('the button')
    node, _, tick = restarted(latch, lockstep=True)
    tick()
    assert node.said == [pytest.approx(0.4 * KITTING.gripper.open_m)]
