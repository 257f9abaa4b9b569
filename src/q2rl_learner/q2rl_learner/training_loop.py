# SPDX-License-Identifier: Apache-2.0
"""The learner's own thread: fits, updates, publishes and saves, while others only hand it transitions and look on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
import threading
import time

from q2rl_learner.estimation import EstimateReport
from q2rl_learner.interruption import Interrupted, given_up_when, watched_by
from q2rl_learner.learner_state import TURNED_BACK, save_state, try_fit
from q2rl_learner.online_learner import OnlineLearner
from q2rl_policies.torch_runtime import prepare_torch
from q2rl_task import InputError, LearnerState, Phase, Transition
from q2rl_task.episode import AFTER_ONLINE, LEARNING

UNLIMITED = 2**62
RATE_WINDOW_S = 5.0
METRICS_EVERY = 50
"""Gradient steps between two reports of scalars."""
TELL_EVERY = 100
"""Steps of a fit between two words of how far it is."""


@dataclass(frozen=True)
class LearnerView:
    """What others see of the learner at one moment (fields of q2rl_msgs/LearnerStatus)."""

    state: LearnerState = LearnerState.WAITING
    detail: str = ''
    online_steps: int = 0
    gradient_steps: int = 0
    actor_steps: int = 0
    credit: int = UNLIMITED
    updates_per_second: float = 0.0
    demo_fraction: float = 0.0
    weights_version: int = 0
    value_version: int = 0
    rollouts: int = 0
    rollout_successes: int = 0
    value_error: float = float('nan')
    return_variance: float = float('nan')


class TrainingLoop:
    """Run an `OnlineLearner` in a thread of its own.

    In lockstep each online transition is taken in when its gradient steps are made, and the credit grants the
    simulation `allowance` steps beyond the last one paid for; weights go out at fixed counts of gradient steps. In
    real time all waiting transitions are taken in at once and weights go out every `publish_period_s`.

    :param state_path: where the learner's state is kept
    :param on_weights: called in the loop's thread with the version, its parent and the files by kind
    :param on_metrics: called in the loop's thread with gradient steps and scalars
    """

    def __init__(
        self,
        learner: OnlineLearner,
        lockstep: bool,
        state_path: Path,
        on_weights: Callable[[int, int, dict[str, bytes]], None],
        on_metrics: Callable[[int, dict[str, float]], None],
    ) -> None:
        self._learner, self._lockstep, self._state_path = learner, lockstep, state_path
        self._on_weights, self._on_metrics = on_weights, on_metrics
        self._wake = threading.Condition()
        self._inbox: deque[Transition] = deque()
        self._phase = Phase.STARTING
        self._rollback = (0, 0)  # how often the run was rolled back, to which version the last time
        self._stale = False  # the view is older than the phase
        self._failed = ''
        self._unsure: EstimateReport | None = None  # of a fit that says too little to start from
        self._published = -1  # gradient steps at the last publication
        self._published_at = 0.0
        self._saved = learner.gradient_steps
        self._reported = learner.gradient_steps
        self._rates: deque[tuple[float, int]] = deque()
        self._view = LearnerView()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()  # of that thread

    @property
    def view(self) -> LearnerView:
        """What can be told of the learner now."""
        return self._view

    @property
    def fitted(self) -> bool:
        """Whether Q-Estimation has been run."""
        return self._learner.report is not None

    def start(self) -> None:
        """Start the thread, again after a `close` too: one that is still ending is waited for in the new one."""
        previous, self._stop = self._thread, threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(self._stop, previous), name='training', daemon=True
        )
        self._thread.start()

    def close(self, timeout_s: float = 30.0) -> bool:
        """End the thread after the step it is at; the state is saved if something was learned.

        A fit under way, or a refresh of V, is given up: it begins anew at the next start.

        :return: whether the thread has ended
        """
        with self._wake:
            self._stop.set()
            self._wake.notify_all()
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def offer(self, transitions: Sequence[Transition]) -> None:
        """Hand over transitions in the learner's order; never waits for the learner."""
        with self._wake:
            self._inbox.extend(transitions)
            self._wake.notify()

    def set_phase(self, phase: Phase) -> None:
        """Tell the phase of the run; FITTING (or a later one, after a restart) asks for Q-Estimation."""
        with self._wake:
            self._stale |= phase is not self._phase
            self._phase = phase
            if phase is Phase.ESTIMATING:
                self._unsure = None  # more rollouts are coming
            self._wake.notify()

    def roll_back(self, count: int, version: int) -> None:
        """Ask for weights to go back to `version`, once per `count`, which grows; repeating it changes nothing.

        Version 0: there is none to go back to, see `OnlineLearner.turn_back`.
        """
        with self._wake:
            self._rollback = (count, version)
            self._wake.notify()

    def _run(self, stop: threading.Event, previous: threading.Thread | None) -> None:
        if previous is not None:
            previous.join()
        prepare_torch()
        try:
            self._work(stop)
        except OSError as error:
            where, problem = error.filename or self._state_path, error.strerror or error
            remedy = 'free disk space or check its permissions, then resume'
            self._fail(str(InputError(where, f'cannot be written ({problem})', remedy)))
        except Exception as error:  # its last words: without them the run would wait for ever
            self._fail(f'{type(error).__name__}: {error}')
            raise

    def _work(self, stop: threading.Event) -> None:
        while self._wait(stop):
            self._turn(stop)
        # Not where a turn raised: what it left half done must not take the place of the last sound state.
        if self.fitted and self._learner.gradient_steps != self._saved:
            self._save()

    def _wait(self, stop: threading.Event) -> bool:
        """Wait for something to do; tell whether to go on."""
        with self._wake:
            self._wake.wait_for(
                lambda: stop.is_set() or self._inbox or self._stale or self._has_work()
            )
            arrived, self._inbox = self._inbox, deque()
            stale, self._stale = self._stale, False
        for transition in arrived:
            try:
                self._learner.add(transition)
            except InputError as error:
                self._fail(str(error))
                break
        if arrived or stale:
            self._show()
        return not stop.is_set()

    def _has_work(self) -> bool:
        if self._failed:
            return False
        if not self.fitted:
            if self._unsure is not None:
                return False
            # What came while the rollouts before it were taken in belongs to the fit too.
            return not self._inbox and self._phase in (Phase.FITTING, *LEARNING, Phase.SETTLING)
        due = self._rollback[0] > self._learner.rollbacks
        return self._published < 0 or due or self._learner.busy or self._last_weights_due()

    def _last_weights_due(self) -> bool:
        """Whether the online phase is over and what was learned at its end is not out yet."""
        return self._phase in AFTER_ONLINE and self._learner.gradient_steps > self._published

    def _settled(self) -> bool:
        """Whether all of the online phase is learned from and out; SETTLING is told once all of it was offered."""
        over, learner = self._phase in AFTER_ONLINE, self._learner
        waiting = self._inbox or learner.busy
        return over and not waiting and learner.gradient_steps == self._published

    def _turn(self, stop: threading.Event) -> None:
        if not self._has_work():
            return
        # What is given up begins anew at the next start.
        with suppress(Interrupted), given_up_when(stop.is_set), watched_by(self._tell_fit):
            self._do_next()
        self._show()

    def _do_next(self) -> None:
        if not self.fitted:
            self._fit()
        elif self._published >= 0 and self._rollback[0] > self._learner.rollbacks:
            count, version = self._rollback
            self._learner.turn_back(version, count)
            self._publish()
            self._save()  # what the state file has is what the run has just turned away from
        elif self._published >= 0 and self._learner.busy:
            self._update()
        else:
            if self._last_weights_due():
                self._save()  # first: a learner that dies during the evaluation has nothing left to learn again
            self._publish()

    def _fit(self) -> None:
        if self._phase is Phase.SETTLING and self._learner.paid_sequence is None:
            # A method that needs no V could be fitted all the same, and what nobody trained would be evaluated.
            self._fail('nothing was learned here, and no rollouts are there to begin with')
            return
        if self._rollback[0]:
            self._fail(str(InputError('the run', *TURNED_BACK)))
            return
        self._show(LearnerState.FITTING)
        try:
            report = try_fit(self._learner)
        except InputError as error:
            self._fail(str(error))
            return
        if report.problem():
            self._unsure = report
        else:
            self._save()

    def _tell_fit(self, what: str, made: int, planned: int) -> None:
        if made % TELL_EVERY == 0 and planned > TELL_EVERY:
            detail = f'{what}, step {made} of at most {planned}'
            self._view = replace(self._view, detail=detail)

    def _update(self) -> None:
        learner, before = self._learner, self._learner.gradient_steps
        metrics = learner.update(drain=not self._lockstep)
        now, made = time.monotonic(), learner.gradient_steps
        self._rates.append((now, made - before))
        while self._rates[0][0] < now - RATE_WINDOW_S:
            self._rates.popleft()
        if made // METRICS_EVERY > self._reported // METRICS_EVERY:
            self._reported = made
            self._on_metrics(made, metrics | {'updates_per_second': self._rate(now)})
        config = learner.config
        if self._lockstep:
            if made // config.publish_every > self._published // config.publish_every:
                self._publish()
        elif made > self._published and now - self._published_at >= config.publish_period_s:
            self._publish()
        if made - self._saved >= config.save_every:
            self._save()

    def _publish(self) -> None:
        files = self._learner.publish()
        self._on_weights(self._learner.weights_version, self._learner.parent, files)
        self._published, self._published_at = self._learner.gradient_steps, time.monotonic()

    def _save(self) -> None:
        save_state(self._state_path, self._learner)
        self._saved = self._learner.gradient_steps

    def _fail(self, problem: str) -> None:
        self._failed = problem
        self._show()

    def _rate(self, now: float) -> float:
        if not self._rates:
            return 0.0
        return sum(n for _, n in self._rates) / max(now - self._rates[0][0], 0.1)

    def _show(self, state: LearnerState | None = None) -> None:
        learner, replay, unsure = self._learner, self._learner.replay, self._unsure
        report = learner.report or unsure
        if state is None:
            state = LearnerState.WAITING
            if self._failed:
                state = LearnerState.FAILED
            elif unsure is not None:
                state = LearnerState.UNSURE
            elif self.fitted and self._published >= 0:
                state = LearnerState.TRAINING if learner.gradient_steps else LearnerState.READY
                if self._settled():
                    state = LearnerState.SETTLED
        view = LearnerView(
            state=state,
            detail=self._failed or (report.problem() or report.warning() if report else ''),
            online_steps=learner.online_steps,
            gradient_steps=learner.gradient_steps,
            actor_steps=learner.actor_steps,
            credit=self._credit(),
            updates_per_second=self._rate(time.monotonic()),
            demo_fraction=replay.drawn_demonstrations / replay.drawn if replay.drawn else 0.0,
            weights_version=learner.weights_version,
            value_version=learner.value_version,
        )
        if report is not None:
            view = replace(
                view,
                rollouts=report.rollouts,
                rollout_successes=report.successes,
                value_error=report.value_error,
                return_variance=report.return_variance,
            )
        self._view = view

    def _credit(self) -> int:
        if not self._lockstep or self._failed or self._phase not in LEARNING:
            return UNLIMITED
        paid = self._learner.paid_sequence
        return UNLIMITED if paid is None else paid + self._learner.config.allowance
