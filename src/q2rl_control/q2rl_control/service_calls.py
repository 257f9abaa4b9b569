# SPDX-License-Identifier: Apache-2.0
"""Service calls that never block a callback and outlive a restart of the other side."""

from __future__ import annotations

from collections.abc import Callable
import time
from typing import Any

from std_srvs.srv import Trigger

from q2rl_control.episode_plan import EpisodePlan
from q2rl_msgs.srv import PrepareScene, StartEpisode
from q2rl_ros.node import Q2rlNode


class RetryingCall:
    """One service, one call at a time; a call without an answer is made again by `poll`.

    Whichever request is answered first is the answer, so a service that takes longer than the timeout does answer.

    :param client: rclpy client
    :param timeout_s: wall time after which an unanswered request is sent again; twice as long after each time
    """

    def __init__(self, client, timeout_s: float) -> None:
        self._client = client
        self._timeout = timeout_s
        self._request = None
        self._done: Callable | None = None
        self._futures: list[Any] = []
        self._since = self._sent = 0.0

    @property
    def busy(self) -> bool:
        """Whether a call is under way."""
        return self._request is not None

    @property
    def service(self) -> str:
        """Name of the service."""
        return self._client.srv_name

    def waited(self) -> float:
        """Seconds since the call under way was asked for; 0 if there is none."""
        return time.monotonic() - self._since if self.busy else 0.0

    def call(self, request, done: Callable[[Any], None]) -> None:
        """Start a call, in place of one under way; `done(response)` gets the answer."""
        self.cancel()
        self._request, self._done, self._since = request, done, time.monotonic()
        self.poll()

    def cancel(self) -> None:
        """Forget the call under way; a late answer to it is ignored."""
        for future in self._futures:
            self._client.remove_pending_request(future)
        self._request = self._done = None
        self._futures = []

    def poll(self) -> None:
        """Send the request if it has not been sent, or if its answer is overdue."""
        if not self.busy or not self._client.service_is_ready():
            return
        patience = self._timeout * 2.0 ** (len(self._futures) - 1)
        if self._futures and time.monotonic() - self._sent < patience:
            return
        self._sent = time.monotonic()
        future = self._client.call_async(self._request)
        self._futures.append(future)
        future.add_done_callback(self._finished)

    def _finished(self, future) -> None:
        if future not in self._futures:
            return
        done, response = self._done, future.result()
        self.cancel()
        if response is not None:
            done(response)


class CellServices:
    """The services of arm and scene, as `episode_flow.Cell` wants them."""

    def __init__(self, node: Q2rlNode, timeout_s: float) -> None:
        def make(kind: type, name: str) -> RetryingCall:
            return RetryingCall(node.client(kind, name), timeout_s)

        self._scene = make(PrepareScene, 'prepare_scene')
        self._start = make(StartEpisode, 'arm_interface/start_episode')
        self._retreat = make(Trigger, 'arm_interface/retreat')
        self._end = make(Trigger, 'arm_interface/end_episode')
        self._all = (self._scene, self._start, self._retreat, self._end)

    def prepare_scene(self, plan: EpisodePlan, done: Callable[[bool, str, Any], None]) -> None:
        """Ask for a scene; `done(success, message, estimates of fixture and part)`."""
        request = PrepareScene.Request(episode=plan.episode, seed=plan.seed)
        self._scene.call(request, lambda r: done(r.success, r.message, (r.estimate, r.part)))

    def start_episode(
        self, plan: EpisodePlan, estimate: Any, done: Callable[[bool, str], None]
    ) -> None:
        """Ask the arm to start; `done(success, message)`."""
        request = StartEpisode.Request(episode=plan.episode, mode=int(plan.mode), seed=plan.seed)
        request.explore = plan.explore
        request.estimate, request.part = estimate
        self._start.call(request, lambda r: done(r.success, r.message))

    def retreat(self) -> None:
        """Ask the arm to leave the fixture."""
        self._trigger(self._retreat)

    def end_episode(self) -> None:
        """Ask the arm to end its episode."""
        self._trigger(self._end)

    def cancel(self) -> None:
        """Forget all calls under way."""
        for call in self._all:
            call.cancel()

    def poll(self) -> None:
        """Send again what was not answered."""
        for call in self._all:
            call.poll()

    def overdue(self, patience_s: float) -> str:
        """Return the name of a service that has not answered for so long, or an empty string."""
        return next((c.service for c in self._all if c.waited() > patience_s), '')

    def _trigger(self, call: RetryingCall) -> None:
        if not call.busy:
            call.call(Trigger.Request(), lambda _: None)
