# SPDX-License-Identifier: Apache-2.0
"""One recorded episode, tick by tick: what the robot felt, what the gate knew, what it chose and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import re
from typing import Any

import numpy as np

from q2rl_control.guard import LEAD
from q2rl_lab.run_data import EpisodeRow, RunData
from q2rl_task import InputError, Reason, Source, TaskSpec, Transition, episode_name
from q2rl_task.spec import OBSERVATION_SIZES

REASONS = {
    Reason.RL_HIGHER: 'Q_RL is above Q_BC',
    Reason.BC_HIGHER: 'Q_BC is above Q_RL',
    Reason.TIE: 'equal values go to BC',
    Reason.MODE: 'the episode leaves no choice',
    Reason.NO_RL: 'no proposal of RL in time',
    Reason.NO_BC: 'no proposal of BC in time',
    Reason.NO_CRITIC: 'no critic, or not a healthy one',
    Reason.NOT_FINITE: 'a number that should be finite is not',
    Reason.NOTHING: 'neither policy proposed',
}
SHORT_NAME = re.compile(r'([eov])0*([1-9]\d*)')
END_OF_NAME = re.compile(r'(?<=-)[eov]\d+(-\d+)?$')


@dataclass(frozen=True)
class EpisodeTicks:
    """The n ticks of an episode and its end, n + 1 rows; what is not known is NaN, an empty array or None.

    t: since the first observation [s]. depth, lateral: of the tip along and off the axis of the estimated fixture,
    depth 0 at the rim [m]. force: largest contact force since the row before [N]. Actions: (n + 1, D). At the end
    nothing is decided.
    """

    row: EpisodeRow
    stamps: tuple[float, float]
    t: np.ndarray
    depth: np.ndarray
    lateral: np.ndarray
    force: np.ndarray
    q_bc: np.ndarray
    q_rl: np.ndarray
    v_bc: np.ndarray
    q_spread: np.ndarray
    bc_log_prob: np.ndarray
    bc_entropy: np.ndarray
    source: tuple[Source | None, ...]
    would_act: tuple[Source | None, ...]
    reason: tuple[Reason | None, ...]
    interventions: tuple[tuple[str, ...] | None, ...]
    actor_version: np.ndarray
    critic_version: np.ndarray
    value_version: np.ndarray
    chosen: np.ndarray
    executed: np.ndarray
    bc_action: np.ndarray
    rl_action: np.ndarray

    @property
    def margin(self) -> np.ndarray:
        """What RL is better by, Q_RL - Q_BC."""
        return self.q_rl - self.q_bc

    @property
    def limited(self) -> np.ndarray:
        """Whether the guard did more than shorten the lead."""
        return np.array([any(code != LEAD for code in codes or ()) for codes in self.interventions])

    @property
    def changes(self) -> list[int]:
        """Ticks at which another source acts than at the tick before."""
        hands = self.source[:-1]
        return [k for k in range(1, len(hands)) if hands[k] is not hands[k - 1]]

    def as_dict(self) -> dict[str, Any]:
        """Return one object per tick, in SI units, for JSON."""
        vectors = ('chosen', 'executed', 'bc_action', 'rl_action')
        numbers = (
            't', 'depth', 'lateral', 'force', 'q_bc', 'q_rl', 'margin', 'v_bc', 'q_spread',
            'bc_log_prob', 'bc_entropy', 'actor_version', 'critic_version', 'value_version',
        )  # fmt: skip
        rows = []
        for k in range(len(self.t)):
            row: dict[str, Any] = {'tick': k}
            row |= {name: float(getattr(self, name)[k]) for name in numbers}
            for name in ('source', 'would_act', 'reason'):
                value = getattr(self, name)[k]
                row[name] = value.name if value is not None else None
            row['interventions'] = self.interventions[k]
            row |= {name: getattr(self, name)[k].astype(float).tolist() for name in vectors}
            rows.append(row)
        return {'episode': self.row.episode, 'ticks': rows}


def short_name(row: EpisodeRow) -> str:
    """Return what tells an episode from others of its run, for instance o0012, whatever the run was called then."""
    name = episode_name(row.episode)
    end = END_OF_NAME.search(name)
    return end[0] if end else name


def find_row(data: RunData, name: str) -> EpisodeRow:
    """Return the episode called `name`: by its id, by what follows the run's name in it (o0012, or o12).

    An evaluation that was interrupted is done again as v0002-1: v2 names the one that counts, the last.

    :raises InputError: the run has no such finished episode
    """
    short = SHORT_NAME.fullmatch(name)
    wanted = f'{short[1]}{int(short[2]):04d}' if short else name
    for row in reversed(data.episodes):
        found = short_name(row)
        if row.episode == name or found == wanted or (short and found.startswith(f'{wanted}-')):
            return row
    kinds: dict[str, list[str]] = {}
    for found in map(short_name, data.episodes):
        kinds.setdefault(found[:1], []).append(found)
    known = [names[0] + f' to {names[-1]}' * (len(names) > 1) for names in kinds.values()]
    remedy = f'name one of {", ".join(known)}' if known else 'wait for its first episode'
    raise InputError(f'episode {name!r}', f'run {data.folder.id} has no such finished one', remedy)


def read_ticks(data: RunData, row: EpisodeRow) -> EpisodeTicks:
    """Read the ticks of an episode from the run's transition log.

    :raises InputError: the log is missing, damaged, or does not hold the episode
    """
    from q2rl_learner.transition_log import TransitionLog

    log = TransitionLog(data.folder.transitions, data.task.contract_hash, read_only=True)
    try:
        transitions = log.episode(row.episode)
    finally:
        log.close()
    if not transitions:
        raise InputError(
            f'episode {row.episode}', f'its ticks are not in {log.path}', 'name another episode'
        )
    return assemble(data.task, row, transitions)


def assemble(task: TaskSpec, row: EpisodeRow, transitions: Sequence[Transition]) -> EpisodeTicks:
    """Join an episode's transitions, by step, into its ticks and its end."""
    last = transitions[-1]
    seen = np.stack([*(t.observation for t in transitions), last.next_observation])
    depth, lateral = tip_place(task, seen)

    def numbers(name: str) -> np.ndarray:
        values = [getattr(t, name) for t in transitions]
        return np.array([*values, np.nan], dtype=np.float64)

    def versions(name: str) -> np.ndarray:
        found = numbers(name)
        return np.where(found > 0, found, np.nan)

    def vectors(name: str) -> np.ndarray:
        missing = np.full(task.action_size, np.nan)
        values = [getattr(t, name) for t in transitions]
        return np.stack([*(v if len(v) else missing for v in values), missing])

    known = [t.would_act if t.would_act is not Source.HOLD else None for t in transitions]
    return EpisodeTicks(
        row=row,
        stamps=(transitions[0].stamp, last.stamp),
        t=np.append([t.stamp for t in transitions], last.stamp + task.period_s)
        - transitions[0].stamp,
        depth=depth,
        lateral=lateral,
        force=np.array([np.nan, *(t.force for t in transitions)]),
        q_bc=numbers('q_bc'),
        q_rl=numbers('q_rl'),
        v_bc=numbers('v_bc'),
        q_spread=numbers('q_spread'),
        bc_log_prob=numbers('bc_log_prob'),
        bc_entropy=numbers('bc_entropy'),
        source=(*(t.source for t in transitions), None),
        would_act=(*known, None),
        reason=(*(t.reason for t in transitions), None),
        interventions=(*(t.interventions for t in transitions), None),
        actor_version=versions('actor_version'),
        critic_version=versions('critic_version'),
        value_version=versions('value_version'),
        chosen=vectors('action'),
        executed=vectors('executed_action'),
        bc_action=vectors('bc_action'),
        rl_action=vectors('rl_action'),
    )


def tip_place(task: TaskSpec, observations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return depth along and distance from the estimated fixture's axis [m] of observations (n, O); NaN without."""
    at = task.observation_size - task.frame_size
    for block in task.observation.fields:
        if block.name == 'tip_position':
            place = observations[:, at : at + 3].astype(np.float64) * block.scale
            return place[:, 2], np.hypot(place[:, 0], place[:, 1])
        at += OBSERVATION_SIZES[block.name]
    nothing = np.full(len(observations), np.nan)
    return nothing, nothing


def component_names(task: TaskSpec) -> list[str]:
    """Return the names of an action's components, in the axes of the estimated fixture."""
    return ['x', 'y', 'z', 'about x', 'about y', 'about z', 'gripper'][: task.action_size]
