# SPDX-License-Identifier: Apache-2.0
"""The lifecycle base: bad input stops the start in one line, bad messages are counted, nothing outlives a cleanup."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
import pytest
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible
from std_msgs.msg import String

from q2rl_ros.errors import MessageError
from q2rl_ros.node import Q2rlNode
from q2rl_ros.qos import WEIGHTS_DEPTH, profiles, weights_chunk_size
from q2rl_ros.testing import bench as make_bench
from q2rl_task import InputError

QOS = profiles(True, 0.05)


class EchoNode(Q2rlNode):
    """Say again what was said; 'bad' is malformed, and so is the parameter `word` when it says so."""

    def __init__(self, **kwargs) -> None:
        super().__init__('echo', **kwargs)
        self.declare(
            'word', 'good', 'What to do when configuring.', choices=('good', 'refuse', 'break')
        )
        self.declare('gain', 1.0, 'A number.', low=0.0, high=2.0)
        self.trace: list[str] = []

    def configure(self) -> None:
        self._out = self.publisher(String, 'said', self.qos.tick)
        if self.value('word') == 'refuse':
            raise InputError('word', 'says refuse', 'let it say good')
        if self.value('word') == 'break':
            raise RuntimeError('broken')
        self.subscribe(String, 'say', self._on_say, self.qos.tick)
        self.subscribe(
            String,
            'state',
            lambda msg: self.trace.append(msg.data),
            self.qos.latched,
            while_inactive=True,
        )
        self.wall_timer(0.01, lambda: self.count('ticks'))

    def activate(self) -> None:
        self.trace.append('activate')

    def deactivate(self) -> None:
        self.trace.append('deactivate')

    def release(self) -> None:
        self.trace.append('release')

    def diagnose(self) -> dict[str, object]:
        return {'gain': self.value('gain')}

    def _on_say(self, msg: String) -> None:
        if msg.data == 'bad':
            raise MessageError('malformed', 'it is bad')
        self._out.publish(msg)


@pytest.fixture
def bench():
    with make_bench() as made:
        yield made


def test_every_parameter_has_a_description(bench):
    node = bench.start(EchoNode, activate=False)
    # Those of rclpy itself are not ours to describe.
    ours = [
        name
        for name in node._parameters
        if name not in ('use_sim_time', 'start_type_description_service')
    ]
    assert len(ours) == 7
    assert all(node.describe_parameter(name).description for name in ours)
    assert node.describe_parameter('gain').floating_point_range[0].to_value == 2.0


def test_messages_are_handled_while_active_and_bad_ones_counted(bench):
    node = bench.start(EchoNode)
    said, say = bench.listen(String, 'said', QOS.tick), bench.talk(String, 'say', QOS.tick)
    diagnostics = bench.listen(DiagnosticArray, '/diagnostics', QOS.tick)
    for word in ('bad', 'one'):
        say.publish(String(data=word))
    bench.until(lambda: said)
    assert [msg.data for msg in said] == ['one']
    assert node.counters['malformed'] == 1

    def warned() -> list[DiagnosticStatus]:
        return [
            s for array in diagnostics for s in array.status if s.level == DiagnosticStatus.WARN
        ]

    bench.until(warned)
    status = warned()[0]
    assert status.message == 'active; malformed'
    assert status.hardware_id == 'arm'
    values = {pair.key: pair.value for pair in status.values}
    assert (values['malformed'], values['gain']) == ('1', '1.0')


def test_an_inactive_node_drops_the_tick_but_hears_latched_states(bench):
    state = bench.probe.create_publisher(String, 'state', QOS.latched)
    state.publish(String(data='latched'))
    node = bench.start(EchoNode, autostart=False)
    say = bench.probe.create_publisher(String, 'say', QOS.tick)
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    bench.until(lambda: 'latched' in node.trace and say.get_subscription_count())
    say.publish(String(data='too early'))
    bench.until(lambda: node.counters['inactive'] == 1)
    assert node.counters['ticks'] == 0
    node.trigger_activate()
    bench.until(lambda: node.counters['ticks'] > 0)
    node.trigger_deactivate()
    node.trigger_cleanup()
    assert node.trace == ['latched', 'activate', 'deactivate', 'release']


def test_cleaned_up_a_node_has_no_topics_left_and_can_be_configured_again(bench):
    node = bench.start(EchoNode)
    node.trigger_deactivate()
    node.trigger_cleanup()
    assert not [s for s in node.subscriptions if s.topic_name == '/say']
    assert not [p for p in node.publishers if p.topic_name == '/said']
    assert node.start() == 0
    assert [s.topic_name for s in node.subscriptions].count('/say') == 1


@pytest.mark.parametrize(
    'parameters, code',
    [
        ({'word': 'refuse'}, 2),
        ({'word': 'nonsense'}, 2),
        ({'task': 'no_such_task'}, 2),
        ({'word': 'break'}, 1),
    ],
)
def test_a_node_that_cannot_be_configured_says_so_by_its_exit_code(bench, parameters, code):
    node = bench.start(EchoNode, activate=False, **parameters)
    assert node.start() == code
    assert not node.active
    assert not [p for p in node.publishers if p.topic_name == '/said']


def test_without_autostart_a_node_waits_to_be_asked(bench):
    node = bench.start(EchoNode, autostart=False)
    assert not node.active and not node.trace


@pytest.mark.parametrize('kind', ['tick', 'command'])
def test_ticks_and_commands_expire_in_real_time_and_never_in_lockstep(kind):
    real, lockstep = (getattr(profiles(mode, 0.05), kind) for mode in (False, True))
    assert real.deadline.nanoseconds == real.lifespan.nanoseconds == 100_000_000
    assert lockstep == getattr(profiles(True, 1.0), kind)
    assert lockstep.deadline != real.deadline


def test_commands_reach_controllers_which_ask_for_nothing_and_anyone_may_command_a_simulation():
    timed = profiles(False, 0.05)
    assert qos_check_compatible(QoSProfile(depth=1), timed.command)[0] == QoSCompatibility.ERROR
    for ours in (timed, profiles(True, 0.05)):
        for theirs in (QoSProfile(depth=1), QoSProfile(depth=10), ours.commanded):
            assert qos_check_compatible(ours.command, theirs)[0] != QoSCompatibility.ERROR
            assert qos_check_compatible(theirs, ours.commanded)[0] != QoSCompatibility.ERROR


def test_a_latched_weights_topic_holds_any_version_whole():
    for total in (1, 10_000, 5_000_000, 200_000_000):
        size = weights_chunk_size(total)
        assert -(-total // size) <= WEIGHTS_DEPTH
