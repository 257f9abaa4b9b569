# SPDX-License-Identifier: Apache-2.0
"""What an operator can ask of a run: one service call per button, and what became of it in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
import threading
import time

from rclpy.task import Future
from std_srvs.srv import SetBool, Trigger

from q2rl_msgs.srv import LabelEpisode, RunCommand
from q2rl_ros.node import Q2rlNode

PATIENCE_S = 2.0
"""Time without an answer after which a person must hear that nothing may have happened."""


@dataclass(frozen=True)
class Call:
    """A service, and what it is asked. of_episode: whether that is about an episode, which the request names."""

    kind: type
    service: str
    request: Callable[[], object]
    done: str
    of_episode: bool = False


def _trigger(service: str, done: str) -> Call:
    return Call(Trigger, f'arm_interface/{service}', Trigger.Request, done)


def _hold(hold: bool, done: str) -> Call:
    return Call(SetBool, 'arm_interface/hold', lambda: SetBool.Request(data=hold), done)


def _command(command: int, done: str) -> Call:
    return Call(
        RunCommand, 'episode_manager/command', lambda: RunCommand.Request(command=command), done
    )


def _label(success: bool, done: str) -> Call:
    return Call(
        LabelEpisode,
        'arm_interface/label_episode',
        lambda: LabelEpisode.Request(success=success),
        done,
        of_episode=True,
    )


class Wish(Enum):
    """Everything an operator can ask for."""

    EMERGENCY_STOP = _trigger('emergency_stop', 'the arm took the stop')
    RESET = _trigger('reset_emergency_stop', 'the stop is reset')
    HOLD = _hold(True, 'the arm holds')
    RELEASE = _hold(False, 'the arm may go on')
    PAUSE = _command(RunCommand.Request.PAUSE, 'the run pauses after this episode')
    RESUME = _command(RunCommand.Request.RESUME, 'the run goes on')
    SUCCESS = _label(True, 'labelled a success')
    FAILURE = _label(False, 'labelled a failure')

    @property
    def words(self) -> str:
        """What it is called where people read it."""
        return self.name.lower().replace('_', ' ')


class OperatorServices:
    """Clients of what an operator can ask for. `ask` may be called from any thread.

    A stop that is not answered is asked for again until it is, or a reset is wished for: the arm may have been about to
    start when the button was pressed. Everything else is asked for once.

    :param told: called by `look` with what became of a wish and whether it was fulfilled
    :param shown: the episode that the person sees, or empty: a verdict is about that one, and never ends the next
    """

    def __init__(
        self, node: Q2rlNode, told: Callable[[str, bool], None], shown: Callable[[], str]
    ) -> None:
        self._told, self._shown = told, shown
        self._lock = threading.Lock()
        self._waiting: list[_Asked] = []
        self._nameless: list[Wish] = []
        kinds = {wish.value.service: wish.value.kind for wish in Wish}
        self._clients = {service: node.client(kind, service) for service, kind in kinds.items()}

    def ask(self, wish: Wish) -> None:
        """Ask; returns at once."""
        request = wish.value.request()
        if wish.value.of_episode:
            request.episode = self._shown()
            if not request.episode:
                with self._lock:
                    self._nameless.append(wish)
                return
        future = self._clients[wish.value.service].call_async(request)
        with self._lock:
            if wish is Wish.RESET:
                self._waiting = [a for a in self._waiting if a.wish is not Wish.EMERGENCY_STOP]
            self._waiting.append(_Asked(wish, future, time.monotonic() + PATIENCE_S))

    def look(self) -> None:
        """Tell of wishes that were answered, or not in time; call it often, from one thread."""
        now = time.monotonic()
        with self._lock:
            over = [asked for asked in self._waiting if asked.future.done() or now > asked.until]
            self._waiting = [asked for asked in self._waiting if asked not in over]
            nameless, self._nameless = self._nameless, []
        for wish in nameless:
            self._told(f'{wish.words}: refused (no episode is shown that it could be about)', False)
        for asked in over:
            wish, future = asked.wish, asked.future
            name = wish.words
            if future.done():
                answer = future.result()
                text = wish.value.done if answer.success else 'refused'
                detail = f' ({answer.message})' if answer.message else ''
                self._told(f'{name}: {text}{detail}', bool(answer.success))
                continue
            self._clients[wish.value.service].remove_pending_request(future)
            again = wish is Wish.EMERGENCY_STOP
            if again:
                self.ask(wish)
            text = f'{name}: NO ANSWER from {wish.value.service}'
            self._told(f'{text}, asking again' if again else text, False)


@dataclass(eq=False)
class _Asked:
    """A call under way; `until`: when it is given up, on the monotonic clock."""

    wish: Wish
    future: Future
    until: float
