# SPDX-License-Identifier: Apache-2.0
"""What tells one file's content from another's."""

from __future__ import annotations

import hashlib
from pathlib import Path


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's content, hex.

    :raises OSError: it cannot be read
    """
    return hashlib.sha256(path.read_bytes()).hexdigest()
