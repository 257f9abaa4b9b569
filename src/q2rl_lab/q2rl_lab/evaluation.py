# SPDX-License-Identifier: Apache-2.0
"""The policies of a run or a file, ready to be measured, and the numbers of what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from q2rl_control.episode_tally import EpisodeRecord
from q2rl_lab.cell import Deciders
from q2rl_lab.statistics import Rate
from q2rl_learner.config import LearnerConfig, load_preset
from q2rl_learner.learned_weights import KINDS, holds_weights, weights_path
from q2rl_learner.learner_state import config_in, load_state
from q2rl_learner.online_learner import OnlineLearner
from q2rl_policies.bc import BCPolicy
from q2rl_policies.distributions import EntropyKind
from q2rl_policies.gate import Chooser, QGate
from q2rl_policies.inference import GateCritic, Live, Pinned, RLPolicy
from q2rl_policies.live_networks import LiveActor, LiveCritic
from q2rl_policies.policy_file import load_bc
from q2rl_task import Contract, EndReason, InputError, Mode, TaskSpec
from q2rl_task.errors import one_line


def summarize(mode: Mode, records: Sequence[EpisodeRecord]) -> dict[str, Any]:
    """Return the numbers of evaluated episodes as plain data; the mean time is that of successes [steps]."""
    steps = [record.steps for record in records if record.success]
    acted = sum(record.steps for record in records)
    return {
        'mode': mode.name.lower(),
        'success': Rate.of([record.success for record in records]).as_dict(),
        'mean_steps_to_success': sum(steps) / len(steps) if steps else None,
        'actions_by_rl': sum(record.rl_steps for record in records) / acted if acted else None,
        'peak_force_n': max((record.peak_force for record in records), default=None),
        'force_stops': sum(record.end_reason == EndReason.FORCE_LIMIT.name for record in records),
    }


def summary_in_words(summary: dict[str, Any]) -> dict[str, Any]:
    """Return a summary as people read it: shares and forces with their units."""
    units = {
        'actions_by_rl': lambda share: f'{100 * share:.0f} %',
        'peak_force_n': '{:.1f} N'.format,
    }
    return {
        name.removesuffix('_n'): units[name](value)
        if name in units and value is not None
        else value
        for name, value in summary.items()
    }


def bc_from_file(
    path: Path, task: Contract, seed: int, entropy: EntropyKind = 'monte_carlo'
) -> BCPolicy:
    """Read a cloned or adopted policy; it samples, as everywhere.

    :raises InputError: missing, damaged, or of another task
    """
    return load_bc(path, task).make(seed, entropy, False)


def learned_deciders(
    config: LearnerConfig,
    task: Contract,
    bc: BCPolicy,
    actor: Live[LiveActor],
    critic: Live[LiveCritic],
    seed: int,
    chooser: Chooser | None = None,
) -> Deciders:
    """Return BC, the gate and what was learned.

    :param seed: of RL's exploration, in episodes that let it explore, and of a gate's soft choice
    :param chooser: who acts, if not as the settings say
    """
    acting = config.acting
    gate = QGate(
        config.alpha,
        task.action_size,
        bc_value=acting.bc_value,
        chooser=chooser or acting.chooser,
        soft_temperature=acting.soft_temperature,
        seed=seed,
    )
    rl = RLPolicy(
        actor,
        acting.rl_action == 'sample',
        acting.rl_noise,
        acting.rl_correlation,
        task.explored_size,
    )
    return Deciders(bc, gate, rl, GateCritic(critic, acting.bc_value), seed)


def bc_alone(path: Path, task: Contract, seed: int) -> Deciders:
    """Return a cloned policy as the only one there is."""
    return Deciders(bc_from_file(path, task, seed), QGate(0.0, task.action_size))


def learned(run: Path, bc: Path, task: TaskSpec, preset: str, seed: int) -> Deciders:
    """Return the policies of a run's folder: BC, and what its learner had learned when it last saved.

    :raises InputError: something is missing or damaged, or nothing was learned yet
    """
    return learned_from(run / 'learner', bc, task, preset, seed)


def learned_from(
    folder: Path, bc: Path, task: TaskSpec, preset: str, seed: int, chooser: Chooser | None = None
) -> Deciders:
    """Return BC and what a learner had learned when it last saved.

    :param folder: of the learner: `learner` in a run, or one of weights
    :param preset: the settings that weights were learned with; a saved state knows its own
    :param chooser: who acts, if not as the settings say
    :raises InputError: something is missing or damaged, or nothing was learned yet
    """
    if holds_weights(folder):
        config = load_preset(preset)
        contract = task.contract_hash
        actors, critics = (weights_path(folder, kind) for kind in KINDS)
        actor = LiveActor.from_file(actors.read_bytes(), actors, contract)
        critic = LiveCritic.from_file(critics.read_bytes(), critics, contract)
        # Critics are asked with the alpha that they were trained against, as the node of the gate does.
        if critic.alpha is not None:
            config = config.model_copy(update={'alpha': critic.alpha})
    else:
        learner = restored(folder / 'state.safetensors', task)
        config = learner.config
        version = learner.weights_version
        actor = LiveActor(learner.acting, version)
        value = (learner.value, version, learner.value_version, learner.bc_critics)
        critic = LiveCritic(learner.critics, *value)
    policy = bc_from_file(bc, task, seed, config.entropy)
    return learned_deciders(
        config,
        task,
        policy,
        Pinned(actor),
        Pinned(critic),
        seed,
        chooser,
    )


def restored(state: Path, task: TaskSpec) -> OnlineLearner:
    """Return the learner that a state file is of.

    :raises InputError: missing, damaged, or of another task
    """
    learner = OnlineLearner(_config_of(state), task, 0)
    load_state(state, learner)
    return learner


def _config_of(state: Path) -> LearnerConfig:
    """Return the settings that a learner's state was made with."""
    from safetensors import SafetensorError, safe_open

    if not state.is_file():
        raise InputError(state, 'no such file: nothing was learned yet', 'evaluate --mode bc')
    try:
        with safe_open(state, framework='pt') as file:
            return config_in(file.metadata() or {})
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        problem = f'is not a readable state of a learner ({one_line(error)})'
        raise InputError(state, problem, 'evaluate another run') from None
