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


@pytest.fixture
def unhurried(monkeypatch):
    """Let a person's action count for longer: all nodes of a test share one thread, which waits for the processor."""
    from q2rl_control import arm_logic, operator_panel

    for module in (arm_logic, operator_panel):
        monkeypatch.setattr(module, 'PERSON_PERIODS', 40)
