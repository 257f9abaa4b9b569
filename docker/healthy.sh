#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Healthy is a container whose lifecycle node, named by the argument, is active; "server": whose discovery server listens.
set -e
if [ "$1" = server ]; then
    grep -qi ":2E23 " /proc/net/udp  # 11811
    exit
fi
source /opt/ros/jazzy/setup.bash
source /opt/q2rl/install/setup.bash
ros2 lifecycle get --no-daemon "/$1" | grep -q '^active'
