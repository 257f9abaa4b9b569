# SPDX-License-Identifier: Apache-2.0
"""From the transitions of episodes that a person drove to demonstrations.

A demonstration is an episode that ended in success, by the fixture's signal or by the person's word, and of which every
step was the person's. Ticks on which the arm was held are no steps, whatever held it (a lever let go, a hold, an action
that the guard rejected): they are left out, and what an action led to is what the person saw when they acted next, or
the end. So the time before the first action, for regripping and until the success is seen is not imitated, observations
still follow one another, and no action is made up. A person who holds the lever still acts, by zeros: these stay.

Whatever ended otherwise (a limit, a failure by the person's word, an end on request, lost sensors) is none, nor is an
episode in which a policy acted, a step is missing or nobody acted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from q2rl_learner.demonstration_files import write_hdf5
from q2rl_learner.episodes import Episode
from q2rl_task import EndReason, InputError, Phase, Source, TaskSpec, Transition

ENDS = {
    EndReason.TIME_LIMIT: 'the time was up',
    EndReason.FORCE_LIMIT: 'it was pressed too hard',
    EndReason.REQUESTED: 'its end was asked for',
    EndReason.LOST: 'the sensors fell silent, or the arm did not follow',
    EndReason.FAILURE: 'it was labelled a failure',
}


class NoDemonstrationError(ValueError):
    """Why an episode is no demonstration."""


@dataclass(frozen=True)
class Verdict:
    """What became of an episode: `text` in words, `kept` whether it is a demonstration."""

    episode: str
    kept: bool
    text: str


def demonstration_of(transitions: Sequence[Transition]) -> Episode:
    """Return the demonstration that a finished episode is; see the module.

    :param transitions: of one episode, in order
    :raises NoDemonstrationError: it is none
    """
    last = transitions[-1]
    if [t.step for t in transitions] != list(range(len(transitions))):
        raise NoDemonstrationError('a step is missing')
    if not last.terminated:
        raise NoDemonstrationError(ENDS.get(last.end_reason, 'it was cut'))
    if any(t.source in (Source.BC, Source.RL) for t in transitions):
        raise NoDemonstrationError('a policy acted in it')
    acted = [k for k, t in enumerate(transitions) if t.source is Source.HUMAN]
    if not acted:
        raise NoDemonstrationError('nobody acted')
    # What came of an action: the transition that ends where the person acts next, or at the end.
    results = [transitions[k - 1] for k in acted[1:]] + [last]
    return Episode.demonstration(
        last.episode,
        np.stack([*(transitions[k].observation for k in acted), last.next_observation]),
        np.stack([transitions[k].action for k in acted]),
        np.array([result.reward for result in results]),
        terminated=True,
    )


class DemonstrationKeeper:
    """The demonstrations of a run, and the file they are in, which is rewritten whole at each new one.

    :param path: HDF5 file in robomimic's layout
    :param stored: transitions that the run's log holds already, each robot's in order; the file is made to agree
    :raises InputError: the log is of a run in which policies act, or the file is not of this run
    """

    def __init__(self, path: Path, task: TaskSpec, stored: Iterable[Transition] = ()) -> None:
        self.path, self._task = path, task
        self.demonstrations: list[Episode] = []
        self.failed = 0
        self._open: dict[str, list[Transition]] = {}
        empty = True
        for transition in stored:
            empty = False
            if transition.phase is not Phase.DEMONSTRATING:
                problem = 'holds a run in which policies act'
                raise InputError(path.parent, problem, 'name another run_dir')
            self._take(transition)
        if empty and path.exists():
            raise InputError(path, 'is there already, and not of this run', 'name another run_dir')
        if self.demonstrations:
            self._write()

    @property
    def steps(self) -> int:
        """Steps of all demonstrations together."""
        return sum(len(d) for d in self.demonstrations)

    def add(self, transition: Transition) -> Verdict | None:
        """Take the next transition of a robot; return what became of the episode that it ends, if it does.

        A demonstration is in the file when this returns.

        :raises InputError: the file cannot be written
        """
        verdict = self._take(transition)
        if verdict is not None and verdict.kept:
            self._write()
        return verdict

    def _take(self, transition: Transition) -> Verdict | None:
        steps = self._open.setdefault(transition.robot, [])
        if steps and steps[-1].episode != transition.episode:
            steps.clear()  # it was given up, and runs again under another name
        steps.append(transition)
        if not (transition.terminated or transition.truncated):
            return None
        try:
            found = demonstration_of(steps)
        except NoDemonstrationError as reason:
            self.failed += 1
            return Verdict(transition.episode, False, f'is no demonstration: {reason}')
        finally:
            self._open[transition.robot] = []
        self.demonstrations.append(found)
        text = f'is demonstration {len(self.demonstrations)}: {len(found)} steps'
        held = len(steps) - len(found)
        return Verdict(
            transition.episode, True, text + (f', {held} held ticks left out' * (held > 0))
        )

    def _write(self) -> None:
        try:
            write_hdf5(self.path, self._task, self.demonstrations)
        except OSError as error:
            problem = f'cannot be written ({error})'
            raise InputError(self.path, problem, 'free disk space, then start again') from None
