# SPDX-License-Identifier: Apache-2.0
"""What others say of the arm, and that nobody else commands it."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2')
pytest.importorskip('q2rl_msgs', reason='needs the built workspace')

from std_msgs.msg import Bool

from q2rl_control import arm_readiness
from q2rl_control.arm_readiness import SILENT_S, ArmReadiness
from q2rl_task import InputError

TOPIC = '/target_pose'
CONTROLLER = 'forward_position_controller'


class ListControllers:
    """Stands in for controller_manager_msgs/srv/ListControllers of the jazzy branch."""

    class Request:
        pass


class Client:
    srv_name = 'controller_manager/list_controllers'

    def service_is_ready(self):
        return True

    def remove_pending_request(self, future):
        pass

    def call_async(self, request):
        self.future = SimpleNamespace(add_done_callback=lambda done: setattr(self, 'done', done))
        return self.future

    def answer(self, **states):
        controller = [SimpleNamespace(name=name, state=state) for name, state in states.items()]
        self.future.result = lambda: SimpleNamespace(controller=controller)
        self.done(self.future)


class FakeNode:
    """As much of a `Q2rlNode` as is used."""

    qos = SimpleNamespace(latched='latched')

    def __init__(self, ready='', controller=''):
        self.publishers, self.client_made = 1, Client()
        self.parameters = {
            'robot_ready_topic': ready,
            'controller': controller,
            'controller_manager': 'controller_manager',
        }

    def value(self, name):
        return self.parameters[name]

    def count_publishers(self, topic):
        assert topic == TOPIC
        return self.publishers

    def subscribe(self, kind, topic, handler, qos, while_inactive):
        # What is latched comes once, perhaps before the node is active.
        assert (kind, topic, qos, while_inactive) == (Bool, 'program_running', 'latched', True)
        self.hear = handler

    def client(self, kind, name):
        assert kind is ListControllers and name == Client.srv_name
        return self.client_made

    def wall_timer(self, period_s, handler):
        self.poll = handler


@pytest.fixture
def clock(monkeypatch):
    time = [100.0]
    monkeypatch.setattr(
        arm_readiness, 'time', SimpleNamespace(monotonic=staticmethod(lambda: time[0]))
    )
    return time


def test_who_is_not_alone_on_the_command_topic_is_blocked_until_the_other_is_forgotten():
    node = FakeNode()
    ready = ArmReadiness(node, TOPIC)
    assert ready.blocked() == ''
    node.publishers = 2
    assert '2 publishers on /target_pose' in ready.blocked() and '20 s' in ready.blocked()
    node.publishers = 1
    assert ready.blocked() == ''


def test_a_robot_that_says_when_it_is_ready_is_not_commanded_before_and_not_after():
    node = FakeNode(ready='program_running')
    ready = ArmReadiness(node, TOPIC)
    assert 'nothing heard on program_running' in ready.blocked()
    for said in (True, False, True):
        node.hear(Bool(data=said))
        assert bool(ready.blocked()) is not said
    node.hear(Bool(data=False))
    assert 'false on program_running' in ready.blocked()


def test_a_controller_that_is_not_active_is_not_commanded(monkeypatch, clock):
    package, srv = ModuleType('controller_manager_msgs'), ModuleType('controller_manager_msgs.srv')
    srv.ListControllers = ListControllers
    monkeypatch.setitem(sys.modules, package.__name__, package)
    monkeypatch.setitem(sys.modules, srv.__name__, srv)
    node = FakeNode(controller=CONTROLLER)
    ready, client = ArmReadiness(node, TOPIC), node.client_made
    assert 'does not answer' in ready.blocked()
    for state in ('inactive', 'active'):
        node.poll()
        client.answer(joint_state_broadcaster='active', **{CONTROLLER: state})
        assert (state in ready.blocked()) if state == 'inactive' else not ready.blocked()
    # It is unloaded; at last its manager dies.
    node.poll()
    client.answer(joint_state_broadcaster='active')
    assert 'not loaded' in ready.blocked()
    clock[0] += SILENT_S + 0.1
    assert 'does not answer' in ready.blocked()


def test_without_its_messages_no_controller_can_be_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, 'controller_manager_msgs.srv', None)
    with pytest.raises(InputError, match='not installed') as caught:
        ArmReadiness(FakeNode(controller=CONTROLLER), TOPIC)
    assert '\n' not in str(caught.value)
