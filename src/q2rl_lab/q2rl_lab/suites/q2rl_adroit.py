# SPDX-License-Identifier: Apache-2.0
"""Make demonstrations for the suite `adroit` of people's recordings for DAPG; a script, and imports nothing of q2rl.

    .venv-adroit/bin/python src/q2rl_lab/q2rl_lab/suites/q2rl_adroit.py door-v0_demos.pickle adroit-door-people.hdf5

The recordings are of another simulator's version, and in most of them the door ends short of where Gymnasium-Robotics
says that it is open. So what people did is done again in the environment of today, from where they began, first as it
was and then unsteadily; what gets the door open is kept, up to there, in the layout of Minari.
"""

from __future__ import annotations

import argparse
from pathlib import Path
import pickle
from typing import Any

import numpy as np

Episode = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Observations (T + 1, 39), actions (T, 28) in [-1, 1], rewards (T,), success (T + 1,) with the start in front."""


class ArraysOnly(pickle.Unpickler):
    """Reads pickles of numpy arrays; anything else that one asks for is refused, so none can run code."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name in the pickle stands for."""
        if (module, name) == ('numpy', 'ndarray'):
            return np.ndarray
        if (module, name) == ('numpy', 'dtype'):
            return np.dtype
        if module in ('numpy.core.multiarray', 'numpy._core.multiarray') and name == '_reconstruct':
            return _reconstruct
        if (module, name) == (
            '_codecs',
            'encode',
        ):  # how Python 3 writes bytes where Python 2 can read them
            return _latin1
        raise pickle.UnpicklingError(f'{module}.{name} is no array')


def _reconstruct(kind: type, shape: tuple[int, ...], code: bytes) -> np.ndarray:
    return np.ndarray.__new__(kind, shape, code)


def _latin1(text: str, encoding: str) -> bytes:
    return text.encode('latin1')


def read_recordings(path: Path) -> list[dict[str, Any]]:
    """Return recordings: `actions` (T, 28), `init_state_dict`, and more.

    :raises pickle.UnpicklingError: there is more than arrays in it
    """
    with path.open('rb') as file:
        return ArraysOnly(file, encoding='latin1').load()


def act_again(env: Any, recording: dict[str, Any], noise: float, seed: list[int]) -> Episode | None:
    """Do what was done, from where it began, up to the first success; None if there is none."""
    rng = np.random.default_rng(seed)
    start = {'initial_state_dict': recording['init_state_dict']}
    observations, actions, rewards = [env.reset(seed=0, options=start)[0]], [], []
    for recorded in recording['actions']:
        action = np.clip(recorded, -1.0, 1.0)
        action = np.clip(action + noise * rng.standard_normal(action.shape), -1.0, 1.0)
        observation, reward, _, _, info = env.step(action.astype(np.float32))
        observations.append(observation)
        actions.append(action)
        rewards.append(float(np.squeeze(reward)))
        if np.all(info['success']):
            success = np.arange(len(observations)) == len(actions)
            return np.stack(observations), np.stack(actions), np.array(rewards), success
    return None


def main() -> None:
    """Read the recordings, act, and write."""
    import gymnasium
    import h5py

    parser = argparse.ArgumentParser(description='People open a door, again.')
    parser.add_argument('recordings', type=Path, help='door-v0_demos.pickle of hand_dapg')
    parser.add_argument('out', type=Path, help='HDF5 to write')
    parser.add_argument('--noise', type=float, default=0.1, help='of actions in [-1, 1]')
    parser.add_argument('--times', type=int, default=20, help='how often each is done')
    given = parser.parse_args()
    env = gymnasium.make('gymnasium_robotics:AdroitHandDoor-v1', max_episode_steps=-1)
    recordings = read_recordings(given.recordings)
    kept, used = 0, set()
    with h5py.File(given.out, 'w') as file:
        for number, recording in enumerate(recordings):
            for time in range(given.times):
                noise = given.noise if time else 0.0
                episode = act_again(env, recording, noise, [number, time])
                if episode is None:
                    continue
                group = file.create_group(f'episode_{kept}')
                names = 'observations', 'actions', 'rewards', 'infos/success'
                for name, part in zip(names, episode, strict=True):
                    group[name] = part
                kept += 1
                used.add(number)
    tried = len(recordings) * given.times
    print(f'{kept} of {tried} open the door, of {len(used)} recordings of {len(recordings)}')


if __name__ == '__main__':
    main()
