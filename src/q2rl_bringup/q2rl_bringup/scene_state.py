# SPDX-License-Identifier: Apache-2.0
"""What there is to see of a cell at one moment, from its messages. No clock, no node: RViz and the browser share it.

Messages are those of q2rl_msgs, or anything with their attributes; times are seconds of one monotonic clock.
"""

from __future__ import annotations

from collections import deque
import math

import numpy as np

from q2rl_bringup.scene_markers import believed_fixture
from q2rl_ros.conversions import decision_from_msg, observation_from_msg, pose_from_msg
from q2rl_ros.stamps import stamp_from_msg
from q2rl_task import Decision, Mode, Phase, Pose, Source, TaskSpec
from q2rl_task.episode import INTERRUPTIONS, LEARNING

REMEMBERED = 20
"""Finished episodes that the history shows."""
SILENT_AFTER_S = 3.0
"""Without word from the guard for so long, nobody knows what the arm is doing; it speaks every second."""
GUARD_STATES = ('acting', 'holding', 'stopped')
PARTS = ('scene', 'gate', 'run')
"""What changes together: what stands still in an episode, what moves at a tick, how the run goes."""


class SceneState:
    """The newest of every stream, what follows from it, and which parts of the picture it changed.

    :param decision_age_s: age at which the policies' proposals are no longer shown

    tip: measured pose of the tip in the base frame. fixture: where the policies believe the fixture to stand.
    force (3,): on the tool, at the tip, in its frame [N]. joints: positions by name.
    """

    def __init__(self, task: TaskSpec, decision_age_s: float = 1.0) -> None:
        self.task = task
        self.tip: Pose | None = None
        self.fixture: Pose | None = None
        self.estimated_at = 0.0
        self._seen = ('', 0)
        self.force = np.zeros(3)
        self.joints: dict[str, float] = {}
        self.decision: Decision | None = None
        self.guard = None
        self.run = None
        self.outcomes: deque[bool] = deque(maxlen=REMEMBERED)
        self._decision_age = decision_age_s
        self._decided_at = self._guarded_at = -math.inf
        self._silent = True
        self._episode = self._finished = ''
        self._changed = set(PARTS)

    def changed(self) -> set[str]:
        """Return which of `PARTS` changed since this was last asked."""
        changed, self._changed = self._changed, set()
        return changed

    def hear_joints(self, msg) -> None:
        """Take in the joints' positions."""
        self.joints.update(zip(msg.name, msg.position, strict=False))

    def hear_pose(self, msg) -> None:
        """Take in where the tip is.

        :raises MessageError: it is given in another frame
        """
        self.tip = pose_from_msg(msg, self.task.frames.base)
        self._changed.add('gate')

    def hear_wrench(self, msg) -> None:
        """Take in the contact force; one that is not finite is none."""
        force = np.array([msg.wrench.force.x, msg.wrench.force.y, msg.wrench.force.z])
        self.force = force if np.isfinite(force).all() else np.zeros(3)
        self._changed.add('gate')

    def hear_observation(self, msg, pose) -> None:
        """Take in where the fixture is believed to be, from an observation and a message of the tip's pose.

        In lockstep both have one stamp; in real time the first observation of an episode is taken, before which the
        arm stood still. Any other pair is not used, nor is a second one of an episode.

        :raises MessageError: either message is not of this task
        """
        record = observation_from_msg(msg, self.task)
        self._seen = (record.episode, record.step)
        if record.episode == self._episode:
            return
        age = abs(record.stamp - stamp_from_msg(pose.header.stamp))
        if age > 0.0 and (record.step > 0 or age > self.task.limits.observation_max_age_s):
            return
        tip = pose_from_msg(pose, self.task.frames.base)
        fixture = believed_fixture(self.task, tip, record)
        if fixture is not None and fixture.is_finite():
            self._episode, self.fixture, self.estimated_at = record.episode, fixture, record.stamp
            self._changed.add('scene')

    def hear_decision(self, msg, now: float) -> None:
        """Take in what the policies proposed and the gate chose.

        :raises MessageError: it is not of this task
        """
        self.decision = decision_from_msg(msg, self.task).decision
        self._decided_at = now
        self._changed.add('gate')

    def hear_guard(self, msg, now: float) -> None:
        """Take in what the guard is doing."""
        self.guard, self._guarded_at = msg, now
        self._changed.add('run')

    def hear_run(self, msg) -> None:
        """Take in where the run stands."""
        self.run = msg
        self._changed.add('run')

    def hear_episode(self, msg) -> None:
        """Take in how an episode ended; one that is repeated counts once, one that was interrupted not at all."""
        if msg.episode != self._finished and msg.end_reason not in INTERRUPTIONS:
            self._finished = msg.episode
            self.outcomes.append(bool(msg.success))
            self._changed.add('run')

    def pass_time(self, now: float) -> None:
        """Forget proposals that are too old, and notice a guard that fell silent."""
        if self.decision is not None and now - self._decided_at > self._decision_age:
            self.decision = None
            self._changed.add('gate')
        silent = now - self._guarded_at > SILENT_AFTER_S
        if silent != self._silent:
            self._silent = silent
            self._changed.add('run')

    @property
    def silent(self) -> bool:
        """Whether the guard was not heard for `SILENT_AFTER_S`: what is shown of it is not to be relied on."""
        return self._silent

    @property
    def guard_state(self) -> str:
        """What the guard does: one of `GUARD_STATES`, or 'no word from the arm'."""
        if self._silent or self.guard is None:
            return 'no word from the arm'
        return GUARD_STATES[self.guard.state]

    @property
    def guard_detail(self) -> str:
        """Why it does that; may be empty."""
        return '' if self._silent or self.guard is None else self.guard.detail

    @property
    def actor(self) -> Source | None:
        """Whose action is carried out; None while nobody decides."""
        return None if self.decision is None else self.decision.source

    @property
    def episode(self) -> str:
        """The episode that `phase_text` counts: the one under way, or else the next; empty while no run is heard of."""
        return '' if self.run is None else self.run.episode

    def step_of(self, episode: str) -> int:
        """Return the last step that was seen of an episode; 0 before there is one."""
        seen, step = self._seen
        return step if seen == episode else 0

    @property
    def demonstrating(self) -> bool:
        """Whether a person demonstrates: no policies then, nor a gate."""
        return self.run is not None and self.run.phase == Phase.DEMONSTRATING

    def phase_text(self) -> str:
        """Say where the run stands."""
        if self.run is None:
            return 'no run'
        run, phase = self.run, Phase(self.run.phase)
        text = phase.name.lower()
        if phase in LEARNING:
            text += f' {run.online_steps} of {run.online_steps_planned} steps'
        elif run.episodes_planned:
            text += f' episode {run.episode_number} of {run.episodes_planned}'
        if phase in (*LEARNING, Phase.EVALUATING):
            text += f' ({Mode(run.mode).name.lower()})'
        return text + (f': {run.detail}' if run.detail else '')

    def success_text(self) -> str:
        """Say how the last episodes ended, of those that were heard: a run may be older than this view of it."""
        if not self.outcomes:
            return 'no episode finished since this view was opened'
        return f'{sum(self.outcomes)} of the last {len(self.outcomes)} succeeded'
