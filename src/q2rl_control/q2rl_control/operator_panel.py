# SPDX-License-Identifier: Apache-2.0
"""What a person at the cell can do with the arm over ROS at any time, and what the guard tells them."""

from __future__ import annotations

from array import array
from collections.abc import Callable

from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger

from q2rl_control.arm_logic import PERSON_PERIODS, ArmLogic
from q2rl_control.arm_state import OF_ITSELF, ArmState
from q2rl_msgs.msg import EpisodeLabel, GuardState, HumanAction
from q2rl_msgs.srv import LabelEpisode
from q2rl_ros.conversions import to_vector
from q2rl_ros.errors import MessageError
from q2rl_ros.node import Q2rlNode
from q2rl_ros.stamps import FUTURE_S, stamp_from_msg


class OperatorPanel:
    """Emergency stop, hold, take-over and label for one `ArmLogic`, and the latched `guard_state`.

    Stop and hold work in every state of the node once it is configured. Each may be asked for by a service, which
    says what became of it, or by a topic, which a device or a browser can press without waiting.

    :param acted: called after an operator changed something, or a person acted; its argument tells whether an
        observation that was to be answered is gone
    """

    def __init__(self, node: Q2rlNode, logic: ArmLogic, acted: Callable[[bool], None]) -> None:
        self._node, self._logic, self._acted = node, logic, acted
        self._pressed = False
        self._stale: tuple[str, ...] = ()
        self._silent = False
        self._human_stamp = float('-inf')
        self._shown: tuple | None = None
        qos = node.qos
        self._out = node.publisher(GuardState, 'guard_state', qos.latched)
        node.subscribe(Bool, 'emergency_stop', self._on_button, qos.events, while_inactive=True)
        node.subscribe(Bool, 'hold', self._on_hold_topic, qos.events, while_inactive=True)
        node.subscribe(EpisodeLabel, 'episode_label', self._on_label_topic, qos.events)
        node.subscribe(HumanAction, 'human_action', self._on_human, qos.sensors)
        node.serve(Trigger, 'arm_interface/emergency_stop', self._on_stop)
        node.serve(Trigger, 'arm_interface/reset_emergency_stop', self._on_reset)
        node.serve(SetBool, 'arm_interface/hold', self._on_hold)
        node.serve(LabelEpisode, 'arm_interface/label_episode', self._on_label)

    def forget(self) -> None:
        """Take a person's next action whatever its stamp: the arm starts anew, or its clock does."""
        self._human_stamp = float('-inf')

    def note(self, stale: tuple[str, ...] = (), silent: bool = False) -> None:
        """Take down which sensor streams are stale and whether the decisions stay away."""
        self._stale, self._silent = stale, silent

    def fault(self) -> str:
        """Return what a person must see to, for diagnostics."""
        latch = self._logic.latch
        if latch.problem:
            return latch.problem
        return f'emergency stop: {latch.reason}' if latch.stopped else ''

    def diagnose(self) -> dict[str, object]:
        """Return what diagnostics show of the guard."""
        state, detail = self._judge()
        return {
            'guard': ('acting', 'holding', 'stopped')[state],
            'guard detail': detail,
            **{f'guard {code}': n for code, n in sorted(self._logic.command.codes.items())},
        }

    def publish(self, force: bool = False) -> None:
        """Publish the state of the guard if it changed, or anyway."""
        logic = self._logic
        latch, last = logic.latch, logic.measurement
        state, detail = self._judge()
        detail = '; '.join(filter(None, (detail, latch.problem)))
        human = last is not None and logic.right_of_way.human_acts(last.stamp)
        shown = (state, latch.stopped, latch.held, human, self._stale, detail)
        if shown == self._shown and not force:
            return
        self._shown = shown
        codes = sorted(logic.command.codes.items())
        msg = GuardState(
            robot=self._node.robot,
            state=state,
            emergency_stop=latch.stopped,
            held=latch.held,
            human=human,
            stale=list(self._stale),
            detail=detail,
            interventions=list(logic.command.interventions),
            counted=[code for code, _ in codes],
            counts=array('Q', [n for _, n in codes]),
            force=last.force if last is not None else 0.0,
        )
        msg.header.stamp = self._node.get_clock().now().to_msg()
        self._out.publish(msg)

    def _judge(self) -> tuple[int, str]:
        """Return the state of the guard and why it is that."""
        logic = self._logic
        if logic.latch.stopped:
            return GuardState.STOPPED, f'emergency stop: {logic.latch.reason}'
        if not self._node.active:
            return GuardState.HOLDING, 'the node is not active'
        if self._stale:
            return GuardState.HOLDING, f'no fresh reading of {", ".join(self._stale)}'
        if logic.blind:
            return GuardState.HOLDING, 'the measurements cannot be used'
        if logic.command.blocked:
            return GuardState.HOLDING, logic.command.blocked
        if logic.latch.held:
            return GuardState.HOLDING, f'held: {logic.latch.reason}'
        if self._silent:
            return GuardState.HOLDING, 'no decision in time'
        if logic.state in (*OF_ITSELF, ArmState.RUNNING):
            return GuardState.ACTING, ''
        return GuardState.HOLDING, logic.detail or f'the arm is {logic.state.name}'

    def _on_button(self, msg: Bool) -> None:
        self._pressed = msg.data
        if msg.data:
            self._stop('the topic emergency_stop')

    def _on_stop(self, request: Trigger.Request, response: Trigger.Response):
        self._stop('the service emergency_stop')
        response.success = True
        return response

    def _stop(self, reason: str) -> None:
        pending = self._logic.pending is not None
        if not self._logic.latch.stopped:
            self._node.get_logger().error(f'emergency stop by {reason}')
        self._logic.emergency_stop(reason)
        self._acted(pending)

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response):
        if self._pressed:
            refusal = 'the topic emergency_stop is still true'
        elif self._stale:
            refusal = f'no fresh reading of {", ".join(self._stale)}'
        else:
            refusal = self._logic.reset_emergency_stop()
        response.success = not refusal
        response.message = refusal or 'held: call arm_interface/hold with false to go on'
        self._acted(False)
        return response

    def _on_hold(self, request: SetBool.Request, response: SetBool.Response):
        response.success = self._hold(request.data, 'the service hold')
        response.message = '' if response.success else 'refused: an emergency stop'
        return response

    def _on_hold_topic(self, msg: Bool) -> None:
        if not self._hold(msg.data, 'the topic hold'):
            raise MessageError('hold_refused', 'an emergency stop holds the arm')

    def _hold(self, wanted: bool, reason: str) -> bool:
        latch = self._logic.latch
        if wanted:
            latch.hold(reason)
        done = wanted or latch.release()
        self._acted(False)
        return done

    def _on_label(self, request: LabelEpisode.Request, response: LabelEpisode.Response):
        response.message = self._label(request.success, request.episode)
        response.success = not response.message
        return response

    def _on_label_topic(self, msg: EpisodeLabel) -> None:
        # A button pressed for an episode that is over must not end the next: here the episode has to be named.
        refusal = self._label(msg.success, msg.episode) if msg.episode else 'no episode is named'
        if refusal:
            raise MessageError('label_refused', refusal)

    def _label(self, success: bool, episode: str) -> str:
        if not self._node.active:
            return 'the node is not active'
        refusal = self._logic.label(success, episode)
        if not refusal:
            verdict = 'a success' if success else 'a failure'
            self._node.count(f'labelled_{"success" if success else "failure"}')
            self._node.get_logger().info(f'{self._logic.episode} was labelled {verdict}')
            self._acted(False)
        return refusal

    def _on_human(self, msg: HumanAction) -> None:
        node, task, last = self._node, self._node.task, self._logic.measurement
        if msg.contract != task.contract_hash:
            raise MessageError('human_contract', f'contract {msg.contract!r} is not this task')
        stamp, now = stamp_from_msg(msg.header.stamp), node.stamp_now()
        if not node.lockstep and self._human_stamp > now + FUTURE_S:
            self.forget()  # the clock went back
        if stamp <= self._human_stamp:
            raise MessageError('human_repeated', 'not later than the last')
        if not msg.action:
            self._human_stamp = stamp
            self._logic.right_of_way.let_go()
            self._acted(False)
            return
        action = to_vector(msg.action, task.action_size, 'action')
        if not node.lockstep and not -FUTURE_S <= now - stamp <= PERSON_PERIODS * task.period_s:
            raise MessageError('human_late', f'{now - stamp:.3f} s old')
        self._human_stamp = stamp
        if last is None:
            return
        acted = last.stamp if node.lockstep else min(stamp, last.stamp)
        fault = self._logic.right_of_way.human(action, acted)
        if fault is not None:
            raise MessageError(f'human_{fault}', 'rejected')
        self._acted(False)
