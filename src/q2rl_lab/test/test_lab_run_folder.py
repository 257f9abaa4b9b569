# SPDX-License-Identifier: Apache-2.0
"""Folders of runs."""

from __future__ import annotations

from dataclasses import replace
import json
import shlex

import pytest

from q2rl_lab.run_folder import (
    RunConfig,
    RunFolder,
    create_run,
    latest_run,
    open_run,
    resume_config,
    resume_line,
)
from q2rl_learner.config import load_preset
from q2rl_task import InputError, load_task

CONFIG = RunConfig('pipe_assembly', seed=4)


def test_a_new_run_is_the_latest(tmp_path):
    one = create_run(tmp_path, 'one', CONFIG, {})
    two = create_run(tmp_path, 'two', CONFIG, {'q2rl': '1'})
    for run in (one, two):
        with latest_run(run):
            assert open_run(tmp_path, None) == run
    assert open_run(tmp_path, None) == two
    assert open_run(tmp_path, 'one').id == 'one'
    assert open_run(tmp_path / 'elsewhere', str(two.path)) == two
    assert (tmp_path / 'latest').readlink().name == 'two'
    assert two.read_config() == CONFIG
    assert json.loads(two.config.read_text())['versions'] == {'q2rl': '1'}


def test_unnamed_runs_get_names_of_their_own(tmp_path):
    assert create_run(tmp_path, None, CONFIG, {}).id != create_run(tmp_path, None, CONFIG, {}).id


def test_an_occupied_folder_is_refused_and_untouched(tmp_path):
    (tmp_path / 'one').mkdir()
    (tmp_path / 'one' / 'thesis.tex').write_text('x')
    with pytest.raises(InputError, match='is not empty; name another run, or go on with this'):
        create_run(tmp_path, 'one', CONFIG, {})
    assert [p.name for p in (tmp_path / 'one').iterdir()] == ['thesis.tex']


@pytest.mark.parametrize('name', ['../out', 'a/b', '.', '..', 'latest', '', 'my run', 'a@b', '-a'])
def test_names_that_no_run_can_have_are_refused_before_anything_is_made(tmp_path, name):
    with pytest.raises(InputError, match=r'--run: .* is no name for a run'):
        create_run(tmp_path, name, CONFIG, {})
    assert not list(tmp_path.iterdir())


def test_someones_own_latest_is_left_alone(tmp_path):
    (tmp_path / 'latest').mkdir()
    with latest_run(create_run(tmp_path, 'one', CONFIG, {})):
        assert not (tmp_path / 'latest').is_symlink()
    assert (tmp_path / 'latest').is_dir()


@pytest.mark.parametrize('before', [True, False])
def test_a_start_that_fails_gives_latest_back_and_one_that_is_interrupted_keeps_it(
    tmp_path, before
):
    one = create_run(tmp_path, 'one', CONFIG, {})
    if before:
        with latest_run(one):
            pass
    two, link = create_run(tmp_path, 'two', CONFIG, {}), tmp_path / 'latest'
    with pytest.raises(InputError), latest_run(two):
        raise InputError('file', 'is none', 'name one')
    assert (str(link.readlink()) if link.is_symlink() else None) == ('one' if before else None)
    with pytest.raises(KeyboardInterrupt), latest_run(two):
        raise KeyboardInterrupt
    assert str(link.readlink()) == 'two'
    with latest_run(one):  # resumed
        assert open_run(tmp_path, None) == one


def test_a_start_that_fails_leaves_latest_to_a_run_that_started_after_it(tmp_path):
    one, two, three = (create_run(tmp_path, name, CONFIG, {}) for name in ('one', 'two', 'three'))
    with latest_run(one):
        pass
    with pytest.raises(InputError), latest_run(two):
        with latest_run(three):
            pass
        raise InputError('file', 'is none', 'name one')
    assert open_run(tmp_path, None) == three


def test_a_run_that_fails_after_it_began_stays_the_latest(tmp_path):
    one, two = (create_run(tmp_path, name, CONFIG, {}) for name in ('one', 'two'))
    with latest_run(one):
        pass
    with pytest.raises(RuntimeError, match='stuck'), latest_run(two):
        two.state.write_text('{}')
        raise RuntimeError('stuck')
    assert open_run(tmp_path, None) == two


def test_the_line_that_goes_on_can_be_pasted_whatever_the_folders_are_called(tmp_path):
    run = RunFolder(tmp_path / 'my runs' / 'of before')
    words = ['--run', run.id, '--runs-dir', str(run.path.parent)]
    line = resume_line('up', run, run.path.parent)
    assert shlex.split(line) == ['./q2rl', 'up', '--resume', *words]


def test_a_missing_run_names_those_there(tmp_path):
    with pytest.raises(InputError, match='start one with'):
        open_run(tmp_path, None)
    create_run(tmp_path, 'one', CONFIG, {})
    with pytest.raises(InputError, match=r'name one of one$'):
        open_run(tmp_path, 'two')


def test_a_folder_that_is_no_run_is_said_to_be_there(tmp_path):
    (tmp_path / 'notes').mkdir()
    with pytest.raises(InputError, match='notes: is not the folder of a run'):
        open_run(tmp_path, 'notes')
    with pytest.raises(InputError, match='is not the folder of a run'):
        open_run(tmp_path / 'runs', str(tmp_path / 'notes'))


def test_a_run_is_used_by_one_process(tmp_path):
    run = create_run(tmp_path, 'one', CONFIG, {})
    with run.lock(), pytest.raises(InputError, match='another q2rl is at work'):
        run.lock()
    run.lock().close()


def test_a_run_that_cannot_be_locked_is_told_in_one_line(tmp_path):
    run = create_run(tmp_path, 'one', CONFIG, {})
    (run.path / '.lock').mkdir()
    with pytest.raises(InputError, match=r'\.lock: cannot be written'):
        run.lock()


def test_resuming_takes_the_old_settings_and_refuses_others(tmp_path):
    run = create_run(tmp_path, 'one', CONFIG, {})
    assert resume_config(run, {'seed': None, 'task': 'pipe_assembly', 'steps': None}) == CONFIG
    with pytest.raises(InputError, match='--seed: run one was started with 4, not 5'):
        resume_config(run, {'seed': 5})
    assert resume_config(run, {'device': 'cuda'}) == replace(CONFIG, device='cuda')


def test_a_run_without_a_v_may_be_given_more_rollouts_for_good(tmp_path):
    run = create_run(tmp_path, 'one', CONFIG, {'q2rl': '1'})
    more = CONFIG.rollouts + 20
    config = resume_config(run, {'rollouts': more})
    assert config == replace(CONFIG, rollouts=more) and run.read_config() == CONFIG
    started = json.loads(run.config.read_text())
    run.keep_length(config)
    assert resume_config(run, {}) == config
    kept = json.loads(run.config.read_text())
    assert (kept['started'], kept['versions']) == (started['started'], started['versions'])
    with pytest.raises(InputError, match='--rollouts: run one was started with'):
        resume_config(run, {'rollouts': more - 1})
    run.learner.mkdir()
    (run.learner / 'state.safetensors').touch()
    with pytest.raises(InputError, match='--rollouts: V of run one is fitted already'):
        resume_config(run, {'rollouts': more + 1})
    assert resume_config(run, {'rollouts': more}) == config


def test_a_run_may_be_given_more_steps_and_another_goal_for_good(tmp_path):
    run = create_run(tmp_path, 'one', CONFIG, {})
    more = CONFIG.steps + 100
    with pytest.raises(InputError, match='--steps: run one was started with'):
        resume_config(run, {'steps': CONFIG.steps - 1})
    config = resume_config(run, {'steps': more})
    assert config == replace(CONFIG, steps=more)
    run.keep_length(config)
    assert resume_config(run, {}) == config
    config = resume_config(run, {'goal': 95})
    assert config.goal == 95
    run.keep_length(config)
    with pytest.raises(InputError, match=r'--steps: run one learns until 95 %.*name a --goal'):
        resume_config(run, {'steps': more + 1})
    wanted = replace(config, steps=more + 1, goal=0)
    assert resume_config(run, {'steps': more + 1, 'goal': 0}) == wanted


def test_a_resume_keeps_how_the_arm_is_commanded_and_an_older_run_has_the_usual_way(tmp_path):
    run = create_run(tmp_path, 'one', replace(CONFIG, command_sink='joint_position'), {})
    assert resume_config(run, {'command_sink': None}).command_sink == 'joint_position'
    with pytest.raises(InputError, match='--command-sink: run one was started with joint_position'):
        resume_config(run, {'command_sink': 'pose_target'})
    content = json.loads(run.config.read_text())
    del content['asked']['command_sink']
    run.config.write_text(json.dumps(content))
    assert resume_config(run, {}).command_sink == 'auto'


@pytest.mark.parametrize(
    'method, preset, wanted',
    [
        (None, None, 'laptop-long+q2rl/self-imitation'),
        ('q2rl', None, 'laptop-long+q2rl'),
        ('ibrl', None, 'laptop-long+ibrl'),
        ('ibrl', 'laptop', 'laptop+ibrl'),
        (None, 'laptop', 'laptop'),
    ],
)
def test_a_method_takes_the_place_of_the_one_that_the_task_names(method, preset, wanted):
    config = RunConfig.of_task(load_task('kitting'), method, task='kitting', preset=preset)
    assert config.preset == wanted
    assert 'imitation' in wanted or load_preset(config.preset).imitation == 'both'


def test_resuming_takes_the_method_that_the_run_was_started_with(tmp_path):
    run = create_run(tmp_path, 'one', replace(CONFIG, preset='laptop-long+ibrl'), {})
    assert resume_config(run, {}, 'ibrl').preset == 'laptop-long+ibrl'
    assert resume_config(run, {'preset': 'laptop-long'}, 'ibrl').preset == 'laptop-long+ibrl'
    for preset, method in ((None, 'rlpd'), ('laptop', 'ibrl')):
        with pytest.raises(InputError, match='--preset: run one was started with laptop-long'):
            resume_config(run, {'preset': preset}, method)


@pytest.mark.parametrize('text', ['', '{', '{"asked": {"task": "a", "colour": 1}}', '{"asked": 3}'])
def test_a_damaged_config_is_said_in_one_line(tmp_path, text):
    run = create_run(tmp_path, 'one', CONFIG, {})
    run.config.write_text(text)
    with pytest.raises(InputError, match=r'config\.json: cannot be read') as caught:
        run.read_config()
    assert '\n' not in str(caught.value)
