# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the gripper's actions of control_msgs, which PyPI does not have, and for the client that sends them.

Names and fields are those of control_msgs/action/GripperCommand and ParallelGripperCommand of the jazzy branch. They
are plain classes: no such goal can cross DDS, so tests are the server.
"""

from __future__ import annotations

from dataclasses import dataclass, field
import sys
from types import ModuleType, SimpleNamespace

from action_msgs.msg import GoalStatus
from sensor_msgs.msg import JointState

from q2rl_control import gripper_action


class GripperCommand:
    @dataclass
    class Goal:
        command: SimpleNamespace = field(
            default_factory=lambda: SimpleNamespace(position=0.0, max_effort=0.0)
        )


class ParallelGripperCommand:
    @dataclass
    class Goal:
        command: JointState = field(default_factory=JointState)


class Future:
    """Done when it is told to be."""

    def __init__(self) -> None:
        self._calls = []

    def add_done_callback(self, call) -> None:
        self._calls.append(call)

    def result(self):
        return self._result

    def finish(self, result) -> None:
        self._result = result
        for call in self._calls:
            call(self)


class Handle:
    """The client's side of one goal, and what the server does with it."""

    def __init__(self, goal, taken: Future) -> None:
        self.goal, self._taken, self._end = goal, taken, Future()
        self.accepted = self.cancelled = False

    def get_result_async(self) -> Future:
        return self._end

    def cancel_goal_async(self) -> Future:
        self.cancelled = True
        return Future()

    def answer(self, accepted: bool = True) -> Handle:
        self.accepted = accepted
        self._taken.finish(self)
        return self

    def end(self, status: int, stalled: bool = False) -> None:
        self._end.finish(SimpleNamespace(status=status, result=SimpleNamespace(stalled=stalled)))

    def succeed(self) -> None:
        self.end(GoalStatus.STATUS_SUCCEEDED)

    def abort(self, stalled: bool = False) -> None:
        self.end(GoalStatus.STATUS_ABORTED, stalled)

    def cancel(self) -> None:
        self.end(GoalStatus.STATUS_CANCELED)


class Server:
    """Every goal that was sent; whether anybody is there to take it."""

    def __init__(self) -> None:
        self.ready, self.goals, self.closed = True, [], False

    @property
    def last(self) -> Handle:
        return self.goals[-1]


def install(monkeypatch) -> Server:
    """Make `import control_msgs` and the client find the stand-in, until the test is over."""
    server = Server()

    class Client:
        def __init__(self, node, kind, name):
            server.kind, server.name = kind, name

        def server_is_ready(self):
            return server.ready

        def send_goal_async(self, goal):
            taken = Future()
            server.goals.append(Handle(goal, taken))
            return taken

        def destroy(self):
            server.closed = True

    package, action = ModuleType('control_msgs'), ModuleType('control_msgs.action')
    action.GripperCommand, action.ParallelGripperCommand = GripperCommand, ParallelGripperCommand
    package.action = action
    for module in (package, action):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(gripper_action, 'ActionClient', Client)
    return server


def uninstall(monkeypatch) -> None:
    """Make `import control_msgs` fail, wherever this runs."""
    for name in ('control_msgs', 'control_msgs.action'):
        monkeypatch.setitem(sys.modules, name, None)
