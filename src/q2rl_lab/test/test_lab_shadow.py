# SPDX-License-Identifier: Apache-2.0
"""RL in the shadow: it is scored at every tick, it never acts, and what it would have done is counted."""

from __future__ import annotations

from dataclasses import replace
import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner
from untrained import untrained_clone

from q2rl_control.run_progress import PhaseCounts, RunProgress
from q2rl_control.run_store import RunStore
from q2rl_lab.cli import app
from q2rl_lab.console import finite_or_none
from q2rl_lab.episode_ticks import assemble, read_ticks
from q2rl_lab.film import make_film
from q2rl_lab.run_data import read_run
from q2rl_lab.run_folder import RunConfig, RunFolder, create_run
from q2rl_lab.shadow_files import write_shadow
from q2rl_lab.shadow_page import render_shadow
from q2rl_lab.shadow_result import PLACES, build_shadow, judged_ticks, shares_by_depth
from q2rl_lab.shadow_run import can_run_by_nodes, find_learned, make_folder, take_over
from q2rl_lab.trace_pictures import TracePictures
from q2rl_learner.config import load_preset
from q2rl_learner.online_learner import OnlineLearner
from q2rl_learner.transition_log import TransitionLog
from q2rl_task import InputError, Mode, Phase, Reason, Source, load_task

TASK = load_task('pipe_assembly')
EPISODES = 1


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """A folder of weights of an RL policy that is worth more than any BC everywhere, or so its critics say."""
    folder = tmp_path_factory.mktemp('weights')
    config = load_preset('tiny')
    untrained_clone(folder / 'bc.safetensors', config.bc, TASK)
    learner = OnlineLearner(config, TASK, 0)
    with torch.no_grad():
        learner.critics.head_bias.fill_(1e4)
    learner.weights_version = 3
    for kind in ('actor', 'critic'):
        (folder / f'{kind}.safetensors').write_bytes(learner.weights(kind))
    return folder


@pytest.fixture(scope='module')
def recorded(weights):
    """The run and the numbers that `q2rl shadow` makes of the weights."""
    runs = weights / 'runs'
    arguments = ['shadow', str(weights), '-n', str(EPISODES), '--preset', 'tiny', '--films', '0']
    result = CliRunner().invoke(app, [*arguments, '--runs-dir', str(runs), '--no-open', '--json'])
    assert result.exit_code == 0, result.output
    return RunFolder(runs / f'{weights.name}-shadow'), json.loads(result.stdout)


def test_no_action_of_rl_reached_the_arm_though_it_was_worth_more(recorded):
    folder, numbers = recorded
    log = TransitionLog(folder.transitions, TASK.contract_hash, read_only=True)
    transitions = list(log.replay())
    assert len(transitions) == numbers['ticks'] > 20
    for t in transitions:
        assert (t.source, t.would_act, t.reason) == (Source.BC, Source.RL, Reason.RL_HIGHER)
        np.testing.assert_array_equal(t.action, t.bc_action)
        assert len(t.rl_action) == TASK.action_size
        assert not np.array_equal(t.action, t.rl_action)
    assert numbers['actions_by_source'] == {'bc': numbers['ticks']}
    assert (numbers['rl_would_act'], numbers['judged']) == (1.0, numbers['ticks'])


def test_the_shadow_leaves_a_run_with_pages(recorded):
    folder, numbers = recorded
    assert folder.read_config().shadow and numbers['success']['n'] == EPISODES
    page = folder.shadow.read_text()
    for failure in numbers['failures']:
        name = failure['episode'].removeprefix(f'{folder.id}-')
        assert f'href="why/episode-{name}.html#0"' in page
        assert (folder.why / f'episode-{name}.html').is_file()
    assert not (folder.path.parent / 'latest').exists()


def test_its_episodes_can_be_filmed(recorded):
    data = read_run(recorded[0])
    ticks = read_ticks(data, data.episodes[-1])
    with TracePictures(data, 64, 48) as pictures:
        steps = pictures.steps(ticks.row, ticks.stamps)
        film, note = make_film(pictures, ticks)
    assert len(steps) == len(ticks.t)
    np.testing.assert_allclose(steps[:, 0] - steps[0, 0], ticks.t, atol=1e-6)
    assert len(film) == len(ticks.t) or note.startswith('No film: no off-screen OpenGL')


def test_a_run_in_the_shadow_is_reported_on_as_it_is(recorded):
    folder, numbers = recorded
    arguments = [folder.id, '--films', '0', '--no-open', '--runs-dir', str(folder.path.parent)]
    result = CliRunner().invoke(app, ['shadow', *arguments])
    assert result.exit_code == 0, result.output
    assert f'{numbers["judged"]} of {numbers["ticks"]}' in result.stdout
    assert str(folder.shadow) in ''.join(result.stdout.split())
    assert [path.name for path in folder.path.parent.iterdir()] == [folder.id]


def test_an_evaluation_that_is_recorded_can_be_looked_at(weights, tmp_path):
    arguments = ['eval', '--bc', str(weights / 'bc.safetensors'), '-n', '1', '--record', 'look']
    result = CliRunner().invoke(app, [*arguments, '--runs-dir', str(tmp_path), '--json'])
    assert result.exit_code == 0, result.output
    data = read_run(RunFolder(tmp_path / 'look'))
    (row,) = data.episodes
    assert len(read_ticks(data, row).t) == row.steps + 1 and data.folder.trace.is_file()


def episode(run, success, wants, depth=0.0, force=0.0, margin=1.0, apart=0.0):
    """Ticks of an episode whose every tick is the same; `wants`: on which of them RL would act."""
    run.add(Phase.EVALUATING, Mode.BC, success)
    first = run._transitions[-1]
    observation = np.zeros(run.task.observation_size, dtype=np.float32)
    observation[2] = depth / run.task.observation_scale()[2]
    rl_action = np.array([apart, 0, 0, 0, 0, 0], dtype=np.float32)
    made = [
        replace(
            first, step=k, stamp=0.05 * k, observation=observation, next_observation=observation,
            force=force, rl_action=rl_action, would_act=Source.RL if want else Source.BC,
            source=Source.BC, q_bc=-20.0, q_rl=-20.0 + (margin if want else -margin), q_spread=0.5,
        )
        for k, want in enumerate(wants)
    ]  # fmt: skip
    row = read_run(run.write()).episodes[-1]
    run._transitions.clear()
    return assemble(run.task, row, made)


@pytest.fixture
def three(run):
    return [
        episode(run, True, [True] * 2 + [False] * 6, depth=-0.01, margin=0.1),
        episode(run, False, [False] * 4 + [True] * 4, depth=0.01, force=20.0, margin=2.0, apart=0.5),
        episode(run, False, [True] * 8, depth=0.01, margin=3.0, apart=1.5),
    ]  # fmt: skip


def test_the_shares_by_phase_outcome_and_margin(run, three):
    judged = judged_ticks(three)
    numbers = build_shadow(run.task, 'r', three, judged)
    assert numbers['rl_would_act'] == pytest.approx(14 / 24)
    assert numbers['undecided'] == pytest.approx(8 / 24)
    places = {p['place']: (p['ticks'], p['rl_would_act']) for p in numbers['by_place']}
    # The first tick of an episode has felt no force yet.
    assert places == {
        PLACES[0]: (8, 0.25), PLACES[1]: (0, None), PLACES[2]: (9, 8 / 9), PLACES[3]: (7, 4 / 7),
    }  # fmt: skip
    assert numbers['by_outcome'] == {'bc_succeeded': 0.25, 'bc_failed': 0.75}
    _, shares, counts = shares_by_depth(judged)
    assert counts.sum() == 24 and shares[0] == 0.25 and shares[-1] == 0.75


def test_failures_and_differences_are_named_the_worst_first(run, three):
    numbers = build_shadow(run.task, 'r', three, judged_ticks(three))
    failures = [
        (f['episode'][-5:], f['rl_would_act'], f['first_tick']) for f in numbers['failures']
    ]
    assert failures == [('v0003', 1.0, 0), ('v0002', 0.5, 4)]
    worst = [(w['episode'][-5:], w['apart']) for w in numbers['worst']]
    assert worst == [('v0003', 1.5)] * 2 + [('v0002', 0.5)] * 2 + [('v0001', 0.0)] * 2
    assert numbers['worst'][2]['tick'] == 4
    page = render_shadow(numbers, judged_ticks(three), {'made_up-v0002': 'why/episode-v0002.html'})
    assert 'href="why/episode-v0002.html#4"' in page and 'made_up-v0003 at' in page
    assert json.loads(json.dumps(finite_or_none(numbers))) == numbers


def test_ticks_without_values_are_not_judged(run, three):
    ticks = replace(three[0], q_rl=np.full(9, np.nan))
    numbers = build_shadow(run.task, 'r', [ticks], judged_ticks([ticks]))
    assert (numbers['ticks'], numbers['judged'], numbers['rl_would_act']) == (8, 0, None)
    numbers['reasons'] = {'no_rl': 8}
    page = render_shadow(numbers, judged_ticks([ticks]), {})
    assert '0 of 8 ticks judged (8 no proposal of RL in time)' in page


def test_what_is_not_known_of_a_tick_is_not_made_up(run, three):
    lost = replace(three[0], depth=np.full(9, np.nan), q_spread=np.full(9, np.nan))
    numbers = build_shadow(run.task, 'r', [lost], judged_ticks([lost]))
    ticks = {p['place']: p['ticks'] for p in numbers['by_place']}
    assert sum(ticks[name] for name in PLACES[:4]) == 0
    assert sum(ticks.get(name, 0) for name in PLACES[4:]) == numbers['judged'] > 0
    assert numbers['undecided'] is None, 'how far the critics agree is not known'


def test_an_episode_that_was_not_logged_is_left_out(run):
    run.add(Phase.EVALUATING, Mode.BC, False, logged=False)
    run.add(Phase.EVALUATING, Mode.BC, False)
    said = []
    numbers = write_shadow(run.write(), tell=said.append)
    assert [failure['episode'] for failure in numbers['failures']] == ['made_up-v0002']
    assert 'left out: 1 (episode made_up-v0001: its ticks are not in' in said[0]


def test_what_is_put_in_the_shadow_is_found(run, weights):
    folder = run.write()
    runs = folder.path.parent
    what = find_learned(runs, 'made_up', None, 'x', 'y')
    assert (what.name, what.seed, what.learner) == ('made_up', 3, folder.learner)
    what = find_learned(runs, str(weights), None, 'pipe_assembly', 'tiny')
    assert (what.bc, what.preset, what.run) == (weights / 'bc.safetensors', 'tiny', None)
    assert not can_run_by_nodes(what)
    with pytest.raises(InputError, match='no such run'):
        find_learned(runs, 'nothing', None, 'x', 'y')


def test_the_nodes_take_over_what_a_run_learned_at_the_beginning_of_its_evaluation(run):
    run.add(Phase.ONLINE, Mode.GATED, True)
    folder = run.write()
    for path in (folder.learner / 'state.safetensors', folder.bc, folder.demonstrations):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b'learned')
    counts = {name: PhaseCounts(episodes=4) for name in ('ONLINE', 'EVALUATING')}
    progress = RunProgress(
        'made_up', 3, Phase.FINISHED, counts=counts, last_weights=9, superseded=[[4, 1]]
    )
    RunStore(folder.path).save(progress, {'next_sequence': 5, 'episodes_recorded': 8})
    what = find_learned(folder.path.parent, 'made_up', None, 'x', 'y')
    assert can_run_by_nodes(what)
    made = make_folder(what, folder.path.parent, None, 6, 11, in_process=False)
    assert made.read_config() == RunConfig(
        'pipe_assembly', 11, steps=0, eval_episodes=6, shadow=True
    )
    take_over(what, made, 11)
    progress, extra = RunStore(made.path).load()
    assert (progress.run_id, progress.seed, progress.phase) == (made.id, 11, Phase.EVALUATING)
    assert list(progress.counts) == ['ONLINE'] and progress.last_weights == 9
    assert progress.superseded == []
    assert extra == {'next_sequence': 5, 'episodes_recorded': 0}
    assert (made.learner / 'state.safetensors').read_bytes() == b'learned'
    copied = TransitionLog(made.transitions, run.task.contract_hash, read_only=True)
    assert copied.contiguous('arm') == 4
    assert make_folder(what, folder.path.parent, None, 6, 11, False).id == 'made_up-shadow-2'


def test_the_nodes_take_over_a_policy_that_is_a_class_by_its_yaml(run):
    folder = run.write()
    for path in (folder.learner / 'state.safetensors', folder.demonstrations):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b'learned')
    (folder.path / 'bc.yaml').write_text('python: mine:MyPolicy\n')
    RunStore(folder.path).save(RunProgress('made_up', 3, Phase.FINISHED), {})
    what = find_learned(folder.path.parent, 'made_up', None, 'x', 'y')
    made = make_folder(what, folder.path.parent, None, 6, 11, in_process=False)
    folder.demonstrations.rename(folder.path / 'elsewhere.hdf5')
    with pytest.raises(InputError, match=r'demonstrations\.hdf5: is not there'):
        take_over(what, made, 11)
    (folder.path / 'elsewhere.hdf5').rename(folder.demonstrations)
    take_over(what, made, 11)
    assert made.bc == made.path / 'bc.yaml' and 'MyPolicy' in made.bc.read_text()


@pytest.mark.parametrize(
    'arguments, said',
    [
        (['nothing'], 'no such run'),
        (['plain'], 'nothing was learned yet'),
        (['plain', '--nodes'], 'nothing was learned yet'),
        (['dark'], 'no episode with RL in the shadow'),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, arguments, said):
    create_run(tmp_path, 'plain', RunConfig('pipe_assembly'), {})
    create_run(tmp_path, 'dark', RunConfig('pipe_assembly', shadow=True), {})
    before = {path.name for path in tmp_path.iterdir()}
    result = CliRunner().invoke(app, ['shadow', *arguments, '--runs-dir', str(tmp_path)])
    assert result.exit_code == 2 and said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} == before
