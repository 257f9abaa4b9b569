# SPDX-License-Identifier: Apache-2.0
"""What a run must remember over a restart."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from q2rl_control.performance_watch import PerformanceWatch
from q2rl_task import InputError, Phase, Source
from q2rl_task.episode import AFTER_ONLINE, LEARNING


@dataclass
class PhaseCounts:
    """Sums over the finished episodes of one phase."""

    episodes: int = 0
    successes: int = 0
    transitions: int = 0
    by_source: dict[str, int] = field(default_factory=lambda: {s.name: 0 for s in Source})
    by_mode: dict[str, dict[str, int]] = field(default_factory=dict)
    interventions: int = 0
    robot_time_s: float = 0.0


@dataclass
class RunProgress:
    """All that a run must remember over a restart; plain data, see `run_store`.

    life: which robot's, and which of its lives under this name; the end of every episode's id. Empty: none is told.
    drawn_out_to: so many rollouts are wanted by now, because fewer told too little; 0: as many as planned.
    recent: outcomes of the last gated episodes that were learned from, `GOAL_EPISODES` at most; helped ones failed.
    last_weights: version of the weights that the online phase ended with; 0 until it has.
    learn_until: steps and goal of the online phase, as the run was last told. superseded: for each time that it was
    given more to learn after it was evaluated, (evaluation episodes, online steps) until then.
    graduated_at: online episodes until the run (last) graduated; 0: it has not. rollbacks: how often success fell
    below BC's; rollback_version: weights that the last of them went back to; 0: none, since BC itself had become worse.
    events: what was found out about the run, as (online episodes, text).
    """

    run_id: str
    seed: int
    phase: Phase = Phase.STARTING
    back_to: Phase = Phase.ESTIMATING
    detail: str = ''
    attempts: int = 0
    life: str = ''
    drawn_out_to: int = 0
    recent: list[bool] = field(default_factory=list)
    last_weights: int = 0
    learn_until: list[int] = field(default_factory=list)
    superseded: list[list[int]] = field(default_factory=list)
    graduated_at: int = 0
    rollbacks: int = 0
    rollback_version: int = 0
    events: list[list] = field(default_factory=list)
    watch: PerformanceWatch = field(default_factory=PerformanceWatch)
    counts: dict[str, PhaseCounts] = field(default_factory=dict)

    def of(self, phase: Phase) -> PhaseCounts:
        """Return the sums of a phase; those of a phase without episodes are not kept."""
        return self.counts.get(phase.name, PhaseCounts())

    @property
    def resting(self) -> bool:
        """Whether the run waits for RESUME."""
        return self.phase in (Phase.PAUSED, Phase.STOPPED)

    @property
    def at(self) -> Phase:
        """The phase that the run is at, or goes on at."""
        return self.back_to if self.resting else self.phase

    def move_to(self, phase: Phase) -> None:
        """Be at another phase; a run that rests goes on there."""
        if self.resting:
            self.back_to = phase
        else:
            self.phase, self.detail = phase, ''

    def check_kind(self, demonstrated: bool, learns: bool) -> None:
        """See that a run which has begun is one of demonstrations, or is not, and can learn if it is to.

        :raises InputError: it is of the other kind
        """
        is_demonstrated = Phase.DEMONSTRATING.name in self.counts or Phase.DEMONSTRATING in (
            self.phase,
            self.back_to,
        )
        if self.phase is not Phase.STARTING and is_demonstrated is not demonstrated:
            kind = 'a person demonstrates' if is_demonstrated else 'policies act'
            raise InputError('parameter `run_dir`', f'holds a run in which {kind}', 'name another')
        past_rollouts = self.at in (Phase.FITTING, *LEARNING, *AFTER_ONLINE)
        if learns and past_rollouts and not self.of(Phase.ESTIMATING).episodes:
            problem = 'holds a run without rollouts, which can learn nothing any more'
            raise InputError('parameter `run_dir`', problem, 'name another run_dir')

    def to_dict(self) -> dict:
        """Return the same as JSON-ready data."""
        return asdict(self) | {'phase': self.phase.name, 'back_to': self.back_to.name}

    @staticmethod
    def from_dict(data: dict) -> RunProgress:
        """Undo `to_dict`.

        :raises KeyError, TypeError, ValueError, AttributeError: not from `to_dict`
        """
        values = dict(data)
        values['phase'], values['back_to'] = Phase[data['phase']], Phase[data['back_to']]
        values['watch'] = PerformanceWatch(**data['watch'])
        values['events'] = [list(event) for event in data['events']]
        values['counts'] = {
            Phase[name].name: PhaseCounts(**counts) for name, counts in data['counts'].items()
        }
        return RunProgress(**values)
