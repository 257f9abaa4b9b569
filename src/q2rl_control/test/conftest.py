# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
import sys

import pytest
import yaml

from q2rl_task import load_task

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope='session')
def task():
    return load_task('pipe_assembly')


@pytest.fixture
def patient(task, tmp_path) -> dict:
    """Parameters of a real-time arm that bears with a machine on which this process waits for the processor.

    By the task's own ages its sensors would go stale, and its episodes be lost, for no fault of what is tested.
    """
    spec = task.model_dump(mode='json')
    spec['limits'] |= {'observation_max_age_s': 2.0}
    path = tmp_path / 'patient.yaml'
    path.write_text(yaml.safe_dump(spec))
    return {'lockstep': False, 'task': str(path), 'lost_after': 60.0}


@pytest.fixture
def unhurried(monkeypatch):
    """Let a person's action count for longer: all nodes of a test share one thread, which waits for the processor."""
    from q2rl_control import arm_logic, operator_panel

    for module in (arm_logic, operator_panel):
        monkeypatch.setattr(module, 'PERSON_PERIODS', 40)
