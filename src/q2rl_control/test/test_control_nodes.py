# SPDX-License-Identifier: Apache-2.0
"""The two nodes in one process with a stand-in arm, gate and learner, over real DDS."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
import json
import os
import time

from control_helpers import FollowingArm, above, decision
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2')
pytest.importorskip('q2rl_msgs', reason='needs the built workspace')

from geometry_msgs.msg import PoseStamped, WrenchStamped
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter

from q2rl_control.arm_interface_node import ArmInterface
from q2rl_control.arm_state import ArmState
from q2rl_control.episode_manager_node import EpisodeManager
from q2rl_control.latest_sensors import LatestSensors
from q2rl_control.run_parameters import read_run_settings
from q2rl_control.run_session import RunSession
from q2rl_control.run_settings import RunSettings
from q2rl_msgs.msg import (
    EpisodeSummary,
    ExecutedStep,
    GateDecision,
    LearnerStatus,
    Observation,
    RunState,
    Transition,
    TransitionAck,
)
from q2rl_msgs.srv import PrepareScene, RunCommand
from q2rl_ros.conversions import decision_to_msg, observation_from_msg, pose_from_msg, pose_to_msg
from q2rl_ros.errors import MessageError
from q2rl_ros.node import Q2rlNode
from q2rl_ros.sensors import SENSOR_TOPICS, measurement_to_msgs
from q2rl_ros.stamps import stamp_to_msg
from q2rl_task import InputError, Phase, load_task

TASK = load_task('pipe_assembly')
WAIT_S = 60.0
DOMAINS = count()


class Cell(Q2rlNode):
    """Simulation, gate and learner in one node; every part can be silenced."""

    def __init__(self, **kwargs) -> None:
        super().__init__('cell', **kwargs)

    def configure(self) -> None:
        qos = self.qos
        self.arm = FollowingArm(TASK, above(TASK, 0.05))
        self.arm.stamp = TASK.period_s
        self.sensors = [self.publisher(k, t, qos.sensors) for t, k in SENSOR_TOPICS.items()]
        self.out = self.publisher(GateDecision, 'gate_decision', qos.tick)
        self.ack = self.publisher(TransitionAck, 'transition_ack', qos.events)
        self.status = self.publisher(LearnerStatus, 'learner_status', qos.latched)
        self.subscribe(PoseStamped, 'target_pose', self.on_target, qos.commanded)
        self.subscribe(Observation, 'observation', self.on_observation, qos.tick)
        self.subscribe(Transition, 'transition', self.on_transition, qos.replay)
        self.subscribe(ExecutedStep, 'executed_step', lambda m: self.steps.append(m), qos.events)
        self.subscribe(RunState, 'run_state', self.on_run, qos.latched)
        self.subscribe(EpisodeSummary, 'episode_summary', self.episodes_add, qos.events)
        self.serve(PrepareScene, 'prepare_scene', self.on_scene)
        self.wall_timer(0.1, self.send)
        self.steps, self.episodes, self.states, self.stored = [], [], [], {}
        self.observed: list[tuple[str, int]] = []
        self.gate_answers = self.learner_acknowledges = True
        self.succeed_at = 6
        self.fits = self.settles = True
        self.spoil: Callable = lambda msg: [msg]

    def activate(self) -> None:
        self.status.publish(LearnerStatus(state=LearnerStatus.WAITING))
        self.send()

    def send(self) -> None:
        names = [f'joint{k}' for k in range(7)]
        measured = self.arm.measure()
        for publisher, msg in zip(
            self.sensors, measurement_to_msgs(measured, names, TASK), strict=True
        ):
            publisher.publish(msg)

    def on_target(self, msg) -> None:
        if abs(msg.header.stamp.sec + msg.header.stamp.nanosec / 1e9 - self.arm.stamp) < 1e-6:
            self.arm.step(pose_from_msg(msg))
        self.send()

    def on_observation(self, msg) -> None:
        record = observation_from_msg(msg, TASK)
        self.observed.append((record.episode, record.step))
        self.arm.success = record.step + 1 >= self.succeed_at and not record.final
        if self.gate_answers:
            answer = decision(np.full(TASK.action_size, 0.1), bc_action=np.zeros(6))
            for out in self.spoil(decision_to_msg(answer, record)):
                self.out.publish(out)

    def on_transition(self, msg) -> None:
        self.stored.setdefault(msg.sequence, (msg.episode, msg.step))
        if self.learner_acknowledges:
            upto = 0
            while upto + 1 in self.stored:
                upto += 1
            self.ack.publish(TransitionAck(robot=msg.robot, sequence=upto))

    def on_run(self, msg) -> None:
        self.states.append(msg)
        if msg.phase == RunState.FITTING and self.fits:
            self.status.publish(LearnerStatus(state=LearnerStatus.READY))
        if msg.phase == RunState.SETTLING and self.settles:
            self.status.publish(LearnerStatus(state=LearnerStatus.SETTLED, weights_version=9))

    def episodes_add(self, msg) -> None:
        self.episodes.append(msg)

    def on_scene(self, request, response):
        self.arm.success = False
        response.success = True
        response.estimate = pose_to_msg(TASK.fixture.nominal.pose, TASK.frames.base, self.arm.stamp)
        return response

    @property
    def phase(self) -> int:
        return self.states[-1].phase if self.states else -1


class Bench:
    """Nodes on one executor, spun by the test."""

    def __init__(self, domain: int) -> None:
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.nodes = []

    def add(self, kind: type, **parameters) -> Q2rlNode:
        usual = {'lockstep': True}
        if kind is ArmInterface:
            usual['hold_at_start'] = False
        overrides = [Parameter(k, value=v) for k, v in (usual | parameters).items()]
        node = kind(context=self.context, parameter_overrides=overrides)
        self.executor.add_node(node)
        self.nodes.append(node)
        assert node.start() == 0
        return node

    def remove(self, node: Q2rlNode) -> None:
        """Take a node away as a crash would: nothing is saved."""
        self.executor.remove_node(node)
        node.destroy_node()
        self.nodes.remove(node)

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < end, 'waited in vain'
            self.executor.spin_once(timeout_sec=0.05)

    def ask(self, kind: type, name: str, request):
        client = self.nodes[0].create_client(kind, name)
        self.until(client.service_is_ready)
        future = client.call_async(request)
        self.until(future.done)
        self.nodes[0].destroy_client(client)
        return future.result()

    def close(self) -> None:
        for node in self.nodes:
            node.close()
            self.executor.remove_node(node)
            node.destroy_node()
        self.executor.shutdown()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def bench():
    # One DDS domain per test and process, so that runs side by side do not hear one another.
    bench = Bench(domain=1 + (os.getpid() + next(DOMAINS)) % 100)
    yield bench
    bench.close()


RUN = {
    'rollouts': 2,
    'online_steps': 12,
    'evaluation_episodes': 1,
    'resend_after': 0.2,
    'abandon_after': 0.3,
    'run_id': 'r1',
}


def test_a_whole_run_with_noise_on_the_decisions(bench, tmp_path):
    cell = bench.add(Cell)

    def spoil(msg):
        """The right answer, after one of another step, of another contract, and twice."""
        late, foreign = GateDecision(), GateDecision()
        for bad in (late, foreign):
            for name in msg.get_fields_and_field_types():
                setattr(bad, name, getattr(msg, name))
        late.step, foreign.contract = msg.step + 7, 'other'
        return [late, foreign, msg, msg]

    cell.spoil = spoil
    arm = bench.add(ArmInterface)
    manager = bench.add(EpisodeManager, run_dir=str(tmp_path), **RUN)
    bench.until(lambda: cell.phase == RunState.FINISHED)
    phases = [s.phase for s in cell.states if s.phase != RunState.STARTING]
    assert [p for k, p in enumerate(phases) if k == 0 or phases[k - 1] != p] == [
        RunState.ESTIMATING, RunState.FITTING, RunState.ONLINE, RunState.SETTLING,
        RunState.EVALUATING, RunState.FINISHED,
    ]  # fmt: skip
    bench.until(lambda: not manager._link.assembler.unacknowledged_count)
    assert all(e.success and e.steps == cell.succeed_at for e in cell.episodes)
    assert len(cell.episodes) == 2 + 2 + 3
    assert sorted(cell.stored) == list(range(1, 1 + 7 * cell.succeed_at))
    # Every step of every episode was published once, in order, whatever came twice.
    for episode in {s.episode for s in cell.steps}:
        steps = [s.step for s in cell.steps if s.episode == episode]
        assert steps == list(range(cell.succeed_at + 1))
    assert arm.counters['decision_step'] > 0 and arm.counters['contract'] > 0
    assert arm._logic.counters.holds == 0
    lines = [json.loads(line) for line in (tmp_path / 'episodes.jsonl').open()]
    assert [line['episode'] for line in lines] == [e.episode for e in cell.episodes]
    state = json.loads((tmp_path / 'run_state.json').read_text())
    assert state['progress']['phase'] == 'FINISHED'
    assert state['extra']['next_sequence'] == 1 + 7 * cell.succeed_at


def test_bc_alone_is_evaluated_with_no_learner_there(bench, tmp_path):
    run = RUN | {'rollouts': 0, 'online_steps': 0, 'evaluation_episodes': 3}
    cell = bench.add(Cell)
    cell.learner_acknowledges = False
    bench.add(ArmInterface)
    bench.add(EpisodeManager, run_dir=str(tmp_path), evaluation_modes=['BC'], **run)
    bench.until(lambda: cell.phase == RunState.FINISHED)
    bench.until(lambda: len(cell.episodes) == 3)
    assert {RunState.ESTIMATING, RunState.FITTING}.isdisjoint(s.phase for s in cell.states)
    assert cell.states[-1].acknowledged == cell.states[-1].sequence == len(cell.stored) > 0


def test_who_watches_is_shown_the_wrench_that_the_guard_has_and_not_the_drivers(bench):
    cell = bench.add(Cell)
    cell.arm.force = np.array([1.0, -2.0, 7.0])
    shown = []
    cell.create_subscription(WrenchStamped, 'contact_wrench', shown.append, cell.qos.sensors)
    arm = bench.add(ArmInterface, wrench_reversed=True)
    bench.add(EpisodeManager, **RUN)
    bench.until(lambda: len(shown) >= 3 and len(cell.steps) >= 3)
    force = shown[-1].wrench.force
    assert [force.x, force.y, force.z] == [-1.0, 2.0, -7.0]
    assert shown[-1].header.frame_id == TASK.frames.tip
    stamps = [(m.header.stamp.sec, m.header.stamp.nanosec) for m in shown]
    assert len(set(stamps)) == len(stamps)
    assert np.array_equal(arm._logic.measurement.wrench[:3], [-1.0, 2.0, -7.0])


def test_a_decision_under_another_contract_never_acts(bench):
    cell = bench.add(Cell)

    def spoil(msg):
        msg.contract = 'other'
        return [msg]

    cell.spoil = spoil
    arm = bench.add(ArmInterface, lockstep_timeout=0.2, republish_period=0.1)
    bench.add(EpisodeManager, **RUN)
    bench.until(lambda: len(cell.steps) >= 3)
    assert {s.decision.source for s in cell.steps} == {GateDecision.SOURCE_HOLD}
    assert arm.counters['contract'] >= 2


def test_a_silent_gate_is_asked_again_and_then_the_steps_hold(bench):
    cell = bench.add(Cell)
    arm = bench.add(ArmInterface, lockstep_timeout=0.5, republish_period=0.1)
    bench.add(EpisodeManager, **RUN)
    bench.until(lambda: len(cell.steps) >= 2)
    cell.gate_answers = False
    asked = len(cell.observed)
    held = arm._logic.counters.holds
    bench.until(lambda: arm._logic.counters.holds >= held + 2)
    assert arm.counters['lockstep_timeouts'] >= 2
    repeats = cell.observed[asked:]
    assert len(repeats) > len(set(repeats))
    assert cell.steps[-1].decision.source == GateDecision.SOURCE_HOLD
    cell.gate_answers = True
    bench.until(lambda: len(cell.episodes) >= 1)


def test_a_killed_manager_goes_on_without_losing_or_repeating_a_number(bench, tmp_path):
    cell = bench.add(Cell)
    cell.succeed_at = 24
    bench.add(ArmInterface)
    run = RUN | {'run_dir': str(tmp_path), 'online_steps': 60}
    manager = bench.add(EpisodeManager, **run)
    bench.until(lambda: len(cell.episodes) >= 1 and len(cell.steps) > 36)
    cell.learner_acknowledges = False
    seen = len(cell.stored)
    bench.until(lambda: len(cell.stored) > seen + 3)
    bench.remove(manager)
    before = dict(cell.stored)
    # Three that reached the learner's process never reached its disk.
    for number in sorted(cell.stored)[-3:]:
        del cell.stored[number]
    cell.learner_acknowledges = True
    again = bench.add(EpisodeManager, **run)
    bench.until(lambda: cell.phase == RunState.FINISHED)
    bench.until(lambda: not again._link.assembler.unacknowledged_count)
    assert {n: cell.stored[n] for n in before} == before
    assert sorted(cell.stored) == list(range(1, 1 + len(cell.stored)))
    assert len(set(cell.stored.values())) == len(cell.stored)
    names = [e.episode for e in cell.episodes]
    assert len(set(names)) == len(names)
    lines = [json.loads(line) for line in (tmp_path / 'episodes.jsonl').open()]
    assert [line['episode'] for line in lines] == names


def test_a_restarted_arm_delays_the_run_and_does_not_stop_it(bench):
    cell = bench.add(Cell)
    arm = bench.add(ArmInterface)
    bench.add(EpisodeManager, **RUN)
    bench.until(lambda: len(cell.steps) >= 3)
    bench.remove(arm)
    bench.add(ArmInterface)
    bench.until(lambda: cell.phase == RunState.FINISHED and len(cell.episodes) == 7)
    assert all(e.success for e in cell.episodes)


def test_a_learner_that_acknowledges_nothing_holds_the_run_at_ready(bench):
    cell = bench.add(Cell)
    cell.learner_acknowledges = False
    arm = bench.add(ArmInterface)
    manager = bench.add(EpisodeManager, **(RUN | {'max_unacknowledged': 5}))
    bench.until(lambda: 'waiting for the learner' in (cell.states or [RunState()])[-1].detail)
    bench.until(lambda: arm._logic.state is ArmState.READY)
    assert len(cell.episodes) == 1
    bench.until(lambda: manager.counters['resent'] > 0)
    cell.learner_acknowledges = True
    bench.until(lambda: cell.phase == RunState.FINISHED)


def test_the_fit_is_not_announced_before_the_learner_has_all_rollouts(bench):
    cell = bench.add(Cell)
    cell.learner_acknowledges = False
    bench.add(ArmInterface)
    manager = bench.add(EpisodeManager, **RUN)
    bench.until(lambda: manager._plan.phase is Phase.FITTING)
    bench.until(lambda: 'to store' in cell.states[-1].detail)
    assert all(s.phase != RunState.FITTING for s in cell.states)
    cell.learner_acknowledges = True
    bench.until(lambda: any(s.phase == RunState.FITTING for s in cell.states))


def test_no_evaluation_before_the_learner_has_and_knows_all_of_the_online_phase(bench):
    cell = bench.add(Cell)
    bench.add(ArmInterface)
    manager = bench.add(EpisodeManager, **RUN)
    bench.until(lambda: cell.phase == RunState.ONLINE)
    cell.learner_acknowledges = cell.settles = False
    bench.until(lambda: manager._plan.phase is Phase.SETTLING)
    bench.until(lambda: 'to store' in cell.states[-1].detail)
    assert cell.phase == RunState.ONLINE
    cell.learner_acknowledges = True
    bench.until(lambda: cell.phase == RunState.SETTLING)
    bench.until(lambda: 'still owes' in cell.states[-1].detail)
    assert len(cell.episodes) == 4
    cell.settles = True
    bench.until(lambda: cell.phase == RunState.FINISHED)
    bench.until(lambda: len(cell.episodes) == 7)
    assert manager._plan.progress.last_weights == 9


@pytest.mark.parametrize('with_all', [True, False])
def test_a_learner_that_is_gone_keeps_a_run_from_its_evaluation_for_a_while_only(bench, with_all):
    cell = bench.add(Cell)
    cell.settles = False
    bench.add(ArmInterface)
    manager = bench.add(EpisodeManager, **RUN)
    bench.until(lambda: cell.phase == RunState.ONLINE)
    cell.learner_acknowledges = with_all
    bench.until(lambda: manager._plan.phase is Phase.SETTLING)
    bench.until(lambda: bool(manager._link.assembler.unacknowledged_count) is not with_all)
    manager._learner_heard = float('-inf')
    bench.until(lambda: cell.phase == RunState.EVALUATING)
    assert 'said nothing for 120 s' in cell.states[-1].detail
    bench.until(lambda: cell.phase == RunState.FINISHED)


def test_commands_of_an_operator(bench):
    cell = bench.add(Cell)
    bench.add(ArmInterface)
    bench.add(EpisodeManager, **RUN)
    bench.until(lambda: len(cell.steps) >= 2)

    def ask(command):
        request = RunCommand.Request(command=command)
        return bench.ask(RunCommand, 'episode_manager/command', request)

    assert not ask(99).success
    assert ask(RunCommand.Request.PAUSE).success
    bench.until(lambda: cell.phase == RunState.PAUSED and len(cell.episodes) == 1)
    assert cell.episodes[0].success
    assert ask(RunCommand.Request.RESUME).success
    steps = len(cell.steps)
    bench.until(lambda: len(cell.steps) > steps + 1)
    assert ask(RunCommand.Request.STOP).success
    bench.until(lambda: cell.phase == RunState.STOPPED and cell.steps[-1].final)
    assert cell.steps[-1].end_reason in (ExecutedStep.END_REQUESTED, ExecutedStep.END_SUCCESS)
    assert all(e.success for e in cell.episodes)  # one that is cut is no result


def test_a_run_waits_after_each_episode_for_whoever_sets_the_scene_up(bench, tmp_path):
    cell = bench.add(Cell)
    cell.succeed_at = 24
    arm = bench.add(ArmInterface)
    run = RUN | {'run_dir': str(tmp_path), 'pause_after_episode': True}
    manager = bench.add(EpisodeManager, **run)
    resume = RunCommand.Request(command=RunCommand.Request.RESUME)
    bench.until(lambda: cell.phase == RunState.PAUSED and len(cell.episodes) == 1)
    assert 'a person prepares the scene' in cell.states[-1].detail
    bench.until(lambda: arm._logic.state is ArmState.READY)
    steps = len(cell.steps)
    assert bench.ask(RunCommand, 'episode_manager/command', resume).success
    bench.until(lambda: len(cell.steps) > steps + 1)
    # One that comes back does not know what was done to the scene.
    bench.remove(manager)
    bench.add(EpisodeManager, **run)
    bench.until(lambda: cell.phase == RunState.PAUSED and cell.steps[-1].final)
    assert bench.ask(RunCommand, 'episode_manager/command', resume).success
    bench.until(lambda: len(cell.episodes) == 2 and cell.phase == RunState.PAUSED)


def test_the_run_waits_for_the_nodes_it_was_told_of(bench):
    cell = bench.add(Cell)
    bench.add(ArmInterface)
    bench.add(EpisodeManager, **(RUN | {'wait_for': ['arm_interface', 'nobody']}))
    bench.until(lambda: 'nobody' in (cell.states or [RunState()])[-1].detail)
    bench.until(lambda: cell.states[-1].detail == 'waiting for nobody')
    assert cell.phase == RunState.STARTING and cell.steps == []


class LiveCell(Cell):
    """The same against a wall clock: measurements every 10 ms, whatever is commanded."""

    def configure(self) -> None:
        super().configure()
        self.wall_timer(0.01, self.live)
        self.mute = False

    def send(self) -> None:
        pass

    def live(self) -> None:
        self.arm.stamp = self.get_clock().now().nanoseconds / 1e9
        if not self.mute:
            super().send()

    def on_target(self, msg) -> None:
        self.arm.step(pose_from_msg(msg))
        self.last_target = pose_from_msg(msg)


def test_real_time_runs_on_the_wall_clock_and_holds_without_sensors_or_decisions(bench):
    cell = bench.add(LiveCell, lockstep=False)
    cell.succeed_at = 1000
    arm = bench.add(ArmInterface, lockstep=False, lost_after=0.3)
    bench.add(EpisodeManager, lockstep=False, **RUN)
    by_bc = GateDecision.SOURCE_BC
    bench.until(lambda: any(s.decision.source == by_bc for s in cell.steps))
    cell.gate_answers = False
    missed = arm.counters['missed_decisions']
    bench.until(lambda: arm.counters['missed_decisions'] >= missed + 4)
    bench.until(lambda: cell.steps[-1].decision.source == GateDecision.SOURCE_HOLD)
    cell.gate_answers = True
    steps = len(cell.steps)
    bench.until(lambda: any(s.decision.source == by_bc for s in cell.steps[steps:]))
    bench.until(lambda: 2 < cell.steps[-1].step < TASK.max_steps // 2)
    wrench = WrenchStamped()
    wrench.header.frame_id, wrench.wrench.force.z = TASK.frames.tip, 1e300
    wrench.header.stamp = stamp_to_msg(cell.arm.stamp)
    steps = len(cell.steps)
    cell.sensors[3].publish(wrench)
    bench.until(lambda: len(cell.steps) > steps + 2)  # nonsense ends nobody's process
    cell.mute = True
    stale = arm.counters['stale_sensors']
    bench.until(lambda: arm.counters['stale_sensors'] >= stale + 10)
    bench.until(lambda: arm._logic.guard.at_rest)
    cell.mute = False
    bench.until(lambda: any(s.end_reason == ExecutedStep.END_LOST for s in cell.steps))


def test_latest_sensors_need_every_stream_fresh_by_stamp_and_by_arrival():
    sensors = LatestSensors(TASK, max_age_s=0.1)
    names = [f'joint{k}' for k in range(7)]

    def feed(stamp, arrived, leave_out=()):
        arm = FollowingArm(TASK, above(TASK, 0.02))
        arm.stamp = stamp
        msgs = measurement_to_msgs(arm.measure(), names, TASK)
        for topic, msg in zip(SENSOR_TOPICS, msgs, strict=True):
            if topic not in leave_out:
                sensors.add(topic, msg, arrived)

    assert set(sensors.stale(10.0, 0.0)) == set(SENSOR_TOPICS)
    feed(10.0, 0.0)
    assert sensors.stale(10.05, 0.05) == ()
    assert sensors.measurement(10.05).stamp == pytest.approx(10.05, abs=1e-8)
    wrench = next(t for t in SENSOR_TOPICS if t.endswith('wrench'))
    feed(10.2, 0.2, leave_out=(wrench,))
    assert sensors.stale(10.2, 0.2) == (wrench,)
    feed(10.2, 0.2)
    assert sensors.stale(10.25, 0.35) != ()  # a clock that stands still
    feed(10.2, 0.5)
    assert sensors.stale(10.5, 0.5) != ()  # an old reading, repeated
    feed(11.0, 0.6)
    assert sensors.stale(10.8, 0.6) != ()  # a stamp from the future
    assert sensors.stale(11.0, 0.6) == ()
    with pytest.raises(MessageError):
        msgs = measurement_to_msgs(FollowingArm(TASK, above(TASK, 0.02)).measure(), names, TASK)
        msgs.twist.header.frame_id = 'elsewhere'
        msgs.twist.header.stamp.sec = 12
        sensors.add('current_twist', msgs.twist, 1.0)
        sensors.measurement(12.0)


def test_phases_mean_the_same_on_the_wire():
    for phase in Phase:
        assert getattr(RunState, phase.name) == phase


def test_unknown_evaluation_modes_are_refused():
    class Values:
        def value(self, name):
            return ['BC', 'best'] if name == 'evaluation_modes' else 1

    with pytest.raises(InputError, match='best'):
        read_run_settings(Values())


def test_episode_ids_of_two_robots_and_of_two_lives_differ_and_a_resumed_run_keeps_its_own(
    tmp_path,
):
    def ids(robot, folder):
        settings = RunSettings('r', 0)
        session = RunSession(TASK, robot, settings, str(tmp_path / folder), lambda transition: None)
        session.plan.start()
        session.close()
        return session.plan.next_episode().episode

    first, other, again = ids('left', 'a'), ids('right', 'b'), ids('left', 'c')
    resumed = ids('left', 'a')
    assert len({first, other, again, resumed}) == 4
    assert first.startswith('r-e0001@left.') and other.startswith('r-e0001@right.')
    assert resumed.partition('@')[2] == first.partition('@')[2]
    assert resumed.startswith('r-e0001-1@')
