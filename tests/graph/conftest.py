# SPDX-License-Identifier: Apache-2.0
"""Whole starts over real processes."""

from __future__ import annotations

from pathlib import Path
import sys

import pytest

from q2rl_lab.ros_environment import Domain

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / 'nodes')]


@pytest.fixture
def domain():
    """A ROS domain of the test's own."""
    held = Domain()
    yield held
    held.release()
