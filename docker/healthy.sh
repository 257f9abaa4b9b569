#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Healthy is a container whose lifecycle node, named by the argument, is active; "server": whose discovery server listens.
set -e
if [ "$1" = server ]; then
    grep -qi ":2E23 " /proc/net/udp  # 11811
    exit
fi
# A plain client of a discovery server is not told of services that it does not use, and by these lifecycle nodes are known.
export ROS_SUPER_CLIENT=TRUE
source /opt/ros/jazzy/setup.bash
source /opt/q2rl/install/setup.bash
ros2 lifecycle get --no-daemon --spin-time 2 "/$1" | grep -q '^active'
