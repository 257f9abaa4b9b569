# SPDX-License-Identifier: Apache-2.0
"""Runs made without a robot, for every test of this folder."""

from __future__ import annotations

from pathlib import Path
import sys

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from synthetic_run import SyntheticRun


@pytest.fixture(scope='session')
def synthetic():
    """The maker of synthetic runs, for fixtures that live longer than a test."""
    return SyntheticRun


@pytest.fixture
def run(tmp_path):
    """An empty synthetic run."""
    return SyntheticRun(tmp_path)


@pytest.fixture
def learned(run):
    """A run that learned."""
    return run.learn()
