# SPDX-License-Identifier: Apache-2.0
"""The zero of the wrench: weight by hand-computed numbers, offsets measured at the start pose, and what is refused."""

from __future__ import annotations

from types import SimpleNamespace

from control_helpers import FollowingArm, above
import numpy as np
import pytest

from q2rl_control.arm_logic import ArmLogic
from q2rl_control.arm_state import ArmState
from q2rl_control.wrench_tare import Payload, TareRefused, WrenchTare
from q2rl_task import Mode, Pose, draw_start, load_task

TASK = load_task('pipe_assembly')
OFFSET = np.array([1.5, -2.0, 3.0, 0.1, 0.0, -0.2])


def filled(tare: WrenchTare, wrench=OFFSET, noise: float = 0.1, start: float = 0.0, n: int = 120):
    """Feed half a second of readings at 200 Hz."""
    rng = np.random.default_rng(0)
    for k in range(n):
        tare.add(start + 0.005 * k, wrench + noise * rng.uniform(-1.0, 1.0, 6))
    return tare


def test_the_weight_of_a_payload_turns_with_the_tip():
    payload = Payload(2.0, np.array([0.0, 0.0, -0.05]), np.array([0.0, 0.0, -10.0]))
    # Upright: 20 N against z, through the axis. Upside down: 20 N along the tip's own z.
    upright = payload.weight(Pose.of([0, 0, 1.0]))
    np.testing.assert_allclose(upright, [0, 0, -20, 0, 0, 0], atol=1e-12)
    down = payload.weight(Pose.of([0, 0, 1.0], [1.0, 0, 0, 0]))
    np.testing.assert_allclose(down, [0, 0, 20, 0, 0, 0], atol=1e-12)
    # On its side, the tip's x up: 20 N against x, 50 mm behind the tip: (0, 0, -0.05) x (-20, 0, 0) = (0, 1, 0).
    side = payload.weight(Pose.of([0, 0, 1.0], [0.0, -np.sqrt(0.5), 0.0, np.sqrt(0.5)]))
    np.testing.assert_allclose(side, [-20, 0, 0, 0, 1, 0], atol=1e-12)


def test_the_mean_of_the_last_half_second_is_taken_off_from_then_on():
    tare = WrenchTare(0.5, 50.0)
    np.testing.assert_array_equal(tare.add(-9.0, OFFSET), OFFSET)
    filled(
        tare, wrench=np.full(6, 7.0), n=50
    )  # older than half a second at the end: not in the mean
    filled(tare, start=0.4)
    tare.take()
    np.testing.assert_allclose(tare.offset, OFFSET, atol=0.03)
    push = np.array([0.0, 0.0, -8.0, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(tare.add(2.0, OFFSET + push), push, atol=0.03)


def test_a_tare_that_was_begun_waits_for_readings_of_its_own():
    tare = filled(WrenchTare(0.5, 50.0), wrench=np.full(6, 5.0))
    tare.begin()
    assert not tare.poll() and not tare.offset.any()
    filled(tare, start=1.0)
    assert not tare.poll()  # taken, and the measurement at hand is still from the old zero
    assert tare.poll()
    np.testing.assert_allclose(tare.offset, OFFSET, atol=0.03)


@pytest.mark.parametrize(
    ('readings', 'why'),
    [
        ({'n': 20}, 'not been heard for 0.5 s'),
        ({'noise': 6.0}, 'does not hang free'),
        ({'wrench': np.array([0, 0, 60.0, 0, 0, 0])}, 'is too much for an offset'),
    ],
)
def test_readings_of_no_free_tool_are_no_zero(readings, why):
    tare = filled(WrenchTare(0.5, 50.0), **readings)
    with pytest.raises(TareRefused, match=why):
        tare.take()
    assert not tare.offset.any()


def test_readings_that_are_not_finite_or_from_before_the_clock_was_set_back_are_left_out():
    tare = filled(WrenchTare(0.5, 50.0), wrench=np.full(6, 9.0), start=100.0)
    filled(tare)  # the clock went back
    tare.add(0.61, np.full(6, np.nan))
    tare.take()
    np.testing.assert_allclose(tare.offset, OFFSET, atol=0.03)


class Cell:
    """An arm whose sensor has an offset, tared at each start pose; one reading per tick."""

    def __init__(self, offset=OFFSET, most_n: float = 50.0, tare=None) -> None:
        self.tare = WrenchTare(0.3, most_n)
        self.logic = ArmLogic(TASK, tare=tare or self.tare)
        self.arm = FollowingArm(TASK, above(TASK, 0.05))
        self.offset, self.measured = np.asarray(offset, dtype=float), None
        self.force_seen = []

    def advance(self) -> None:
        reading = self.arm.measure()
        wrench = self.tare.add(reading.stamp, reading.wrench + self.offset)
        reading = reading.__class__(**{**reading.__dict__, 'wrench': wrench})
        tick = self.logic.tick(reading)
        assert not (tick.waiting and self.logic.state is ArmState.RESETTING)
        if tick.observation is not None:
            self.force_seen.append(reading.force)
            target, _ = self.logic.execute(None)
        else:
            target = tick.target
        self.arm.step(target)

    def start(self, *ends: ArmState) -> int:
        """Ask for an episode; return the ticks until one of `ends`."""
        self.logic.retreat()
        while self.logic.state is not ArmState.READY:
            self.advance()
        fixture = TASK.fixture.nominal.pose
        assert self.logic.start_episode('e', Mode.BC, 1, fixture)
        for k in range(400):
            self.advance()
            if self.logic.state in ends:
                return k
        raise AssertionError(f'stays {self.logic.state.name}')


def test_an_episode_starts_with_the_offset_taken_off():
    cell = Cell()
    cell.start(ArmState.RUNNING)
    assert cell.force_seen[0] < 1e-6  # the first observation already
    np.testing.assert_allclose(cell.tare.offset[:3], OFFSET[:3], atol=1e-6)
    without = ArmLogic(TASK)
    assert without.retreat()


def test_no_episode_starts_from_a_zero_that_is_none():
    cell = Cell(offset=[0.0, 0.0, 30.0, 0.0, 0.0, 0.0], most_n=20.0)
    cell.start(ArmState.READY)
    assert cell.logic.detail.startswith('no tare: 30.0 N is too much for an offset')
    assert not cell.force_seen and not cell.tare.offset.any()


def test_a_tare_that_never_comes_stops_with_a_reason():
    never = SimpleNamespace(begin=lambda: None, poll=lambda: False)
    cell = Cell(tare=never)
    cell.start(ArmState.STOPPED)
    assert cell.logic.detail == 'the tare did not finish within 10 s'


def test_an_arm_that_is_pushed_off_its_start_pose_in_a_tare_goes_back_and_tares_there():
    begun, ready = [], []
    slow = SimpleNamespace(begin=lambda: begun.append(1), poll=lambda: bool(ready))
    cell = Cell(tare=slow)
    cell.logic.retreat()
    while cell.logic.state is not ArmState.READY:
        cell.advance()
    fixture = TASK.fixture.nominal.pose
    assert cell.logic.start_episode('e', Mode.BC, 1, fixture)
    while not begun:
        cell.advance()
    there = cell.arm.pose
    cell.arm.pose = Pose(there.position + np.array([0.007, 0.0, 0.0]), there.quaternion)
    for _ in range(5):
        cell.advance()
    assert len(begun) == 1, 'a reading that flickers is no push'
    cell.arm.pose = Pose(there.position + np.array([0.04, 0.0, 0.0]), there.quaternion)
    cell.arm.jammed = True
    for _ in range(5):
        cell.advance()
    cell.arm.jammed = False
    for _ in range(40):
        cell.advance()
    assert cell.arm.pose.distance_to(draw_start(TASK, fixture, 1))[0] < 2e-3 and len(begun) == 2
    ready.append(True)
    cell.advance()
    assert cell.logic.state is ArmState.RUNNING


class FakeNode:
    """As much of a node as the tare's services use."""

    task, lockstep = TASK, False

    def __init__(self, **values) -> None:
        self.active, self.served = True, {}
        usual = {'tare': 'service', 'tare_service': 'zero', 'payload_mass': 0.0}
        vectors = {'payload_centre': [0.0, 0.0, 0.1], 'gravity': [0.0, 0.0, -9.81]}
        self.value = {**usual, **vectors, **values}.__getitem__
        self.ready, self.asked, self.answer, self.now = False, 0, None, 7.0

    def client(self, kind, name):
        return SimpleNamespace(service_is_ready=lambda: self.ready, call_async=self._call)

    def _call(self, request):
        self.asked += 1
        return SimpleNamespace(done=lambda: self.answer is not None, result=lambda: self.answer)

    def stamp_now(self) -> float:
        return self.now

    def serve(self, kind, name, handler) -> None:
        self.served[name] = handler


def test_a_driver_that_zeroes_itself_is_asked_once_and_waited_for():
    pytest.importorskip('std_srvs', reason='needs ROS')
    from q2rl_control.tare_choice import make_start_tare

    node, heard = FakeNode(), filled(WrenchTare(0.5, 50.0))
    heard.take()
    assert heard.offset.any()
    tare = make_start_tare(node, heard)
    tare.begin()
    assert not tare.poll() and node.asked == 0  # the service is not there yet
    node.ready = True
    assert not tare.poll() and not tare.poll() and node.asked == 1
    node.answer = SimpleNamespace(success=True, message='')
    heard.add(6.99, np.zeros(6))  # on its way since before the zero
    assert not tare.poll()
    assert not heard.offset.any(), 'what a person took off before is in the new zero'
    node.now = 8.0
    assert not tare.poll()
    heard.add(7.01, np.zeros(6))
    assert tare.poll()
    node.answer = SimpleNamespace(success=False, message='robot is not running')
    tare.begin()
    with pytest.raises(TareRefused, match='zero: robot is not running'):
        tare.poll()
    assert make_start_tare(FakeNode(tare='none'), WrenchTare(0.5, 50.0)) is None


def test_a_person_may_tare_an_arm_at_rest_and_no_other():
    pytest.importorskip('std_srvs', reason='needs ROS')
    from std_srvs.srv import Trigger

    from q2rl_control.tare_choice import serve_tare

    node, tare = FakeNode(), WrenchTare(0.5, 50.0)
    logic = SimpleNamespace(state=ArmState.RUNNING, guard=SimpleNamespace(at_rest=True))
    serve_tare(node, logic, tare)

    def ask():
        return node.served['arm_interface/tare'](Trigger.Request(), Trigger.Response())

    assert not ask().success and 'RUNNING' in ask().message
    logic.state = ArmState.READY
    assert not ask().success and 'not been heard' in ask().message
    filled(tare)
    assert not ask().success and 'not been heard' in ask().message  # for six seconds
    node.now = tare.heard_at + 0.01
    assert ask().success and tare.offset.any()
    node.active = False
    assert not ask().success


def test_a_payload_needs_three_numbers():
    pytest.importorskip('std_srvs', reason='needs ROS')
    from q2rl_control.tare_choice import make_payload
    from q2rl_task import InputError

    assert make_payload(FakeNode()) is None
    assert make_payload(FakeNode(payload_mass=1.2)).mass == 1.2
    with pytest.raises(InputError, match='payload_centre'):
        make_payload(FakeNode(payload_centre=[0.0, 1.0]))
