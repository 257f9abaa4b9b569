# SPDX-License-Identifier: Apache-2.0
"""The glue every q2rl node shares: message conversion, quality of service, lifecycle base, spin loop.

Modules by subject:

- a node: `node` (lifecycle, parameters, counters, diagnostics), `spin`, `qos`, `ticks` (which observation is new)
- records as messages: `conversions`, `sensors`, `stamps`, `errors`
- commands of ros2_control's controllers: `joint_command`, `gripper`
- tests of nodes: `testing`
"""
