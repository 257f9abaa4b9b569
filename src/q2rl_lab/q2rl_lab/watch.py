# SPDX-License-Identifier: Apache-2.0
"""Listen to a run from outside: a thread that subscribes to its states, and the client that asks it to stop."""

from __future__ import annotations

from collections.abc import Callable
import threading
import time
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from q2rl_lab.run_view import RunView
from q2rl_msgs.msg import ArmStatus, EpisodeSummary, LearnerStatus, RunState
from q2rl_msgs.srv import RunCommand
from q2rl_ros.qos import profiles
from q2rl_ros.spin import EventsExecutor


class Watcher:
    """Feed a `RunView` from the topics of one DDS domain, in a thread of its own, until `close`.

    :param lock: held while the view changes; hold it to read the view
    """

    def __init__(self, view: RunView, domain: int, lockstep: bool, period_s: float) -> None:
        self.lock = threading.Lock()
        self._view = view
        self._problem: Exception | None = None
        self._closing = threading.Event()
        self._context = Context()
        rclpy.init(
            context=self._context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO
        )
        self._node = rclpy.create_node(
            'q2rl_watch', context=self._context, use_global_arguments=False
        )
        qos = profiles(lockstep, period_s)
        for kind, topic, handler, profile in (
            (RunState, 'run_state', self._on_run, qos.latched),
            (EpisodeSummary, 'episode_summary', view.hear_episode, qos.events),
            (LearnerStatus, 'learner_status', self._on_learner, qos.latched),
            (ArmStatus, 'arm_status', view.hear_arm, qos.latched),
        ):
            self._node.create_subscription(kind, topic, self._locked(handler), profile)
        self._command = self._node.create_client(RunCommand, 'episode_manager/command')
        self._thread = threading.Thread(target=self._spin, name='watch', daemon=True)
        self._thread.start()

    def check(self) -> None:
        """See that the view is kept up: a run that nobody hears would be waited for without end.

        :raises Exception: what a message made of it
        """
        if self._problem is not None:
            raise self._problem
        if not (self._thread.is_alive() or self._closing.is_set()):
            raise RuntimeError('the thread that listens to the run has ended')

    def ask_to_stop(self, timeout_s: float) -> bool:
        """Ask the episode manager to end the episode under way, save and stop; tell whether it agreed in time."""
        end = time.monotonic() + timeout_s
        while not self._command.service_is_ready():
            if time.monotonic() > end or self._closing.wait(0.05):
                return False
        answered = threading.Event()
        future = self._command.call_async(RunCommand.Request(command=RunCommand.Request.STOP))
        future.add_done_callback(lambda _: answered.set())
        while not answered.wait(0.1):
            if time.monotonic() > end or self._closing.is_set():
                return False
        return bool(future.result() and future.result().success)

    def close(self) -> None:
        """Stop listening; idempotent."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._thread.join(5.0)
        self._node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def _spin(self) -> None:
        executor = (EventsExecutor or SingleThreadedExecutor)(context=self._context)
        executor.add_node(self._node)
        while not self._closing.is_set() and self._context.ok():
            executor.spin_once(timeout_sec=0.2)
        executor.remove_node(self._node)

    def _locked(self, handler: Callable[[Any], None]) -> Callable[[Any], None]:
        def handle(message: Any) -> None:
            try:
                with self.lock:
                    handler(message)
            except Exception as error:  # nobody hears of it in this thread: `check` raises it
                self._problem = self._problem or error

        return handle

    def _on_run(self, message: RunState) -> None:
        self._view.hear_run(message, time.monotonic())

    def _on_learner(self, message: LearnerStatus) -> None:
        self._view.learner = message
