# SPDX-License-Identifier: Apache-2.0
"""Recording, cloning, and reading policies back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from q2rl_lab import prepare_run
from q2rl_lab.cli import app
from q2rl_lab.evaluation import bc_alone, bc_from_file, learned, summarize, summary_in_words
from q2rl_lab.preparation import prepare, tell, wanted_demonstrations
from q2rl_lab.run_data import read_run
from q2rl_lab.run_folder import RunConfig, RunFolder, create_run
from q2rl_learner.config import load_preset
from q2rl_learner.demonstrations import load_demonstrations
from q2rl_learner.learner_state import save_state
from q2rl_learner.online_learner import OnlineLearner
from q2rl_sim.demonstrations import Demonstration, write_demonstrations
from q2rl_task import InputError, Mode, ObservationRecord, Phase, Source, load_task

SMALL = (
    'bc: {steps: 20, evaluate_every: 10, hidden: [16]}\ncritic_hidden: [16]\nactor_hidden: [16]\n'
)


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
    """A run with three demonstrations and a small clone; what was told while it was made."""
    runs = tmp_path_factory.mktemp('runs')
    (runs / 'small.yaml').write_text(SMALL)
    config = RunConfig('pipe_assembly', preset=str(runs / 'small.yaml'), demonstrations=3)
    folder = create_run(runs, 'one', config, {})
    return folder, prepare(folder, config)


def test_a_run_is_prepared_once(prepared, capsys):
    folder, done = prepared
    assert done['demonstrations']['demonstrations'] == done['bc']['demonstrations'] == 3
    before = (folder.demonstrations.stat().st_mtime_ns, folder.bc.stat().st_mtime_ns)
    assert prepare(folder, folder.read_config()) == {}
    assert (folder.demonstrations.stat().st_mtime_ns, folder.bc.stat().st_mtime_ns) == before
    assert json.loads((folder.path / 'preparation.json').read_text()) == done
    tell(done)
    assert [line.split(',')[0] for line in capsys.readouterr().err.splitlines()] == [
        '3 demonstrations', f'BC cloned: {done["bc"]["held_out_nll"]:.2f} nats per action on held-out demonstrations',
    ]  # fmt: skip


def test_a_launch_prepares_its_run_as_up_does(prepared, tmp_path, capsys):
    folder, _ = prepared
    config, made = folder.read_config(), RunFolder(tmp_path / 'runs' / 'launched')
    asked = {'task': config.task, 'preset': config.preset, 'demonstrations': 3, 'steps': 70}
    words = [str(made.path), json.dumps(asked), '--ros-args', '--log-level', 'info']
    assert prepare_run.main(words) == 0
    assert made.bc.read_bytes() == folder.bc.read_bytes()
    kept = made.read_config()
    assert (kept.steps, kept.rollouts) == (70, load_task(config.task).learning.rollouts)
    assert 'BC cloned' in capsys.readouterr().err
    words[1] = json.dumps({**asked, 'bc': str(tmp_path / 'gone.safetensors')})
    words[0] = str(tmp_path / 'other')
    assert prepare_run.main(words) == 2
    assert 'gone.safetensors: cannot be read' in capsys.readouterr().err


def test_demonstrations_are_read_as_they_were_written(tmp_path):
    task, rng, path = load_task('pipe_assembly'), np.random.default_rng(0), tmp_path / 'd.hdf5'
    written = [
        Demonstration(
            rng.normal(size=(steps + 1, task.observation_size)).astype(np.float32),
            rng.uniform(-1.0, 1.0, (steps, task.action_size)).astype(np.float32),
            -np.ones(steps, dtype=np.float32),
            np.zeros((steps, 4)),
            steps > 1,
        )
        for steps in range(1, 12)
    ]
    write_demonstrations(path, task, written)
    for made, read in zip(written, load_demonstrations(path, task), strict=True):
        np.testing.assert_array_equal(read.observations, made.observations[:-1])
        np.testing.assert_array_equal(read.next_observations, made.observations[1:])
        np.testing.assert_array_equal(read.actions, made.actions)
        np.testing.assert_array_equal(read.rewards, made.rewards)
        assert read.terminated == made.success


def test_a_run_takes_demonstrations_that_are_there(prepared, tmp_path, capsys):
    folder, _ = prepared
    task = load_task('pipe_assembly')
    path = wanted_demonstrations(str(folder.demonstrations), task)
    config = RunConfig('pipe_assembly', demonstrations=path, bc=str(folder.bc))
    made = create_run(tmp_path, 'two', config, {})
    assert made.read_config() == config
    done = prepare(made, config)
    assert made.demonstrations.read_bytes() == folder.demonstrations.read_bytes()
    assert done['demonstrations']['taken'] == path
    tell(done)
    assert f'demonstrations from {path}' in capsys.readouterr().err
    assert wanted_demonstrations('7', task) == 7 and wanted_demonstrations(None, task) is None


@pytest.mark.parametrize(
    'text, said', [('1', '1 is too few'), ('-3', 'no such file'), ('gone.hdf5', 'no such file')]
)
def test_demonstrations_that_are_not_there_are_refused_before_a_run(
    tmp_path, monkeypatch, text, said
):
    monkeypatch.chdir(tmp_path)
    for verb in ('learn', 'up'):
        done = CliRunner().invoke(app, [verb, 'pipe_assembly', '--demonstrations', text])
        assert done.exit_code == 2 and said in ' '.join(done.stderr.split())
    assert not list(tmp_path.iterdir())


def test_the_same_seed_clones_the_same_policy(prepared, tmp_path):
    folder, _ = prepared
    again = tmp_path / 'again.safetensors'
    result = CliRunner().invoke(app, [
        'train-bc', str(folder.demonstrations), '-o', str(again), '-n', '0', '--json',
        '--preset', folder.read_config().preset,
    ])  # fmt: skip
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)['demonstrations'] == 3
    assert again.read_bytes() == folder.bc.read_bytes()


def observation(task, mode=Mode.BC):
    zeros = np.zeros(task.observation_size, dtype=np.float32)
    return ObservationRecord(0.0, task.contract_hash, 'e', 0, mode, False, zeros)


def test_a_clone_alone_acts_by_its_own_samples(prepared):
    folder, _ = prepared
    task = load_task('pipe_assembly')
    decision = bc_alone(folder.bc, task, 4)(observation(task))
    expected = bc_from_file(folder.bc, task, 4).act(observation(task).observation)
    assert decision.source is Source.BC
    np.testing.assert_array_equal(decision.action, expected.action)


def test_what_a_learner_saved_acts_again(prepared):
    folder, _ = prepared
    task, preset = load_task('pipe_assembly'), folder.read_config().preset
    with pytest.raises(InputError, match='nothing was learned yet'):
        learned(folder.path, folder.bc, task, preset, 0)
    learner = OnlineLearner(load_preset(preset), task, 0)
    learner.weights_version = 6
    save_state(folder.path / 'learner' / 'state.safetensors', learner)
    decision = learned(folder.path, folder.bc, task, preset, 0)(observation(task, Mode.RL))
    assert (decision.source, decision.actor_version) == (Source.RL, 6)
    for kind in ('actor', 'critic'):
        (folder.path / 'learner' / f'{kind}.safetensors').write_bytes(learner.weights(kind))
    by_files = learned(folder.path, folder.bc, task, preset, 0)(observation(task, Mode.RL))
    np.testing.assert_array_equal(by_files.action, decision.action)
    assert by_files.q_rl == pytest.approx(decision.q_rl)
    # The critics' file says which alpha they were trained against: a preset with another changes nothing of BC's worth.
    rated = [
        learned(folder.path, folder.bc, task, said, 0)(observation(task, Mode.GATED)).q_bc
        for said in (preset, 'laptop+q2rl/alpha-1')
    ]
    assert np.isfinite(rated).all() and rated[0] == rated[1]


def test_a_damaged_state_is_bad_input(prepared, tmp_path):
    folder, _ = prepared
    (tmp_path / 'learner').mkdir()
    (tmp_path / 'learner' / 'state.safetensors').write_bytes(b'not tensors')
    with pytest.raises(InputError, match='not a readable state'):
        learned(tmp_path, folder.bc, load_task('pipe_assembly'), 'laptop', 0)


def test_the_summary_of_an_evaluation(run):
    run.add(Phase.EVALUATING, Mode.GATED, True, peak_force=31.0)
    run.add(Phase.EVALUATING, Mode.GATED, False)
    records = read_run(run.write()).episodes
    numbers = summarize(Mode.GATED, records)
    assert numbers['success']['success'] == 0.5
    assert (numbers['mean_steps_to_success'], numbers['actions_by_rl']) == (4.0, 0.5)
    assert numbers['peak_force_n'] == 31.0
    assert summarize(Mode.BC, [])['mean_steps_to_success'] is None
    said = summary_in_words(numbers)
    assert (said['actions_by_rl'], said['peak_force']) == ('50 %', '31.0 N')
    assert summary_in_words(summarize(Mode.BC, []))['peak_force'] is None


def test_eval_by_the_command_line_writes_every_episode(prepared, tmp_path):
    folder, _ = prepared
    path = tmp_path / 'episodes.csv'
    result = CliRunner().invoke(
        app, ['eval', '--bc', str(folder.bc), '-n', '2', '--csv', str(path), '--json']
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)['success']['n'] == 2
    lines = Path(path).read_text().splitlines()
    assert len(lines) == 3 and lines[0].startswith('robot,episode,number')
