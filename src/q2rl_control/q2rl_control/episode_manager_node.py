# SPDX-License-Identifier: Apache-2.0
"""Node `episode_manager`: keeps the course of a run, starts its episodes, sends their transitions."""

from __future__ import annotations

import sys
import time

from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState

from q2rl_control.arm_state import ArmState
from q2rl_control.episode_flow import ArmView, EpisodeFlow
from q2rl_control.episode_reports import learner_report_from_msg, run_state_to_msg, summary_to_msg
from q2rl_control.run_parameters import declare_run_parameters, read_run_settings
from q2rl_control.run_plan import Command, LearnerReport, RunPlan
from q2rl_control.run_session import RunSession
from q2rl_control.service_calls import CellServices, RetryingCall
from q2rl_control.transition_assembler import OutboxFull
from q2rl_msgs.msg import (
    ArmStatus,
    EpisodeSummary,
    ExecutedStep,
    LearnerStatus,
    RunState,
    Transition,
    TransitionAck,
)
from q2rl_msgs.srv import RunCommand
from q2rl_ros.conversions import executed_step_from_msg, to_enum, transition_to_msg
from q2rl_ros.node import Q2rlNode
from q2rl_ros.spin import spin
from q2rl_task import Phase

POLL_S = 0.1
STATE_PERIOD_S = 1.0
NODE_POLL_S = 0.25


class EpisodeManager(Q2rlNode):
    """Wait for the cell, then run episode after episode as `RunPlan` says.

    Nothing here blocks: every step is taken by `_advance`, called when something was heard and from a
    wall timer, so that a restarted neighbour only delays the run.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__('episode_manager', **kwargs)
        declare_run_parameters(self)

    def configure(self) -> None:
        """Load or begin the run; make topics, services and clients."""
        qos = self.qos
        self._transition_out = self.publisher(Transition, 'transition', qos.replay)
        self._state_out = self.publisher(RunState, 'run_state', qos.latched)
        self._summary_out = self.publisher(EpisodeSummary, 'episode_summary', qos.events)
        self._session = RunSession(
            self.task, self.robot, read_run_settings(self), self.value('run_dir'), self._send
        )
        self._link = self._session.link
        if self.value('resume') and self._plan.phase is Phase.STOPPED:
            self._plan.command(Command.RESUME)
        timeout = self.value('service_timeout')
        self._cell = CellServices(self, timeout)
        self._flow = EpisodeFlow(
            self._cell,
            self._session,
            self.robot,
            self.stamp_now,
            time.monotonic,
            self.value('abandon_after'),
        )
        names = [name for name in self.value('wait_for') if name]
        self._present = dict.fromkeys(names, False)
        self._probes = {
            n: RetryingCall(self.client(GetState, f'{n}/get_state'), timeout) for n in names
        }
        self._learner: LearnerReport | None = None
        self._learner_heard = time.monotonic()
        self._hint, self._shown, self._told = '', None, 0
        self.subscribe(ExecutedStep, 'executed_step', self._on_step, qos.events)
        self.subscribe(TransitionAck, 'transition_ack', self._on_ack, qos.events)
        self.subscribe(
            LearnerStatus, 'learner_status', self._on_learner, qos.latched, while_inactive=True
        )
        self.subscribe(ArmStatus, 'arm_status', self._on_arm, qos.latched, while_inactive=True)
        self.serve(RunCommand, 'episode_manager/command', self._on_command)
        self._resend_after = self.value('resend_after')
        self.wall_timer(POLL_S, self._poll)
        self.wall_timer(NODE_POLL_S, self._probe)
        self.wall_timer(STATE_PERIOD_S, lambda: self._publish_state(force=True))
        self.wall_timer(min(1.0, self._resend_after), self._resend)

    def activate(self) -> None:
        """Go on with the run."""
        self._advance()

    def deactivate(self) -> None:
        """Let the arm finish alone; what it does meanwhile is dropped."""
        self._flow.abandon('episode_manager was deactivated')

    def release(self) -> None:
        """Close the run's files."""
        session = getattr(self, '_session', None)
        if session is not None:
            session.close()

    def diagnose(self) -> dict[str, object]:
        """Show where the run stands."""
        assembler = self._link.assembler
        return {
            'phase': self._plan.phase.name,
            'stage': self._flow.stage.name,
            'waiting for': self._hint,
            'unacknowledged': assembler.unacknowledged_count,
            **{f'steps dropped: {why}': n for why, n in assembler.dropped.items()},
            **{f'episodes {why}': n for why, n in self._flow.problems.items()},
        }

    @property
    def _plan(self) -> RunPlan:
        return self._session.plan

    @property
    def _keeper(self) -> str:
        return 'transition_recorder' if self._plan.settings.without_learner else 'the learner'

    def _send(self, transition) -> None:
        self._transition_out.publish(transition_to_msg(transition, self.task.frames.fixture))

    # What is heard

    def _on_step(self, msg: ExecutedStep) -> None:
        step = executed_step_from_msg(msg, self.task)
        try:
            self._link.add(step, time.monotonic())
        except OutboxFull as error:
            self._flow.abandon(str(error))
            self._plan.fail(f'{error}: restart {self._keeper}, then resume')
        record = self._flow.heard_step(step)
        if record is not None:
            summary = summary_to_msg(record)
            summary.header.stamp = self.get_clock().now().to_msg()
            self._summary_out.publish(summary)
            self._advance()

    def _on_ack(self, msg: TransitionAck) -> None:
        self._link.acknowledge(msg.robot, msg.sequence, time.monotonic())

    def _on_learner(self, msg: LearnerStatus) -> None:
        self._learner_heard = time.monotonic()
        self._link.heard(self._learner_heard)
        self._learner = learner_report_from_msg(msg)
        if self.active:
            self._advance()

    def _on_arm(self, msg: ArmStatus) -> None:
        if msg.robot != self.robot:
            return
        state = to_enum(ArmState, msg.state, 'state')
        self._flow.heard_arm(ArmView(state, msg.episode, msg.detail))
        if self.active:
            self._advance()

    def _on_command(self, request: RunCommand.Request, response: RunCommand.Response):
        try:
            refusal = self._plan.command(Command(request.command))
        except ValueError:
            refusal = f'unknown command {request.command}'
        response.success, response.message = refusal is None, refusal or self._plan.phase.name
        self._session.save()
        if self.active:
            self._advance()
        return response

    # What is done

    def _poll(self) -> None:
        self._cell.poll()
        patience = self.value('service_patience')
        silent = self._cell.overdue(patience)
        if silent:
            self._flow.abandon(f'no answer from {silent}')
            self._plan.fail(f'{silent} did not answer for {patience:g} s: restart it, then resume')
        gap = self._link.gap(time.monotonic())
        if gap:
            self._flow.abandon(f'{self._keeper} cannot follow')
            self._plan.fail(
                f'{self._keeper} lacks transitions {gap}, and outbox.bin does not hold them either: bring back the '
                "transitions.db of the learner's run folder, then resume; or start a new run"
            )
        self._advance()

    def _probe(self) -> None:
        """Ask the nodes that the run waits for whether they are active."""
        if self._plan.phase is not Phase.STARTING:
            return
        for name, call in self._probes.items():
            if not call.busy and not self._present[name]:
                call.call(GetState.Request(), lambda r, n=name: self._on_node_state(n, r))
            call.poll()

    def _on_node_state(self, name: str, response: GetState.Response) -> None:
        self._present[name] = response.current_state.id == State.PRIMARY_STATE_ACTIVE

    def _advance(self) -> None:
        """Take the next step of the run, if it can be taken now, and say where it stands."""
        plan = self._plan
        if self._learner is not None and not self._link.assembler.unacknowledged_count:
            # What the learner says before it has all transitions is not about all transitions.
            plan.learner_reported(self._learner)
        self._go_on_without_learner()
        absent = [name for name, present in self._present.items() if not present]
        if plan.phase is Phase.STARTING and not absent:
            plan.start()
        if plan.phase is Phase.STARTING:
            self._hint = f'waiting for {", ".join(absent)}'
        else:
            self._hint = self._flow.step_on(self._blocked())
            if plan.phase is Phase.SETTLING and not self._hint:
                self._hint = 'the learner makes the gradient steps that it still owes'
        problems = sum(self._flow.problems.values())
        if problems > self._told:
            self._told = problems
            self.warn('flow', self._flow.last_problem)
        self._publish_state()

    def _go_on_without_learner(self) -> None:
        """Let a learner that does not come back keep the run from its evaluation for a while only."""
        patience = self.value('service_patience')
        if self._plan.phase is not Phase.SETTLING:
            return
        if time.monotonic() - self._learner_heard > patience:
            text = f'the learner said nothing for {patience:g} s: the weights that it sent last are evaluated'
            self.warn('learner', text)
            self._plan.learner_gone(text)

    def _blocked(self) -> str:
        """Return why no episode may start even if the arm is ready, or an empty string."""
        waiting = self._link.assembler.unacknowledged_count
        silent = self._link.silent(time.monotonic(), self.value('learner_silence'))
        if silent or waiting > self.value('max_unacknowledged'):
            return f'waiting for {self._keeper}: {waiting} transitions not acknowledged'
        return ''

    def _resend(self) -> None:
        resent = self._link.resend(time.monotonic(), self._resend_after)
        if resent:
            self.count('resent', resent)

    def _publish_state(self, force: bool = False) -> None:
        plan, flow, link = self._plan, self._flow, self._link
        shown = (
            plan.phase,
            plan.detail,
            self._hint,
            flow.stage,
            not link.assembler.unacknowledged_count,
        )
        if shown == self._shown and not force:
            return
        if self._shown is not None and shown[0] is not self._shown[0]:
            self._session.save()
            self.get_logger().info(f'{plan.phase.name.lower()} {plan.detail}'.rstrip())
        self._shown = shown
        msg = run_state_to_msg(
            self.robot,
            plan,
            link.assembler,
            flow.under_way or plan.next_episode(),
            link.published_in_episode if flow.under_way else 0,
            self._hint,
        )
        msg.header.stamp = self.get_clock().now().to_msg()
        self._state_out.publish(msg)


def main(args=None) -> int:
    """Run the node."""
    return spin(EpisodeManager, args)


if __name__ == '__main__':
    sys.exit(main())
