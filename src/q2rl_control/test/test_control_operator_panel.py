# SPDX-License-Identifier: Apache-2.0
"""Emergency stop, hold and take-over at the real node, over real DDS."""

from __future__ import annotations

from dataclasses import replace
import os

from control_helpers import FollowingArm, above, decision
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2')
pytest.importorskip('q2rl_msgs', reason='needs the built workspace')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
import rclpy
from rclpy.lifecycle import TransitionCallbackReturn
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger
from test_control_nodes import DOMAINS, RUN, Bench, Cell, LiveCell
import yaml

from q2rl_control.arm_interface_node import ArmInterface
from q2rl_control.arm_state import ArmState
from q2rl_control.episode_manager_node import EpisodeManager
from q2rl_control.latest_sensors import LatestSensors
from q2rl_msgs.msg import EpisodeLabel, ExecutedStep, GateDecision, GuardState, HumanAction
from q2rl_msgs.srv import LabelEpisode
from q2rl_ros.conversions import decision_to_msg
from q2rl_ros.errors import MessageError
from q2rl_ros.sensors import SENSOR_TOPICS, measurement_to_msgs
from q2rl_ros.stamps import stamp_to_msg
from q2rl_task import load_task
from q2rl_task.spec import SensorAges

TASK = load_task('pipe_assembly')
STOP = 'arm_interface/emergency_stop'
RESET = 'arm_interface/reset_emergency_stop'
HOLD = 'arm_interface/hold'


@pytest.fixture
def bench():
    bench = Bench(domain=1 + (os.getpid() + next(DOMAINS)) % 100)
    yield bench
    bench.close()


class Desk:
    """What an operator sees and presses."""

    def __init__(self, cell) -> None:
        self.states, self.diagnostics = [], []
        cell.create_subscription(GuardState, 'guard_state', self.states.append, cell.qos.latched)
        cell.create_subscription(DiagnosticArray, '/diagnostics', self.diagnostics.append, 10)
        self.button = cell.create_publisher(Bool, 'emergency_stop', cell.qos.events)
        self.lever = cell.create_publisher(HumanAction, 'human_action', cell.qos.sensors)

    @property
    def last(self) -> GuardState:
        return self.states[-1] if self.states else GuardState()

    def push(self, cell, stamp, action=None, contract=TASK.contract_hash) -> None:
        msg = HumanAction(contract=contract)
        msg.action = np.asarray([0.5] + [0.0] * 5 if action is None else action, np.float32)
        msg.header.stamp = stamp_to_msg(stamp)
        self.lever.publish(msg)


def test_a_stop_survives_the_node_and_nothing_moves_before_two_services_were_asked(
    bench,
    tmp_path,
):
    cell = bench.add(Cell)
    desk = Desk(cell)
    arm = bench.add(ArmInterface, run_dir=str(tmp_path))
    bench.add(EpisodeManager, **RUN)
    bench.until(lambda: len(cell.steps) >= 2 and desk.last.state == GuardState.ACTING)
    assert bench.ask(Trigger, STOP, Trigger.Request()).success
    bench.until(lambda: desk.last.state == GuardState.STOPPED)
    assert 'service' in desk.last.detail and desk.last.emergency_stop and desk.last.held
    bench.until(lambda: arm._logic.guard.at_rest)
    steps, stamp = len(cell.steps), cell.arm.stamp
    bench.remove(arm)
    desk.states.clear()
    arm = bench.add(ArmInterface, run_dir=str(tmp_path))
    bench.until(lambda: desk.last.state == GuardState.STOPPED)
    assert arm._logic.state is ArmState.STOPPED

    def faults():
        found = [s for d in desk.diagnostics for s in d.status if 'arm_interface' in s.name]
        return found and found[-1].level == DiagnosticStatus.ERROR and found[-1].message

    bench.until(faults)
    assert 'emergency stop' in faults()
    assert not bench.ask(SetBool, HOLD, SetBool.Request(data=False)).success
    bench.until(lambda: arm._logic.measurement is not None)
    answer = bench.ask(Trigger, RESET, Trigger.Request())
    assert answer.success and 'hold' in answer.message
    bench.until(lambda: arm._logic.state is ArmState.RETREATING)  # asked for by the manager
    bench.until(lambda: desk.last.state == GuardState.HOLDING and desk.last.held)
    assert len(cell.steps) == steps and cell.arm.stamp <= stamp + 3 * TASK.period_s
    assert bench.ask(Trigger, RESET, Trigger.Request()).success
    assert bench.ask(SetBool, HOLD, SetBool.Request(data=False)).success
    bench.until(lambda: len(cell.steps) > steps + 3)
    arm._logic.latch.settle()
    assert not list(tmp_path.glob('stop-*.json'))


def test_a_stop_that_the_disk_does_not_take_says_so(bench, tmp_path):
    cell = bench.add(Cell)
    desk = Desk(cell)
    folder = tmp_path / 'gone'
    bench.add(ArmInterface, state_dir=str(folder))
    folder.rmdir()
    assert bench.ask(Trigger, STOP, Trigger.Request()).success
    bench.until(lambda: 'cannot be written' in desk.last.detail)
    assert desk.last.state == GuardState.STOPPED and 'service' in desk.last.detail


def test_the_button_stops_an_inactive_node_and_must_be_let_go_before_a_reset(bench, tmp_path):
    cell = bench.add(Cell)
    desk = Desk(cell)
    arm = bench.add(ArmInterface, state_dir=str(tmp_path), autostart=False)
    assert arm.trigger_configure() == TransitionCallbackReturn.SUCCESS

    def press(down):
        desk.button.publish(Bool(data=down))

    bench.until(lambda: desk.button.get_subscription_count() == 1)
    press(True)
    bench.until(lambda: arm._logic.latch.stopped)
    arm._logic.latch.settle()
    assert len(list(tmp_path.glob('stop-*.json'))) == 1
    assert arm.trigger_activate() == TransitionCallbackReturn.SUCCESS
    bench.until(lambda: arm._logic.measurement is not None)
    assert arm._logic.state is ArmState.STOPPED
    refused = bench.ask(Trigger, RESET, Trigger.Request())
    assert not refused.success and 'still true' in refused.message
    press(False)
    bench.until(lambda: not arm._panel._pressed)
    assert bench.ask(Trigger, RESET, Trigger.Request()).success


def test_a_person_takes_over_and_gives_back_and_stale_or_foreign_actions_do_not_count(
    bench, unhurried, patient
):
    cell = bench.add(LiveCell, lockstep=False)
    cell.succeed_at = 1000
    desk = Desk(cell)
    arm = bench.add(ArmInterface, **patient)
    bench.add(EpisodeManager, lockstep=False, **RUN)

    def now():
        return cell.get_clock().now().nanoseconds / 1e9

    def last():
        return cell.steps[-1].decision.source if cell.steps else None

    bench.until(lambda: last() == GateDecision.SOURCE_BC)
    bench.until(lambda: desk.lever.get_subscription_count() == 1)
    desk.push(cell, now() - 10.0)
    bench.until(lambda: arm.counters['human_late'] == 1)
    desk.push(cell, now(), contract='other')
    bench.until(lambda: arm.counters['human_contract'] == 1)
    stamp = now()
    desk.push(cell, stamp, [np.nan] * 6)
    bench.until(lambda: arm.counters['human_not_finite'] == 1)
    desk.push(cell, stamp)
    bench.until(lambda: arm.counters['human_repeated'] == 1)
    assert not any(s.decision.source == GateDecision.SOURCE_HUMAN for s in cell.steps)

    def pushed():
        desk.push(cell, now())
        return last() == GateDecision.SOURCE_HUMAN and desk.last.human

    bench.until(pushed)

    def let_go():
        desk.push(cell, now(), [])
        return arm._logic.right_of_way._action is None

    bench.until(let_go)
    bench.until(lambda: last() == GateDecision.SOURCE_HOLD)
    bench.until(lambda: last() == GateDecision.SOURCE_BC)
    assert not any(s.end_reason == ExecutedStep.END_LOST for s in cell.steps)


def test_a_person_is_heard_again_after_the_clock_went_back_and_after_an_activation(bench):
    cell = bench.add(LiveCell, lockstep=False)
    arm = bench.add(ArmInterface, lockstep=False)
    bench.until(lambda: arm._logic.measurement is not None)
    panel, right = arm._panel, arm._logic.right_of_way

    def push(stamp):
        msg = HumanAction(contract=TASK.contract_hash, action=[0.5] + [0.0] * 5)
        msg.header.stamp = stamp_to_msg(stamp)
        right.forget()
        panel._on_human(msg)
        return right._action is not None

    def now():
        return cell.get_clock().now().nanoseconds / 1e9

    panel._human_stamp = now() + 3600.0  # the clock went back by an hour since
    assert push(now())
    stamp = panel._human_stamp
    with pytest.raises(MessageError, match='not later'):
        push(stamp)
    assert arm.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    assert arm.trigger_activate() == TransitionCallbackReturn.SUCCESS
    assert panel._human_stamp == float('-inf')


def test_labels_end_episodes_by_service_and_by_topic_and_a_late_one_ends_nothing(bench):
    cell = bench.add(Cell)
    cell.succeed_at = 1000
    arm = bench.add(ArmInterface)
    bench.add(EpisodeManager, **RUN)
    labels = cell.create_publisher(EpisodeLabel, 'episode_label', cell.qos.events)
    bench.until(lambda: len(cell.steps) >= 3)
    first = arm._logic.episode
    request = LabelEpisode.Request(episode=first, success=True)
    assert bench.ask(LabelEpisode, 'arm_interface/label_episode', request).success
    bench.until(lambda: len(cell.episodes) == 1)
    assert cell.episodes[0].success and cell.steps[-1].terminated
    bench.until(lambda: arm._logic.state is ArmState.RUNNING)
    refused = bench.ask(LabelEpisode, 'arm_interface/label_episode', request)
    assert not refused.success and 'over' in refused.message
    for late in (first, ''):
        labels.publish(EpisodeLabel(episode=late, success=True))
    bench.until(lambda: arm.counters['label_refused'] == 2)
    assert arm._logic.state is ArmState.RUNNING
    labels.publish(EpisodeLabel(episode=arm._logic.episode, success=False))
    bench.until(lambda: len(cell.episodes) == 2)
    assert not cell.episodes[1].success
    ends = [s for s in cell.steps if s.final]
    assert [s.end_reason for s in ends] == [ExecutedStep.END_SUCCESS, ExecutedStep.END_FAILURE]
    assert ends[1].truncated and not ends[1].terminated


def test_a_hold_by_topic_is_a_hold_and_an_emergency_stop_keeps_it(bench, tmp_path):
    cell = bench.add(LiveCell, lockstep=False)
    arm = bench.add(ArmInterface, lockstep=False, state_dir=str(tmp_path))
    hold = cell.create_publisher(Bool, 'hold', cell.qos.events)
    bench.until(lambda: arm._logic.measurement is not None)
    bench.until(lambda: hold.get_subscription_count() == 1)
    latch = arm._logic.latch
    for wanted in (True, False, True):
        hold.publish(Bool(data=wanted))
        bench.until(lambda wanted=wanted: latch.held is wanted)
    assert 'topic' in latch.reason
    assert bench.ask(Trigger, STOP, Trigger.Request()).success
    hold.publish(Bool(data=False))
    bench.until(lambda: arm.counters['hold_refused'] == 1)
    assert latch.held and latch.stopped


def test_decisions_that_stay_away_and_sensors_that_go_silent_are_told(bench, patient):
    cell = bench.add(LiveCell, lockstep=False)
    cell.succeed_at = 1000
    desk = Desk(cell)
    arm = bench.add(ArmInterface, **patient)
    bench.add(EpisodeManager, lockstep=False, **RUN)
    bench.until(lambda: len(cell.steps) > 3)
    cell.gate_answers = False

    def told():
        return desk.last.state == GuardState.HOLDING and 'decision' in desk.last.detail

    bench.until(lambda: told() and arm._logic.guard.at_rest)
    # On its way back to a start pose the arm moves by itself, and says so.
    request = LabelEpisode.Request(episode=arm._logic.episode, success=False)
    before = len(desk.states)
    assert bench.ask(LabelEpisode, 'arm_interface/label_episode', request).success
    bench.until(lambda: any(s.state == GuardState.ACTING for s in desk.states[before:]))
    bench.until(told)
    cell.mute = True
    bench.until(lambda: 'current_pose' in desk.last.stale)


def test_a_catching_up_timer_makes_no_second_tick_in_one_period(bench):
    bench.add(LiveCell, lockstep=False)
    arm = bench.add(ArmInterface, lockstep=False)
    bench.until(lambda: arm._logic.measurement is not None)
    ticks = []
    arm._logic.tick = lambda measurement, tick=arm._logic.tick: ticks.append(1) or tick(measurement)
    early, moment = arm.counters['early_ticks'], arm.control_time()
    arm._pace._clock = lambda: moment
    for _ in range(10):
        arm._on_period()
    assert len(ticks) <= 1 and arm.counters['early_ticks'] >= early + 9


def frozen(bench, patient):
    """Return an arm in real time whose last observation waits for an answer, with the clock of its pace at a stand.

    What it sends counts as steps; the clock is at the moment of the last step.
    """
    cell = bench.add(LiveCell, lockstep=False)
    cell.succeed_at = 1000
    arm = bench.add(ArmInterface, **patient)
    bench.add(EpisodeManager, lockstep=False, **RUN)
    bench.until(lambda: any(s.decision.source == GateDecision.SOURCE_BC for s in cell.steps))
    cell.gate_answers, clock, sent = False, [0.0], []
    bench.until(lambda: arm._logic.pending is not None and not arm._logic.pending.final)
    arm._pace._clock = lambda: clock[0]
    arm._pace.forget()
    arm._pace.stepped()
    arm._sink.send = lambda *args: sent.append(args)
    return arm, clock, sent


def test_an_answer_right_behind_a_step_is_put_off_and_then_executed(bench, patient):
    arm, clock, sent = frozen(bench, patient)
    record, holds = arm._logic.pending, arm._logic.counters.holds
    answer = decision_to_msg(decision(np.full(6, 0.1)), record)
    clock[0] = 0.006
    arm._on_decision(answer)
    arm._on_decision(answer)
    arm._on_period()  # nothing is missed: the answer is there
    assert not sent and arm._logic.pending is record
    bench.until(lambda: arm._logic.pending is not record)
    assert len(sent) == 1 and arm._logic.counters.holds == holds


def test_a_missed_decision_and_silent_sensors_make_one_step_of_one_tick(bench, patient):
    arm, clock, sent = frozen(bench, patient)
    arm._sensors.stale = lambda *_: ('contact_wrench',)
    missed = arm.counters['missed_decisions']
    clock[0] = TASK.period_s
    arm._on_period()
    assert arm.counters['missed_decisions'] == missed + 1 and len(sent) == 1
    clock[0] += TASK.period_s
    arm._on_period()
    assert len(sent) == 2  # it goes on braking


@pytest.mark.parametrize('fault', ['not finite', 'frozen'])
def test_a_measurement_that_cannot_be_used_makes_no_second_step_of_one_tick(bench, patient, fault):
    arm, clock, sent = frozen(bench, patient)
    logic, measured = arm._logic, arm._logic.measurement
    if fault == 'frozen':
        logic._wrench_watch.is_frozen = lambda _: True
    else:
        measured = replace(measured, wrench=np.full(6, np.nan))
    arm._sensors.stale = lambda *_: ()
    arm._sensors.measurement = lambda _: measured
    unusable = logic.counters.unusable
    clock[0] = TASK.period_s
    arm._on_period()  # the decision is missed: that is the step
    assert len(sent) == 1 and logic.pending is None
    assert logic.counters.unusable == unusable + 1
    clock[0] += TASK.period_s
    arm._on_period()
    assert len(sent) == 2  # it goes on braking


def test_a_measurement_that_cannot_be_used_makes_no_step_right_behind_an_answer(bench, patient):
    arm, clock, sent = frozen(bench, patient)
    bad = replace(arm._logic.measurement, wrench=np.full(6, np.nan))
    arm._sensors.stale = lambda *_: ()
    arm._sensors.measurement = lambda _: bad
    clock[0] = 0.9 * TASK.period_s
    arm._execute(decision(np.full(6, 0.1)))
    assert len(sent) == 1
    clock[0] = TASK.period_s
    arm._on_period()
    assert len(sent) == 1 and arm._logic.blind
    clock[0] += TASK.period_s
    arm._on_period()
    assert len(sent) == 2


def test_the_answer_to_a_final_observation_and_the_retreat_are_steps_of_two_ticks(bench, patient):
    arm, clock, sent = frozen(bench, patient)
    arm._sensors.stale = lambda *_: ()
    arm._logic.request_end()
    clock[0] = TASK.period_s
    arm._on_period()  # the one before is missed
    assert arm._logic.pending.final and len(sent) == 1
    clock[0] += TASK.period_s
    arm._on_period()
    assert arm._logic.state is ArmState.RETREATING and len(sent) == 2
    clock[0] += 0.006
    arm._on_period()
    assert len(sent) == 2
    clock[0] += TASK.period_s
    arm._on_period()
    assert len(sent) == 3


def test_a_stream_may_have_an_age_of_its_own():
    ages = SensorAges(wrench=0.02, success=1.0)
    limits = TASK.limits.model_copy(update={'sensor_max_age_s': ages})
    task = TASK.model_copy(update={'limits': limits})
    sensors = LatestSensors(task, max_age_s=0.1)
    measured = FollowingArm(TASK, above(TASK, 0.02)).measure()
    msgs = measurement_to_msgs(replace(measured, stamp=10.0), ['a'] * 7, TASK)
    for topic, msg in zip(SENSOR_TOPICS, msgs, strict=True):
        sensors.add(topic, msg, 0.0)
    *others, wrench, success = SENSOR_TOPICS
    assert sensors.stale(10.01, 0.01) == ()
    assert sensors.stale(10.05, 0.05) == (wrench,)
    assert sensors.stale(10.5, 0.5) == (*others, wrench)
    assert success in sensors.stale(11.5, 1.5)


@pytest.mark.parametrize('fault', ['stiffness', 'state_dir'])
def test_a_cell_that_could_not_be_made_safe_does_not_start(bench, tmp_path, fault):
    spoilt = TASK.model_dump(mode='json')
    spoilt['limits']['stiffness_n_m'] = 6000.0
    (tmp_path / 'stiff.yaml').write_text(yaml.safe_dump(spoilt))
    bad = {
        'stiffness': {'task': str(tmp_path / 'stiff.yaml')},
        'state_dir': {'state_dir': '/proc/q2rl'},
    }
    overrides = [rclpy.parameter.Parameter(k, value=v) for k, v in bad[fault].items()]
    node = ArmInterface(context=bench.context, parameter_overrides=overrides)
    assert node.start() == 2
    node.destroy_node()
