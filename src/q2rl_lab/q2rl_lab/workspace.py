# SPDX-License-Identifier: Apache-2.0
"""Where the source tree is, and which version of it this is."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
import platform
import subprocess

MARKER = Path('src') / 'q2rl_task' / 'package.xml'


def find_root() -> Path | None:
    """Return the root of the source tree: above this file, else above the working directory; None if neither."""
    for start in (Path(__file__).resolve(), Path.cwd() / 'here'):
        for folder in start.parents:
            if (folder / MARKER).is_file():
                return folder
    return None


def versions() -> dict[str, str | None]:
    """Return the versions that a result depends on; None where something is not installed."""
    found: dict[str, str | None] = {'python': platform.python_version(), 'git': describe()}
    for package in ('q2rl_lab', 'torch', 'mujoco', 'numpy', 'rclpy'):
        try:
            found[package.replace('q2rl_lab', 'q2rl')] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package.replace('q2rl_lab', 'q2rl')] = None
    return found


def describe() -> str | None:
    """Return `git describe` of the source tree (`-dirty` with local changes), None without git or repository."""
    root = find_root()
    if root is None:
        return None
    try:
        done = subprocess.run(
            ['git', '-C', str(root), 'describe', '--always', '--dirty', '--tags'],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
