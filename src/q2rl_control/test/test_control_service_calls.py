# SPDX-License-Identifier: Apache-2.0
"""Calls of services that are slow, silent or not there yet."""

from __future__ import annotations

from rclpy.task import Future

from q2rl_control import service_calls
from q2rl_control.service_calls import RetryingCall

TIMEOUT_S = 3.0


class SlowService:
    """A client whose answers come when the test says so; it is the clock, too."""

    srv_name = 'slow'

    def __init__(self) -> None:
        self.now, self.ready = 0.0, True
        self.requests: list[Future] = []
        self.forgotten: list[Future] = []

    def monotonic(self) -> float:
        return self.now

    def service_is_ready(self) -> bool:
        return self.ready

    def call_async(self, request) -> Future:
        self.requests.append(Future())
        return self.requests[-1]

    def remove_pending_request(self, future: Future) -> None:
        self.forgotten.append(future)


def called(monkeypatch):
    service, answers = SlowService(), []
    monkeypatch.setattr(service_calls, 'time', service)
    call = RetryingCall(service, TIMEOUT_S)
    call.call('request', answers.append)
    return service, call, answers


def pass_time(service: SlowService, call: RetryingCall, seconds: float) -> None:
    for _ in range(round(10 * seconds)):
        service.now += 0.1
        call.poll()


def test_a_service_that_takes_longer_than_the_timeout_is_heard_and_not_flooded(monkeypatch):
    service, call, answers = called(monkeypatch)
    pass_time(service, call, 8.0)
    assert len(service.requests) == 2
    service.requests[0].set_result('done')
    assert answers == ['done'] and not call.busy
    assert service.forgotten == service.requests
    service.requests[1].set_result('again')
    assert answers == ['done']


def test_a_request_that_got_lost_is_sent_again(monkeypatch):
    service, call, answers = called(monkeypatch)
    pass_time(service, call, 4.0)
    service.requests[1].set_result('done')
    assert answers == ['done'] and call.waited() == 0.0


def test_a_service_that_is_not_there_yet_is_waited_for(monkeypatch):
    service, call, _ = called(monkeypatch)
    call.cancel()
    service.requests.clear()
    service.ready = False
    call.call('request', print)
    pass_time(service, call, 5.0)
    assert not service.requests and call.waited() > 4.0
    service.ready = True
    pass_time(service, call, 0.1)
    assert len(service.requests) == 1
