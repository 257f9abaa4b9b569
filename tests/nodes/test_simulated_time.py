# SPDX-License-Identifier: Apache-2.0
"""A simulation that keeps its own time and does not wait, as Gazebo does, may be slower than the wall clock."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
import pytest
from rclpy.time import Time
from rosgraph_msgs.msg import Clock

from q2rl_control.arm_interface_node import ArmInterface
from q2rl_control.command_sinks import PoseTargetSink
from q2rl_ros.node import Q2rlNode
from q2rl_task import Pose

BEGAN_NS = 10**12
PER_PERIOD = 5


class Streaming(Q2rlNode):
    """A sink that is told its targets by the test."""

    def __init__(self, **kwargs) -> None:
        super().__init__('streaming', **kwargs)

    def configure(self) -> None:
        """Make the sink."""
        self.sink = PoseTargetSink(self, 'target_pose', PER_PERIOD / self.task.period_s)


def test_the_arm_ticks_by_the_time_of_the_simulation_and_not_by_the_wall_clock(bench):
    arm = bench.start(ArmInterface, lockstep=False, use_sim_time=True)
    status = bench.listen(DiagnosticArray, '/diagnostics', 10)
    clock = bench.talk(Clock, '/clock', 1)
    period_ns = round(1e9 * arm.task.period_s)

    def show(time_ns: int) -> None:
        clock.publish(Clock(clock=Time(nanoseconds=time_ns).to_msg()))
        bench.until(lambda: arm.get_clock().now().nanoseconds >= time_ns)

    def ticks() -> int:
        return arm.counters['stale_sensors']  # nothing is measured

    show(BEGAN_NS)
    seen = len(status)
    bench.until(lambda: len(status) >= seen + 2)  # one a second, of wall time
    at_rest = ticks()
    for period in range(1, 11):
        show(BEGAN_NS + period * period_ns)
        bench.until(lambda period=period: ticks() >= at_rest + period - 1)
    assert at_rest <= 2 and 9 <= ticks() - at_rest <= 11


def test_between_two_ticks_the_arm_is_commanded_by_the_time_of_the_simulation(bench):
    node = bench.start(Streaming, lockstep=False, use_sim_time=True)
    poses = bench.listen(PoseStamped, 'target_pose', node.qos.events)
    status = bench.listen(DiagnosticArray, '/diagnostics', 10)
    clock = bench.talk(Clock, '/clock', 1)
    part_ns = round(1e9 * node.task.period_s / PER_PERIOD)
    for part in range(6 * PER_PERIOD):
        time_ns = BEGAN_NS + part * part_ns
        clock.publish(Clock(clock=Time(nanoseconds=time_ns).to_msg()))
        bench.until(lambda time_ns=time_ns: node.get_clock().now().nanoseconds >= time_ns)
        if part % PER_PERIOD == 0:
            node.sink.send(Pose.of([0.01 * part, 0.0, 0.0]), 0.0, None)
        # Evenly in the time of the simulation, one and a half periods behind.
        way = pytest.approx(0.01 * (part - 1.5 * PER_PERIOD), abs=1e-6)
        if part >= 3 * PER_PERIOD:
            bench.until(lambda way=way: poses[-1].pose.position.x == way)
        if part == 4 * PER_PERIOD + 1:  # the simulation is slower than the wall clock
            seen = len(status)
            bench.until(lambda seen=seen: len(status) >= seen + 2)
            assert poses[-1].pose.position.x == way


def test_a_last_stop_is_played_to_its_end_though_the_clock_is_not_heard_meanwhile(bench):
    node = bench.start(Streaming, lockstep=False, use_sim_time=True)
    poses = bench.listen(PoseStamped, 'target_pose', node.qos.events)
    for way in (0.0, 0.01):
        node.sink.send(Pose.of([way, 0.0, 0.0]), 0.0, None)
    node.trigger_deactivate()

    def arrived() -> bool:
        node.sink.go_on()
        return bool(poses) and poses[-1].pose.position.x == pytest.approx(0.01)

    bench.until(arrived)
