# SPDX-License-Identifier: Apache-2.0
"""A stand-in robot: MuJoCo scenes, a simulated arm, scripted ways to use it, worlds for Gazebo.

Modules by subject:

- the arm: `arm`, `panda`, `joint_servo`, `mujoco_arm_node`, `trace`, `render`, `collada`
- what stands in a cell: `scene`, `scenes/` (one module a task), `round_insert`, `socket_parts`, `placement`,
  `contact_audit`
- scripted behaviours: `demonstrator`, `kitting_demonstrator`, `teleoperator`, `steering`, `spiral_search`, `rollout`,
  `demonstrations`
- Gazebo: `gazebo_world`, `gazebo_service`, `gazebo_scene_node`
"""
