# SPDX-License-Identifier: Apache-2.0
"""Which episodes are filmed, and where they are in the trace."""

from __future__ import annotations

import numpy as np

from q2rl_lab.clips import choose_episodes, make_clips
from q2rl_lab.run_data import read_run
from q2rl_lab.trace_pictures import find_steps
from q2rl_task import Mode, Phase, Pose

PERIOD = 0.05
HERE, THERE = Pose.of([0.5, 0.0, 0.15]), Pose.of([0.51, 0.0, 0.15])


def session(count, fixture, mark):
    """Records of `count` steps from one period on; joint 1 tells the session, joint 2 the step."""
    steps = np.arange(1, count + 1)
    records = np.zeros((count, 15))
    records[:, 0] = PERIOD * steps
    records[:, 1], records[:, 2] = mark, steps
    records[:, 8:11], records[:, 11:] = fixture.position, fixture.quaternion
    return records


def test_an_episode_has_one_record_more_than_it_has_steps():
    found = find_steps(session(40, HERE, 1), (10 * PERIOD, 19 * PERIOD), HERE, PERIOD)
    assert found[:, 2].tolist() == list(range(10, 21))


def test_of_several_sessions_the_one_with_the_fixture_there_is_taken():
    trace = np.concatenate([session(40, HERE, 1), session(40, THERE, 2), session(5, HERE, 3)])
    span = (10 * PERIOD, 19 * PERIOD)
    assert set(find_steps(trace, span, HERE, PERIOD)[:, 1]) == {1.0}
    assert set(find_steps(trace, span, THERE, PERIOD)[:, 1]) == {2.0}


def test_an_episode_that_the_trace_does_not_hold_whole_is_not_found():
    trace = session(15, HERE, 1)
    assert len(find_steps(trace, (10 * PERIOD, 19 * PERIOD), HERE, PERIOD)) == 0
    assert len(find_steps(trace[:0], (10 * PERIOD, 19 * PERIOD), HERE, PERIOD)) == 0


def rows(run):
    return read_run(run.write()).evaluated


def test_the_same_scene_is_shown_twice_where_there_is_one(run):
    for seed, bc, gated in ((1, True, True), (2, False, False), (3, False, True)):
        run.add(Phase.EVALUATING, Mode.BC, bc, seed=seed)
        run.add(Phase.EVALUATING, Mode.GATED, gated, seed=seed)
    chosen = choose_episodes(rows(run))
    assert [(row.mode, row.seed, row.success) for _, row in chosen] == [
        (Mode.BC, 3, False), (Mode.GATED, 3, True),
    ]  # fmt: skip


def test_without_a_common_scene_there_is_one_of_each(run):
    run.add(Phase.EVALUATING, Mode.BC, False, seed=1)
    run.add(Phase.EVALUATING, Mode.GATED, True, seed=2)
    run.add(Phase.ONLINE, Mode.GATED, True, seed=1)
    assert [row.seed for _, row in choose_episodes(rows(run))] == [1, 2]


def test_why_there_are_no_clips(run):
    run.add(Phase.ONLINE, Mode.GATED, True)
    data = read_run(run.write())
    assert make_clips(data) == ([], 'No clips: the run left no trace of the simulation.')
    data.folder.trace.write_bytes(b'')
    assert make_clips(data) == ([], 'No clips: no evaluated episode to show yet.')
