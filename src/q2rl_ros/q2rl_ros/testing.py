# SPDX-License-Identifier: Apache-2.0
"""What tests of nodes and messages share: a ROS domain of their own, nodes in one process, bounded waits, stamps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import gc
import os
import socket
import time

import rclpy
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile

from q2rl_ros.node import Q2rlNode
from q2rl_ros.spin import make_executor
from q2rl_ros.stamps import stamp_from_msg, stamp_to_msg

WAIT_S = 20.0
"""Longest wait for anything; how long it takes is never the point of a test."""
DOMAINS = 100
"""Domain ids that are safe on Linux without touching its ephemeral ports: 1 .. 100."""


def isolated_environment() -> dict[str, str]:
    """Return the variables that keep this process and its children from hearing other ROS processes."""
    return {
        'ROS_DOMAIN_ID': str(1 + os.getpid() % DOMAINS),
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
    }


def free_port() -> int:
    """Return a TCP port of this machine that nothing listens on just now."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def wire_seconds(seconds: float) -> float:
    """Return `seconds` as the receiver of the stamp will see them."""
    return stamp_from_msg(stamp_to_msg(seconds))


class Bench:
    """Nodes under test and a probe that talks to them, all spun by the waiting test."""

    def __init__(self) -> None:
        self._executor = make_executor()
        self._nodes: list[Node] = []
        self.probe = rclpy.create_node('probe')
        self._add(self.probe)

    def start(
        self, factory: Callable[..., Q2rlNode], *, activate: bool = True, **parameters
    ) -> Q2rlNode:
        """Make a node with these parameters, configured and (unless told otherwise) active."""
        overrides = [
            Parameter(name, value=value) for name, value in {'lockstep': True, **parameters}.items()
        ]
        node = factory(parameter_overrides=overrides)
        self._add(node)
        if activate:
            assert node.start() == 0
        return node

    def drop(self, node: Q2rlNode) -> None:
        """Close and destroy a node, as its process would when it ends."""
        node.close()
        self._executor.remove_node(node)
        self._executor.spin_once(timeout_sec=0.0)
        self._nodes.remove(node)
        node.destroy_node()

    def listen(self, kind: type, topic: str, qos: QoSProfile) -> list:
        """Return a list that fills with the messages of a topic, once a publisher is matched."""
        received: list = []
        subscription = self.probe.create_subscription(kind, topic, received.append, qos)
        self.until(lambda: self.probe.count_publishers(subscription.topic_name) > 0)
        return received

    def talk(self, kind: type, topic: str, qos: QoSProfile):
        """Return a publisher of a topic, once a subscriber is matched."""
        publisher = self.probe.create_publisher(kind, topic, qos)
        self.until(lambda: publisher.get_subscription_count() > 0)
        return publisher

    def call(self, kind: type, name: str, request):
        """Call a service and return its response."""
        client = self.probe.create_client(kind, name)
        self.until(client.service_is_ready)
        future = client.call_async(request)
        self.until(future.done)
        self.probe.destroy_client(client)
        return future.result()

    def until(self, condition: Callable[[], object], timeout_s: float = WAIT_S) -> None:
        """Spin until `condition` holds; fail after `timeout_s`."""
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, f'not within {timeout_s} s'
            self._executor.spin_once(timeout_sec=0.02)

    def close(self) -> None:
        """Destroy every node."""
        for node in reversed(self._nodes):
            if isinstance(node, Q2rlNode):
                node.close()
            self._executor.remove_node(node)
        # The executor lets go of a node's entities when it next spins; until then the node would live on.
        self._executor.spin_once(timeout_sec=0.0)
        for node in reversed(self._nodes):
            node.destroy_node()
        self._executor.shutdown()

    def _add(self, node: Node) -> None:
        self._nodes.append(node)
        self._executor.add_node(node)


@contextmanager
def bench() -> Iterator[Bench]:
    """Start ROS in a domain of this process's own, and give a `Bench`."""
    # Nodes refer to themselves: those of the test before, and their DDS participant, are there until this.
    gc.collect()
    os.environ.update(isolated_environment())
    rclpy.init()
    try:
        made = Bench()
        try:
            yield made
        finally:
            made.close()
    finally:
        rclpy.try_shutdown()
