# SPDX-License-Identifier: Apache-2.0
"""`mujoco_arm`: one control period per answered measurement, never one more."""

from __future__ import annotations

from geometry_msgs.msg import PoseStamped
from networks import OBS, TASK
import numpy as np
import pytest
from rosgraph_msgs.msg import Clock

from q2rl_msgs.msg import LearnerStatus, Transition
from q2rl_msgs.srv import PrepareScene
from q2rl_ros.conversions import pose_from_msg, pose_to_msg
from q2rl_ros.qos import profiles
from q2rl_ros.sensors import SENSOR_TOPICS, MeasurementJoiner
from q2rl_ros.stamps import stamp_from_msg, stamp_to_msg
from q2rl_sim.mujoco_arm_node import MujocoArmNode
from q2rl_sim.placement import draw_placement
from q2rl_sim.trace import TraceFile
from q2rl_task import InputError, Pose

QOS = profiles(True, TASK.period_s)
BASE = TASK.frames.base
NEVER = 60.0


class Cell:
    """The simulated arm under test, and an arm interface played by the test."""

    def __init__(self, bench, *, credit: int | None = None, **parameters) -> None:
        self.bench = bench
        self.measurements = []
        joiner = MeasurementJoiner(TASK)
        qos = profiles(parameters.get('lockstep', True), TASK.period_s)

        def receive(topic: str, msg) -> None:
            measurement = joiner.add(topic, msg)
            if measurement is not None:
                self.measurements.append(measurement)

        for topic, kind in SENSOR_TOPICS.items():
            bench.probe.create_subscription(
                kind, topic, lambda msg, t=topic: receive(t, msg), qos.sensors
            )
        self.status = bench.probe.create_publisher(LearnerStatus, 'learner_status', QOS.latched)
        if credit is not None:
            self.status.publish(LearnerStatus(credit=credit))
        self.node = bench.start(
            MujocoArmNode,
            activate=False,
            **{'repeat_period': NEVER, 'clock_period': 0.0, **parameters},
        )
        self.node.trigger_configure()
        bench.until(lambda: all(out.get_subscription_count() for out in self.node._sensors))
        self.targets = bench.talk(PoseStamped, 'target_pose', QOS.command)
        if parameters.get('lockstep', True):
            self.transitions = bench.talk(Transition, 'transition', QOS.replay)
        if credit is not None:
            bench.until(lambda: self.node.diagnose()['credit'] == credit)
        self.node.trigger_activate()
        self.wait(1)

    def wait(self, number: int):
        """Return the `number`-th measurement of all that came."""
        self.bench.until(lambda: len(self.measurements) >= number)
        return self.measurements[number - 1]

    def answer(self, measurement, shift=(0.0, 0.0, 0.0)) -> None:
        """Send a target that is the measured tip, shifted."""
        tip = measurement.tip_pose
        self.targets.publish(
            pose_to_msg(
                Pose.of(tip.position + np.array(shift), tip.quaternion), BASE, measurement.stamp
            )
        )

    def step(self, shift=(0.0, 0.0, 0.0)):
        """Answer the last measurement and return the next."""
        number = len(self.measurements)
        self.answer(self.measurements[-1], shift)
        return self.wait(number + 1)

    def counted(self, name: str, number: int = 1) -> None:
        self.bench.until(lambda: self.node.counters[name] >= number)
        assert self.node.counters[name] == number


@pytest.fixture
def cell(bench):
    return Cell(bench)


def test_an_answered_measurement_is_worth_one_control_period(cell):
    clock = cell.bench.listen(Clock, 'clock', QOS.tick)
    stamps = [cell.measurements[0].stamp] + [cell.step().stamp for _ in range(5)]
    assert [stamp_to_msg(stamp) for stamp in stamps] == [
        stamp_to_msg(TASK.period_s * (k + 1)) for k in range(6)
    ]
    assert cell.node.counters['steps'] == 5
    cell.bench.until(lambda: len(clock) == 5)
    assert [stamp_from_msg(msg.clock) for msg in clock] == stamps[1:]


def test_a_fast_simulation_does_not_tell_the_time_at_every_step(bench):
    cell = Cell(bench, clock_period=1.0, repeat_period=1.5)
    clock = bench.listen(Clock, 'clock', QOS.tick)
    stamps = [cell.step().stamp for _ in range(5)]
    # A simulation that stands still tells it, so that all clocks come to agree.
    bench.until(lambda: clock and stamp_from_msg(clock[-1].clock) == stamps[-1])
    assert len(clock) < 5


def test_the_arm_follows_its_target(cell):
    start = cell.measurements[0].tip_pose.position
    for _ in range(20):
        last = cell.step(shift=(0.002, 0.0, 0.0))
    assert last.tip_pose.position[0] - start[0] > 0.005
    np.testing.assert_allclose(last.tip_pose.position[1:], start[1:], atol=2e-3)


def test_the_same_seed_and_targets_give_the_same_measurements(bench):
    runs = []
    for _ in range(2):
        cell = Cell(bench, seed=4)
        runs.append([cell.step(shift=(0.0, 0.001, 0.0)) for _ in range(5)])
        bench.drop(cell.node)
    for first, second in zip(*runs, strict=True):
        for name in ('joint_positions', 'joint_velocities', 'wrench', 'tip_twist'):
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_a_repeated_target_brings_the_measurement_again_and_no_step(cell):
    first = cell.measurements[0]
    second = cell.step()
    cell.answer(first)
    repeat = cell.wait(3)
    assert repeat.stamp == second.stamp
    np.testing.assert_array_equal(repeat.wrench, second.wrench)
    assert (cell.node.counters['steps'], cell.node.counters['repeats']) == (1, 1)


def test_an_unanswered_measurement_is_sent_again(bench):
    cell = Cell(bench, repeat_period=0.05)
    assert cell.wait(3).stamp == cell.measurements[0].stamp
    assert cell.node.counters['steps'] == 0


@pytest.mark.parametrize(
    'counter, position, quaternion, frame',
    [
        ('not_finite', (np.nan, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0), BASE),
        ('not_finite', (0.5, 0.0, 0.3), (0.0, 0.0, 0.0, 2.0), BASE),
        ('malformed', (0.5, 0.0, 0.3), (0.0, 0.0, 0.0, 1.0), 'elsewhere'),
    ],
)
def test_a_target_that_is_no_pose_in_the_base_frame_is_refused(
    cell, counter, position, quaternion, frame
):
    bad = Pose(np.array(position), np.array(quaternion))
    cell.targets.publish(pose_to_msg(bad, frame, cell.measurements[0].stamp))
    cell.counted(counter)
    cell.step()
    assert cell.node.counters['steps'] == 1


def transition(sequence: int, robot: str = 'arm') -> Transition:
    return Transition(robot=robot, sequence=sequence, observation=[0.0] * OBS)


def test_the_arm_never_goes_beyond_the_learners_credit(bench):
    cell = Cell(bench, credit=5)
    cell.transitions.publish(transition(4))
    bench.until(lambda: cell.node.diagnose()['sequence'] == 4)
    cell.step()
    cell.transitions.publish(transition(9, robot='another'))
    cell.counted('foreign')
    cell.step()
    cell.transitions.publish(transition(5))
    bench.until(lambda: cell.node.diagnose()['sequence'] == 5)
    cell.answer(cell.measurements[-1])
    bench.until(lambda: cell.node._answer is not None)
    assert cell.node.counters['steps'] == 2
    cell.status.publish(LearnerStatus(credit=6))
    cell.wait(4)
    assert cell.node.counters['steps'] == 3


def test_without_credit_from_the_learner_there_is_no_limit(cell):
    cell.transitions.publish(transition(1000))
    cell.bench.until(lambda: cell.node.diagnose()['sequence'] == 1000)
    cell.step()


def test_the_scene_is_the_one_of_the_seed_and_the_answer_is_only_the_estimate(cell):
    for seed in (3, 4, 3):
        response = cell.bench.call(
            PrepareScene, 'prepare_scene', PrepareScene.Request(episode='e', seed=seed)
        )
        assert response.success
        placement = draw_placement(TASK, seed)
        estimate = pose_from_msg(response.estimate, BASE)
        np.testing.assert_allclose(estimate.position, placement.estimate.position, atol=1e-12)
        assert estimate.distance_to(placement.truth)[0] > 0.0


def test_the_fixture_is_not_moved_under_the_tip(cell):
    cell.node._arm.reset_to(TASK.fixture.nominal.pose)
    response = cell.bench.call(
        PrepareScene, 'prepare_scene', PrepareScene.Request(episode='e', seed=1)
    )
    assert not response.success
    assert 'clear' in response.message


def test_every_step_is_in_the_trace(bench, tmp_path):
    path = tmp_path / 'film' / 'trace.bin'
    cell = Cell(bench, trace_file=str(path))
    joints = len(cell.measurements[0].joint_positions)
    measurements = [cell.step() for _ in range(3)]
    assert len(TraceFile.read(path, joints)) == 0
    cell.bench.call(PrepareScene, 'prepare_scene', PrepareScene.Request(episode='e', seed=1))
    cell.step()
    bench.drop(cell.node)
    records = TraceFile.read(path, joints)
    np.testing.assert_allclose(records[:3, 0], [m.stamp for m in measurements])
    np.testing.assert_array_equal(
        records[:3, 1 : 1 + joints], [m.joint_positions for m in measurements]
    )
    np.testing.assert_array_equal(
        records[3, 1 + joints : 4 + joints], draw_placement(TASK, 1).truth.position
    )


def test_a_record_cut_in_two_by_a_crash_is_dropped(tmp_path):
    path = tmp_path / 'trace.bin'
    record = np.arange(1.0 + 7 + 7)
    path.write_bytes(record.tobytes() + record.tobytes()[:20])
    trace = TraceFile(path, 7)
    trace.add(99.0, record[:7], Pose.of([1.0, 2.0, 3.0]))
    trace.flush()
    # As a full disk leaves it; what is written once there is room must not be shifted by it.
    with path.open('ab') as file:
        file.write(b'torn')
    trace.add(100.0, record[:7], Pose.of([1.0, 2.0, 3.0]))
    trace.flush()
    np.testing.assert_array_equal(TraceFile.read(path, 7)[:, 0], [0.0, 99.0, 100.0])


def test_a_trace_that_cannot_be_written_stops_the_start(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(InputError, match='cannot be written'):
        TraceFile(tmp_path / 'file' / 'trace.bin', 7)


def test_in_real_time_measurements_come_without_being_answered(bench):
    cell = Cell(bench, lockstep=False)
    later = cell.wait(4)
    assert cell.measurements[0].stamp < later.stamp
    assert cell.node.counters['steps'] >= 3


def test_a_deactivated_arm_stands_still(cell):
    cell.node.trigger_deactivate()
    cell.answer(cell.measurements[-1])
    cell.counted('inactive')
    assert cell.node.counters['steps'] == 0
    cell.node.trigger_activate()
    assert cell.wait(2).stamp == cell.measurements[0].stamp
