# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
import sys

import pytest

from q2rl_task import load_task

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope='session')
def task():
    return load_task('pipe_assembly')


@pytest.fixture(scope='session', autouse=True)
def state_home(tmp_path_factory):
    """No robot of this machine stops a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('XDG_STATE_HOME', str(tmp_path_factory.mktemp('state')))
        yield
