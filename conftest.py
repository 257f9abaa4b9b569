# SPDX-License-Identifier: Apache-2.0
"""What all tests share."""

from __future__ import annotations

import sys

from hypothesis import settings
import pytest

# The same examples each time; an example that a busy machine is slow over fails nothing.
settings.register_profile('q2rl', deadline=None, derandomize=True)
settings.load_profile('q2rl')


@pytest.fixture(autouse=True)
def denormals():
    """Undo, after each test, the flushing of denormals that learners switch on: hypothesis draws them."""
    yield
    if (torch := sys.modules.get('torch')) is not None:
        torch.set_flush_denormal(False)
