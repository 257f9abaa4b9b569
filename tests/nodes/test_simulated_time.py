# SPDX-License-Identifier: Apache-2.0
"""A simulation that keeps its own time and does not wait, as Gazebo does, may be slower than the wall clock."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.time import Time
from rosgraph_msgs.msg import Clock

from q2rl_control.arm_interface_node import ArmInterface

BEGAN_NS = 10**12


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
