# SPDX-License-Identifier: Apache-2.0
"""Demonstrations from one kind of file into another: robomimic's HDF5, LeRobotDataset, a bag of transitions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from q2rl_learner.demonstrations import load_demonstrations
from q2rl_learner.episodes import Episode
from q2rl_task import InputError, TaskSpec
from q2rl_task.demonstration_file import RecordedEpisode, write_demonstration_file

HDF5 = ('.hdf5', '.h5')


@dataclass(frozen=True)
class Read:
    """Episodes of a file. notes: what the user should know of them."""

    episodes: list[Episode]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Format:
    """A kind of file. `read(path, task, as_is)`: `as_is` takes the user's word where the file names no contract.

    folder: whether what it writes is a folder
    """

    name: str
    read: Callable[[Path, TaskSpec, bool], Read]
    write: Callable[[Path, TaskSpec, Sequence[Episode]], None]
    folder: bool = False


def format_of(path: Path) -> Format:
    """Return the kind of a file or folder, by what is there, else by its name.

    :raises InputError: none that is known
    """
    if path.suffix in HDF5:
        return Format('robomimic HDF5', _read_hdf5, write_hdf5)
    if path.suffix == '.mcap' or (path.is_dir() and any(path.glob('*.mcap'))):
        from q2rl_learner import mcap_demonstrations as mcap

        return Format('MCAP', mcap.read_mcap, mcap.write_mcap)
    if path.is_dir() or (not path.suffix and not path.exists()):
        from q2rl_learner import lerobot_dataset as lerobot

        if path.exists() and not lerobot.is_own_folder(path):
            raise InputError(
                path,
                f'is a folder of something else: no LeRobotDataset ({lerobot.INFO}), no *.mcap in it',
                'name the folder of a dataset, or one that is not there yet',
            )
        return Format('LeRobotDataset v3', lerobot.read_lerobot, lerobot.write_lerobot, folder=True)
    raise InputError(
        path,
        'is no kind of demonstrations that is known',
        'name a .hdf5 or .mcap file, or a folder (LeRobotDataset)',
    )


def write_hdf5(path: Path, task: TaskSpec, episodes: Sequence[Episode]) -> None:
    """Write episodes in robomimic's layout (see `q2rl_task.demonstration_file`), whole or not at all."""
    write_demonstration_file(
        path,
        task,
        (
            RecordedEpisode(
                e.observations, e.next_observations, e.actions, e.rewards, bool(e.terminated)
            )
            for e in episodes
        ),
    )


def _read_hdf5(path: Path, task: TaskSpec, as_is: bool) -> Read:
    return Read(load_demonstrations(path, task))


def check_demonstration(episode: Episode, where: object) -> None:
    """Check the numbers of an episode that comes from another program.

    :raises InputError: not finite, or an action outside the box
    """
    for name in ('observations', 'next_observations', 'actions', 'rewards'):
        if not np.isfinite(getattr(episode, name)).all():
            problem = f'episode {episode.name}: `{name}` holds numbers that are not finite'
            raise InputError(where, problem, 'record it anew, or leave that episode out')
    if np.abs(episode.actions).max() > 1.0:
        problem = f'episode {episode.name}: an action exceeds [-1, 1]'
        raise InputError(where, problem, "scale the actions as the task's action is scaled")
