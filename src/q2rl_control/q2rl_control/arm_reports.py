# SPDX-License-Identifier: Apache-2.0
"""What is told about the state of the arm, and what it feels."""

from __future__ import annotations

from array import array

from geometry_msgs.msg import WrenchStamped

from q2rl_control.arm_logic import ArmLogic
from q2rl_msgs.msg import ArmStatus
from q2rl_ros.node import Q2rlNode
from q2rl_ros.sensors import wrench_to_msg
from q2rl_task import Measurement


class ArmReports:
    """The latched `arm_status` of one `ArmLogic`, and the `contact_wrench` that it acts on, for those who watch."""

    def __init__(self, node: Q2rlNode, logic: ArmLogic) -> None:
        self._node, self._logic = node, logic
        self._shown: tuple | None = None
        self._felt: Measurement | None = None
        self._out = node.publisher(ArmStatus, 'arm_status', node.qos.latched)
        self._wrench_out = node.publisher(WrenchStamped, 'contact_wrench', node.qos.sensors)

    def publish(self, force: bool = False) -> None:
        """Publish the wrench of a new measurement; state, detail and episode if one of them changed, or anyway."""
        logic, counters = self._logic, self._node.counters
        self._publish_wrench(logic.measurement)
        held = f'held: {logic.latch.reason}' if logic.latch.held else ''
        detail = logic.detail or held
        shown = (logic.state, detail, logic.episode)
        if shown == self._shown and not force:
            return
        self._shown = shown
        decisions = sum(n for name, n in counters.items() if name.startswith('decision_'))
        elsewhere = sum(counters[name] for name in ('contract', 'malformed'))
        counted = sorted(counters.items())
        msg = ArmStatus(
            robot=self._node.robot,
            state=int(logic.state),
            detail=detail,
            episode=logic.episode,
            rejected=logic.counters.rejected + decisions + elsewhere,
            interventions=logic.counters.limited,
            holds=logic.counters.holds,
            counted=[name for name, _ in counted],
            counts=array('Q', [n for _, n in counted]),
        )
        msg.header.stamp = self._node.get_clock().now().to_msg()
        self._out.publish(msg)

    def _publish_wrench(self, measured: Measurement | None) -> None:
        if measured is None or measured is self._felt:
            return
        self._felt = measured
        if self._wrench_out.get_subscription_count():
            self._wrench_out.publish(wrench_to_msg(measured, self._node.task.frames.tip))
