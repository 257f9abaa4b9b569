# SPDX-License-Identifier: Apache-2.0
"""Nodes of several packages in one process."""

from __future__ import annotations

from pathlib import Path
import sys

import pytest

from q2rl_ros.testing import bench as make_bench

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def state_home(tmp_path_factory):
    """No robot of this machine, and no test before, stops a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('XDG_STATE_HOME', str(tmp_path_factory.mktemp('state')))
        yield


@pytest.fixture
def bench():
    """A fresh ROS context, with a probe node and bounded waits."""
    with make_bench() as made:
        yield made
