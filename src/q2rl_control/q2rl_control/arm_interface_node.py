# SPDX-License-Identifier: Apache-2.0
"""Node `arm_interface`: the only one that commands the robot. A thin shell round `ArmLogic`."""

from __future__ import annotations

import math
import sys
import time

from q2rl_control.arm_logic import ArmLogic
from q2rl_control.arm_parameters import declare_arm_parameters
from q2rl_control.arm_readiness import ArmReadiness
from q2rl_control.arm_reports import ArmReports
from q2rl_control.arm_state import OF_ITSELF, ArmState
from q2rl_control.arming import hold_until_armed, make_latch
from q2rl_control.episode_services import EpisodeServices
from q2rl_control.follow_watch import Follower
from q2rl_control.gripper_command import GripperCommand
from q2rl_control.guard import answer_fault
from q2rl_control.last_stop import come_to_rest
from q2rl_control.latest_sensors import LatestSensors
from q2rl_control.operator_panel import OperatorPanel
from q2rl_control.planner_parameters import make_planning
from q2rl_control.sensor_inputs import WRENCH, SensorInputs
from q2rl_control.sink_choice import make_kinematics, make_links, make_sink
from q2rl_control.tare_choice import make_payload, make_start_tare, serve_tare
from q2rl_control.tick_pace import TickPace
from q2rl_control.wrench_tare import WrenchTare
from q2rl_msgs.msg import ExecutedStep, GateDecision, Observation
from q2rl_ros.conversions import decision_from_msg, executed_step_to_msg, observation_to_msg
from q2rl_ros.errors import MessageError
from q2rl_ros.node import Q2rlNode
from q2rl_ros.sensors import MeasurementJoiner
from q2rl_ros.spin import spin
from q2rl_task import Decision, Measurement, ObservationRecord, Pose

STATUS_PERIOD_S = 1.0


class ArmInterface(Q2rlNode):
    """Sensors to observations, decisions to guarded commands.

    Lockstep: one tick per measurement, five messages of one stamp. A command names the measurement that it
    answers (`target_pose` by its stamp); while the arm waits for an episode nothing is answered and the
    simulation stands still. Real time: one tick per period of the wall clock, from the latest readings.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__('arm_interface', **kwargs)
        declare_arm_parameters(self)

    def configure(self) -> None:
        """Make the logic, the topics and the services.

        :raises InputError: an emergency stop could not be remembered, the arm could not stop, or there is no planner
        """
        latch, planning = make_latch(self), make_planning(self)
        tare = WrenchTare(self.value('tare_time'), self.value('tare_limit_n'))
        start_tare = make_start_tare(self, tare)
        self._pace = TickPace(self, self.task.period_s, self.control_time)
        self._logic = ArmLogic(
            self.task, self.robot, latch, planning, start_tare, self._pace.may_step
        )
        self._joiner = MeasurementJoiner(self.task)
        self._sensors = LatestSensors(self.task, self.task.limits.observation_max_age_s)
        self._timeout = self.value('lockstep_timeout')
        self._republish_s = self.value('republish_period')
        self._lost_s = self.value('lost_after')
        qos = self.qos
        kinematics = make_kinematics(self)
        self._sink = make_sink(
            self, kinematics, self._halted, lambda reason: self._follower.left_behind(reason)
        )
        ready = ArmReadiness(self, self._sink.topic)
        self._follower = Follower(
            self._logic,
            lambda: self._sink.blocked() or self._gripper.blocked() or ready.blocked(),
            self._halted,
            self._lost_s,
            self.value('hold_at_start'),
        )
        self._gripper = GripperCommand(self, self._logic)
        self._observation_out = self.publisher(Observation, 'observation', qos.tick)
        self._step_out = self.publisher(ExecutedStep, 'executed_step', qos.events)
        self._reports = ArmReports(self, self._logic)
        self._forget()
        receive = self._on_sensor_lockstep if self.lockstep else self._on_sensor
        SensorInputs(self, receive, kinematics, make_links(self), tare, make_payload(self))
        serve_tare(self, self._logic, tare)
        self.subscribe(GateDecision, 'gate_decision', self._on_decision, qos.tick)
        EpisodeServices(self, self._logic, self._operator_acted)
        self._panel = OperatorPanel(self, self._logic, self._operator_acted)
        if self.lockstep:
            self.wall_timer(min(0.1, self._republish_s), self._check_answers)
        else:
            self.control_timer(self.task.period_s, self._on_period)
        self.wall_timer(STATUS_PERIOD_S, lambda: self._publish_status(force=True))

    def activate(self) -> None:
        """Start from the arm as it is: the next measurement seeds the guard. Each time a person arms it."""
        hold_until_armed(self, self._logic.latch)
        self._start_anew()
        self._publish_status(force=True)

    def deactivate(self) -> None:
        """Come to rest and hold; an episode under way is lost. A simulation in lockstep stands still by itself."""
        if not self.lockstep:
            self._come_to_rest()
        self._logic.activate()
        self._publish_status(force=True)

    def diagnose(self) -> dict[str, object]:
        """Show the state of the arm and what the guard did."""
        logic, counters = self._logic, self._logic.counters
        return {
            'state': logic.state.name,
            'episode': logic.episode,
            'limited': counters.limited,
            'rejected': counters.rejected,
            'holds': counters.holds,
            'unusable measurements': counters.unusable,
            'incomplete measurements': self._joiner.incomplete,
            **self._sink.diagnose(),
            **self._gripper.diagnose(),
            **self._panel.diagnose(),
        }

    def fault(self) -> str:
        """Show an emergency stop as an error."""
        return self._panel.fault()

    def _start_anew(self) -> None:
        self._forget()
        self._panel.forget()
        self._logic.activate()

    def _forget(self) -> None:
        """Forget everything that belongs to measurements of the past."""
        self._last: Measurement | None = None
        self._last_good = time.monotonic()
        self._waiting = False
        self._asked_at = self._published_at = 0.0
        self._commanded = False
        self._sink.forget()
        self._gripper.forget()
        self._missed = 0
        self._pace.forget()

    # Lockstep

    def _on_sensor_lockstep(self, topic: str, msg) -> None:
        measurement = self._joiner.add(topic, msg)
        if measurement is None:
            return
        if self._last is not None and measurement.stamp < self._last.stamp:
            self.drop('restarts', 'the clock of the measurements went back: starting anew')
            self._start_anew()
        elif self._last is not None and measurement.stamp == self._last.stamp:
            self.count('repeated_measurements')
            self._publish_again()
            return
        elif self._logic.pending is not None:
            self.drop('overtaken', 'a measurement came before the decision on the last one')
            self._execute(None)
        self._last = measurement
        self._tick(measurement)

    def _check_answers(self) -> None:
        """Publish again what was not answered, and hold when that has gone on for too long."""
        now = time.monotonic()
        if self._logic.pending is not None and now - self._asked_at > self._timeout:
            self.drop('lockstep_timeouts', f'no decision within {self._timeout:g} s: holding')
            self._execute(None)
        elif self._waiting and self._logic.plan_is_in:
            self._tick(self._last)
        elif now - self._published_at > self._republish_s:
            self._publish_again()

    def _publish_again(self) -> None:
        """Publish the pending observation, or else the last target, once more."""
        if self._last is None or self._waiting:
            return
        self._published_at = time.monotonic()
        self.count('republished')
        if self._logic.pending is not None:
            self._observation_out.publish(self._observation)
        elif self._commanded:
            self._gripper.send()
            self._sink.send_again()

    # Real time

    def _on_sensor(self, topic: str, msg) -> None:
        self._sensors.add(topic, msg, time.monotonic())
        if topic == WRENCH:
            force = msg.wrench.force
            self._logic.note_force(math.hypot(force.x, force.y, force.z))

    def _on_period(self) -> None:
        logic = self._logic
        unanswered = logic.pending is not None
        if not self._pace.begin_tick(unanswered or logic.state is not ArmState.RUNNING):
            return
        if unanswered:
            self._missed += 1
            self.drop('missed_decisions')
            if self._silent:
                self.warn('watchdog', 'no decision in time: holding')
            self._execute(None)
            if logic.state is not ArmState.RUNNING:
                return  # the step of this tick is made
        elif logic.state is not ArmState.RUNNING:
            self._missed = 0  # nobody is asked: what stayed away in an episode says nothing of what the arm does now
        now, arrived_now = self.stamp_now(), time.monotonic()
        stale = self._sensors.stale(now, arrived_now)
        try:
            measurement = None if stale else self._sensors.measurement(now)
        except MessageError as error:
            stale = (str(error),)
        self._panel.note(stale, self._silent)
        if stale:
            self.drop('stale_sensors', f'no fresh reading of {", ".join(stale)}: holding')
            if arrived_now - self._last_good > self._lost_s:
                logic.lose('sensors')
            target = logic.coast()
            if target is not None:
                self._command(target, now, None)
            self._publish_status()
            return
        self._last_good, self._last = arrived_now, measurement
        self._follower.check(measurement, arrived_now)
        self._tick(measurement)

    @property
    def _silent(self) -> bool:
        """Whether decisions have stayed away for longer than the watchdog allows."""
        return self._missed * self.task.period_s > self.task.limits.watchdog_s

    # Both

    def _tick(self, measurement: Measurement) -> None:
        tick = self._logic.tick(measurement)
        self._waiting = tick.waiting and self.lockstep
        if tick.observation is not None:
            self._observation = observation_to_msg(tick.observation, self.task.frames.fixture)
            self._observation_out.publish(self._observation)
            self._asked_at = self._published_at = time.monotonic()
            self._go_on_without_gate()
        elif tick.target is not None and not self._waiting:
            self._command(tick.target, measurement.stamp, self._logic.usable)
        self._publish_status()

    def _on_decision(self, msg: GateDecision) -> None:
        answer, pending = decision_from_msg(msg, self.task), self._logic.pending
        limit = float('inf') if self.lockstep else self.task.limits.observation_max_age_s
        # What counts is how old the observation is when its answer acts.
        age = time.monotonic() - self._asked_at + self._pace.wait()
        fault = answer_fault(pending, answer.episode, answer.step, age, limit)
        if fault is not None:
            self.count(f'decision_{fault}')
            return
        self._missed = 0
        self._pace.answer(lambda: self._answer(pending, answer.decision))

    def _answer(self, record: ObservationRecord, decision: Decision) -> None:
        if self._logic.pending is record:  # else it is gone: a stop, an answer that came twice
            self._execute(decision)

    def _go_on_without_gate(self) -> None:
        pending, right = self._logic.pending, self._logic.right_of_way
        # Of an episode that is to end no action of a person's is waited for any more.
        patient = self.lockstep and not self._logic.ends
        if pending is not None and right.needs_no_gate(pending, patient):
            self._execute(None)

    def _execute(self, decision: Decision | None) -> None:
        """Answer the pending observation: the command first, the record of it after."""
        target, step = self._logic.execute(decision)
        self._command(target, step.stamp, self._logic.usable)
        self._step_out.publish(executed_step_to_msg(step, self.task.frames.fixture))
        self._publish_status()

    def _command(self, target: Pose, stamp: float, measured: Measurement | None) -> None:
        """Command a guarded pose, and before it what the gripper is to do.

        :param measured: None where nothing usable was measured
        """
        self._commanded = True
        self._pace.stepped()
        self._gripper.send()
        self._sink.send(target, stamp, measured)
        self._published_at = time.monotonic()

    def _come_to_rest(self) -> None:
        """Brake an arm that may be in motion, since nobody commands it from now on."""
        if not come_to_rest(
            self._logic.command,
            lambda target: self._sink.send(target, self.stamp_now(), None),
            self._sink.go_on,
            self.task.period_s,
            self._pace.wait(),
        ):
            self.get_logger().error('the arm was still in motion when its last command was sent')

    def _halted(self, reason: str) -> None:
        """Hold until a person has seen to it: the controller below stopped the arm."""
        if not self._logic.latch.held:
            self.get_logger().error(reason)
        self._logic.halt(reason)
        self._publish_status()

    def _publish_status(self, force: bool = False) -> None:
        self._panel.publish(force)
        self._reports.publish(force)

    def _operator_acted(self, unanswered: bool) -> None:
        """Let an arm that waits act at once on what was asked, and answer a measurement whose observation is gone."""
        self._go_on_without_gate()
        resumes = self._waiting and self._logic.state in OF_ITSELF
        if self.active and self.lockstep and self._last is not None and (unanswered or resumes):
            self._tick(self._last)
        self._publish_status()


def main(args=None) -> int:
    """Run the node."""
    return spin(ArmInterface, args)


if __name__ == '__main__':
    sys.exit(main())
