# SPDX-License-Identifier: Apache-2.0
"""Open a page in the user's browser, where there is a display to show one."""

from __future__ import annotations

from collections.abc import Mapping
import os
from pathlib import Path
import sys
import webbrowser

DISPLAYS = ('DISPLAY', 'WAYLAND_DISPLAY')


def has_display(environment: Mapping[str, str] = os.environ, platform: str = sys.platform) -> bool:
    """Whether a browser window can appear: a text browser in the terminal would not show the page."""
    return platform in ('darwin', 'win32') or any(environment.get(name) for name in DISPLAYS)


def open_page(path: Path) -> bool:
    """Open a file in the browser; tell whether one was started."""
    return has_display() and webbrowser.open(path.resolve().as_uri())
