# SPDX-License-Identifier: Apache-2.0
"""Stamps as float seconds inside, as builtin_interfaces/Time on the wire.

A float of today's wall clock resolves 238 ns, one of a simulation's clock far less than 1 ns, so neither form holds the
other exactly. What holds: equal wire stamps give equal floats, and a float that came from the wire survives any number
of round trips unchanged. So stamps are compared as they are on the wire, or as floats that came from there.
"""

from __future__ import annotations

import math

from builtin_interfaces.msg import Time

from q2rl_ros.errors import MessageError

FUTURE_S = 0.05
"""A stamp may be this far ahead of our clock before it counts as wrong."""


def stamp_to_msg(seconds: float) -> Time:
    """Return the wire stamp nearest to `seconds` (>= 0).

    :raises ValueError: negative, not finite, or beyond 2^31 s
    """
    if not 0.0 <= seconds < 2**31 - 1:
        raise ValueError(f'{seconds} s is not a stamp')
    whole = math.floor(seconds)
    # The subtraction is exact, the product is not, yet its error stays far below half a nanosecond.
    nanoseconds = round((seconds - whole) * 1e9)
    if nanoseconds >= 1_000_000_000:
        whole, nanoseconds = whole + 1, nanoseconds - 1_000_000_000
    return Time(sec=whole, nanosec=nanoseconds)


def stamp_from_msg(stamp: Time) -> float:
    """Return a wire stamp in seconds.

    :raises MessageError: negative, or nanoseconds beyond a second
    """
    if stamp.nanosec >= 1_000_000_000 or stamp.sec < 0:
        raise MessageError('malformed', f'stamp {stamp.sec} s {stamp.nanosec} ns')
    return stamp.sec + stamp.nanosec / 1e9
