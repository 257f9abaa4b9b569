# SPDX-License-Identifier: Apache-2.0
"""A person demonstrates at the real nodes: simulation, arm, episode manager and recorder; no gate, no policies."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from scripted_person import ScriptedPerson, well_estimated_task

from q2rl_control.arm_interface_node import ArmInterface
from q2rl_control.arm_state import ArmState
from q2rl_control.episode_manager_node import EpisodeManager
from q2rl_learner.demonstration_recorder_node import DemonstrationRecorder
from q2rl_learner.demonstrations import load_demonstrations
from q2rl_msgs.msg import EpisodeSummary, ExecutedStep, GateDecision, RunState
from q2rl_msgs.srv import LabelEpisode
from q2rl_ros.qos import profiles
from q2rl_sim.mujoco_arm_node import MujocoArmNode
from q2rl_task import InputError

PATIENCE_S = 60.0
HUMAN, HOLD = GateDecision.SOURCE_HUMAN, GateDecision.SOURCE_HOLD


class Cell:
    """The nodes of a start with policy_mode:=demonstrate, and the person."""

    def __init__(self, bench, folder, lockstep: bool, wanted: int) -> None:
        self.bench, self.run_dir = bench, folder / 'run'
        self.task = well_estimated_task(folder / 'task.yaml')
        self._common = {
            'task': str(folder / 'task.yaml'),
            'run_dir': str(self.run_dir),
            'lockstep': lockstep,
        }
        self._wanted = wanted
        self.person = ScriptedPerson(bench.probe, self.task, lockstep)
        qos = profiles(lockstep, self.task.period_s)
        self.steps, self.summaries, self.states = [], [], []
        for kind, topic, said, quality in (
            (ExecutedStep, 'executed_step', self.steps, qos.events),
            (EpisodeSummary, 'episode_summary', self.summaries, qos.events),
            (RunState, 'run_state', self.states, qos.latched),
        ):
            bench.probe.create_subscription(kind, topic, said.append, quality)
        self.sim = bench.start(MujocoArmNode, **self._common, seed=1)
        self.arm = bench.start(
            ArmInterface, **self._common, lockstep_timeout=0.5, hold_at_start=False
        )
        self.recorder = self.start_recorder()
        self.manager = self.start_manager()

    def start_recorder(self) -> DemonstrationRecorder:
        return self.bench.start(DemonstrationRecorder, **self._common, demonstrations=self._wanted)

    def start_manager(self) -> EpisodeManager:
        own = {'run_id': 'r', 'seed': 1, 'demonstrations': self._wanted, 'resend_after': 0.2}
        own['wait_for'] = ['arm_interface', 'demonstration_recorder']
        return self.bench.start(EpisodeManager, **self._common, **own)

    def until(self, condition) -> None:
        self.bench.until(condition, PATIENCE_S)

    @property
    def file(self):
        return self.run_dir / 'demonstrations.hdf5'

    def load(self):
        return load_demonstrations(self.file, self.task)

    @property
    def said(self) -> str:
        return self.states[-1].detail if self.states else ''


def test_successes_are_kept_through_the_death_of_recorder_and_manager(bench, tmp_path):
    cell = Cell(bench, tmp_path, lockstep=True, wanted=3)
    cell.until(lambda: cell.file.exists())
    cell.until(lambda: cell.person.episodes[-1].startswith('r-d0002@') and len(cell.steps) > 20)
    bench.drop(cell.recorder)
    bench.drop(cell.manager)
    assert len(cell.load()) == 1
    cell.recorder, cell.manager = cell.start_recorder(), cell.start_manager()
    cell.until(lambda: cell.recorder.finished)
    assert cell.recorder.exit_code == 0
    assert cell.states[-1].phase == RunState.FINISHED
    assert cell.said == '' and any('1 of 3 demonstrations' in s.detail for s in cell.states)
    # The one under way ran again, under a fresh id.
    assert any(name.startswith('r-d0002-') for name in cell.person.episodes)
    found = cell.load()
    successes = [s for s in cell.summaries if s.success]
    assert [e.name for e in found] == ['demo_0', 'demo_1', 'demo_2'] and len(successes) == 3
    assert [len(e) for e in found] == [s.human_steps for s in successes]
    assert all(s.bc_steps == s.rl_steps == 0 for s in cell.summaries)
    # What the person's hand said is what is kept, at what they saw.
    name = successes[-1].episode
    acted = [s for s in cell.steps if s.episode == name and s.decision.source == HUMAN]
    acted = [s for s in acted if not s.final]
    np.testing.assert_array_equal(found[-1].actions, [s.decision.action for s in acted])
    np.testing.assert_array_equal(found[-1].observations, [s.observation for s in acted])
    assert found[-1].rewards[-1] == cell.task.reward.success
    with h5py.File(cell.file) as file:
        assert file['data'].attrs['total'] == sum(map(len, found))
    diagnosed = cell.recorder.diagnose()
    assert diagnosed['demonstrations'] == diagnosed['wanted'] == 3


def test_a_failure_by_the_persons_word_is_none_and_time_before_they_act_does_not_run(
    bench, tmp_path
):
    cell = Cell(bench, tmp_path, lockstep=True, wanted=1)
    cell.person.present = False
    cell.until(lambda: cell.said == '0 of 1 demonstrations: the person at the lever may begin')
    assert cell.steps == [] and cell.arm._logic.state is ArmState.RESETTING
    cell.person.present = True
    cell.until(lambda: len(cell.steps) >= 3)
    request = LabelEpisode.Request(success=False)
    assert bench.call(LabelEpisode, 'arm_interface/label_episode', request).success
    cell.until(lambda: cell.summaries)
    assert cell.summaries[0].end_reason == ExecutedStep.END_FAILURE
    cell.until(lambda: cell.recorder.diagnose()['episodes that are none'] == 1)
    assert not cell.file.exists()
    cell.until(lambda: cell.recorder.finished)
    (found,) = cell.load()
    assert len(found) == cell.summaries[-1].human_steps


def test_in_real_time_a_lever_let_go_holds_and_these_ticks_are_left_out(bench, tmp_path):
    cell = Cell(bench, tmp_path, lockstep=False, wanted=1)
    cell.until(lambda: any(s.decision.source == HUMAN for s in cell.steps))
    episode = cell.person.episodes[-1]
    cell.person.present = False
    cell.until(lambda: cell.steps[-1].decision.source == HOLD)
    cell.person.present = True
    cell.until(lambda: cell.recorder.finished)
    assert cell.arm.counters['missed_decisions'] == 0
    summary = next(s for s in cell.summaries if s.episode == episode)
    assert summary.hold_steps > 0
    (found,) = cell.load()
    assert len(found) == cell.summaries[-1].human_steps
    lines = [json.loads(line) for line in (cell.run_dir / 'episodes.jsonl').open()]
    assert {line['mode'] for line in lines} == {'HUMAN'}
    assert {line['phase'] for line in lines} == {'DEMONSTRATING'}


def test_a_folder_with_somebodys_demonstrations_is_refused(bench, tmp_path):
    (tmp_path / 'demonstrations.hdf5').write_bytes(b'of somebody')
    node = bench.start(DemonstrationRecorder, activate=False, run_dir=str(tmp_path))
    assert node.start() == 2
    assert (tmp_path / 'demonstrations.hdf5').read_bytes() == b'of somebody'
    with pytest.raises(InputError):
        load_demonstrations(tmp_path / 'demonstrations.hdf5', well_estimated_task(tmp_path / 't'))
