# SPDX-License-Identifier: Apache-2.0
"""Which code made a result: the commit of the checkout that it ran from, else the version of the package."""

from __future__ import annotations

import functools
import importlib.metadata
from pathlib import Path
import subprocess


@functools.cache
def code_version() -> str:
    """Return the abbreviated commit, with `-dirty` where files differ from it; without a checkout the version."""
    asked = ('git', 'describe', '--always', '--dirty', '--exclude=*')
    folder = Path(__file__).resolve().parent
    try:
        found = subprocess.run(asked, cwd=folder, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        found = None
    if found is not None and found.returncode == 0:
        return found.stdout.strip()
    try:
        return importlib.metadata.version('q2rl_lab')
    except importlib.metadata.PackageNotFoundError:
        return 'unknown'
