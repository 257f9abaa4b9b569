# SPDX-License-Identifier: Apache-2.0
"""What was learned as a folder that acts without a learner: actor, critic, and the settings they were learned with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from q2rl_task.atomic_file import write_atomically

if TYPE_CHECKING:  # a start names these files without torch
    from q2rl_learner.online_learner import OnlineLearner

KINDS = ('actor', 'critic')
SETTINGS = 'settings.yaml'


def weights_path(folder: Path, kind: str) -> Path:
    """Return where the networks of a kind are."""
    return folder / f'{kind}.safetensors'


def holds_weights(folder: Path) -> bool:
    """Return whether there are weights to act by; their settings may be missing."""
    return all(weights_path(folder, kind).is_file() for kind in KINDS)


def settings_of(folder: Path, default: str) -> str:
    """Return the preset that the weights of a folder were learned with: its own, or `default` where it has none."""
    settings = folder / SETTINGS
    return str(settings) if settings.is_file() else default


def write_weights(folder: Path, learner: OnlineLearner) -> list[Path]:
    """Write the files into a folder, which is made if it is not there; return their paths.

    :raises OSError: they cannot be written
    """
    paths = []
    for kind in KINDS:
        paths.append(weights_path(folder, kind))
        write_atomically(paths[-1], learner.weights(kind), durable=True)
    paths.append(folder / SETTINGS)
    write_atomically(paths[-1], yaml.safe_dump(learner.config.model_dump(mode='json')))
    return paths
