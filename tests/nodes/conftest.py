# SPDX-License-Identifier: Apache-2.0
"""Nodes of several packages in one process."""

from __future__ import annotations

from pathlib import Path
import sys

import pytest

from q2rl_ros.testing import bench as make_bench

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def bench():
    """A fresh ROS context, with a probe node and bounded waits."""
    with make_bench() as made:
        yield made
