# SPDX-License-Identifier: Apache-2.0
"""The sink for MoveIt Servo: twists, the switch of the command type, and what its status does to the arm."""

from __future__ import annotations

from control_helpers import above, measurement
import moveit_standin
from moveit_standin import ServoCommandType, ServoStatus
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2')
pytest.importorskip('q2rl_msgs', reason='needs the built workspace')

from q2rl_control import servo_sink
from q2rl_control.servo_sink import HALTS, SLOWS, ServoTwistSink
from q2rl_control.sink_choice import make_sink
from q2rl_control.twist_tracking import TwistTracking
from q2rl_task import InputError, Pose, load_task

TASK = load_task('pipe_assembly')
HERE = above(TASK, 0.02)
GAIN = 4.0


class Future:
    def add_done_callback(self, done):
        self.done = done


class Client:
    srv_name = 'servo_node/switch_command_type'
    ready = True

    def __init__(self):
        self.requests = []

    def service_is_ready(self):
        return self.ready

    def call_async(self, request):
        self.requests.append(request)
        self.future = Future()
        return self.future

    def remove_pending_request(self, future):
        pass

    def answer(self, success: bool):
        future = self.future
        future.result = lambda: ServoCommandType.Response(success)
        future.done(future)


class FakeNode:
    """As much of a `Q2rlNode` as the sink uses."""

    task, lockstep = TASK, False

    class qos:
        command = sensors = None

    def __init__(self):
        self.sent, self.dropped, self.client_made, self.topics = [], [], Client(), {}

    def publisher(self, kind, topic, qos):
        self.topics[topic] = kind
        node = self

        class Out:
            topic_name = f'/{topic}'

            def publish(self, msg):
                node.sent.append(msg)

        return Out()

    def subscribe(self, kind, topic, handler, qos):
        self.topics[topic] = kind
        self.hear = handler

    def client(self, kind, name):
        assert name == Client.srv_name
        return self.client_made

    def wall_timer(self, period_s, handler):
        self.poll = handler

    def drop(self, name, problem=''):
        self.dropped.append((name, problem))

    def get_clock(self):
        class Now:
            def now(self):
                return self

            def to_msg(self):
                from builtin_interfaces.msg import Time

                return Time(sec=77)

        return Now()


@pytest.fixture
def clock(monkeypatch):
    """The sink's clock, which stands still unless told."""
    time = [100.0]

    class Clock:
        monotonic = staticmethod(lambda: time[0])

    monkeypatch.setattr(servo_sink, 'time', Clock)
    return time


@pytest.fixture
def node(monkeypatch):
    moveit_standin.install(monkeypatch)
    return FakeNode()


def shifted(x: float) -> Pose:
    return Pose(HERE.position + np.array([x, 0.0, 0.0]), HERE.quaternion)


def test_the_twist_is_the_targets_motion_plus_a_share_of_the_way_to_it():
    tracking = TwistTracking(TASK, GAIN)
    # Standing still on the target: nothing to do.
    np.testing.assert_allclose(tracking.follow(HERE, HERE), np.zeros(6), atol=1e-12)
    twist = tracking.follow(shifted(0.002), HERE)
    assert twist[0] == pytest.approx(0.002 / TASK.period_s + GAIN * 0.002)
    np.testing.assert_allclose(twist[1:], np.zeros(5), atol=1e-9)
    # Where nothing was measured, what is left of the way does not count.
    np.testing.assert_allclose(tracking.follow(shifted(0.002), None), np.zeros(6), atol=1e-12)


def test_a_twist_keeps_the_velocity_limits_of_the_task():
    tracking = TwistTracking(TASK, GAIN)
    tracking.follow(HERE, HERE)
    twist = tracking.follow(HERE @ Pose.of([1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 1.0]), HERE)
    assert np.linalg.norm(twist[:3]) == pytest.approx(TASK.limits.velocity_m_s)
    assert np.linalg.norm(twist[3:]) == pytest.approx(TASK.limits.velocity_rad_s)


def test_servo_is_asked_for_twists_and_until_it_agrees_the_arm_is_blocked(node, clock):
    sink = ServoTwistSink(node, 'servo_node', GAIN, lambda reason: None)
    assert set(node.topics) == {'servo_node/delta_twist_cmds', 'servo_node/status'}
    assert 'no status' in sink.blocked()
    node.poll()
    assert not node.client_made.requests  # nobody is there
    node.hear(ServoStatus())
    assert 'not been switched' in sink.blocked()
    node.poll()
    (request,) = node.client_made.requests
    assert request.command_type == ServoCommandType.Request.TWIST
    node.client_made.answer(False)
    assert 'refuses' in sink.blocked()
    node.poll()
    node.client_made.answer(True)
    assert sink.blocked() == '' and sink.diagnose() == {'servo': 'follows'}
    # Servo falls silent, and may come back with the command type that it starts with.
    clock[0] += 1.0
    assert 'no status' in sink.blocked()
    node.hear(ServoStatus())
    assert sink.blocked()
    node.poll()
    assert len(node.client_made.requests) == 3


def test_twists_are_in_the_base_frame_and_stamped_when_they_are_sent(node, clock):
    sink = ServoTwistSink(node, 'servo_node', GAIN, lambda reason: None)
    sink.send(HERE, 1.0, measurement(shifted(-0.01)))
    sink.send_again()
    (msg,) = node.sent
    assert msg.header.frame_id == TASK.frames.base and msg.header.stamp.sec == 77
    assert msg.twist.linear.x == pytest.approx(GAIN * 0.01)


@pytest.mark.parametrize('name', HALTS)
def test_a_halt_of_servo_is_handed_on_with_what_it_said(node, clock, name):
    reasons = []
    sink = ServoTwistSink(node, 'servo_node', GAIN, reasons.append)
    node.hear(ServoStatus(getattr(ServoStatus, name), 'too near'))
    assert len(reasons) == 1 and name in reasons[0] and 'too near' in reasons[0]
    assert not node.dropped
    del sink


def test_a_halt_that_lasts_is_handed_on_once_and_a_new_one_again(node, clock):
    reasons = []
    ServoTwistSink(node, 'servo_node', GAIN, reasons.append)
    for _ in range(50):
        node.hear(ServoStatus(ServoStatus.HALT_FOR_COLLISION, ''))
    assert (
        len(reasons) == 1
    )  # so the hold that it latched can be released while Servo still says so
    node.hear(ServoStatus(ServoStatus.JOINT_BOUND, ''))
    assert len(reasons) == 2 and 'JOINT_BOUND' in reasons[1]
    for code in (ServoStatus.NO_WARNING, ServoStatus.JOINT_BOUND):
        node.hear(ServoStatus(code, ''))
    assert len(reasons) == 3
    # One that was started again has not been heard to halt.
    clock[0] += 1.0
    node.hear(ServoStatus(ServoStatus.JOINT_BOUND, ''))
    assert len(reasons) == 4


@pytest.mark.parametrize('name', SLOWS)
def test_what_only_slows_servo_down_is_shown_and_stops_nothing(node, clock, name):
    reasons = []
    ServoTwistSink(node, 'servo_node', GAIN, reasons.append)
    node.hear(ServoStatus(getattr(ServoStatus, name), ''))
    assert not reasons and name in node.dropped[0][1]


def test_without_moveit_msgs_the_sink_is_refused_in_one_line(monkeypatch):
    moveit_standin.uninstall(monkeypatch)
    with pytest.raises(InputError, match=r'moveit_msgs.*not installed') as caught:
        ServoTwistSink(FakeNode(), 'servo_node', GAIN, lambda reason: None)
    assert '\n' not in str(caught.value)


def test_servo_and_lockstep_do_not_go_together(node):
    node.lockstep = True
    node.value = {'command_sink': 'servo_twist'}.__getitem__
    with pytest.raises(InputError, match='lockstep'):
        make_sink(node, None, lambda reason: None, lambda reason: None)
