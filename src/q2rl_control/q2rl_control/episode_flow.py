# SPDX-License-Identifier: Apache-2.0
"""One episode after another: arm clear, scene prepared, arm started, steps collected; and what if not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple, Protocol

from q2rl_control.arm_state import ArmState
from q2rl_control.episode_plan import EpisodePlan
from q2rl_control.episode_tally import EpisodeRecord, EpisodeTally
from q2rl_control.run_plan import RunPlan
from q2rl_task import EndReason, ExecutedStep, Mode, Phase
from q2rl_task.episode import INTERRUPTIONS

REFUSALS = 10
"""So many failures of arm or scene in a row stop the run."""
BACK_OFF_S = 1.0
OLD_WEIGHTS_RETRIES = 3
"""So many evaluation episodes are tried again because the last weights are not live yet."""
INTERRUPTED = {
    EndReason.REQUESTED: 'its end was asked for',
    EndReason.LOST: 'sensors or measurements were lost for too long, or the arm did not follow',
}
UNDER_WAY = (ArmState.RESETTING, ArmState.RUNNING)


class ArmView(NamedTuple):
    """What the arm last said of itself."""

    state: ArmState
    episode: str = ''
    detail: str = ''


class Cell(Protocol):
    """The services of arm and scene. Calls return at once; `done` comes later, or never if cancelled."""

    def prepare_scene(self, plan: EpisodePlan, done: Callable[[bool, str, Any], None]) -> None:
        """Ask for a scene; `done(success, message, estimate)`."""

    def start_episode(
        self, plan: EpisodePlan, estimate: Any, done: Callable[[bool, str], None]
    ) -> None:
        """Ask the arm to start; `done(success, message)`."""

    def retreat(self) -> None:
        """Ask the arm to leave the fixture."""

    def end_episode(self) -> None:
        """Ask the arm to end its episode."""

    def cancel(self) -> None:
        """Forget all calls under way."""


class Session(Protocol):
    """What the flow needs of a run (see `RunSession`)."""

    plan: RunPlan

    def begin(self, plan: EpisodePlan) -> None:
        """Expect the steps of an episode."""

    def finish(self, tally: EpisodeTally) -> EpisodeRecord | None:
        """Count and save a finished episode; None where it does not count."""

    def abandon(self) -> None:
        """Drop the episode under way."""


class Stage(Enum):
    """Where the next or present episode stands; the value says what is waited for."""

    ARM = 'waiting for the arm to be clear'
    SCENE = 'waiting for the scene'
    START = 'waiting for the arm to start'
    RUNNING = ''


class EpisodeFlow:
    """Take each step when it can be taken; `step_on` is called whenever something was heard, and by a timer.

    :param robot_time: seconds on the robot's clock
    :param clock: monotonic seconds
    :param abandon_after: seconds after which an episode that the arm is not at is dropped
    """

    def __init__(
        self,
        cell: Cell,
        session: Session,
        robot: str,
        robot_time: Callable[[], float],
        clock: Callable[[], float],
        abandon_after: float,
    ) -> None:
        self.stage = Stage.ARM
        self.problems: Counter[str] = Counter()
        self.last_problem = ''
        self._cell = cell
        self._session = session
        self._robot = robot
        self._robot_time = robot_time
        self._clock = clock
        self._abandon_after = abandon_after
        self._arm: ArmView | None = None
        self._arm_since = 0.0
        self._episode: EpisodePlan | None = None
        self._tally: EpisodeTally | None = None
        self._refusals = self._retries = 0
        self._not_before = float('-inf')

    @property
    def under_way(self) -> EpisodePlan | None:
        """The episode whose steps are expected."""
        return self._tally.plan if self._tally else None

    def heard_arm(self, view: ArmView) -> None:
        """Take the arm's status."""
        before, self._arm = self._arm, view
        if before is None or before[:2] != view[:2]:
            self._arm_since = self._clock()
            if view.state is ArmState.STOPPED:
                self._refused(f'the arm stopped: {view.detail}')

    def heard_step(self, step: ExecutedStep) -> EpisodeRecord | None:
        """Take an executed step; return the record of the episode that it ends, if it does and the episode counts."""
        if self._tally is None or step.episode != self._tally.plan.episode:
            return None
        old = self._old_weights(step)
        if old and self._retries < OLD_WEIGHTS_RETRIES:
            self._retries += 1
            self.abandon(old)
            self._not_before = self._clock() + BACK_OFF_S
            return None
        self._tally.add(step)
        if not self._tally.over:
            return None
        record = self._session.finish(self._tally)
        self._cell.cancel()
        self._tally, self.stage = None, Stage.ARM
        if step.end_reason in INTERRUPTIONS:
            self._refused(f'episode {step.episode} was interrupted: {INTERRUPTED[step.end_reason]}')
        elif record is None:
            self._refused(
                f'rollout {step.episode} is done again: steps of it were lost on the way here'
            )
        else:
            self._refusals = 0
        return record

    def step_on(self, blocked: str) -> str:
        """Take the next step if it can be taken; return what is waited for.

        :param blocked: why no episode may be started just now, or an empty string
        """
        if self.stage is Stage.RUNNING:
            self._watch()
            return self._arm.detail if self.stage is Stage.RUNNING and self._at_it() else ''
        if self.stage is Stage.SCENE and self._session.plan.next_episode() is None:
            self._cell.cancel()
            self.stage = Stage.ARM
        elif self.stage is Stage.ARM:
            if self._session.plan.next_episode() is not None:
                return self._wait_for_arm(blocked)
            self._end_stray()
        return self.stage.value if self.stage is not Stage.ARM else ''

    def abandon(self, why: str) -> None:
        """Drop the episode under way, if there is one; it is tried again under a fresh id."""
        self._cell.cancel()
        self.stage, self._episode = Stage.ARM, None
        if self._tally is not None:
            self._problem('abandoned', f'episode {self._tally.plan.episode} dropped: {why}')
            begun, self._tally = self._tally.begun, None
            self._session.abandon()
            if begun:
                self._session.plan.scene_used()

    def _old_weights(self, step: ExecutedStep) -> str:
        """Return who begins an evaluation episode on other weights than the learner's last; empty: nobody.

        Weights go live at a tick, so this is where it first can be seen. Without weights (version 0) a node abstains,
        and newer ones have the same content: a learner that was restarted numbers them anew.
        """
        plan, wanted = self._tally.plan, self._session.plan.progress.last_weights
        if plan.phase is not Phase.EVALUATING or plan.mode is Mode.BC or step.step > 0:
            return ''
        versions = {
            'rl_policy': step.decision.actor_version,
            'q_gate': step.decision.critic_version,
        }
        old = {node: version for node, version in versions.items() if 0 < version < wanted}
        return ', '.join(f'{n} is at weights {v}, not yet at {wanted}' for n, v in old.items())

    def _wait_for_arm(self, blocked: str) -> str:
        arm = self._arm
        if arm is None:
            return 'waiting for arm_interface'
        if self._clock() < self._not_before:
            return self.last_problem
        if arm.state in (ArmState.IDLE, ArmState.STOPPED):
            self._cell.retreat()
        elif arm.state is ArmState.READY:
            if blocked:
                return blocked
            self._episode = self._session.plan.next_episode()
            self.stage = Stage.SCENE
            self._cell.prepare_scene(self._episode, self._on_scene)
            return self.stage.value
        else:
            self._end_stray()
        return f'{self.stage.value}: {arm.detail}' if arm.detail else self.stage.value

    def _end_stray(self) -> None:
        """End an episode that nobody here knows: it was dropped, or is of an earlier life of this node."""
        arm, known = self._arm, self._episode.episode if self._episode else ''
        if arm is not None and arm.state in UNDER_WAY and arm.episode != known:
            self._cell.end_episode()

    def _on_scene(self, success: bool, message: str, estimate: Any) -> None:
        if not success:
            self.stage = Stage.ARM
            self._refused(f'the scene was not prepared: {message}')
            return
        self.stage = Stage.START
        self._tally = EpisodeTally(self._episode, self._robot, self._robot_time())
        self._session.begin(self._episode)
        self._cell.start_episode(self._episode, estimate, self._on_started)

    def _on_started(self, success: bool, message: str) -> None:
        if self._tally is None:
            return
        # A call made again because its answer was late is refused by an arm that is at it already.
        if success or self._at_it():
            self.stage = Stage.RUNNING
            self._arm_since = self._clock()
        else:
            self.abandon(message)
            self._refused(f'the arm did not start: {message}')

    def _watch(self) -> None:
        """End the episode if the run stopped; give it up if the arm is no longer at it."""
        if self._session.plan.phase is Phase.STOPPED:
            self._cell.end_episode()
        if not self._at_it() and self._clock() - self._arm_since > self._abandon_after:
            why = self._arm.detail or f'the arm is {self._arm.state.name}'
            self.abandon(why)
            self._refused(f'the episode came to nothing: {why}')

    def _at_it(self) -> bool:
        return self._arm.state in UNDER_WAY and self._arm.episode == self._episode.episode

    def _refused(self, detail: str) -> None:
        """Count a failure of arm or scene and wait a little; stop the run after several in a row."""
        self._problem('refused', detail)
        self._refusals += 1
        self._not_before = self._clock() + BACK_OFF_S
        if self._refusals >= REFUSALS:
            self._refusals = 0
            self._session.plan.fail(
                f'{detail} ({REFUSALS} failures in a row): look at the cell, then resume'
            )

    def _problem(self, kind: str, text: str) -> None:
        self.problems[kind] += 1
        self.last_problem = text
