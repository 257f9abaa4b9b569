# SPDX-License-Identifier: Apache-2.0
"""Where the files of this package lie that are not Python: launch, config, rviz."""

from __future__ import annotations

from pathlib import Path


def share_path(relative: str) -> Path:
    """Return the path of a file of this package: of the source tree, else of the installed share folder."""
    source = Path(__file__).resolve().parents[1] / relative
    if source.exists():
        return source
    from ament_index_python.packages import get_package_share_directory

    return Path(get_package_share_directory('q2rl_bringup')) / relative
