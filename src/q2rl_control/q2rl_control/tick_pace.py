# SPDX-License-Identifier: Apache-2.0
"""How close together ticks and guarded steps may come in real time."""

from __future__ import annotations

from collections.abc import Callable

from q2rl_ros.node import Q2rlNode

TICK_AFTER = 0.5
"""Share of a period before which a tick is left out: a timer that was late catches up at once. Left out, it costs a
whole period, so it gets more room than an answer, which is only put off."""
STEP_AFTER = 0.8
"""Share of a period, since the last guarded step, until which an answer is put off."""


class TickPace:
    """Keep guarded steps apart, whose limits hold per step, whenever ticks and decisions come.

    Lockstep has no pace: there a step is a period, however long it takes.

    :param clock: seconds, see `Q2rlNode.control_time`
    """

    def __init__(self, node: Q2rlNode, period_s: float, clock: Callable[[], float]) -> None:
        self._node, self._clock = node, clock
        self._period = 0.0 if node.lockstep else period_s
        self._timer = None
        self.forget()

    def forget(self) -> None:
        """Start anew; an answer that was put off is dropped."""
        self._ticked_at = self._stepped_at = float('-inf')
        self._answer: Callable[[], None] | None = None
        if self._timer is not None:
            self._timer.cancel()

    def stepped(self) -> None:
        """Note that a guarded step was made."""
        self._stepped_at = self._clock()

    def may_step(self) -> bool:
        """Whether a tick may make a guarded step now."""
        return self._since(self._stepped_at) >= TICK_AFTER * self._period

    def begin_tick(self, steps: bool) -> bool:
        """Return whether a tick may begin now, and note that it does.

        :param steps: whether it makes a guarded step
        """
        early = self._since(self._ticked_at) < TICK_AFTER * self._period
        if early or self._answer is not None or (steps and not self.may_step()):
            self._node.count('early_ticks')
            return False
        self._ticked_at = self._clock()
        return True

    def wait(self) -> float:
        """Return the time [s] until an answer may be executed."""
        return max(0.0, STEP_AFTER * self._period - self._since(self._stepped_at))

    def answer(self, execute: Callable[[], None]) -> None:
        """Call `execute` as soon as it may make a guarded step: now, or later."""
        wait = self.wait()
        if wait <= 0.0:
            execute()
            return
        self._node.count('answers_put_off')
        self._answer = execute
        if self._timer is None:
            self._timer = self._node.control_timer(wait, self._due)
        self._timer.timer_period_ns = round(1e9 * wait)
        self._timer.reset()

    def _since(self, moment: float) -> float:
        """Return the time [s] since a moment; of one that a simulation started over has yet to reach, it is over."""
        passed = self._clock() - moment
        return passed if passed >= 0.0 else float('inf')

    def _due(self) -> None:
        self._timer.cancel()
        execute, self._answer = self._answer, None
        if execute is not None:
            execute()
