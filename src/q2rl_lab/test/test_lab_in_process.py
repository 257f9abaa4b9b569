# SPDX-License-Identifier: Apache-2.0
"""A whole run in one process: phases, counts and files; then the same cell for an evaluation."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from q2rl_control.run_settings import RunSettings
from q2rl_lab.cell import Deciders
from q2rl_lab.in_process import InProcessRun, evaluate
from q2rl_learner.bc_training import train_bc
from q2rl_learner.config import BCConfig, load_preset
from q2rl_learner.episodes import Episode
from q2rl_learner.learner_state import load_state
from q2rl_learner.online_learner import OnlineLearner
from q2rl_learner.transition_log import TransitionLog
from q2rl_policies.bc import MixtureBCPolicy
from q2rl_policies.gate import QGate
from q2rl_policies.torch_runtime import prepare_torch
from q2rl_sim.demonstrations import record_demonstrations
from q2rl_task import Mode, Phase, load_task

TASK = load_task('pipe_assembly')
SEED = 0


@pytest.fixture(scope='module')
def demonstrations() -> list[Episode]:
    return [
        Episode.demonstration(f'demo_{k}', d.observations, d.actions, d.rewards, d.success)
        for k, d in enumerate(record_demonstrations(TASK, 20, SEED, 1.0))
    ]


@pytest.fixture(scope='module')
def net(demonstrations):
    return train_bc(demonstrations, BCConfig(), TASK, SEED)[0]


def small_config():
    preset = load_preset('laptop')
    fit = preset.fit.model_copy(
        update={'value_steps': 100, 'critic_steps': 20, 'actor_steps': 20, 'completions': 1}
    )
    small = {'critic_hidden': (32, 32), 'actor_hidden': (32, 32), 'batch': 32, 'publish_every': 50}
    return preset.model_copy(update={'fit': fit, **small})


def run(tmp_path, demonstrations, net):
    settings = RunSettings(
        run_id='t',
        seed=SEED,
        rollouts=8,
        online_steps=80,
        bc_only_every=0,
        rl_only_every=0,
        evaluation_episodes=1,
    )
    prepare_torch()
    learner = OnlineLearner(small_config(), TASK, SEED, demonstrations, net)
    bc = MixtureBCPolicy(net, SEED, TASK.contract_hash)
    return InProcessRun(TASK, settings, bc, learner, tmp_path)


@pytest.fixture(scope='module')
def finished(tmp_path_factory, demonstrations, net):
    """Return a run that is through, its records and its folder."""
    folder = tmp_path_factory.mktemp('run')
    trial = run(folder, demonstrations, net)
    return trial, trial.run(), folder


def test_a_run_goes_through_its_phases_and_accounts_for_every_step(finished):
    trial, records, folder = finished
    assert trial.plan.phase is Phase.FINISHED, trial.plan.detail
    phases = [r.phase for r in records]
    assert phases == sorted(phases, key=['ESTIMATING', 'ONLINE', 'EVALUATING'].index)
    assert phases.count('ESTIMATING') == 8
    assert [r.mode for r in records if r.phase == 'EVALUATING'] == ['BC', 'GATED', 'RL']
    online = sum(r.steps for r in records if r.phase == 'ONLINE')
    assert online >= 80
    assert trial.learner.online_steps == online
    assert trial.learner.gradient_steps == trial.config.critic_updates_per_step * online
    log = TransitionLog(folder / 'transitions.db', read_only=True)
    assert [t.sequence for t in log.replay()] == list(range(1, sum(r.steps for r in records) + 1))
    lines = (folder / 'episodes.jsonl').read_text().splitlines()
    assert [json.loads(line)['episode'] for line in lines] == [r.episode for r in records]
    state = json.loads((folder / 'run_state.json').read_text())
    assert state['extra']['next_sequence'] == sum(r.steps for r in records) + 1
    assert (folder / 'learner' / 'state.safetensors').is_file()


def test_a_run_of_the_simulated_arm_goes_on_with_all_it_had_learned(tmp_path, demonstrations, net):
    """As on an arm that was switched off: it begins at its ready pose. What it learned is the same to the bit."""
    trial = run(tmp_path, demonstrations, net)

    def interrupt(progress):
        if progress.episode.phase == 'ONLINE':
            raise KeyboardInterrupt

    trial._on_progress = interrupt
    with pytest.raises(KeyboardInterrupt):
        trial.run()
    steps = sum(r.steps for r in trial.records)
    fresh = OnlineLearner(small_config(), TASK, SEED, demonstrations, net)
    load_state(tmp_path / 'learner' / 'state.safetensors', fresh)
    assert 0 < fresh.gradient_steps <= trial.learner.gradient_steps
    again = run(tmp_path, demonstrations, net)
    again._take_up()
    assert again.learner.gradient_steps == trial.learner.gradient_steps
    assert again.learner.weights_version == trial.learner.weights_version
    for one, other in zip(
        again.learner.critics.parameters(), trial.learner.critics.parameters(), strict=True
    ):
        assert torch.equal(one, other)
    records = run(tmp_path, demonstrations, net).run()
    assert [r.mode for r in records if r.phase == 'EVALUATING'] == ['BC', 'GATED', 'RL']
    every = [r.episode for r in trial.records + records]
    assert len(set(every)) == len(every) and every[8] == 't-o0001'
    log = TransitionLog(tmp_path / 'transitions.db', read_only=True)
    steps += sum(r.steps for r in records)
    assert [t.sequence for t in log.replay()] == list(range(1, steps + 1))


def test_the_same_seed_gives_the_same_run(tmp_path, finished, demonstrations, net):
    _, one, _ = finished
    two = run(tmp_path, demonstrations, net).run()
    assert [(r.episode, r.steps, r.success) for r in one] == [
        (r.episode, r.steps, r.success) for r in two
    ]
    np.testing.assert_array_equal([r.peak_force for r in one], [r.peak_force for r in two])


def test_an_evaluation_is_paired_across_deciders_and_repeatable(net):
    def decide():
        return Deciders(MixtureBCPolicy(net, 3, TASK.contract_hash), QGate(0.05, 6))

    first = evaluate(TASK, decide(), Mode.BC, 2, seed=9)
    again = evaluate(TASK, decide(), Mode.BC, 2, seed=9)
    assert first == again
    assert len(first.outcomes) == 2
    with pytest.raises(ValueError, match='at least one'):
        evaluate(TASK, decide(), Mode.BC, 0, seed=9)
