# SPDX-License-Identifier: Apache-2.0
"""The topic of a joint group position controller of ros2_control (forward_command_controller), and what is on it."""

from __future__ import annotations

from array import array

import numpy as np
from std_msgs.msg import Float64MultiArray, MultiArrayDimension

from q2rl_ros.errors import MessageError
from q2rl_ros.stamps import stamp_to_msg

JOINT_TOPIC = 'forward_position_controller/commands'
"""Commanded positions of the arm's joints [rad], in the order of the controller's parameter `joints`."""


def joints_to_msg(positions: np.ndarray, stamp: float) -> Float64MultiArray:
    """Return the command for joint positions (n,).

    The type has no header. What the command answers stands in the label of its one dimension, where a simulation in
    lockstep looks for it; controllers read the numbers alone.

    :param stamp: of the measurement that it answers [s]
    """
    msg = Float64MultiArray(data=array('d', np.asarray(positions, dtype=np.float64).tobytes()))
    size = len(msg.data)
    msg.layout.dim = [MultiArrayDimension(label=stamp_label(stamp), size=size, stride=size)]
    return msg


def joints_from_msg(msg: Float64MultiArray, size: int) -> tuple[np.ndarray, str]:
    """Return joint positions (size,) and the label of the measurement that they answer, '' for none.

    :raises MessageError: another number of them, or one that is not finite
    """
    positions = np.array(msg.data, dtype=np.float64)
    if len(positions) != size or not np.isfinite(positions).all():
        raise MessageError('malformed', f'not {size} finite joint positions')
    return positions, msg.layout.dim[0].label if msg.layout.dim else ''


def stamp_label(stamp: float) -> str:
    """Return the label that names a stamp [s], to the nanosecond."""
    wire = stamp_to_msg(stamp)
    return f'{wire.sec}.{wire.nanosec:09d}'
