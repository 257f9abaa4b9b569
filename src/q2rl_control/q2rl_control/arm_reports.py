# SPDX-License-Identifier: Apache-2.0
"""What is told about the state of the arm."""

from __future__ import annotations

from q2rl_control.arm_logic import ArmLogic
from q2rl_msgs.msg import ArmStatus
from q2rl_ros.node import Q2rlNode


class ArmReports:
    """The latched `arm_status` of one `ArmLogic`."""

    def __init__(self, node: Q2rlNode, logic: ArmLogic) -> None:
        self._node, self._logic = node, logic
        self._shown: tuple | None = None
        self._out = node.publisher(ArmStatus, 'arm_status', node.qos.latched)

    def publish(self, force: bool = False) -> None:
        """Publish state, detail and episode if one of them changed, or anyway."""
        logic, dropped = self._logic, self._node.counters
        shown = (logic.state, logic.detail, logic.episode)
        if shown == self._shown and not force:
            return
        self._shown = shown
        decisions = sum(n for name, n in dropped.items() if name.startswith('decision_'))
        elsewhere = sum(dropped.get(name, 0) for name in ('contract', 'malformed'))
        msg = ArmStatus(
            robot=self._node.robot,
            state=int(logic.state),
            detail=logic.detail,
            episode=logic.episode,
            rejected=logic.counters.rejected + decisions + elsewhere,
            interventions=logic.counters.limited,
            holds=logic.counters.holds,
        )
        msg.header.stamp = self._node.get_clock().now().to_msg()
        self._out.publish(msg)
