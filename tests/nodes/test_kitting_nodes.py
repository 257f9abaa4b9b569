# SPDX-License-Identifier: Apache-2.0
"""A task with a gripper and a part on the same nodes: commands, measurements and both estimates get across."""

from __future__ import annotations

from geometry_msgs.msg import PoseStamped
import numpy as np
import pytest
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger

from q2rl_control.arm_interface_node import ArmInterface
from q2rl_control.arm_state import ArmState
from q2rl_msgs.msg import ExecutedStep, GateDecision, Observation
from q2rl_msgs.srv import PrepareScene, StartEpisode
from q2rl_ros.conversions import decision_to_msg, observation_from_msg, pose_from_msg
from q2rl_ros.errors import MessageError
from q2rl_ros.gripper import GRIPPER_TOPIC, gripper_from_msg, gripper_to_msg
from q2rl_ros.qos import profiles
from q2rl_ros.sensors import MeasurementJoiner, SensorMessages, measurement_to_msgs
from q2rl_sim.arm import SimArm
from q2rl_sim.mujoco_arm_node import MujocoArmNode
from q2rl_sim.placement import draw_placement
from q2rl_task import Decision, Reason, Source, load_task

TASK = load_task('kitting')
QOS = profiles(True, TASK.period_s)
NAMES = [*(f'panda_joint{k}' for k in range(1, 8)), *TASK.gripper.joints]


@pytest.fixture(scope='module')
def measured():
    return SimArm(TASK, 0).measure()


def joined(messages: SensorMessages):
    joiner = MeasurementJoiner(TASK)
    topics = (
        'joint_states', 'current_pose', 'current_twist',
        'force_torque_sensor_broadcaster/wrench', 'success_signal',
    )  # fmt: skip
    return [joiner.add(t, m) for t, m in zip(topics, messages, strict=True)][-1]


def test_the_opening_crosses_as_positions_of_the_fingers(measured):
    messages = measurement_to_msgs(measured, NAMES, TASK)
    assert joined(messages).gripper == pytest.approx(measured.gripper)
    reordered = JointState(
        header=messages.joint_states.header,
        name=NAMES[::-1],
        position=messages.joint_states.position[::-1],
        velocity=messages.joint_states.velocity[::-1],
    )
    assert joined(messages._replace(joint_states=reordered)).gripper == pytest.approx(
        measured.gripper
    )


def test_a_driver_without_the_fingers_is_malformed(measured):
    messages = measurement_to_msgs(measured, [f'other_{n}' for n in NAMES], TASK)
    with pytest.raises(MessageError, match='panda_finger_joint1'):
        joined(messages)


@pytest.mark.parametrize('opening', [0.0, 0.4, 1.0])
def test_a_gripper_command_comes_back(opening):
    assert gripper_from_msg(gripper_to_msg(opening, TASK), TASK) == pytest.approx(opening)


@pytest.mark.parametrize('data', [[], [0.01], [0.01, float('nan')], [0.0, 0.0, 0.0]])
def test_an_impossible_gripper_command_is_malformed(data):
    with pytest.raises(MessageError):
        gripper_from_msg(Float64MultiArray(data=data), TASK)


class Cell:
    """Both real nodes; the test plays gate and episode manager."""

    def __init__(self, bench) -> None:
        self.bench = bench
        self.action = np.zeros(7)
        self.observations, self.steps = [], []
        self.decisions = bench.probe.create_publisher(GateDecision, 'gate_decision', QOS.tick)
        self.sim = bench.start(MujocoArmNode, activate=False, task='kitting')
        self.arm = bench.start(ArmInterface, activate=False, task='kitting')
        self.sim.trigger_configure()
        self.arm.trigger_configure()
        probe = bench.probe
        probe.create_subscription(Observation, 'observation', self._on_observation, QOS.tick)
        probe.create_subscription(ExecutedStep, 'executed_step', self.steps.append, QOS.events)
        bench.until(lambda: self.decisions.get_subscription_count())
        bench.until(lambda: all(out.get_subscription_count() for out in self.sim._sensors))
        self.arm.trigger_activate()
        self.sim.trigger_activate()

    def _on_observation(self, msg: Observation) -> None:
        record = observation_from_msg(msg, TASK)
        self.observations.append(record)
        decision = Decision(Source.BC, Reason.MODE, self.action.astype(np.float32))
        self.decisions.publish(decision_to_msg(decision, record))

    @property
    def state(self) -> ArmState:
        return self.arm._logic.state

    def ready(self) -> None:
        assert self.bench.call(Trigger, 'arm_interface/retreat', Trigger.Request()).success
        self.bench.until(lambda: self.state is ArmState.READY)

    def prepare(self, seed: int):
        request = PrepareScene.Request(episode='e', seed=seed)
        return self.bench.call(PrepareScene, 'prepare_scene', request)

    def start(self, episode: str, scene, part) -> bool:
        request = StartEpisode.Request(episode=episode, seed=5, estimate=scene.estimate, part=part)
        return self.bench.call(StartEpisode, 'arm_interface/start_episode', request).success

    def until_steps(self, number: int) -> None:
        self.bench.until(lambda: len(self.steps) >= number)


def test_an_episode_with_a_gripper(bench):
    cell = Cell(bench)
    cell.ready()
    scene = cell.prepare(3)
    placement = draw_placement(TASK, 3)
    part = pose_from_msg(scene.part, TASK.frames.base)
    np.testing.assert_allclose(part.position, placement.part_estimate.position, atol=1e-12)
    assert part.distance_to(placement.part)[0] > 0.0
    assert not cell.start('e1', scene, PoseStamped())  # nobody said where the part is
    assert cell.start('e1', scene, scene.part)
    cell.until_steps(2)
    above = cell.sim._arm.measure().tip_pose.relative_to(part).position
    assert abs(above[2] + TASK.reset.height_m) < 0.006
    gripper = [observation.observation[-2] * 0.5 for observation in cell.observations]
    assert gripper[0] == pytest.approx(1.0, abs=0.02)
    cell.action[6] = -1.0
    before = len(cell.steps)
    cell.until_steps(before + 15)
    assert cell.observations[-1].observation[-2] < 0.1  # nothing between the fingers
    cell.action[6] = 0.0
    cell.until_steps(len(cell.steps) + 3)
    assert cell.observations[-1].observation[-2] < 0.1  # left as it is
    assert bench.call(Trigger, 'arm_interface/end_episode', Trigger.Request()).success
    bench.until(lambda: cell.state is ArmState.READY)
    assert cell.sim._arm.gripper > 0.8


def test_a_target_alone_moves_no_arm_that_has_a_gripper(bench):
    sim = bench.start(MujocoArmNode, activate=False, task='kitting', repeat_period=60.0)
    sim.trigger_configure()
    targets = bench.talk(PoseStamped, 'target_pose', QOS.command)
    commands = bench.talk(Float64MultiArray, GRIPPER_TOPIC, QOS.command)
    sim.trigger_activate()
    targets.publish(sim._messages.pose)
    bench.until(lambda: sim._answer is not None)
    assert sim.counters['steps'] == 0
    commands.publish(Float64MultiArray(data=[0.0]))
    bench.until(lambda: sim.counters['malformed'] == 1)
    assert sim.counters['steps'] == 0
    commands.publish(gripper_to_msg(0.0, TASK))
    bench.until(lambda: sim.counters['steps'] == 1)
    assert sim._arm.data.ctrl[-1] < TASK.gripper.open_m
