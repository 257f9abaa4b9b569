# SPDX-License-Identifier: Apache-2.0
"""Whole episodes of a scripted policy over DDS, once with each kind of command that the simulation takes."""

from __future__ import annotations

from itertools import pairwise

from geometry_msgs.msg import PoseStamped
import numpy as np
import pytest
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger

from q2rl_bringup.robot_description import robot_urdf
from q2rl_control.arm_interface_node import ArmInterface
from q2rl_control.arm_state import ArmState
from q2rl_msgs.msg import ArmStatus, ExecutedStep, GateDecision, Observation
from q2rl_msgs.srv import PrepareScene, StartEpisode
from q2rl_ros.conversions import decision_to_msg, observation_from_msg, pose_from_msg
from q2rl_ros.errors import MessageError
from q2rl_ros.joint_command import JOINT_TOPIC, joints_from_msg, joints_to_msg, stamp_label
from q2rl_ros.qos import profiles
from q2rl_sim.demonstrator import Demonstrator
from q2rl_sim.mujoco_arm_node import MujocoArmNode
from q2rl_task import Decision, Reason, Source, load_task

TASK = load_task('pipe_assembly')
QOS = profiles(True, TASK.period_s)
SEED = 1
JOINTS = {'command_sink': 'joint_position', 'robot_description': robot_urdf(TASK)}


class Cell:
    """The simulated arm and the arm interface; the test plays gate and episode manager."""

    def __init__(self, bench, interface: str, **sink) -> None:
        self.bench, self.steps, self.statuses = bench, [], []
        self.sim = bench.start(MujocoArmNode, activate=False, command_interface=interface)
        self.arm = bench.start(ArmInterface, activate=False, **sink)
        self.sim.trigger_configure()
        self.arm.trigger_configure()
        self.demonstrator = Demonstrator(TASK, np.random.default_rng(SEED), noise=0.0)
        self.decisions = bench.probe.create_publisher(GateDecision, 'gate_decision', QOS.tick)
        bench.probe.create_subscription(Observation, 'observation', self._decide, QOS.tick)
        bench.probe.create_subscription(
            ExecutedStep, 'executed_step', self.steps.append, QOS.events
        )
        bench.probe.create_subscription(ArmStatus, 'arm_status', self.statuses.append, QOS.latched)
        bench.until(lambda: self.decisions.get_subscription_count())
        heard = {subscription.topic_name.lstrip('/') for subscription in self.arm.subscriptions}
        wanted = [out for out in self.sim._sensors if out.topic_name.lstrip('/') in heard]
        assert len(wanted) == (3 if 'pose_source' in sink else 5)
        bench.until(lambda: all(out.get_subscription_count() for out in wanted))
        self.arm.trigger_activate()
        self.sim.trigger_activate()

    def _decide(self, msg: Observation) -> None:
        record = observation_from_msg(msg, TASK)
        if record.step > len(self.steps):
            return  # asked again
        logic = self.arm._logic
        action = self.demonstrator.act(
            logic.measurement, self.sim._arm.fixture_pose, logic.guard.commanded, None
        )
        action = np.clip(action, -1.0, 1.0).astype(np.float32)
        decision = Decision(Source.BC, Reason.MODE, action)
        self.decisions.publish(decision_to_msg(decision, record))

    def counted(self) -> dict[str, int]:
        last = self.statuses[-1]
        return dict(zip(last.counted, last.counts, strict=True))

    def ready(self) -> None:
        assert self.bench.call(Trigger, 'arm_interface/retreat', Trigger.Request()).success
        self.bench.until(lambda: self.arm._logic.state is ArmState.READY)

    def run(self) -> list[ExecutedStep]:
        self.ready()
        request = PrepareScene.Request(episode='e', seed=SEED)
        scene = self.bench.call(PrepareScene, 'prepare_scene', request)
        assert scene.success
        start = StartEpisode.Request(episode='e', seed=SEED, estimate=scene.estimate)
        assert self.bench.call(StartEpisode, 'arm_interface/start_episode', start).success
        self.bench.until(lambda: self.steps and self.steps[-1].final, timeout_s=60.0)
        return self.steps


@pytest.mark.parametrize(
    ('interface', 'sink'),
    [
        ('pose', {}),
        ('joints', JOINTS),
        ('joints', {**JOINTS, 'pose_source': 'joints', 'twist_source': 'joints'}),
    ],
    ids=['poses', 'joint positions', 'joint positions and nothing but joints measured'],
)
def test_a_scripted_policy_inserts_the_pipe(bench, interface, sink):
    cell = Cell(bench, interface, **sink)
    steps = cell.run()
    assert steps[-1].end_reason == ExecutedStep.END_SUCCESS and steps[-1].terminated
    assert max(step.force for step in steps) < TASK.limits.force_soften_n
    assert [step.step for step in steps] == list(range(len(steps)))
    bench.until(lambda: cell.arm._logic.state is ArmState.READY)
    # Who watches is told what the sink counted.
    bench.until(lambda: cell.counted().get('joints_seeded', 0) == (interface == 'joints'))


def test_in_real_time_joints_are_commanded_in_small_steps_between_the_ticks(bench, tmp_path):
    real = profiles(False, TASK.period_s)
    bench.start(MujocoArmNode, command_interface='joints', lockstep=False)
    commands = []
    bench.probe.create_subscription(Float64MultiArray, JOINT_TOPIC, commands.append, real.events)
    arm = bench.start(
        ArmInterface, lockstep=False, hold_at_start=False, state_dir=str(tmp_path), **JOINTS
    )
    bench.until(lambda: arm._logic.measurement is not None)
    assert bench.call(Trigger, 'arm_interface/retreat', Trigger.Request()).success
    bench.until(lambda: arm._logic.state is ArmState.READY)
    bench.until(lambda: len(commands) > 20)
    positions = np.array([joints_from_msg(msg, 7)[0] for msg in commands])
    np.testing.assert_allclose(positions[0], arm._logic.measurement.joint_positions, atol=0.2)
    assert np.abs(np.diff(positions, axis=0)).max() < 2.7 * TASK.period_s


def test_in_real_time_poses_are_commanded_in_small_steps_and_by_nobody_else(bench, tmp_path):
    real = profiles(False, TASK.period_s)
    bench.start(MujocoArmNode, lockstep=False)
    commands = []
    bench.probe.create_subscription(PoseStamped, 'target_pose', commands.append, real.events)
    arm = bench.start(ArmInterface, lockstep=False, hold_at_start=False, state_dir=str(tmp_path))
    bench.until(lambda: arm._logic.measurement is not None)
    intruder = bench.probe.create_publisher(PoseStamped, 'target_pose', real.command)
    bench.until(lambda: '2 publishers' in arm._logic.command.blocked)
    assert 'publishers on /target_pose' in arm._panel.diagnose()['guard detail']
    assert bench.call(Trigger, 'arm_interface/retreat', Trigger.Request()).success
    bench.until(lambda: arm._logic.guard.at_rest)
    assert arm._logic.state is ArmState.RETREATING
    bench.probe.destroy_publisher(intruder)
    bench.until(lambda: arm._logic.state is ArmState.READY, timeout_s=60.0)
    assert not arm._logic.command.blocked and not arm._logic.latch.held

    def stamps() -> set:
        return {(msg.header.stamp.sec, msg.header.stamp.nanosec) for msg in commands}

    # Several answer one measurement.
    bench.until(lambda: 2 < len(stamps()) < len(commands))
    poses = [pose_from_msg(msg, TASK.frames.base) for msg in commands]
    steps = [a.distance_to(b)[0] for a, b in pairwise(poses)]
    assert max(steps) <= TASK.limits.velocity_m_s * TASK.period_s


def test_in_real_time_an_arm_whose_controller_is_stopped_is_held(bench, tmp_path):
    sim = bench.start(MujocoArmNode, lockstep=False)
    arm = bench.start(ArmInterface, lockstep=False, hold_at_start=False, state_dir=str(tmp_path))
    logic = arm._logic
    bench.until(lambda: logic.measurement is not None)
    assert bench.call(Trigger, 'arm_interface/retreat', Trigger.Request()).success
    bench.until(lambda: logic.state is ArmState.READY)
    scene = bench.call(PrepareScene, 'prepare_scene', PrepareScene.Request(episode='e', seed=SEED))
    sim._take = lambda target, is_answer: None
    start = StartEpisode.Request(episode='e', seed=SEED, estimate=scene.estimate)
    assert bench.call(StartEpisode, 'arm_interface/start_episode', start).success
    bench.until(lambda: logic.latch.held, timeout_s=60.0)
    assert 'does not follow' in arm._panel.diagnose()['guard detail']
    bench.until(
        lambda: logic.guard.commanded.distance_to(logic.measurement.tip_pose)[0] < 2e-3,
    )
    assert logic.state is ArmState.RESETTING and logic.latch.held


def test_a_joint_command_steps_the_simulation_once_and_only_as_an_answer(bench):
    sim = bench.start(MujocoArmNode, activate=False, command_interface='joints', repeat_period=60.0)
    sim.trigger_configure()
    commands = bench.talk(Float64MultiArray, JOINT_TOPIC, QOS.command)
    sim.trigger_activate()
    here, stamp = sim._arm.target, sim._stamp
    commands.publish(joints_to_msg(here[:6], stamp))
    bench.until(lambda: sim.counters['malformed'] == 1)
    commands.publish(joints_to_msg(here, stamp + 1.0))
    bench.until(lambda: sim.counters['repeats'] == 1)
    assert sim.counters['steps'] == 0
    for number in (1, 2):  # the second is a repetition of the first
        commands.publish(joints_to_msg(here, stamp))
        bench.until(lambda n=number: sim.counters['steps'] + sim.counters['repeats'] == n + 1)
    assert sim.counters['steps'] == 1 and sim.counters['repeats'] == 2


def test_joint_commands_cross_with_the_stamp_that_they_answer():
    positions, label = joints_from_msg(joints_to_msg(np.arange(7.0), 12.05), 7)
    np.testing.assert_array_equal(positions, np.arange(7.0))
    assert label == stamp_label(12.05) == '12.050000000'
    assert joints_from_msg(Float64MultiArray(data=[1.0]), 1)[1] == ''
    for data in ([], [1.0], [1.0, float('inf')]):
        with pytest.raises(MessageError):
            joints_from_msg(Float64MultiArray(data=data), 2)
