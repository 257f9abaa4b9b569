#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Start one half of a cell: `start.sh robot|learner [argument:=value...]`, the arguments those of the launch file.
# The variables TASK, PARAMS, DESCRIPTION and SCENE, where they are set, are its task, params_file, description_file and scene;
# ARGUMENTS are more such words, which the command's own win over.
set -e
arguments=("part:=$1" sim:=none run_dir:=/runs/cell)
[[ -z $TASK ]] || arguments+=("task:=$TASK")
[[ -z $PARAMS ]] || arguments+=("params_file:=$PARAMS")
[[ -z $DESCRIPTION ]] || arguments+=("description_file:=$DESCRIPTION")
[[ -z $SCENE ]] || arguments+=("scene:=$SCENE")
read -ra more <<< "$ARGUMENTS"
exec ros2 launch q2rl_bringup pipe_assembly.launch.py "${arguments[@]}" "${more[@]}" "${@:2}"
