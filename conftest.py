# SPDX-License-Identifier: Apache-2.0
"""What all tests share."""

from __future__ import annotations

from itertools import count
import sys

from hypothesis import settings
import pytest

# The same examples each time; an example that a busy machine is slow over fails nothing.
settings.register_profile('q2rl', deadline=None, derandomize=True)
settings.load_profile('q2rl')


@pytest.fixture(scope='session')
def state_homes(tmp_path_factory):
    """Where to keep what robots remember; a folder per test, made by who needs it."""
    folder = tmp_path_factory.mktemp('state')
    return (str(folder / str(number)) for number in count())


@pytest.fixture(autouse=True)
def state_home(state_homes):
    """No robot of this machine, and no test before, stops a test."""
    # Not by `monkeypatch`: what a test undoes there would take this with it.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('XDG_STATE_HOME', next(state_homes))
        yield


@pytest.fixture(autouse=True)
def denormals():
    """Undo, after each test, the flushing of denormals that learners switch on: hypothesis draws them."""
    yield
    if (torch := sys.modules.get('torch')) is not None:
        torch.set_flush_denormal(False)
