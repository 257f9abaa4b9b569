# SPDX-License-Identifier: Apache-2.0
"""The receiving end of the replay topic at a node: transitions go to disk, are handed on, and are acknowledged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import time

from q2rl_learner.ingest import Ingest
from q2rl_learner.transition_log import TransitionLog
from q2rl_msgs.msg import Transition as TransitionMsg
from q2rl_msgs.msg import TransitionAck
from q2rl_ros.conversions import transition_from_msg
from q2rl_ros.node import Q2rlNode
from q2rl_task import Transition

COMMIT_PERIOD_S = 0.02
HEARTBEAT_S = 1.0


class ReplayInbox:
    """Subscribe `transition`, publish `transition_ack`, for a node that is being configured.

    What is acknowledged is in the log and was handed on before; what comes again is acknowledged again, and so is
    everything once a heartbeat.

    stored: what the log held, in the order in which it would have been handed on; empty once listening.

    :param path: of the log
    :raises InputError: it cannot be used
    """

    def __init__(self, node: Q2rlNode, path: Path) -> None:
        self._node = node
        self._log = TransitionLog(path, node.task.contract_hash)
        self._ingest = Ingest(self._log)
        self.stored = self._ingest.replay()
        for line in self._log.damaged:
            node.get_logger().warning(line)
        self._arrived: list[Transition] = []
        self._ack_due: set[str] = set(self._log.robots)
        self._acked_at = 0.0

    def open(self, hand_on: Callable[[list[Transition]], None]) -> None:
        """Begin to listen; `hand_on` gets what is due, in the learner's order."""
        node, self._hand_on, self.stored = self._node, hand_on, []
        self._ack = node.publisher(TransitionAck, 'transition_ack', node.qos.events)
        node.subscribe(TransitionMsg, 'transition', self._on_transition, node.qos.replay)
        node.wall_timer(COMMIT_PERIOD_S, self.commit)

    @property
    def count(self) -> int:
        """Transitions in the log."""
        return len(self._log)

    def acknowledged(self, robot: str) -> int:
        """Return the sequence up to which everything of `robot` is on disk."""
        return self._ingest.acknowledged(robot)

    def commit(self) -> None:
        """Store what has arrived and hand it on, then acknowledge it, repetitions too."""
        if self._arrived:
            arrived, self._arrived = self._arrived, []
            self._hand_on(self._ingest.store(arrived))
            self._ack_due |= {t.robot for t in arrived}
        now = time.monotonic()
        if now - self._acked_at >= HEARTBEAT_S:
            self._ack_due |= set(self._log.robots)
        for robot in self._ack_due:
            ack = TransitionAck(robot=robot, sequence=self.acknowledged(robot))
            ack.header.stamp = self._node.get_clock().now().to_msg()
            self._ack.publish(ack)
            self._acked_at = now
        self._ack_due.clear()

    def close(self) -> None:
        """Close the log."""
        self._log.close()

    def _on_transition(self, msg: TransitionMsg) -> None:
        self._arrived.append(transition_from_msg(msg, self._node.task))
