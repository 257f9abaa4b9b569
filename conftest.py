# SPDX-License-Identifier: Apache-2.0
"""What all tests share."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(autouse=True)
def denormals():
    """Undo, after each test, the flushing of denormals that learners switch on: hypothesis draws them."""
    yield
    if (torch := sys.modules.get('torch')) is not None:
        torch.set_flush_denormal(False)
