# SPDX-License-Identifier: Apache-2.0
"""Lets the tests of this package import their helpers, and run torch as q2rl's processes do: on one core."""

from __future__ import annotations

from pathlib import Path
import sys

import torch

sys.path.insert(0, str(Path(__file__).parent))
torch.set_num_threads(1)
