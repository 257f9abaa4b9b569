# SPDX-License-Identifier: Apache-2.0
"""A planner in a process of its own, so that planning never holds up a control tick.

A thread would not do: a validity check in Python, and MoveIt's `plan`, keep the interpreter to themselves.
"""

from __future__ import annotations

import contextlib
from multiprocessing import get_context
from multiprocessing.connection import Connection
import signal
import time

from q2rl_control.planners import PlannerSettings, make_planner
from q2rl_control.planning import PlannedPath, PlanRefused, PlanRequest
from q2rl_task import InputError

START_S = 60.0
"""What starting may take: loading libraries and, for MoveIt, its plugins."""
GRACE_S = 2.0
"""What a planner may take beyond its own time limit before its process is killed."""
GONE = "the planner's process ended"
START, ANSWER = 'start', 'answer'


class PlannerProcess:
    """A planner beside the tick. A process that died, or does not answer in time, is replaced.

    :raises InputError: the planner cannot be made, which is waited for
    """

    instant = False

    def __init__(self, settings: PlannerSettings) -> None:
        self._settings = settings
        self._number = 0
        self._asked = False
        self._outcome: PlannedPath | PlanRefused | None = None
        self._start()
        name, late = f'planner {settings.kind}', f'did not start within {START_S:g} s'
        problem: tuple[str, str, str] | None = (name, late, 'see its log')
        with contextlib.suppress(EOFError, OSError):
            if self._pipe.poll(START_S):
                problem = (name, GONE, 'see its log')
                problem = self._pipe.recv()[1]
        if problem is not None:
            self._kill()
            raise InputError(*problem)
        self._started = True

    def begin(self, request: PlanRequest) -> None:
        """Start to plan; what was under way is forgotten."""
        self.cancel()
        self._give_up_at = time.monotonic() + self._settings.time_limit_s + GRACE_S
        if not self._started:
            self._give_up_at += START_S
        self._asked = True
        try:
            self._pipe.send((self._number, request))
        except OSError:
            self._fail(GONE)

    def ready(self) -> bool:
        """Whether `poll` has an answer. Never waits."""
        if not self._asked or self._outcome is not None:
            return self._asked
        try:
            while self._outcome is None and self._pipe.poll(0):
                self._take(self._pipe.recv())
        except (EOFError, OSError):
            self._fail(GONE)
        if self._outcome is None and time.monotonic() > self._give_up_at:
            self._fail(f'the planner did not answer within {self._settings.time_limit_s:g} s')
        return self._outcome is not None

    def poll(self) -> PlannedPath | None:
        """Return the path, or None while it is being sought.

        :raises PlanRefused: there is none
        """
        if not self.ready():
            return None
        if isinstance(self._outcome, PlanRefused):
            raise self._outcome
        return self._outcome

    def cancel(self) -> None:
        """Forget what is under way; the process ends it in its own time limit."""
        self._number += 1
        self._asked, self._outcome = False, None

    def close(self) -> None:
        """Stop the process."""
        self.cancel()
        self._kill()

    def _take(self, message: tuple) -> None:
        """Take a message of the process, see `_serve`."""
        if message[0] == ANSWER:
            _, number, outcome = message
            if number == self._number:
                self._outcome = outcome
        elif message[1] is None:
            self._started = True
        else:
            self._fail('; '.join(message[1]))

    def _fail(self, why: str) -> None:
        """Refuse what was asked, and put a new process in the place of this one."""
        self._outcome = PlanRefused(why)
        self._kill()
        self._start()

    def _start(self) -> None:
        # Not forked: the threads of ROS would be missing in the child, and their locks might be taken.
        context = get_context('spawn')
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, self._settings), name='planner', daemon=True
        )
        self._process.start()
        theirs.close()
        self._started = False

    def _kill(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()


def _serve(pipe: Connection, settings: PlannerSettings) -> None:
    """Be the process: say (START, None) or (START, what is wrong), then (ANSWER, number, outcome) to each request."""
    # Ctrl-C reaches the whole group; the node decides when planning is over.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The other end is closed when the node is gone, however it went.
    with contextlib.suppress(EOFError, OSError):
        try:
            planner = make_planner(settings)
        except InputError as error:
            pipe.send((START, (error.where, error.problem, error.remedy)))
            return
        pipe.send((START, None))
        while True:
            number, request = pipe.recv()
            try:
                outcome = planner.plan(request)
            except PlanRefused as refused:
                outcome = refused
            pipe.send((ANSWER, number, outcome))
