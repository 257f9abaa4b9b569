# SPDX-License-Identifier: Apache-2.0
"""One episode tick by tick: what is put together of a run's files, what is said of it, and its page."""

from __future__ import annotations

from dataclasses import replace
import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

from q2rl_lab.browser import has_display
from q2rl_lab.cli import app
from q2rl_lab.console import finite_or_none
from q2rl_lab.episode_story import by_instruction, last_failure, remarks
from q2rl_lab.episode_ticks import REASONS, assemble, find_row, read_ticks
from q2rl_lab.film import encode, make_film
from q2rl_lab.run_data import read_run
from q2rl_lab.run_folder import RunFolder
from q2rl_lab.trace_pictures import TracePictures
from q2rl_lab.why_files import write_episodes
from q2rl_lab.why_page import render_list
from q2rl_task import EndReason, InputError, Mode, Phase, Reason, Source

STEPS = 4


def read(run):
    return read_run(run.write())


def transitions_of(run, count, **columns):
    """`count` transitions of one gated episode; a column is a list with an entry per transition."""
    run.add(Phase.ONLINE, Mode.GATED, False)
    first = run._transitions[0]
    made = [replace(first, step=k, stamp=0.05 * (k + 1)) for k in range(count)]
    for name, values in columns.items():
        made = [replace(t, **{name: value}) for t, value in zip(made, values, strict=True)]
    return made


def place(task, depth, lateral=0.0):
    observation = np.zeros(task.observation_size, dtype=np.float32)
    observation[[0, 2]] = np.array([lateral, depth]) / task.observation_scale()[2]
    return observation


def ticks_of(run, count, **columns):
    made = transitions_of(run, count, **columns)
    row = read(run).episodes[0]
    return assemble(run.task, replace(row, steps=count), made)


def test_a_force_belongs_to_the_state_it_was_felt_on_arriving_in(run):
    ticks = ticks_of(run, 3, force=[1.0, 2.0, 3.0])
    np.testing.assert_array_equal(ticks.force, [np.nan, 1.0, 2.0, 3.0])
    np.testing.assert_allclose(ticks.t, [0.0, 0.05, 0.1, 0.15])


def test_depth_and_distance_are_metres_in_the_estimated_frame(run):
    seen = [place(run.task, depth, 0.003) for depth in (-0.01, 0.0)]
    ticks = ticks_of(
        run, 2, observation=seen, next_observation=[seen[1], place(run.task, 0.02, -0.004)]
    )
    np.testing.assert_allclose(ticks.depth, [-0.01, 0.0, 0.02], atol=1e-7)
    np.testing.assert_allclose(ticks.lateral, [0.003, 0.003, 0.004], atol=1e-7)


def test_nothing_is_decided_at_the_end_and_what_is_not_known_is_not_made_up(run):
    own = np.full(run.task.action_size, 0.5, dtype=np.float32)
    ticks = ticks_of(
        run, 2, rl_action=[own, np.zeros(0, np.float32)], would_act=[Source.RL, Source.HOLD],
        critic_version=[3, 0], q_rl=[-1.0, np.nan],
    )  # fmt: skip
    assert ticks.would_act == (Source.RL, None, None)
    assert (ticks.source[-1], ticks.reason[-1], ticks.interventions[-1]) == (None, None, None)
    np.testing.assert_array_equal(ticks.rl_action[0], own)
    assert np.isnan(ticks.rl_action[1:]).all() and np.isnan(ticks.q_rl[1:]).all()
    np.testing.assert_array_equal(ticks.critic_version, [3, np.nan, np.nan])
    np.testing.assert_allclose(ticks.margin[0], -1.0 - ticks.q_bc[0])
    content = json.loads(json.dumps(finite_or_none(ticks.as_dict())))
    assert len(content['ticks']) == 3
    assert content['ticks'][0]['would_act'] == 'RL' and content['ticks'][1]['q_rl'] is None


def test_changes_of_hands_and_the_guard(run):
    ticks = ticks_of(
        run, 4, source=[Source.BC, Source.RL, Source.RL, Source.BC],
        interventions=[(), ('lead',), ('lead', 'force'), ()],
    )  # fmt: skip
    assert ticks.changes == [1, 3]
    assert ticks.limited.tolist() == [False, False, True, False, False]


def test_every_reason_has_words():
    assert set(REASONS) == set(Reason)


def test_an_episode_is_found_by_its_id_or_the_end_of_it(run):
    for success in (True, False):
        run.add(Phase.ONLINE, Mode.GATED, success)
    run.add(Phase.EVALUATING, Mode.BC, False)
    data = read(run)
    for name in ('made_up-o0002', 'o0002', 'o2'):
        assert find_row(data, name) is data.episodes[1]
    assert find_row(data, 'v1') is data.episodes[2]
    with pytest.raises(InputError, match=r'name one of o0001 to o0002, v0001$'):
        find_row(data, 'o3')


def test_an_evaluation_that_was_done_again_is_found_by_its_number(run):
    for name in ('made_up-v0002-1', 'made_up-v0002-2', 'made_up-v0020'):
        run.add(Phase.EVALUATING, Mode.BC, True, episode=name)
    assert find_row(read(run), 'v2').episode == 'made_up-v0002-2'
    assert find_row(read(run), 'v0002-1').episode == 'made_up-v0002-1'


def test_failures_come_first_and_of_them_those_that_the_gate_lost(run):
    run.add(Phase.ONLINE, Mode.GATED, True)
    run.add(Phase.ONLINE, Mode.GATED, False)
    run.add(Phase.ONLINE, Mode.GATED, False, reason=EndReason.FORCE_LIMIT)
    run.add(Phase.EVALUATING, Mode.BC, True, seed=7)
    run.add(Phase.EVALUATING, Mode.GATED, False, seed=7)
    run.add(Phase.EVALUATING, Mode.BC, False, seed=8)
    rows = read(run).episodes
    order = [row.episode.removeprefix('made_up-') for row in by_instruction(rows)]
    assert order == ['v0002', 'o0003', 'o0002', 'v0003', 'o0001', 'v0001']
    assert last_failure(rows).episode == 'made_up-v0002'
    assert last_failure(rows[:1]) is None


def test_what_was_interrupted_comes_last_and_is_called_neither_a_success_nor_a_failure(run):
    run.add(Phase.ONLINE, Mode.GATED, False, reason=EndReason.LOST)
    run.add(Phase.ONLINE, Mode.GATED, True)
    run.add(Phase.ONLINE, Mode.GATED, False)
    data = read(run)
    order = by_instruction(data.episodes)
    assert [row.episode.removeprefix('made_up-') for row in order] == ['o0003', 'o0002', 'o0001']
    lost = order[-1]
    assert remarks(run.task, read_ticks(data, lost))[0].text.startswith('Interrupted (lost), so')
    assert last_failure([lost]) is None
    page = render_list(data, order, {}, {})
    assert '3 episodes, 1 failed' in page and 'interrupted: lost' in page


def test_what_stands_out_is_said_with_the_tick_to_look_at(run):
    count = 40
    force = [0.0] * 5 + [20.0] * 34 + [45.0]
    seen = [place(run.task, -0.002 + 0.0004 * min(k, 5), 0.006) for k in range(count)]
    ticks = ticks_of(
        run, count, force=force, observation=seen, next_observation=seen,
        source=[Source.BC] * 39 + [Source.RL], q_rl=[-20.1] * 40, q_spread=[2.0] * 40,
    )  # fmt: skip
    told = {r.text: r.tick for r in remarks(run.task, ticks)}
    text = ' '.join(told)
    assert 'Failed by time limit after 2.0 s, the tip 0.0 mm' in text
    assert 'The highest force, 45 N at 2.00 s, came while RL acted.' in told
    assert told['The highest force, 45 N at 2.00 s, came while RL acted.'] == count
    assert 'Above the softening force (40 N) first at 2.00 s' in text
    assert 'No way down' in text and '6.0 mm off the estimated axis' in text
    assert 'differ by less than the critics disagree' in text


def test_nothing_is_said_of_a_depth_that_the_task_does_not_observe(run):
    ticks = ticks_of(run, 40, force=[20.0] * 40)
    assert any('No way down' in r.text for r in remarks(run.task, ticks))
    unknown = replace(ticks, depth=np.full(41, np.nan), lateral=np.full(41, np.nan))
    assert not any('No way down' in r.text for r in remarks(run.task, unknown))


def test_the_same_scene_under_other_modes_is_told(run):
    for mode, success in ((Mode.BC, True), (Mode.GATED, False), (Mode.RL, True)):
        run.add(Phase.EVALUATING, mode, success, seed=5)
    data = read(run)
    row = data.episodes[1]
    (same,) = [
        r.text for r in remarks(run.task, read_ticks(data, row), data.episodes) if 'same' in r.text
    ]
    assert 'BC alone succeeded' in same and 'RL alone succeeded' in same


@pytest.fixture
def pages(run):
    run.add(Phase.ONLINE, Mode.GATED, True)
    run.add(Phase.ONLINE, Mode.GATED, False)
    data = read(run)
    said = []
    paths = write_episodes(data, by_instruction(data.episodes)[:1], tell=said.append)
    return data, paths, said


def test_a_page_holds_its_ticks_and_needs_no_network(pages):
    data, (path,), said = pages
    assert path == data.folder.path / 'why' / 'episode-o0002.html'
    page = path.read_text()
    content = json.loads(re.search(r'id="data">(.*?)</script>', page)[1])
    lengths = {len(content[k]) for k in ('t', 'q_bc', 'source', 'force', 'limited', 'would_act')}
    assert lengths == {STEPS + 1}
    assert {len(c) for vectors in content['actions'].values() for c in vectors} == {STEPS + 1}
    assert content['source'][0] == 'BC' and content['source'][-1] is None
    # Every number that the script shows has a place on the page.
    wanted = re.findall(r"put\('(n-[a-z]+)'", page)
    assert len(wanted) > 10 and all(f'id="{key}"' in page for key in wanted)
    assert not re.search(r'(src|href)="(https?:)?//', page)
    assert said == ['No film: the run left no trace of the simulation.']
    assert said[0] in page


def test_the_list_links_to_the_pages_and_tells_how_to_make_the_others(pages):
    data, _, _ = pages
    page = (data.folder.path / 'why' / 'index.html').read_text()
    assert page.index('href="episode-o0002.html"') < page.index('made_up o0001</code>')
    assert 'episode-o0001.html' not in page


def test_a_page_that_is_not_to_be_filmed_again_stays(pages):
    data, (path,), _ = pages
    path.write_text('filmed')
    write_episodes(data, data.episodes, films=0)
    assert path.read_text() == 'filmed'
    assert (
        f'./q2rl why {data.folder.path} o0001' in path.with_name('episode-o0001.html').read_text()
    )


def test_a_trace_that_does_not_hold_the_episode_gives_no_film(run):
    run.add(Phase.ONLINE, Mode.GATED, False)
    data = read(run)
    data.folder.trace.write_bytes(b'')
    with TracePictures(data, 64, 48) as pictures:
        film, note = make_film(pictures, read_ticks(data, data.episodes[0]))
    assert film == [] and note == 'No film: the trace does not hold made_up-o0001 whole.'


def test_a_film_is_as_good_as_fits():
    noise = np.random.default_rng(0).integers(0, 255, (3, 48, 64, 3)).astype(np.uint8)
    best = encode(noise)
    assert len(best) == 3 and all(picture[8:12] == b'WEBP' for picture in best)
    assert sum(map(len, encode(noise, 6_000))) < sum(map(len, best))


def test_an_episode_is_found_in_a_folder_of_another_name(run):
    run.add(Phase.ONLINE, Mode.GATED, False)
    moved = run.write().path.rename(run.folder.path.parent / 'moved')
    assert find_row(read_run(RunFolder(moved)), 'o1').episode.startswith('made_up-o0001')


@pytest.mark.parametrize(
    'arguments, said',
    [
        (['nothing'], 'no such run'),
        (['made_up', 'o9'], "episode 'o9': run made_up has no such finished one"),
        (['made_up', 'v1'], 'its ticks are not in'),
        (['made_up', '--json'], 'needs one episode'),
    ],
)
def test_bad_input_is_one_line(run, arguments, said):
    run.add(Phase.ONLINE, Mode.GATED, False)
    run.add(Phase.EVALUATING, Mode.GATED, True, logged=False)
    folder = run.write()
    result = CliRunner().invoke(app, ['why', *arguments, '--runs-dir', str(folder.path.parent)])
    assert result.exit_code == 2 and said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not folder.why.exists()


def test_the_verb_prints_the_path_of_the_page_or_the_ticks(run):
    run.add(Phase.ONLINE, Mode.GATED, False)
    folder = run.write()
    said = ['--runs-dir', str(folder.path.parent)]
    result = CliRunner().invoke(app, ['why', 'made_up', 'last', '--no-open', *said])
    assert result.stdout.split() == [str(folder.why / 'episode-o0001.html')]
    result = CliRunner().invoke(app, ['why', 'made_up', 'o1', '--json', *said])
    assert len(json.loads(result.stdout)['ticks']) == STEPS + 1


def test_an_episode_that_was_not_logged_is_listed_without_a_page(run):
    run.add(Phase.ONLINE, Mode.GATED, False)
    run.add(Phase.EVALUATING, Mode.GATED, False, logged=False)
    folder = run.write()
    command = ['why', '--no-open', '--pages', '1', '--runs-dir', str(folder.path.parent), 'made_up']
    for pages in (['episode-o0001.html'], []):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.stderr
        assert f'left out: {2 - len(pages)} (' in result.stderr
        assert [path.name for path in folder.why.glob('episode-*')] == pages
        listed = (folder.why / 'index.html').read_text()
        assert 'o0001' in listed and 'v0001' in listed
        for path in folder.why.iterdir():
            path.unlink()
        folder.transitions.unlink(missing_ok=True)


def test_a_browser_is_started_only_where_there_is_a_display():
    assert not has_display({}, 'linux') and not has_display({'DISPLAY': ''}, 'linux')
    assert has_display({'WAYLAND_DISPLAY': 'wayland-0'}, 'linux') and has_display({}, 'darwin')
