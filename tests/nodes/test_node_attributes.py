# SPDX-License-Identifier: Apache-2.0
"""A node never overwrites what rclpy or the lifecycle base keeps in attributes of the same name."""

from __future__ import annotations

from networks import bc_checkpoint
import pytest

from q2rl_bringup.operator_view_node import OperatorView
from q2rl_bringup.scene_view_node import SceneView
from q2rl_control.arm_interface_node import ArmInterface
from q2rl_policies.bc_policy_node import BcPolicyNode
from q2rl_policies.q_gate_node import QGateNode
from q2rl_policies.rl_policy_node import RlPolicyNode
from q2rl_ros.node import Q2rlNode
from q2rl_ros.testing import free_port
from q2rl_sim.mujoco_arm_node import MujocoArmNode


def plain(**kwargs) -> Q2rlNode:
    return Q2rlNode('plain', **kwargs)


@pytest.mark.parametrize(
    'factory',
    [
        ArmInterface,
        BcPolicyNode,
        MujocoArmNode,
        OperatorView,
        QGateNode,
        RlPolicyNode,
        SceneView,
    ],
)
def test_a_configured_node_keeps_the_attributes_of_its_base(bench, tmp_path, factory):
    parameters = {
        BcPolicyNode: {'checkpoint': bc_checkpoint(tmp_path / 'bc.safetensors')},
        OperatorView: {'port': free_port()},
    }
    base = vars(bench.start(plain))
    node = bench.start(factory, **parameters.get(factory, {}))
    changed = [name for name, value in base.items() if type(vars(node)[name]) is not type(value)]
    assert changed == []
