#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Source ROS and the workspace, then become the command.
set -e
source /opt/ros/jazzy/setup.bash
source /opt/q2rl/install/setup.bash
exec "$@"
