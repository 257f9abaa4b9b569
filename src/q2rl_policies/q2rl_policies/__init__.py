# SPDX-License-Identifier: Apache-2.0
"""Proposing and deciding: BC policies, the RL policy, critics, the gate, weight files.

Modules by subject; those named `*_node` are thin shells round the others.

- BC of q2rl: `bc`, `recurrent`, `head`, `distributions`, `mlp`
- BC made elsewhere: `policy_file` (any policy as one file), `policy_spec`, `foreign_policy`, `python_policy`,
  `robomimic`, `lerobot_policy`; `foreign_process` and `foreign/`, which runs under other people's interpreters and
  imports nothing of q2rl
- RL and the gate: `actor`, `critics`, `gate`
- acting at the tick: `inference`, `single_state`, `live_networks`, `torch_runtime`
- weights: `networks_file`, `chunks`, `weights_inbox`, `weights`
- nodes: `bc_policy_node`, `rl_policy_node`, `policy_node` (what both share), `q_gate_node`
"""
