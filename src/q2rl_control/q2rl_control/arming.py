# SPDX-License-Identifier: Apache-2.0
"""With what an arm starts that something may have stopped before, and that nobody may be watching now."""

from __future__ import annotations

from q2rl_control.safety_latch import SafetyLatch, state_folder
from q2rl_ros.node import Q2rlNode


def make_latch(node: Q2rlNode) -> SafetyLatch:
    """Return the latch of a node's robot, which holds as `hold_until_armed` says.

    :raises InputError: an emergency stop could not be remembered
    """
    folder = state_folder(node.value('state_dir'), node.value('run_dir'), node.lockstep)
    robot = '-'.join([*node.get_namespace().strip('/').split('/'), node.robot]).strip('-')
    latch = SafetyLatch(folder / f'stop-{robot}.json')
    node.when_released(latch.settle)
    hold_until_armed(node, latch)
    return latch


def hold_until_armed(node: Q2rlNode, latch: SafetyLatch) -> None:
    """With `hold_at_start`, not in lockstep, hold until a person lets go.

    That hold is of this process: the next one makes its own.
    """
    if node.value('hold_at_start') and not node.lockstep:
        service = node.resolve_service_name('arm_interface/hold')
        latch.hold(
            'not armed since its start; let go of the hold to arm it, and the arm will move: '
            f'./q2rl stop --release, or ros2 service call {service} std_srvs/srv/SetBool "{{data: false}}"',
            remember=False,
        )
