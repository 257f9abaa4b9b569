# SPDX-License-Identifier: Apache-2.0
"""Learning: replay, BC training, Q-Estimation, updates, and the methods they are compared with.

Modules by subject:

- the whole: `online_learner` (one object, with or without ROS), `learner_node`, `training_loop`, `learner_state`,
  `weights_files`, `weights_numbers`, `kept_weights`, `learned_weights` (a folder that acts without a learner),
  `bc_episodes`, `seeded_networks`, `drawing`, `interruption`, `timeline`, `remedies`
- settings: `config` and `presets/`; `methods` and `overlays/`; `loss_config`
- Q-Estimation: `estimation`, `judgement`, `returns`, `fitted_q`, `warm_start`
- updates: `update`, `replay`, `offline`, `advantage` and `conservative` (losses of rival methods)
- transitions: `replay_inbox`, `ingest`, `transition_check`, `transition_log`, `episodes`; without a learner:
  `transition_recorder_node`
- behaviour cloning: `bc_training`, `distillation`
- demonstrations: `demonstrations` (what is read), `demonstration_files` (one kind into another), `lerobot_dataset`,
  `mcap_demonstrations`; of a person at the arm: `demonstration_keeper`, `demonstration_recorder_node`
"""
