# SPDX-License-Identifier: Apache-2.0
"""Planners with the robot's own description."""

from __future__ import annotations

from pathlib import Path
import sys

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import moveit_stand_in
from planning_cell import settings

from q2rl_control.planners import make_planner
from q2rl_ros.testing import bench as make_bench


@pytest.fixture(scope='session')
def straight():
    return make_planner(settings('straight'))


@pytest.fixture(scope='session')
def ompl():
    return make_planner(settings('ompl'))


@pytest.fixture(scope='session')
def moveit():
    with pytest.MonkeyPatch.context() as patch:
        for name, module in moveit_stand_in.modules().items():
            patch.setitem(sys.modules, name, module)
        yield make_planner(settings('moveit'))


@pytest.fixture
def bench():
    """A fresh ROS context, with a probe node and bounded waits."""
    with make_bench() as made:
        yield made
