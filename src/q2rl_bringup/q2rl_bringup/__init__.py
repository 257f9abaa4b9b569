# SPDX-License-Identifier: Apache-2.0
"""Starting it all: node graph, launch, parameters, robot description, and what draws the cell.

Modules by subject:

- a start: `arguments`, `argument_conflicts`, `node_graph` (what `ros2 launch` and `q2rl up` both run), `graph_specs`,
  `run_preparation`, `launch_graph`, `parameter_page`
- what runs in it: `node_selection` (the run's nodes), `tip_pose`, `cell_processes`, `operator_nodes`;
  `node_parameters`
- what is started below q2rl: `cell_starts` (an FR3's driver, MoveIt Servo)
- robots: `robots`, `franka_names`, `robot_description`, `arm_model`, `share`
- the picture: `scene_feed`, `scene_state`, `scene_picture`, `scene_markers`, `scene_parameters`,
  `scene_view_node` (for RViz)
- the page in the browser: `operator_view_node`, `operator_page`, `operator_services`, `browser_scene`
- a person who steers on it: `steering` (from a gizmo to actions), `steering_panel`, `steering_link`
"""
