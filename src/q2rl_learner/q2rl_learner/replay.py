# SPDX-License-Identifier: Apache-2.0
"""The replay buffer: finished n-step samples in one preallocated matrix, demonstrations first.

A sample is one row, so that a batch is one gather. Rows [0, demonstrations) are the demonstrations, for ever; the
rows after them are a ring of what the robot did. What a person did who took over is in the ring, and is a
demonstration too: it comes once more in a ring of its own behind, from which the share of demonstrations is drawn as
well, and its action is the one to imitate. (HIL-SERL, arXiv 2410.21845, keeps interventions in both buffers.) An
n-step window never crosses the end of an episode: it stops there, with bootstrap factor 0 if the task ended and
gamma^m if the episode was cut after m steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from q2rl_learner.drawing import Device, uniform_index
from q2rl_learner.episodes import Episode, vector_or_nan
from q2rl_learner.returns import monte_carlo, n_step
from q2rl_task import Source, Transition


@dataclass(frozen=True)
class Batch:
    """B samples: observation (B, O), action (B, D), n-step reward (B,), state after it (B, O), bootstrap factor
    (B,), action to imitate (B, D) with its weight (B,) in {0, 1}, and BC's action in the state after (B, D), which
    counts where next_bc_known (B,) is 1. mc_return (B,): return of the whole episode from here on, -inf while it is not
    over.
    """

    observation: Tensor
    action: Tensor
    reward: Tensor
    next_observation: Tensor
    bootstrap: Tensor
    imitated: Tensor
    imitation: Tensor
    next_bc: Tensor
    next_bc_known: Tensor
    mc_return: Tensor


@dataclass
class _Step:
    """demonstrated: the action to imitate is a demonstrator's or an intervening person's.

    human: a person acted. held: nobody did.
    """

    observation: np.ndarray
    action: np.ndarray
    reward: float
    imitated: np.ndarray
    next_observation: np.ndarray
    next_bc: np.ndarray
    demonstrated: bool = False
    human: bool = False
    held: bool = False
    forgotten: bool = False


class _Row(NamedTuple):
    """A stored sample: how many were added before it and, of a person's, how many interventions were.

    acted: somebody did; what a hold did nobody imitates.
    """

    added: int
    intervened: int | None
    acted: bool


@dataclass
class _UnderWay:
    """A robot's episode so far, up to `step`, and its stored samples."""

    episode: str
    step: int = -1
    window: deque[_Step] = field(default_factory=deque)
    rewards: list[float] = field(default_factory=list)
    rows: list[_Row] = field(default_factory=list)

    @property
    def following(self) -> tuple[str, int]:
        """Episode and number of the step that goes on from here."""
        return self.episode, self.step + 1


class Replay:
    """Replay of one learner.

    :param observation_size: O
    :param action_size: D
    :param capacity: rows of the ring; a tenth of it more is kept of a person's
    :param steps: n of the n-step returns
    :param discount: gamma per step
    :param imitation: `bc_action`, `demonstration`, `both` or `success` (see LearnerConfig)
    :param cut_value: value of the state at which an episode was cut, in its Monte Carlo return
    :param device: where the samples are, and the generator that they are drawn by
    :param swapped_ends: bootstrap past the task's end and not past a cut, as one released entry point of Q2RL did
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        capacity: int,
        steps: int,
        discount: float,
        imitation: str = 'both',
        swapped_ends: bool = False,
        cut_value: float = 0.0,
        device: Device = 'cpu',
    ) -> None:
        o, d = observation_size, action_size
        self._action_size = d
        self._widths = (o, d, 1, o, 1, d, 1, d, 1, 1)
        self._imitation_column = sum(self._widths[:6])
        self._steps, self._discount, self._imitation = steps, discount, imitation
        self._capacity = capacity
        self._kept = max(1, capacity // 10)
        self._swapped_ends, self._cut_value = swapped_ends, cut_value
        self._rows = torch.empty(capacity + self._kept, sum(self._widths), device=device)
        self._under_way: dict[str, _UnderWay] = {}  # by robot
        self.demonstrations = 0
        self.added = 0
        self.intervened = 0
        self.drawn = 0
        self.drawn_demonstrations = 0

    @property
    def _from_success(self) -> bool:
        """Whether it is known at the end of an episode only that its actions are to be imitated."""
        return self._imitation == 'success'

    @property
    def online(self) -> int:
        """Samples of the robot's own that can be drawn."""
        return min(self.added, self._capacity)

    @property
    def interventions(self) -> int:
        """Samples of a person's that can be drawn as demonstrations."""
        return min(self.intervened, self._kept)

    @property
    def waiting(self) -> int:
        """Steps of episodes under way whose samples are not complete yet."""
        return sum(len(under_way.window) for under_way in self._under_way.values())

    def __len__(self) -> int:
        return self.demonstrations + self.online

    def set_demonstrations(self, episodes: Sequence[Episode], scale: float, bias: float) -> None:
        """Put demonstrations in front; only before anything else is added.

        Their action to imitate is the demonstrated one; `scale` and `bias` make the learner's rewards.
        """
        if self.added or self.demonstrations:
            raise ValueError('demonstrations come first, and once')
        rows: list[np.ndarray] = []
        for episode in episodes:
            window: deque[_Step] = deque()
            rewards, first = scale * episode.rewards + bias, len(rows)
            for t in range(len(episode)):
                last = t + 1 == len(episode)
                following = episode.actions[t + 1] if not last else np.empty(0, dtype=np.float32)
                window.append(
                    _Step(
                        episode.observations[t],
                        episode.actions[t],
                        float(rewards[t]),
                        episode.actions[t],
                        episode.next_observations[t],
                        following,
                        demonstrated=True,
                    )
                )
                closed = self._close(window, last, last and episode.terminated)
                rows += [row for row, _ in closed]
            for row, found in zip(
                rows[first:], self._returns(rewards, episode.terminated), strict=True
            ):
                row[-1] = found
        if rows:
            head = torch.from_numpy(np.stack(rows)).to(self._rows.device)
            self._rows = torch.cat([head, self._rows])
            self.demonstrations = len(rows)

    def add(self, transition: Transition, reward: float, forgotten: bool = False) -> None:
        """Add a robot's next transition with the learner's reward; it can be drawn once its window is full.

        Where an episode breaks off, or a step is missing, the window is closed as that of an episode cut there.

        :param forgotten: `keep_newest` took it out before: of it there is what a person did, and nothing else
        """
        under_way = self._under_way.get(transition.robot)
        if under_way is None or (transition.episode, transition.step) != under_way.following:
            if under_way is not None:
                self._take_in(under_way, ended=True, terminated=False, final=False)
            under_way = self._under_way[transition.robot] = _UnderWay(transition.episode)
        human = transition.source == Source.HUMAN
        shown = human and self._imitation != 'bc_action'  # that one is told to imitate BC alone
        under_way.step = transition.step
        under_way.rewards.append(reward)
        under_way.window.append(
            _Step(
                transition.observation,
                transition.action,
                reward,
                transition.action if shown or self._from_success else transition.bc_action,
                transition.next_observation,
                transition.next_bc_action,
                demonstrated=shown,
                human=human,
                held=transition.source == Source.HOLD,
                forgotten=forgotten,
            )
        )
        ended = transition.terminated or transition.truncated
        final = transition.truncated if self._swapped_ends else transition.terminated
        self._take_in(under_way, ended, transition.terminated, final)
        if ended:
            del self._under_way[transition.robot]

    def _take_in(self, under_way: _UnderWay, ended: bool, terminated: bool, final: bool) -> None:
        """Store the samples that are complete now and, once the episode has ended, the returns of all of it.

        :param final: nothing is bootstrapped from the state after the window
        """
        for values, step in self._close(under_way.window, ended, final):
            row = torch.from_numpy(values)
            intervened = self.intervened if step.human else None
            added = self._long_ago if step.forgotten else self.added
            under_way.rows.append(_Row(added, intervened, not step.held))
            if not step.forgotten:
                self._rows[self._row(self.added)] = row
                self.added += 1
            if step.human:
                self._rows[self._row_behind(self.intervened)] = row
                self.intervened += 1
        if ended:
            returns = self._returns(under_way.rewards, terminated)
            for (added, intervened, acted), found in zip(under_way.rows, returns, strict=True):
                if added >= self.added - self._capacity:  # not overwritten since
                    self._rows[self._row(added), -1] = float(found)
                    if self._from_success and terminated and acted:
                        self._rows[self._row(added), self._imitation_column] = 1.0
                if intervened is not None and intervened >= self.intervened - self._kept:
                    self._rows[self._row_behind(intervened), -1] = float(found)

    @property
    def _long_ago(self) -> int:
        """Number of a sample that counts as overwritten: its return is not written any more."""
        return -2 * self._capacity

    def _row(self, added: int) -> int:
        return self.demonstrations + added % self._capacity

    def _row_behind(self, intervened: int) -> int:
        return self.demonstrations + self._capacity + intervened % self._kept

    def _returns(self, rewards: Sequence[float], terminated: bool) -> np.ndarray:
        return monte_carlo(rewards, self._discount, 0.0 if terminated else self._cut_value)

    def _close(
        self, window: deque[_Step], ended: bool, final: bool
    ) -> list[tuple[np.ndarray, _Step]]:
        """Take the samples out of `window` whose n steps are there, or all if the episode has ended.

        Each comes with its step.
        """
        rows = []
        while window and (ended or len(window) == self._steps):
            steps = [window[i] for i in range(min(self._steps, len(window)))]
            at_end = ended and len(steps) == len(window)
            reward, bootstrap = n_step([s.reward for s in steps], self._discount, final and at_end)
            first, last = steps[0], steps[-1]
            if self._from_success:
                wanted = first.demonstrated
            else:
                kind = 'demonstration' if first.demonstrated else 'bc_action'
                wanted = self._imitation in ('both', kind)
            imitated = vector_or_nan(first.imitated, self._action_size)
            next_bc = vector_or_nan(last.next_bc, self._action_size)
            row = np.concatenate(
                [
                    first.observation,
                    first.action,
                    [reward],
                    last.next_observation,
                    [bootstrap],
                    np.nan_to_num(imitated),
                    [wanted and np.isfinite(imitated).all()],
                    np.nan_to_num(next_bc),
                    [np.isfinite(next_bc).all()],
                    [-np.inf],
                ],
                dtype=np.float32,
                casting='unsafe',
            )
            rows.append((row, first))
            window.popleft()
        return rows

    def clear(self) -> None:
        """Take out everything, demonstrations too."""
        self._rows = self._rows[self.demonstrations :]
        self._under_way.clear()
        self.demonstrations = self.added = self.intervened = 0

    def keep_newest(self, count: int) -> None:
        """Take out the robot's samples but for the newest `count`; demonstrations and interventions stay."""
        kept = min(count, self.online)
        gone = self.added - kept
        rows = self._rows[[self._row(gone + i) for i in range(kept)]]
        self._rows[self.demonstrations : self.demonstrations + kept] = rows
        self.added = kept
        for under_way in self._under_way.values():
            under_way.rows = [
                row._replace(added=row.added - gone if row.added >= gone else self._long_ago)
                for row in under_way.rows
            ]

    def counts(self, batch: int, demo_fraction: float) -> tuple[int, int]:
        """Return how many of `batch` samples come from (demonstrations, online); all from one if the other is empty.

        Interventions count among demonstrations; without any of those, once there are enough to fill their share.
        """
        demonstrations = round(demo_fraction * batch)
        if self.demonstrations == 0 and self.interventions < max(1, demonstrations):
            return 0, batch
        if self.online == 0:
            return batch, 0
        return demonstrations, batch - demonstrations

    def sample(
        self,
        batch: int,
        demo_fraction: float | None,
        generator: torch.Generator,
        repeats: int = 1,
    ) -> list[Batch]:
        """Draw `repeats` batches, uniformly with replacement, each with the exact share of demonstrations.

        Without a share (None) demonstrations are drawn like everything else.
        """
        if len(self) == 0:
            raise ValueError('the replay is empty')
        if demo_fraction is None:
            index = uniform_index(len(self), (repeats, batch), generator)
            self.drawn += repeats * batch
            self.drawn_demonstrations += int((index < self.demonstrations).sum())
            return self._gather(index)
        demo, online = self.counts(batch, demo_fraction)
        parts = []
        if demo:
            known = self.demonstrations + self.interventions
            shown = uniform_index(known, (repeats, demo), generator)
            parts.append(shown + (shown >= self.demonstrations) * self._capacity)
        if online:
            own = uniform_index(self.online, (repeats, online), generator)
            parts.append(own + self.demonstrations)
        index = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
        self.drawn += repeats * batch
        self.drawn_demonstrations += repeats * demo
        return self._gather(index)

    def _gather(self, index: Tensor) -> list[Batch]:
        """Return one batch per row of `index` (repeats, batch)."""
        rows = self._rows.index_select(0, index.flatten())
        return [self._batch(part) for part in rows.split(index.shape[1])]

    def _batch(self, rows: Tensor) -> Batch:
        (
            observation,
            action,
            reward,
            following,
            bootstrap,
            imitated,
            imitation,
            next_bc,
            known,
            mc_return,
        ) = rows.split(self._widths, dim=1)
        return Batch(
            observation,
            action,
            reward.squeeze(1),
            following,
            bootstrap.squeeze(1),
            imitated,
            imitation.squeeze(1),
            next_bc,
            known.squeeze(1),
            mc_return.squeeze(1),
        )
