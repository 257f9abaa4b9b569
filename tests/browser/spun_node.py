# SPDX-License-Identifier: Apache-2.0
"""A node that is spun by a thread, beside a browser."""

from __future__ import annotations

import threading

import rclpy
from rclpy.node import Node

from q2rl_ros.spin import make_executor


class SpunNode:
    """Spin a node until `close`, which destroys it and ends ROS in this process."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        executor = make_executor()
        executor.add_node(self._node)
        while not self._closing.is_set():
            executor.spin_once(timeout_sec=0.1)
        executor.remove_node(self._node)
        executor.shutdown()

    def close(self) -> None:
        self._closing.set()
        self._thread.join(10.0)
        self._node.destroy_node()
        rclpy.try_shutdown()
