# SPDX-License-Identifier: Apache-2.0
"""A reset round the socket with the real nodes and physics: planned by OMPL beside them, executed by the guard."""

from __future__ import annotations

import os
import signal

import numpy as np
from planning_cell import TASK, pipe_gap, tip, urdf
import pytest
from std_srvs.srv import Trigger

from q2rl_control.arm_interface_node import ArmInterface
from q2rl_control.arm_logic import ArmState
from q2rl_control.planning import PlannedPath
from q2rl_msgs.srv import StartEpisode
from q2rl_ros.conversions import pose_to_msg
from q2rl_sim.mujoco_arm_node import MujocoArmNode
from q2rl_sim.placement import Placement
from q2rl_task import Measurement, Pose

WAIT_S = 90.0
HIGH = tip(0.5, 0.0, 0.2)
"""A socket that stands higher than the nominal one: after a retreat the tip is beside it, below its rim."""
BESIDE = tip(0.44, 0.0, 0.176)
SEED = 5


class Cell:
    """Both real nodes; the test plays the episode manager."""

    def __init__(self, bench, **parameters) -> None:
        self.bench = bench
        self.sim = bench.start(MujocoArmNode, activate=False, **parameters)
        self.arm = bench.start(
            ArmInterface,
            activate=False,
            planner='ompl',
            robot_description=urdf(),
            planning_time=60.0,
            hold_at_start=False,
            **parameters,
        )
        self.sim.trigger_configure()
        self.arm.trigger_configure()
        self.sim._arm.place_fixture_at(Placement(HIGH, HIGH))
        self.sim._arm.reset_to(BESIDE)
        self.sim._target = BESIDE
        self.sim._compose()
        self.targets: list[tuple[ArmState, Pose]] = []
        self.forces: list[float] = []
        command = self.arm._command

        def record(target: Pose, stamp: float, measured: Measurement | None) -> None:
            self.targets.append((self.state, target))
            self.forces.append(self.arm._last.force)
            command(target, stamp, measured)

        self.arm._command = record
        bench.until(lambda: all(out.get_subscription_count() for out in self.sim._sensors))
        self.arm.trigger_activate()
        self.sim.trigger_activate()
        self.until(lambda: self.arm._last is not None)
        assert bench.call(Trigger, 'arm_interface/retreat', Trigger.Request()).success
        self.until(lambda: self.state is ArmState.READY)

    @property
    def state(self) -> ArmState:
        return self.arm._logic.state

    @property
    def planner(self) -> int:
        """Process id of the planner."""
        return self.arm._logic._reset._planning._process.pid

    def until(self, condition) -> None:
        self.bench.until(condition, WAIT_S)

    def start(self, fixture: Pose = HIGH) -> None:
        estimate = pose_to_msg(fixture, TASK.frames.base, 0.0)
        request = StartEpisode.Request(episode='e1', seed=SEED, estimate=estimate)
        assert self.bench.call(StartEpisode, 'arm_interface/start_episode', request).success


def test_a_reset_goes_round_the_socket_without_touching_it(bench):
    cell = Cell(bench)
    here = cell.arm._logic.guard.commanded
    cell.start()
    cell.until(lambda: cell.state is not ArmState.RESETTING)
    assert cell.state is ArmState.RUNNING, cell.arm._logic.detail
    way = [target for state, target in cell.targets if state is ArmState.RESETTING]
    straight = PlannedPath((here, way[-1]), np.zeros((2, 0)))
    assert pipe_gap(straight, HIGH) < 0.0
    taken = PlannedPath((here, *way), np.zeros((len(way) + 1, 0)))
    assert pipe_gap(taken, HIGH) > TASK.fixture.estimate_error_m
    assert max(cell.forces) < 5.0
    above = cell.sim._arm.measure().tip_pose.relative_to(HIGH).position
    above[2] += TASK.reset.height_m
    assert (np.abs(above) < np.array(TASK.reset.spread_m) + 0.003).all()


@pytest.mark.parametrize('lockstep', [True, False])
def test_the_arm_holds_while_a_plan_takes_its_time(bench, lockstep):
    cell = Cell(bench, lockstep=lockstep)
    os.kill(cell.planner, signal.SIGSTOP)
    cell.start()
    steps, targets = cell.sim.counters['steps'], len(cell.targets)
    if lockstep:
        # The simulation stands still: planning costs no simulated time, on however slow a machine.
        cell.until(lambda: cell.arm._logic._reset._asked and cell.arm._waiting)
        steps, repeats = cell.sim.counters['steps'], cell.arm.counters['repeated_measurements']
        cell.until(lambda: cell.arm.counters['repeated_measurements'] >= repeats + 3)
        assert cell.sim.counters['steps'] == steps
    else:
        cell.until(lambda: len(cell.targets) > targets + 10)
        held = [target.position for _, target in cell.targets[targets:]]
        assert np.ptp(held[-5:], axis=0).max() < 1e-4
    assert cell.state is ArmState.RESETTING
    os.kill(cell.planner, signal.SIGCONT)
    cell.until(lambda: cell.state is ArmState.RUNNING)


def test_a_start_pose_in_the_way_of_something_is_refused_before_anything_moves(bench):
    cell = Cell(bench)
    here = cell.sim._arm.measure().tip_pose.position
    cell.start(tip(0.5, 0.0, 0.285))  # its start pose is above the workspace
    cell.until(lambda: cell.state is ArmState.READY)
    assert cell.arm._logic.detail.startswith('no way to the start pose: the goal is')
    assert np.linalg.norm(cell.sim._arm.measure().tip_pose.position - here) < 0.002
    cell.start()
    cell.until(lambda: cell.state is ArmState.RUNNING)
