# SPDX-License-Identifier: Apache-2.0
"""Demonstrations of Gymnasium tasks: from a scripted demonstrator, or from a file of other people's."""

from __future__ import annotations

from collections.abc import Iterator

import h5py
import numpy as np

from q2rl_lab.gym_cell import judge_gym_step
from q2rl_lab.gym_process import GymProcess
from q2rl_lab.gym_task import FixedGymTask, GymHost, GymTask
from q2rl_sim.demonstrations import Demonstration
from q2rl_task import InputError, episode_seed
from q2rl_task.errors import GivenUp, one_line

ATTEMPTS = 10
"""Per demonstration."""
Raw = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Observations (T + 1, O) of the environment, actions (T, D) in [-1, 1], rewards (T,). Ends in success."""


def record_gym_demonstrations(
    host: GymHost, task: GymTask, count: int, seed: int
) -> tuple[FixedGymTask, list[Demonstration]]:
    """Return the task with what its demonstrations fix, and those: each succeeds and ends there.

    A task that is whole already keeps its scaling.

    :param count: 0: as many as the task says
    :param seed: of the run; the same gives the same, and no two share one
    :raises InputError: the environment cannot be made, always starts alike, or the file is of no use
    :raises GivenUp: success is too rare
    """
    process = host.start(task)
    _check_sizes(task, process)
    wanted = count or task.demonstrations.count
    source = _read if task.demonstrations.file else _let_act
    raw: list[Raw] = []
    for found in source(host, task, process, seed, ATTEMPTS * wanted):
        raw.append(found)
        if len(raw) == wanted:
            break
    process.close()
    if len(raw) < wanted:
        raise GivenUp(f'task {task.name}: {len(raw)} demonstrations of {wanted} succeeded')
    if len(raw) > 1 and all(np.array_equal(r[0][0], raw[0][0][0]) for r in raw):
        remedy = 'have it draw its scene from the seed that reset is given (arguments, attributes)'
        raise InputError(f'task {task.name}', 'starts alike whatever the seed', remedy)
    fixed = task
    if not isinstance(task, FixedGymTask):
        fixed = task.fixed([observations for observations, _, _ in raw], len(process.action_low))
    return fixed, [
        Demonstration(
            observations=fixed.observe(observations),
            actions=actions.astype(np.float32),
            rewards=rewards.astype(np.float32),
            states=observations[:-1],
            success=True,
        )
        for observations, actions, rewards in raw
    ]


def _check_sizes(task: GymTask, process: GymProcess) -> None:
    where, named = f'task {task.name}', sum(task.observation.blocks.values())
    if named not in (0, process.observation_size):
        problem = f'has {named} numbers, the environment {process.observation_size}'
        raise InputError(f'{where}: `observation.blocks`', problem, 'name all of them, or none')
    if isinstance(task, FixedGymTask):
        theirs = task.observation_size, task.action_size
        if theirs != (process.observation_size, len(process.action_low)):
            problem = (
                f'its scaling is of {theirs[0]} observed numbers and {theirs[1]} of the action'
            )
            raise InputError(where, problem, 'give the task.json of this environment')


def _let_act(
    host: GymHost, task: GymTask, process: GymProcess, seed: int, attempts: int
) -> Iterator[Raw]:
    """Let the scripted demonstrator act, unsteadily."""
    for number in range(attempts):
        scene = episode_seed(seed, 'demonstration', number)
        rng = np.random.default_rng([scene, 2])
        observations, actions, rewards = [process.reset(scene)], [], []
        while True:
            action = process.expert()
            noise = task.demonstrations.noise * rng.standard_normal(len(action))
            action = np.clip(action + noise, -1.0, 1.0).astype(np.float32)
            observation, answer = process.step(action)
            outcome = judge_gym_step(task, len(actions) + 1, answer)
            observations.append(observation)
            actions.append(action)
            rewards.append(outcome.reward)
            if outcome.final:
                break
        if outcome.terminated:
            yield np.stack(observations), np.stack(actions), np.array(rewards)


def _read(
    host: GymHost, task: GymTask, process: GymProcess, seed: int, attempts: int
) -> Iterator[Raw]:
    """Read demonstrations in an order drawn from the seed, each up to its first success."""
    path = host.folder / task.demonstrations.file
    try:
        with h5py.File(path, 'r') as file:
            minari = 'data' not in file
            groups = file if minari else file['data']
            names = sorted(n for n in groups if n.startswith('episode_' if minari else 'demo_'))
            rng = np.random.default_rng(episode_seed(seed, 'demonstration', 0))
            for k in rng.permutation(len(names)):
                group = groups[names[k]]
                found = _of_minari(task, group) if minari else _of_robomimic(task, group)
                if (raw := _in_units(task, process, *found)) is not None:
                    yield raw
    except (OSError, KeyError, ValueError) as error:
        reason = one_line(error)
        remedy = 'give HDF5 in the layout of Minari or robomimic, recorded in this environment'
        raise InputError(path, f'cannot be used ({reason})', remedy) from None


def _of_minari(task: GymTask, group: h5py.Group) -> tuple[np.ndarray, ...]:
    """Return observations (T + 1, O), actions (T, D), rewards (T,) and whether each step arrived in success (T,)."""
    actions = group['actions'][()]
    if task.success == 'terminated':
        success = group['terminations'][()]
    else:
        # With the reset's `info` in front.
        success = group['infos'][task.success][()][-len(actions) :]
    return group['observations'][()], actions, group['rewards'][()], success > 0


def _of_robomimic(task: GymTask, group: h5py.Group) -> tuple[np.ndarray, ...]:
    """Return the same; success is a reward above 0, which is what its data sets have."""
    blocks = {}
    for which in ('obs', 'next_obs'):
        parts = [group[which][key][()] for key in task.demonstrations.keys or sorted(group[which])]
        blocks[which] = np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)
    observations = np.concatenate([blocks['obs'], blocks['next_obs'][-1:]])
    rewards = group['rewards'][()]
    return observations, group['actions'][()], rewards, rewards > 0


def _in_units(
    task: GymTask,
    process: GymProcess,
    observations: np.ndarray,
    actions: np.ndarray,
    rewards: np.ndarray,
    success: np.ndarray,
) -> Raw | None:
    """Return a demonstration up to its first success, None if it has none within the time limit."""
    steps = len(actions)
    size, width = process.observation_size, len(process.action_low)
    shapes = observations.shape, actions.shape, success.shape
    if shapes != ((steps + 1, size), (steps, width), (steps,)):
        raise ValueError(f'shapes {shapes}, for observations of {size} and actions of {width}')
    first = int(np.argmax(success)) + 1
    if not success.any() or first > task.max_steps:
        return None
    outcomes = [
        judge_gym_step(
            task,
            k + 1,
            {
                'success': k + 1 == first,
                'reward': float(rewards[k]),
                'terminated': False,
                'truncated': False,
            },
        )
        for k in range(first)
    ]
    units = process.to_unit(actions[:first].astype(np.float64))
    return (
        observations[: first + 1].astype(np.float64),
        units,
        np.array([o.reward for o in outcomes]),
    )
