# SPDX-License-Identifier: Apache-2.0
"""A run's folder with every file in it, made without a robot."""

from __future__ import annotations

import json

import numpy as np

from q2rl_lab.run_folder import RunConfig, RunFolder, create_run
from q2rl_learner.transition_log import TransitionLog
from q2rl_task import EndReason, Mode, Phase, Reason, Source, Transition, load_task

STEPS = 4


def make_transition(task, sequence, episode, step, phase, mode, source, depth=0.0, last=False):
    """One transition whose observation puts the tip at `depth` [m]."""
    observation = np.zeros(task.observation_size, dtype=np.float32)
    observation[2] = depth / task.observation_scale()[2]
    action = np.zeros(task.action_size, dtype=np.float32)
    return Transition(
        stamp=0.05 * sequence, robot='arm', sequence=sequence, contract=task.contract_hash,
        episode=episode, step=step, phase=phase, mode=mode, source=source, reason=Reason.MODE,
        observation=observation, action=action, executed_action=action, interventions=(),
        reward=-1.0, next_observation=observation, terminated=last, truncated=False,
        end_reason=EndReason.SUCCESS if last else EndReason.NONE, force=5.0, bc_action=action,
        bc_log_prob=1.0, bc_entropy=0.5, next_bc_action=action, next_bc_log_prob=1.0,
        next_bc_entropy=0.5, q_bc=-20.0, q_rl=-18.0 if source is Source.RL else -25.0, v_bc=-21.0,
        q_spread=0.5, actor_version=1, critic_version=1, value_version=1,
    )  # fmt: skip


class SyntheticRun:
    """Write a run episode by episode."""

    def __init__(self, runs_dir):
        self.task = load_task('pipe_assembly')
        self.folder: RunFolder = create_run(
            runs_dir, 'made_up', RunConfig('pipe_assembly', seed=3), {'q2rl': '0.1.0', 'git': 'abc'}
        )
        self.sequence = 0
        self.published = 0
        self._lines = []
        self._transitions = []
        self._numbers = {}

    def add(self, phase, mode, success, reason=None, logged=True, **more):
        """Add an episode of four steps; RL takes those that lie inside the hole."""
        number = self._numbers[phase] = self._numbers.get(phase, 0) + 1
        letter = {Phase.ESTIMATING: 'e', Phase.ONLINE: 'o', Phase.EVALUATING: 'v'}[phase]
        name = f'made_up-{letter}{number:04d}'
        by_rl = {Mode.BC: 0, Mode.RL: STEPS, Mode.GATED: STEPS // 2}[mode]
        reason = reason or (EndReason.SUCCESS if success else EndReason.TIME_LIMIT)
        line = {
            'robot': 'arm', 'episode': name, 'number': number, 'phase': phase.name,
            'mode': mode.name, 'explored': phase is Phase.ONLINE and mode is Mode.GATED,
            'success': success, 'end_reason': reason.name, 'seed': number, 'steps': STEPS, 'rl_steps': by_rl,
            'bc_steps': STEPS - by_rl, 'hold_steps': 0, 'guard_interventions': 1, 'peak_force': 20.0,
            'duration': 3.0, 'episode_return': -4.0, 'mean_q_bc': -20.0, 'mean_q_rl': None,
            'weights_version': 1, **more,
        }  # fmt: skip
        self._lines.append(json.dumps(line))
        self.published += STEPS
        for step in range(STEPS if logged else 0):
            self.sequence += 1
            inside = step >= STEPS - by_rl
            self._transitions.append(
                make_transition(
                    self.task,
                    self.sequence,
                    name,
                    step,
                    phase,
                    mode,
                    Source.RL if inside else Source.BC,
                    0.01 if inside else -0.01,
                    success and step == STEPS - 1,
                )
            )

    def learn(self) -> SyntheticRun:
        """Add 10 rollouts (3 succeed), 30 failures, then 70 successes online, 20 scenes evaluated."""
        for k in range(10):
            self.add(Phase.ESTIMATING, Mode.BC, k < 3)
        for k in range(100):
            self.add(Phase.ONLINE, Mode.GATED, k >= 30)
        self.add(Phase.ONLINE, Mode.BC, False)
        for k in range(20):
            self.add(Phase.EVALUATING, Mode.BC, k < 7, logged=False)
            self.add(Phase.EVALUATING, Mode.GATED, True, logged=False)
            self.add(Phase.EVALUATING, Mode.RL, k < 18, reason=None, logged=False)
        return self

    def write(self, phase=Phase.FINISHED) -> RunFolder:
        """Write all files."""
        folder = self.folder
        folder.episodes.write_text('\n'.join(self._lines) + '\n')
        extra = {'next_sequence': self.published + 1, 'dropped': {'foreign': 1}}
        folder.state.write_text(
            json.dumps({'format': 1, 'progress': {'phase': phase.name}, 'extra': extra})
        )
        online = sum(t.phase is Phase.ONLINE for t in self._transitions)
        status = {'state': 3, 'ingested': self.sequence, 'demo_fraction': 0.5}
        entries = [
            {
                **status,
                't': 10.0 * k,
                'online_steps': k * online // 4,
                'gradient_steps': k * online // 2,
            }
            for k in range(5)
        ]
        folder.timeline.write_text('\n'.join(json.dumps(entry) for entry in entries) + '\n')
        folder.session.write_text(
            json.dumps(
                {
                    'wall_s': 300.0,
                    'respawns': {'learner': 1},
                    'rejected': 2,
                    'arm': {'overtaken': 5},
                }
            )
        )
        log = TransitionLog(folder.transitions, contract=self.task.contract_hash)
        log.append(self._transitions)
        log.close()
        return folder
