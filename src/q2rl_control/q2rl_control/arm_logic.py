# SPDX-License-Identifier: Apache-2.0
"""The robot side of an episode as a pure state machine: the arm node and the in-process trainer run it.

    IDLE -> RETREATING -> READY -> RESETTING -> RUNNING -> RETREATING -> READY -> ...

One `tick` per measurement. It gives either a target to command, or an observation to answer by
`execute`, which gives the target. All commands are made by one `ArmCommand`. From any state an emergency stop leads
to STOPPED, where the command brakes and holds; see `SafetyLatch` for the way back.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from q2rl_control.arm_command import ArmCommand
from q2rl_control.arm_state import MAY_BEGIN, OF_ITSELF, ArmCounters, ArmState, Tick
from q2rl_control.episode_steps import EpisodeSteps
from q2rl_control.guard import Guard, GuardedCommand, is_limited, is_usable
from q2rl_control.planning import Planning, PlanRefused
from q2rl_control.reset_course import ResetCourse
from q2rl_control.reset_motion import Approach, Retreat
from q2rl_control.right_of_way import RightOfWay, as_hold
from q2rl_control.safety_latch import SafetyLatch
from q2rl_control.sensor_watch import WrenchWatch
from q2rl_control.wrench_tare import StartTare, TareRefused
from q2rl_task import (
    Decision,
    ExecutedStep,
    Measurement,
    Mode,
    ObservationRecord,
    Pose,
    Source,
    TaskSpec,
    advance_gripper,
)

PERSON_PERIODS = 2
"""So many control periods old may a person's action be: one that gets lost costs them nothing, two let go."""
HAND_BACK_S = 0.5
"""How long the arm holds after a person let go, before the policies go on."""
ALREADY_ON = (
    'the success signal is already on at the start pose: free the switch or check its wiring, and that '
    '`success` is false here'
)


class ArmLogic:
    """Episodes of one robot, between measurements and guarded targets.

    :param robot: its name in the records
    :param latch: emergency stop and hold; by default of this object's own life only
    :param planning: finds the way to a start pose; by default it is straight
    :param tare: zeroes the wrench at each start pose; by default nothing does
    :param may_step: whether a guarded step may be made now, so soon after the last; by default always
    :raises InputError: limits with which the arm could not stop
    """

    def __init__(
        self,
        task: TaskSpec,
        robot: str = 'arm',
        latch: SafetyLatch | None = None,
        planning: Planning | None = None,
        tare: StartTare | None = None,
        may_step: Callable[[], bool] = lambda: True,
    ) -> None:
        self.task = task
        self.robot = robot
        self.latch = latch or SafetyLatch()
        self.right_of_way = RightOfWay(
            task.action_size, PERSON_PERIODS * task.period_s, HAND_BACK_S
        )
        self.command = ArmCommand(task)
        self.state = ArmState.IDLE
        self.detail = ''
        self.counters = ArmCounters()
        self.fixture = task.fixture.nominal.pose
        self.part: Pose | None = None
        self.gripper = float('nan')
        """Opening that the gripper is told to take: 1 open, 0 closed; NaN: nothing yet, it stays as it is."""
        self._wrench_watch = WrenchWatch(task.limits.wrench_frozen_s)
        self._blind = 0
        self._reset = ResetCourse(task, planning)
        self._tare, self._taring = tare, False
        self._may_step = may_step
        self._steps = EpisodeSteps(task, robot)
        self._measurement: Measurement | None = None
        self._seed = 0
        self.activate()

    @property
    def guard(self) -> Guard:
        """What all commands pass."""
        return self.command.guard

    @property
    def blind(self) -> bool:
        """Whether the last measurement could not be used."""
        return self._blind > 0

    @property
    def measurement(self) -> Measurement | None:
        """The last usable measurement."""
        return self._measurement

    @property
    def usable(self) -> Measurement | None:
        """The last measurement if it was usable, else None."""
        return None if self.blind else self._measurement

    @property
    def episode(self) -> str:
        """The episode under way, or the last."""
        return self._steps.episode

    @property
    def ends(self) -> bool:
        """Whether the episode is over with the next observation: asked for, labelled or lost."""
        return self._steps.ends

    @property
    def pending(self) -> ObservationRecord | None:
        """The observation that waits for `execute`."""
        return self._steps.pending

    @property
    def plan_is_in(self) -> bool:
        """Whether an arm that holds while its way is planned can go on."""
        return self._reset.plan_is_in

    def activate(self) -> None:
        """Forget the commanded state and any episode; the next measurement seeds the guard anew."""
        self.command.start_anew()
        self.right_of_way.forget()
        self._steps.drop()
        if self.latch.stopped:
            self._enter(ArmState.STOPPED, f'emergency stop: {self.latch.reason}')
        else:
            self._enter(ArmState.IDLE)

    def emergency_stop(self, reason: str) -> None:
        """Halt and hold, whatever the arm is doing, until `reset_emergency_stop`; an episode is lost."""
        self._steps.drop()
        if not self.latch.stopped:
            self.command.stop()
        self.right_of_way.forget()
        self.latch.stop(reason)
        self._enter(ArmState.STOPPED, f'emergency stop: {self.latch.reason}')

    def reset_emergency_stop(self) -> str:
        """Take the emergency stop back and hold until the hold is released; return why it is refused, or ''.

        Where there is none nothing happens, so a reset whose answer got lost may be asked for again.
        """
        if not self.latch.stopped:
            return ''
        limits, measured = self.task.limits, self._measurement
        if measured is None or self._blind:
            return 'no usable measurement'
        if measured.force > limits.force_stop_n or measured.torque > limits.torque_stop_nm:
            return f'the contact force is {measured.force:.0f} N: free the arm first'
        self.latch.reset()
        self._enter(ArmState.IDLE, 'held: release the hold to go on')
        return ''

    def halt(self, reason: str) -> None:
        """Take note that the controller below stopped the arm: hold where the arm is, until a person lets go.

        A person may move it meanwhile.
        """
        self.command.halt()
        self.latch.hold(reason)

    def stop(self, detail: str) -> None:
        """Hold where the arm is, whatever it was doing, until `retreat` is asked for."""
        self._steps.drop()
        self._enter(ArmState.STOPPED, detail)

    def retreat(self) -> bool:
        """Leave the fixture; READY follows. Refused (False) while an episode is under way."""
        if self.latch.stopped or self.state in (ArmState.RESETTING, ArmState.RUNNING):
            return False
        if self.state is not ArmState.RETREATING:
            self._enter(ArmState.RETREATING)
        return True

    def start_episode(
        self,
        episode: str,
        mode: Mode,
        seed: int,
        fixture: Pose,
        explore: bool = False,
        part: Pose | None = None,
    ) -> bool:
        """Go to a start pose drawn by `seed` above the estimated `fixture`, then run. Refused unless READY.

        In Mode.HUMAN it runs once a person acts, however long that takes.

        :param explore: let the RL policy explore; goes out with every observation
        :param part: estimate of the loose part, for a task with one
        """
        if self.state is not ArmState.READY or not episode or not fixture.is_finite():
            return False
        if self.task.part is not None and (part is None or not part.is_finite()):
            return False
        self.part, self._seed, self.fixture = part, seed, fixture
        self._steps.begin(episode, Mode(mode), explore)
        self._enter(ArmState.RESETTING)
        return True

    def request_end(self) -> bool:
        """Make the next observation final (truncated, REQUESTED). Refused unless an episode is under way."""
        if self.state not in (ArmState.RESETTING, ArmState.RUNNING):
            return False
        self._steps.request_end()
        return True

    def label(self, success: bool, episode: str = '') -> str:
        """Take a person's verdict on the running episode, final from the next observation on; return a refusal, or ''.

        :param episode: that it is about; empty: the one under way
        """
        if self.state is not ArmState.RUNNING:
            return f'no episode runs: the arm is {self.state.name}'
        if episode and episode != self.episode:
            return f'episode {episode} is over'
        if self.pending is not None and self.pending.final:
            return 'the episode is over'
        return '' if self._steps.label(success) else 'it has the other label already'

    def lose(self, detail: str) -> None:
        """Note that sensing was lost for too long: the next observation of a running episode is final, LOST.

        What was lost before an episode runs costs it nothing: it starts only once a measurement can be used again.
        """
        self._steps.lose(detail)

    def note_force(self, force: float) -> None:
        """Take a contact force [N] measured between ticks into the step's peak."""
        self._steps.note_force(force)

    def tick(self, measurement: Measurement) -> Tick:
        """Take the next measurement.

        :raises RuntimeError: the last observation was not answered by `execute`
        """
        if self.pending is not None:
            raise RuntimeError('the last observation has not been executed')
        if not is_usable(measurement) or self._wrench_watch.is_frozen(measurement):
            self.counters.unusable += 1
            self._blind += 1
            if self._blind * self.task.period_s > self.task.limits.watchdog_s:
                self.lose('measurements')
            return Tick(self.coast())
        self._blind = 0
        self._measurement = measurement
        self.command.seed(measurement)
        self.note_force(measurement.force)
        if not self.latch.held:
            self.command.let_go()
        if self.latch.stopped:
            return self._rest(self.command.come_back(measurement))
        if (self.latch.held or self.command.blocked) and self.state in OF_ITSELF:
            self._reset.pause(self.guard.commanded, self.guard.at_rest)
            return self._keep(measurement)
        if self.state in OF_ITSELF and self._reset.is_left(self.guard.commanded):
            self._enter(ArmState.RETREATING, 'others moved the arm while it was held')
        if self.state is ArmState.RETREATING:
            return self._retreat(measurement)
        if self.state is ArmState.RESETTING:
            return self._approach(measurement)
        if self.state is ArmState.RUNNING:
            return self._observe(measurement)
        return self._keep(measurement)

    def coast(self) -> Pose | None:
        """Brake to hold where nothing usable was measured; None before the first `seed`, or right behind a step."""
        # An episode steps when it is answered, and that may have been just now: a tick that was to ask makes no second.
        return self.command.coast() if self._may_step() else None

    def execute(self, decision: Decision | None) -> tuple[Pose, ExecutedStep]:
        """Answer the pending observation; None holds. On a final one nothing but a hold is executed.

        A person and a hold go before `decision`, see `RightOfWay`.

        :raises RuntimeError: no observation is pending
        """
        record = self.pending
        if record is None:
            raise RuntimeError('no observation is pending')
        size = self.task.action_size
        decision = self.right_of_way.settle(decision, self.latch.held, self._measurement.stamp)
        if decision is None:
            decision = Decision.hold(size)
        elif self.command.blocked:
            decision = as_hold(decision, size)
        if (self.latch.held or self.command.blocked) and decision.source is Source.HOLD:
            self._steps.note_hold()
        acts = decision.source is not Source.HOLD and not record.final
        if acts:
            guarded = self.command.act(decision.action, self._measurement, self.fixture)
        else:
            guarded = self.command.keep(self._measurement, self.fixture)
        codes = guarded.interventions if acts else ()
        if any(code.startswith('rejected') for code in codes):
            self.counters.rejected += 1
            # A rejected vector enters no record: the step holds, with BC's side of the story kept.
            decision = as_hold(decision, size)
        elif is_limited(codes):
            self.counters.limited += 1
        if acts and decision.source is not Source.HOLD:
            self.gripper = advance_gripper(self.task, self.gripper, decision.action)
        if decision.source is Source.HOLD and not record.final:
            self.counters.holds += 1
        executed = guarded.executed if acts else np.zeros(size, dtype=np.float32)
        step = self._steps.answer(decision, executed, codes)
        if record.final:
            self._enter(ArmState.RETREATING)
        return guarded.target, step

    def _enter(self, state: ArmState, detail: str = '') -> None:
        self.state, self.detail = state, detail
        self._reset.forget()
        self._taring = False

    def _keep(self, measurement: Measurement) -> Tick:
        return self._rest(self.command.keep(measurement, self.fixture))

    def _rest(self, guarded: GuardedCommand) -> Tick:
        return Tick(guarded.target, waiting=self.guard.at_rest)

    def _retreat(self, measurement: Measurement) -> Tick:
        if self.task.gripper:
            self.gripper = 1.0
        motion = self._reset.retreat(measurement, self.fixture)
        if motion.done(self.guard.commanded, measurement):
            self._enter(ArmState.READY, self.detail)
            return self._keep(measurement)
        return self._move(motion, measurement, 'the retreat')

    def _approach(self, measurement: Measurement) -> Tick:
        limits = self.task.limits
        if self._steps.end_requested:
            self._enter(ArmState.RETREATING, 'the episode was ended before it started')
            return self._retreat(measurement)
        if measurement.force > limits.force_stop_n or measurement.torque > limits.torque_stop_nm:
            self._enter(ArmState.RETREATING, 'contact on the way to the start pose')
            return self._retreat(measurement)
        try:
            motion = self._reset.approach(
                measurement, self.fixture, self.part, self._seed, self.guard.at_rest
            )
        except PlanRefused as refused:
            self._enter(ArmState.READY, f'no way to the start pose: {refused}')
            return self._keep(measurement)
        if motion is None:
            return self._keep(measurement)
        commanded = self.guard.commanded
        # In a tare only the command is looked at, which follows an arm that is pushed away: a reading may flicker.
        arrived = motion.at_end(commanded) if self._taring else motion.done(commanded, measurement)
        if arrived:
            try:
                if not self._tared():
                    late = self._overdue(measurement, 'the tare')
                    return self._keep(measurement) if late else Tick(self._keep(measurement).target)
            except TareRefused as refused:
                self._enter(ArmState.READY, f'no tare: {refused}')
                return self._keep(measurement)
            if self._steps.mode is Mode.HUMAN and not self.right_of_way.is_at_the_lever(
                measurement.stamp
            ):
                self._reset.wait()
                self.detail = MAY_BEGIN
                return self._keep(measurement)
            if measurement.success_signal:
                self._enter(ArmState.READY, ALREADY_ON)
                return self._keep(measurement)
            self._enter(ArmState.RUNNING)
            self._steps.start(self.part, measurement.force)
            return self._observe(measurement)
        self._taring = False  # whoever pushes the arm away takes its new zero along
        return self._move(motion, measurement, 'the way to the start pose')

    def _move(self, motion: Retreat | Approach, measurement: Measurement, name: str) -> Tick:
        """Go on with a motion between episodes, within its time."""
        if self._overdue(measurement, name):
            return self._keep(measurement)
        reset = self.task.reset
        goal = motion.goal(measurement, self.guard.commanded)
        guarded = self.command.move(goal, measurement, reset.speed_m_s, reset.speed_rad_s)
        return Tick(guarded.target)

    def _overdue(self, measurement: Measurement, motion: str) -> bool:
        """Stop the arm if a motion takes longer than the task allows."""
        if not self._reset.is_overdue(measurement.stamp):
            return False
        self.stop(f'{motion} did not finish within {self.task.reset.timeout_s:g} s')
        return True

    def _tared(self) -> bool:
        """Return whether an arm that has come to the start pose has its wrench from zero.

        :raises TareRefused: it cannot have
        """
        if self._tare is not None and not self._taring:
            self._taring = True
            self._tare.begin()
        return self._tare is None or self._tare.poll()

    def _observe(self, measurement: Measurement) -> Tick:
        record = self._steps.observe(measurement, self.guard.commanded, self.fixture)
        return Tick(None, observation=record)
