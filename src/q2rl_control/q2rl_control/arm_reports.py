# SPDX-License-Identifier: Apache-2.0
"""The message about the state of the arm."""

from __future__ import annotations

from collections.abc import Mapping

from q2rl_control.arm_logic import ArmLogic
from q2rl_msgs.msg import ArmStatus


def arm_status_to_msg(robot: str, logic: ArmLogic, dropped: Mapping[str, int]) -> ArmStatus:
    """Return the arm's status, but for its stamp.

    :param dropped: what the node counted of messages that it did not take
    """
    decisions = sum(n for name, n in dropped.items() if name.startswith('decision_'))
    elsewhere = sum(dropped.get(name, 0) for name in ('contract', 'malformed'))
    return ArmStatus(
        robot=robot,
        state=int(logic.state),
        detail=logic.detail,
        episode=logic.episode,
        rejected=logic.counters.rejected + decisions + elsewhere,
        interventions=logic.counters.limited,
        holds=logic.counters.holds,
    )
