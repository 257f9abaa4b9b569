# SPDX-License-Identifier: Apache-2.0
"""What a run has learned as files: they act as the run does, and are found by what acts without a learner."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner
from untrained import untrained_clone

from q2rl_bringup.run_preparation import policy_in
from q2rl_lab.cli import app
from q2rl_lab.evaluation import learned, learned_from
from q2rl_lab.run_folder import RunConfig, create_run
from q2rl_lab.shadow_run import find_learned
from q2rl_learner.config import load_preset
from q2rl_learner.learned_weights import SETTINGS, holds_weights
from q2rl_learner.learner_state import save_state
from q2rl_learner.online_learner import OnlineLearner
from q2rl_task import Mode, ObservationRecord, load_task

TASK = load_task('pipe_assembly')
PRESET = 'tiny+ibrl'
"""One that decides otherwise than q2rl whose value counts: a gate that does not know is told apart."""


@pytest.fixture
def folder(tmp_path):
    """A run in `tmp_path/runs` that has a clone and has learned."""
    made = create_run(tmp_path / 'runs', 'seven', RunConfig('pipe_assembly', 7, preset=PRESET), {})
    config = load_preset(PRESET)
    untrained_clone(made.bc, config.bc, TASK)
    learner = OnlineLearner(config, TASK, 3)
    learner.weights_version, learner.trained_steps = 5, 40
    made.learner.mkdir()
    save_state(made.learner / 'state.safetensors', learner)
    return made


def export(folder, *more):
    words = ['export', folder.id, '--runs-dir', str(folder.path.parent), *map(str, more)]
    return CliRunner().invoke(app, words)


def test_what_is_written_acts_as_the_run_does(folder, tmp_path):
    out = tmp_path / 'policy'
    result = export(folder, '-o', out, '--json')
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told['weights_version'], told['trained_steps']) == (5, 40)
    assert sorted(told['files']) == sorted(path.name for path in out.iterdir())
    run = learned(folder.path, folder.bc, TASK, 'laptop', 0)
    alone = learned_from(out, policy_in(out), TASK, str(out / SETTINGS), 0)
    assert load_preset(out / SETTINGS) == load_preset(PRESET)
    rng = np.random.default_rng(0)
    for step in range(5):
        observation = rng.standard_normal(TASK.observation_size).astype(np.float32)
        record = ObservationRecord(
            stamp=0.1 * step,
            contract=TASK.contract_hash,
            episode='e1',
            step=step,
            mode=Mode.GATED,
            final=False,
            observation=observation,
        )
        found, expected = alone(record), run(record)
        assert len(expected.rl_action) == TASK.action_size and np.isfinite(expected.q_rl)
        np.testing.assert_equal(vars(found), vars(expected))


def test_it_is_written_beside_the_run_and_not_over_another(folder):
    assert export(folder).exit_code == 0
    out = folder.path / 'policy'
    assert holds_weights(out)
    again = export(folder)
    assert again.exit_code == 2 and 'is there already' in again.stderr
    folder.bc.rename(folder.path / 'bc.yaml')
    assert export(folder, '--force').exit_code == 0
    assert policy_in(out).name == 'bc.yaml' and not (out / 'bc.safetensors').exists()


def test_a_policy_that_lies_where_it_is_to_go_stays(folder, tmp_path):
    before = folder.bc.read_bytes()
    result = export(folder, '-o', folder.path, '--force')
    assert result.exit_code == 2 and 'name another folder' in result.stderr
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'bc.safetensors').write_bytes(b'mine')
    assert export(folder, '-o', tmp_path / 'mine').exit_code == 2
    assert (tmp_path / 'mine' / 'bc.safetensors').read_bytes() == b'mine'
    assert folder.bc.read_bytes() == before and not holds_weights(folder.path)


def test_the_shadow_takes_its_settings(folder, tmp_path):
    out = tmp_path / 'policy'
    assert export(folder, '-o', out).exit_code == 0
    what = find_learned(tmp_path / 'runs', str(out), None, 'pipe_assembly', None)
    assert (what.preset, what.bc) == (str(out / SETTINGS), out / 'bc.safetensors')
    assert find_learned(tmp_path, str(out), None, 'pipe_assembly', 'tiny').preset == 'tiny'


def test_a_policy_that_a_launch_was_given_is_taken_from_where_it_is(folder, tmp_path):
    elsewhere = tmp_path / 'mine.safetensors'
    folder.bc.rename(elsewhere)
    asked = RunConfig('pipe_assembly', 7, preset=PRESET, bc=str(elsewhere))
    made = create_run(tmp_path / 'runs', 'eight', asked, {})
    folder.learner.rename(made.learner)
    assert export(made, '-o', tmp_path / 'policy').exit_code == 0
    assert (tmp_path / 'policy' / 'bc.safetensors').read_bytes() == elsewhere.read_bytes()


@pytest.mark.parametrize(
    'gone, said', [('learner/state.safetensors', 'nothing was learned'), ('bc.safetensors', 'BC')]
)
def test_a_run_that_lacks_something_writes_nothing(folder, tmp_path, gone, said):
    (folder.path / gone).unlink()
    result = export(folder, '-o', tmp_path / 'policy')
    assert result.exit_code == 2 and said in result.stderr
    assert len(result.stderr.splitlines()) == 1 and not (tmp_path / 'policy').exists()
