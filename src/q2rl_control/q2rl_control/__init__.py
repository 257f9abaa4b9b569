# SPDX-License-Identifier: Apache-2.0
"""The robot side: observing, guarding, commanding, episodes, resets, the course of a run.

Modules by subject; those named `*_node` are thin shells round the others.

- the arm, tick by tick: `arm_interface_node`, `arm_logic` (the state machine), `arm_command` (what it commands),
  `tick_pace`, `arm_state`, `arm_reports`, `arm_parameters`, `episode_steps`, `episode_services`
- the guard: `guard`, `motion_limits`, `stop_table`, `halt`, `last_stop`, `right_of_way`, `safety_latch`,
  `arming`, `operator_panel`
- what is measured: `sensor_inputs`, `latest_sensors`, `sensor_watch`, `frame_tree`, `tip_velocity`, `tip_state_node`;
  the wrench's frame and zero: `wrench_frames`, `rigid_frames`, `wrench_tare`, `tare_choice`
- a cell without a simulation: `fixed_scene_node`
- what is commanded: `sink_choice`, `command_sinks`, `servo_sink`, `interpolation`, `joint_tracking`, `twist_tracking`,
  `kinematics`; a gripper: `gripper_command`, `gripper_action`, `gripper_joints`; whether the arm does it:
  `follow_watch`, `arm_readiness`
- resets: `reset_course`, `reset_motion`, `planning` (what a planner is), `planners`, `planner_parameters`,
  `planner_process`, `arm_scene`, `obstacles`, `ompl_planner`, `moveit_planner`, `moveit_config`,
  `moveit_folder`
- the course of a run: `episode_manager_node`, `run_plan`, `episode_plan`, `run_settings`, `run_progress`,
  `run_parameters`, `run_session`, `run_store`, `performance_watch`, `sequential_tests`
- episodes and their transitions: `episode_flow`, `episode_tally`, `episode_reports`, `transition_assembler`,
  `replay_link`, `service_calls`
- a person's device: `teleop_node`, `teleop_mapping`
"""
