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
