# SPDX-License-Identifier: Apache-2.0
"""What a run looks like from outside: collects its messages, shows them as a table or as plain lines. No ROS, no clock.

Messages are q2rl_msgs' RunState, EpisodeSummary, LearnerStatus and ArmStatus, or anything with their attributes.
The gate's values come from the episode summaries: hearing every GateDecision would cost a core that the run needs.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from enum import IntEnum
import math
from typing import Any

from q2rl_control.arm_state import ArmState
from q2rl_lab.statistics import Rate, wilson
from q2rl_task.episode import INTERRUPTIONS, LEARNING, LearnerState, Mode, Phase

WINDOW = 50
RATE_SPAN_S = 60.0
LEAST_SPAN_S = 5.0
WITH_EPISODES = (Phase.ESTIMATING, *LEARNING, Phase.EVALUATING, Phase.DEMONSTRATING)
LEAST_WAIT_S = 3.0
"""What is waited for between two episodes is told once it takes longer than it should."""
NO_LIMIT = 2**40
"""The learner's word for 'as far as you like' is some larger credit."""


@dataclass(frozen=True)
class Plan:
    """What the run set out to do; for the time left."""

    rollouts: int
    online_steps: int
    evaluation_episodes: int


@dataclass
class RunView:
    """The state of a run as last heard. Times are seconds of one monotonic clock, given by the caller."""

    plan: Plan
    started: float
    run: Any = None
    learner: Any = None
    arm: Any = None
    respawns: dict[str, int] = field(default_factory=dict)
    alive: dict[str, bool] = field(default_factory=dict)
    episodes: list[Any] = field(default_factory=list)
    _counted: Counter[str] = field(default_factory=Counter)
    _counted_before: Counter[str] = field(default_factory=Counter)
    _seen: set[str] = field(default_factory=set)
    _progress: deque = field(default_factory=deque)
    _pace: float = math.nan
    _detail_since: float = -math.inf

    def hear_episode(self, summary: Any) -> None:
        """Take in an episode's summary; one that is repeated counts once."""
        if summary.episode in self._seen:
            return
        self._seen.add(summary.episode)
        if summary.phase == Phase.ONLINE:  # whatever was evaluated before has learned on since
            self.episodes = [e for e in self.episodes if e.phase != Phase.EVALUATING]
        self.episodes.append(summary)

    def hear_arm(self, status: Any) -> None:
        """Take in the arm's status; one that was started again counts from 0, and what it had counted is kept."""
        counted = Counter(dict(zip(status.counted, status.counts, strict=True)))
        counted['rejected'] = status.rejected
        if any(counted[name] < n for name, n in self._counted.items()):
            self._counted_before += self._counted
        self.arm, self._counted = status, counted

    @property
    def arm_counters(self) -> dict[str, int]:
        """What the arm counted, by name: `rejected`, as in ArmStatus, and its `counted`."""
        return dict(self._counted_before + self._counted)

    def hear_run(self, state: Any, now: float) -> None:
        """Take in the run's state."""
        if self.run is None or self.run.phase != state.phase:
            learns = state.phase in LEARNING and self.phase not in LEARNING
            self._pace = math.nan if learns else self.steps_per_second()
            self._progress.clear()
        if self.run is None or self.run.detail != state.detail:
            self._detail_since = now
        self.run = state
        if self.phase in (Phase.FITTING, Phase.SETTLING):
            return
        if len(self._progress) == 1 and self._progress[0][1] == state.sequence:
            self._progress.clear()  # nothing has moved yet: nodes that start are no measure of the pace
        self._progress.append((now, int(state.sequence)))
        while now - self._progress[0][0] > RATE_SPAN_S and len(self._progress) > 2:
            self._progress.popleft()

    @property
    def phase(self) -> Phase:
        """The run's phase; STARTING until it is heard."""
        return Phase.STARTING if self.run is None else Phase(self.run.phase)

    def telling(self, phase: Phase) -> list[Any]:
        """Episodes of a phase that tell how the run is doing, in order: those it learns from, or gated ones."""
        return [
            e for e in self.measured() if e.phase == phase and (e.explored or e.mode == Mode.GATED)
        ]

    def measured(self) -> list[Any]:
        """Episodes that nothing interrupted, in order."""
        return [e for e in self.episodes if e.end_reason not in INTERRUPTIONS]

    def recent(self) -> list[Any]:
        """The last episodes that tell how the run is doing: of this phase, else of the kind that ran last.

        They are of one phase, so that rollouts, learning and evaluation are never counted together.
        """
        phase = Phase.ONLINE
        if self.phase is Phase.EVALUATING or (
            self.phase is Phase.FINISHED and self.telling(Phase.EVALUATING)
        ):
            phase = Phase.EVALUATING
        if not (told := self.telling(phase)) and (measured := self.measured()):
            last = measured[-1]
            told = [e for e in measured if (e.phase, e.mode) == (last.phase, last.mode)]
        return told[-WINDOW:]

    def whose(self) -> str:
        """Whose success that of the recent episodes is: 'BC', 'gated', 'RL' or 'human', joined where they differ."""
        modes = sorted({Mode(e.mode) for e in self.recent()})
        names = {Mode.GATED: 'gated', Mode.HUMAN: 'human'}
        return ' and '.join(names.get(mode, mode.name) for mode in modes)

    def rl_share(self) -> float:
        """Share of the recent episodes' executed actions that were RL's; NaN without any."""
        rl = sum(e.rl_steps for e in self.recent())
        steps = rl + sum(e.bc_steps + e.hold_steps for e in self.recent())
        return rl / steps if steps else math.nan

    def steps_per_second(self) -> float:
        """Environment steps per second of wall time over the last minute of this phase.

        Until there is enough of it, and while nothing moves, that of the phase before; NaN without one, and where
        learning begins.
        """
        if len(self._progress) < 2:
            return self._pace
        (t0, s0), (t1, s1) = self._progress[0], self._progress[-1]
        return (s1 - s0) / (t1 - t0) if t1 - t0 >= LEAST_SPAN_S else self._pace

    def seconds_left(self) -> float:
        """Rough time to the end of the run [s]; NaN while unknown.

        So it is until learning has a pace of its own: it slows each step down, by how much is for the machine to tell.
        """
        rate = self.steps_per_second()
        unlearned = self.phase <= Phase.FITTING and self.plan.online_steps
        if not rate > 0.0 or unlearned:
            return math.nan
        lengths = [e.steps for e in self.episodes[-WINDOW:]]
        length = sum(lengths) / len(lengths) if lengths else 80.0
        number = self.run.episode_number if self.run is not None else 0
        left = 0.0
        if self.phase <= Phase.ESTIMATING:
            left += max(0, self.plan.rollouts - number) * length
        if self.phase in LEARNING:
            left += max(0, self.plan.online_steps - self.run.online_steps)
        if self.phase < Phase.EVALUATING:
            left += self.plan.evaluation_episodes * length
        elif self.phase is Phase.EVALUATING:
            left += (
                max(0, (self.run.episodes_planned or self.plan.evaluation_episodes) - number)
                * length
            )
        return left / rate

    def rows(self, now: float) -> list[tuple[str, str]]:
        """Return the table's rows as (name, text)."""
        rows = [('phase', self._phase_text(now))]
        recent = self.recent()
        if recent:
            rate = Rate.of([e.success for e in recent])
            low, high = wilson(rate.successes, rate.n)
            rows.append(
                (
                    f'success, last {rate.n}',
                    f'{self.whose()} {100 * rate.success:.0f} %  (95 %: {100 * low:.0f} to {100 * high:.0f})',
                )
            )
            share = self.rl_share()
            last = recent[-1]
            rows.append(
                ('actions by RL', 'none yet' if math.isnan(share) else f'{100 * share:.0f} %')
            )
            rows.append(
                ('Q_BC / Q_RL', f'{number_text(last.mean_q_bc)} / {number_text(last.mean_q_rl)}')
            )
            rows.append(
                (
                    'peak force',
                    f'{last.peak_force:.0f} N, guard limited {last.guard_interventions} of {last.steps} steps',
                )
            )
        if self.learner is not None:
            s = self.learner
            rows.append(
                (
                    'learner',
                    f'{state_text(LearnerState, s)}, {s.updates_per_second:.0f} updates/s, {s.gradient_steps} in all, '
                    f'weights v{s.weights_version}, value v{s.value_version}',
                )
            )
        if self.run is not None:
            limited = self.learner is not None and 0 < self.learner.credit < NO_LIMIT
            credit = f', credit {self.learner.credit}' if limited else ''
            pace = self.steps_per_second()
            speed = '' if math.isnan(pace) else f', {pace:.0f} per second'
            rows.append(
                (
                    'steps',
                    f'{self.run.sequence} taken, {self.run.acknowledged} acknowledged{credit}{speed}',
                )
            )
            if self.run.rollbacks:
                rows.append(('turned back', turned_back_text(self.run)))
        if self.arm is not None:
            rows.append(('arm', state_text(ArmState, self.arm)))
        if self.alive:
            again = sum(self.respawns.values())
            rows.append(
                (
                    'nodes',
                    f'{sum(self.alive.values())} of {len(self.alive)} running'
                    f'{f", {again} restarts" if again else ""}',
                )
            )
        if remark := self.remark(now):
            rows.append(('to know', remark))
        rows.append(('time', self._time_text(now)))
        return rows

    def remark(self, now: float) -> str:
        """Return what there is to know of a run that learns, until something else is; else an empty text."""
        return self._lasting(now) if self.phase in LEARNING else ''

    def line(self, now: float) -> str:
        """Return the state as one plain line, without the remark."""
        parts = [f'[{clock_text(now - self.started)}] {self._phase_text(now)}']
        recent = self.recent()
        if recent:
            rate = Rate.of([e.success for e in recent])
            parts.append(f'{self.whose()} success {100 * rate.success:.0f} % of last {rate.n}')
            if not math.isnan(self.rl_share()) and self.phase > Phase.FITTING:
                parts.append(f'RL {100 * self.rl_share():.0f} %')
        if self.learner is not None and self.phase in LEARNING:
            parts.append(
                f'{self.learner.updates_per_second:.0f} updates/s, weights v{self.learner.weights_version}'
            )
        left = self.seconds_left()
        if not math.isnan(left) and self.phase <= Phase.EVALUATING:
            parts.append(f'about {clock_text(left)} left')
        return ', '.join(parts)

    def _phase_text(self, now: float) -> str:
        if self.run is None:
            return 'starting the nodes'
        text = self.phase.name.lower()
        if self.phase in LEARNING:
            planned = self.run.online_steps_planned or self.plan.online_steps
            text += (
                f' {self.run.online_steps} of {planned} steps, episode {self.run.episode_number}'
            )
        elif self.phase in (Phase.ESTIMATING, Phase.EVALUATING):
            planned = self.run.episodes_planned
            text += f' episode {self.run.episode_number}' + (f' of {planned}' if planned else '')
        elif self.phase is Phase.FITTING and self.learner is not None and self.learner.detail:
            text += f' {self.learner.detail}'
        if self.phase in (*LEARNING, Phase.EVALUATING):
            text += f' ({Mode(self.run.mode).name.lower()})'
        # While it learns, a detail stays for long: it has a place of its own.
        detail = '' if self.phase in LEARNING else self._lasting(now)
        return text + (f': {detail}' if detail else '')

    def _lasting(self, now: float) -> str:
        """Return the run's detail, unless it is one of those that come and go with every episode."""
        passing = self.phase in WITH_EPISODES and now - self._detail_since < LEAST_WAIT_S
        return '' if passing or self.run is None else self.run.detail

    def _time_text(self, now: float) -> str:
        left = self.seconds_left()
        gone = f'{clock_text(now - self.started)} gone'
        known = not math.isnan(left) and self.phase <= Phase.EVALUATING
        return f'{gone}, about {clock_text(left)} left' if known else gone


def state_text(states: type[IntEnum], status: Any) -> str:
    """Return the name of a status's state, a number where `states` has none for it, and its detail."""
    names = {state.value: state.name.lower() for state in states}
    name = names.get(status.state, str(status.state))
    return f'{name}: {status.detail}' if status.detail else name


def turned_back_text(run: Any) -> str:
    """Say how often success fell below BC's, and what was done the last time."""
    times = 'once' if run.rollbacks == 1 else f'{run.rollbacks} times'
    if run.rollback_version:
        return f'{times}, the last time to weights v{run.rollback_version}'
    return f'{times}, the last time because BC failed as well: V is new'


def clock_text(seconds: float) -> str:
    """Format a duration as '4:05' or '1:02:03'."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02d}:{rest:02d}' if hours else f'{minutes}:{rest:02d}'


def number_text(value: float) -> str:
    """Format a value that may be unknown."""
    return '-' if math.isnan(value) else f'{value:.1f}'
