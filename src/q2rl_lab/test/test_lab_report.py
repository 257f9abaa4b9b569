# SPDX-License-Identifier: Apache-2.0
"""The report: complete, self-contained, well-formed."""

from __future__ import annotations

from html.parser import HTMLParser
import json
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from q2rl_lab import plots
from q2rl_lab.report import Clip, render_report, write_report
from q2rl_lab.result import build_result
from q2rl_lab.run_data import read_run
from q2rl_task import EndReason, Mode, Phase

VOID = {'meta', 'img', 'br', 'hr', 'link', 'input', 'path', 'use'}


class Checker(HTMLParser):
    """Note text, ids, and tags that do not close."""

    def __init__(self):
        super().__init__()
        self.stack, self.text, self.ids, self.sources = [], [], [], []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids += [values['id']] if 'id' in values else []
        self.sources += [values[name] for name in ('src', 'href', 'xlink:href') if name in values]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.stack.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.stack.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def check(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    assert checker.stack == []
    return checker


CLIPS = [Clip('BC fails', 'scene 3', b'RIFFwebp')]


@pytest.fixture(scope='module')
def data(tmp_path_factory, synthetic):
    return read_run(synthetic(tmp_path_factory.mktemp('runs')).learn().write())


@pytest.fixture(scope='module')
def page(data):
    return render_report(data, build_result(data), CLIPS)


def test_the_page_is_well_formed_and_needs_nothing_else(page):
    checker = check(page)
    assert len(checker.ids) == len(set(checker.ids))
    assert all(source.startswith(('#', 'data:')) for source in checker.sources)
    assert not re.search(r'url\((?!#)', page)
    assert '<script' not in page


def test_the_page_tells_the_run(page):
    text = ' '.join(check(page).text)
    for expected in (
        'pipe assembly', 'run made_up', 'seed 3', 'Evaluation', '35.0 %', '18.1 to 56.7 %', '100.0 %',
        'Success over episodes', 'Success over robot time', 'Who acts, over episodes',
        'Who acts, over the depth of insertion', 'Q_RL against Q_BC', 'Peak contact force',
        'Guard interventions', 'Learning keeps pace', 'BC fails', 'Failed episodes',
        '30 gated episodes failed', 'by time limit', 'result.json', 'git abc',
    ):  # fmt: skip
        assert expected in text, expected


def test_figures_are_svg_that_takes_the_colours_of_the_page(learned):
    figures = plots.learning_curves(read_run(learned.write()))
    assert len(figures) == 2
    for svg in figures.values():
        root = ElementTree.fromstring(svg)
        assert root.tag.endswith('svg') and root.get('viewBox') and root.get('width') is None
        assert 'currentColor' in svg and plots.INK not in svg


def test_a_legend_covers_nothing_that_is_drawn(data, monkeypatch):
    seen = []
    monkeypatch.setattr(plots, 'draw', lambda name, paint, **size: seen.append(paint))
    for figures in (
        plots.learning_curves, plots.gate_figures, plots.value_figures, plots.safety_figures,
        plots.learner_figures,
    ):  # fmt: skip
        figures(data)
    for paint in seen:
        figure, axes = plots.plt.subplots(layout='constrained')
        paint(axes)
        figure.canvas.draw()
        if (legend := axes.get_legend()) is not None:
            assert legend.get_window_extent().y0 >= axes.get_window_extent().y1
        plots.plt.close(figure)
    assert len(seen) >= 8


def test_the_same_run_gives_the_same_page(data, page):
    assert render_report(data, build_result(data), CLIPS) == page


def test_failures_are_named_and_what_the_run_says_is_escaped(run):
    run.add(Phase.ONLINE, Mode.GATED, False, reason=EndReason.FORCE_LIMIT)
    folder = run.write()
    folder.episodes.write_text(folder.episodes.read_text().replace('made_up-o0001', '<b>o1</b>'))
    data = read_run(folder)
    page = render_report(data, build_result(data), [])
    assert '1 by force limit' in page
    assert '<b>o1</b>' not in page
    check(page)


def test_what_a_run_found_out_about_itself_is_told(run):
    folder = run.learn().write()
    state = json.loads(folder.state.read_text())
    told = [[40, 'RL alone beats BC'], [71, 'BC still succeeds: back to weights 37']]
    state['progress'] |= {'events': told, 'rollbacks': 1, 'graduated_at': 0}
    folder.state.write_text(json.dumps(state))
    result = build_result(read_run(folder))
    assert (result['rollbacks'], result['graduated_at'], result['events']) == (1, None, told)
    text = ' '.join(check(render_report(read_run(folder), result, [])).text)
    assert 'back to weights 37' in text and 'What the run found out' in text


def test_the_wall_time_of_a_run_in_one_process_is_kept_and_before_its_end_not_missed(run):
    folder = run.learn().write()
    config = json.loads(folder.config.read_text())
    config['asked']['in_process'] = True
    folder.config.write_text(json.dumps(config))
    assert build_result(read_run(folder))['wall_s'] == 300.0
    folder.session.unlink()
    data = read_run(folder)
    assert build_result(data)['wall_s'] is None
    assert not data.notes, data.notes


def test_a_run_with_nothing_in_it_yet_has_a_page(run):
    data = read_run(run.folder)
    page = render_report(data, build_result(data), [], 'no OpenGL here: install libegl1')
    text = ' '.join(check(page).text)
    assert 'not finished' in text
    assert 'not measured' in text
    assert '95 % success over 50 episodes; 0 failures so far' in text
    assert 'install libegl1' in text


@pytest.mark.parametrize(('phase', 'said'), [(Phase.ONLINE, 'so far'), (Phase.FINISHED, 'in all')])
def test_a_level_that_was_not_reached_says_after_how_many_episodes(run, phase, said):
    for k in range(60):
        run.add(Phase.ONLINE, Mode.GATED, k % 2 == 0)
    data = read_run(run.write(phase))
    text = ' '.join(check(render_report(data, build_result(data), [])).text)
    assert f'80 % success over 50 episodes; 60 online episodes {said}' in text
    assert f'95 % success over 50 episodes; 30 failures {said}' in text


def test_the_page_is_written_into_the_run(run):
    data = read_run(run.folder)
    path = write_report(data, build_result(data), [])
    assert path == data.folder.report
    assert path.read_text().startswith('<!doctype html>')


def test_rls_share_by_depth(learned):
    edges, shares, counts = plots.depth_shares(read_run(learned.write()).ticks)
    middle = 0.5 * (edges[1:] + edges[:-1])
    assert counts.sum() == 100 * 4
    assert np.all(shares[(middle < 0) & (counts > 0)] == 0.0)
    assert np.all(shares[(middle > 0) & (counts > 0)] == 1.0)


def test_depth_shares_need_gated_ticks(run):
    run.add(Phase.ESTIMATING, Mode.BC, True)
    assert plots.depth_shares(read_run(run.write()).ticks) is None
    assert plots.depth_shares(None) is None


def test_an_interrupted_episode_is_in_no_curve_and_in_no_list_of_failures(run):
    for success in (False, True, True):
        run.add(Phase.ONLINE, Mode.GATED, success)
    without = plots.learning_curves(read_run(run.write()))
    run.add(Phase.ONLINE, Mode.GATED, False, EndReason.LOST)
    data = read_run(run.write())
    assert plots.learning_curves(data)['Success over episodes'] == without['Success over episodes']
    text = ' '.join(check(render_report(data, build_result(data), [])).text)
    assert '1 gated episodes failed (1 by time limit)' in text
    assert '1 more were interrupted' in text
