# SPDX-License-Identifier: Apache-2.0
"""From a person's device (a SpaceMouse, a gamepad) to actions and button presses; no ROS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from q2rl_task import InputError

PRESSES = ('success', 'failure', 'pause', 'emergency_stop')
"""Buttons that do something once, when they go down."""
BUTTONS = ('dead_man', *PRESSES, 'open', 'close')


@dataclass(frozen=True)
class Layout:
    """Which axis and button of a device means what.

    axes: of each of the six action components (translation, rotation, in axes of the estimated fixture frame), the
    device's axis and its sign; None: that component stays zero. buttons: name -> index, for some of `BUTTONS`.
    """

    axes: tuple[tuple[int, float] | None, ...]
    buttons: dict[str, int]


def layout(axes: Sequence[str], buttons: Sequence[str]) -> Layout:
    """Read a layout, for instance of the axes `+0 -1 -2 +3 -4 -5` and the buttons `dead_man=0 success=1`.

    An axis `none` leaves its component zero.

    :raises InputError: not six axes, or an unknown or impossible button
    """
    if len(axes) != 6:
        raise InputError(
            'parameter `axes`', f'{len(axes)} axes', 'name six, such as +0 or -3 or none'
        )
    found: list[tuple[int, float] | None] = []
    for text in axes:
        if text == 'none':
            found.append(None)
        elif text[:1] in '+-' and text[1:].isdecimal():
            found.append((int(text[1:]), -1.0 if text[0] == '-' else 1.0))
        else:
            raise InputError('parameter `axes`', f'{text!r} is no axis', 'say +0, -3 or none')
    numbers: dict[str, int] = {}
    for text in buttons:
        name, _, number = text.partition('=')
        if name not in BUTTONS or not number.isdecimal():
            raise InputError(
                'parameter `buttons`',
                f'{text!r} is no button',
                f'say NAME=NUMBER with one of {", ".join(BUTTONS)}',
            )
        numbers[name] = int(number)
    if 'dead_man' not in numbers:
        raise InputError('parameter `buttons`', 'there is no dead_man', 'name it: dead_man=0')
    if len(set(numbers.values())) < len(numbers):
        raise InputError(
            'parameter `buttons`', 'two share a number', 'give each a button of its own'
        )
    return Layout(tuple(found), numbers)


LAYOUTS = {
    # The cap's x, y, z point away from the person, to the left and up; the tool's z points down.
    'spacenav': layout(['+0', '-1', '-2', '+3', '-4', '-5'], ['dead_man=0', 'success=1']),
    # Sticks and buttons as joy numbers those of a common gamepad.
    'gamepad': layout(
        ['+1', '-0', '-4', 'none', 'none', '+3'],
        [
            'dead_man=5', 'success=0', 'failure=1', 'pause=7', 'emergency_stop=6', 'open=3',
            'close=2',
        ],
    ),
}  # fmt: skip
"""By the parameter `device`."""


class Teleop:
    """What a person wants just now, by the last messages of their device.

    The dead man's button gives the right to act: it counts only once it has been seen up, and only while the device
    is heard. Times are monotonic seconds.

    :param dead_zone: share of an axis's range in which it says nothing; the rest is stretched to the full range
    :param scale: (translation, rotation) at full deflection, as a share of a whole action
    :param silent_after_s: time without a message after which the device counts as gone; inf: never
    """

    def __init__(
        self,
        device: Layout,
        action_size: int,
        dead_zone: float,
        scale: tuple[float, float],
        silent_after_s: float,
    ) -> None:
        self._device = device
        self._size = action_size
        self._dead_zone = dead_zone
        self._scale = np.repeat(scale, 3)
        self._silent_after = silent_after_s
        self._buttons: list[bool] | None = None
        self._armed = False
        self._buttons_heard = self._axes_heard = float('-inf')
        self._axes: tuple[float, ...] = ()

    def forget(self) -> None:
        """Take the device for gone: whatever was held down counts for nothing until it has been let go."""
        self._armed, self._buttons = False, None
        self._axes = ()

    def hear_buttons(self, buttons: Sequence[int], now: float) -> tuple[tuple[str, bool], ...]:
        """Take the device's buttons; return what changed of `PRESSES`: (name, whether it went down).

        What is down in the first message is not taken for a press, but for the emergency stop.
        """
        before, self._buttons = self._buttons, [bool(b) for b in buttons]
        self._buttons_heard = now
        if not self._down('dead_man'):
            self._armed = True
        changes = []
        for name in PRESSES:
            was = before is not None and self._down(name, before)
            down = self._down(name)
            if down != was and (before is not None or name == 'emergency_stop'):
                changes.append((name, down))
        return tuple(changes)

    def hear_axes(self, axes: Sequence[float], now: float) -> None:
        """Take the device's axes, each in [-1, 1]."""
        self._axes, self._axes_heard = tuple(axes), now

    def action(self, now: float) -> np.ndarray | None:
        """Return the person's action, (D,) in [-1, 1]; None while they do not hold the dead man's button.

        Axes that are not heard any more say zero: the button alone holds the arm still.
        """
        if not self._acts(now):
            return None
        action = np.zeros(self._size, dtype=np.float32)
        if now - self._axes_heard <= min(self._silent_after, 1.0):
            for k, axis in enumerate(self._device.axes):
                if axis is not None and axis[0] < len(self._axes):
                    action[k] = self._scale[k] * axis[1] * self._shaped(self._axes[axis[0]])
        if self._size > 6:
            action[6] = float(self._down('open')) - float(self._down('close'))
        return np.clip(action, -1.0, 1.0)

    def _acts(self, now: float) -> bool:
        heard = now - self._buttons_heard <= self._silent_after
        return self._armed and heard and self._down('dead_man')

    def _down(self, name: str, buttons: Sequence[bool] | None = None) -> bool:
        buttons = self._buttons if buttons is None else buttons
        number = self._device.buttons.get(name)
        return (
            buttons is not None and number is not None and number < len(buttons) and buttons[number]
        )

    def _shaped(self, value: float) -> float:
        if not np.isfinite(value) or abs(value) <= self._dead_zone:
            return 0.0
        beyond = (min(abs(value), 1.0) - self._dead_zone) / (1.0 - self._dead_zone)
        return float(np.copysign(beyond, value))
