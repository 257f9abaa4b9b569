# SPDX-License-Identifier: Apache-2.0
"""What is shown of a cell, from the messages of a run, without a node."""

from geometry_msgs.msg import Vector3, WrenchStamped
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from visualization_msgs.msg import Marker

from q2rl_bringup.scene_picture import Scale, picture, view_point
from q2rl_bringup.scene_state import PARTS, REMEMBERED, SILENT_AFTER_S, SceneState
from q2rl_msgs.msg import EpisodeSummary, GuardState, RunState
from q2rl_ros.conversions import decision_to_msg, pose_to_msg
from q2rl_ros.errors import MessageError
from q2rl_task import (
    Decision,
    EndReason,
    Mode,
    ObservationRecord,
    Phase,
    Pose,
    Reason,
    Source,
    load_task,
)  # fmt: skip

TIP = Pose.from_rotation([0.51, 0.01, 0.17], Rotation.from_rotvec([3.1, 0.02, -0.03]))


@pytest.fixture
def state():
    return SceneState(load_task('pipe_assembly'))


def wrench(*force):
    msg = WrenchStamped()
    msg.wrench.force = Vector3(**dict(zip('xyz', map(float, force), strict=True)))
    return msg


def decision_msg(state, contract=None):
    task = state.task
    observation = ObservationRecord(
        1.0,
        contract or task.contract_hash,
        'e1',
        3,
        Mode.GATED,
        False,
        np.zeros(task.observation_size),
    )
    bc, rl = np.array([0, 0, 1, 0, 0, 0], np.float32), np.array([1, 0, 0, 0, 0, 0], np.float32)
    chosen = Decision(
        Source.RL, Reason.RL_HIGHER, rl, q_bc=-9.0, q_rl=-7.5, bc_action=bc, rl_action=rl
    )
    return decision_to_msg(chosen, observation)


def shown(state, part):
    return {m.ns: m for m in picture(state, part, Scale()).markers if m.action == Marker.ADD}


def test_before_anything_was_heard_there_is_the_workspace_and_no_word_from_the_arm(state):
    assert state.changed() == set(PARTS)
    assert set(shown(state, 'scene')) == {'workspace'} and not shown(state, 'gate')
    assert 'no word from the arm' in shown(state, 'run')['run'].text
    assert 'since this view was opened' in shown(state, 'run')['run'].text
    assert state.changed() == set()


def test_proposals_are_shown_until_they_are_old(state):
    state.hear_pose(pose_to_msg(TIP, state.task.frames.base, 1.0))
    state.hear_decision(decision_msg(state), now=10.0)
    assert state.changed() >= {'gate'}
    assert {'BC', 'RL', 'gate'} <= set(shown(state, 'gate'))
    state.pass_time(10.9)
    assert state.decision is not None
    state.pass_time(11.1)
    assert state.changed() >= {'gate'}
    gone = {m.ns for m in picture(state, 'gate', Scale()).markers if m.action == Marker.DELETE}
    assert gone >= {'BC', 'RL', 'gate'}


def test_a_decision_of_another_task_is_refused(state):
    with pytest.raises(MessageError):
        state.hear_decision(decision_msg(state, contract='other'), now=0.0)
    assert state.decision is None


def test_the_force_is_an_arrow_from_the_tip_along_the_force_in_the_base_frame(state):
    state.hear_pose(pose_to_msg(TIP, state.task.frames.base, 1.0))
    state.hear_wrench(wrench(0.0, 3.0, -20.0))
    arrow = shown(state, 'gate')['force']
    tail, head = (np.array([p.x, p.y, p.z]) for p in arrow.points)
    np.testing.assert_allclose(tail, TIP.position)
    force = TIP.rotation.apply([0.0, 3.0, -20.0])
    np.testing.assert_allclose(head - tail, Scale().force * force, atol=1e-12)


@pytest.mark.parametrize('force', [(0.1, 0.1, 0.1), (np.nan, 0.0, 30.0)])
def test_no_force_to_speak_of_has_no_arrow(state, force):
    state.hear_pose(pose_to_msg(TIP, state.task.frames.base, 1.0))
    state.hear_wrench(wrench(*force))
    assert 'force' not in shown(state, 'gate')


def test_the_last_episodes_are_balls_of_two_colours_and_a_repeat_counts_once(state):
    for number in range(REMEMBERED + 5):
        summary = EpisodeSummary(episode=f'e{number}', success=number % 2 == 0)
        state.hear_episode(summary)
        state.hear_episode(summary)
    assert len(state.outcomes) == REMEMBERED and not state.outcomes[0]
    balls = shown(state, 'run')['history']
    assert len(balls.points) == len(balls.colors) == REMEMBERED
    greener = [colour.g > colour.r for colour in balls.colors]
    assert greener == list(state.outcomes)
    assert '10 of the last 20 succeeded' in shown(state, 'run')['run'].text


def test_an_interrupted_episode_is_neither_green_nor_red(state):
    for number, reason in enumerate(EndReason):
        state.hear_episode(EpisodeSummary(episode=f'e{number}', end_reason=int(reason)))
    assert len(state.outcomes) == len(EndReason) - len({EndReason.REQUESTED, EndReason.LOST})


def test_a_guard_that_fell_silent_is_not_believed_any_more(state):
    state.hear_guard(GuardState(state=GuardState.STOPPED, detail='emergency stop: x'), now=1.0)
    state.pass_time(1.0 + 0.9 * SILENT_AFTER_S)
    assert state.guard_state == 'stopped' and 'emergency stop: x' in shown(state, 'run')['run'].text
    state.changed()
    state.pass_time(1.0 + 1.1 * SILENT_AFTER_S)
    assert state.silent and state.guard_state == 'no word from the arm'
    assert 'run' in state.changed() and not state.guard_detail
    state.hear_guard(GuardState(state=GuardState.ACTING), now=9.0)
    state.pass_time(9.1)
    assert state.guard_state == 'acting'


@pytest.mark.parametrize(
    ('run', 'text'),
    [
        (None, 'no run'),
        (
            RunState(phase=Phase.ONLINE, online_steps=5, online_steps_planned=9),
            'online 5 of 9 steps (gated)',
        ),
        (
            RunState(phase=Phase.GRADUATED, online_steps=7, online_steps_planned=9, mode=Mode.RL),
            'graduated 7 of 9 steps (rl)',
        ),
        (
            RunState(phase=Phase.ESTIMATING, episode_number=3, episodes_planned=20, mode=Mode.BC),
            'estimating episode 3 of 20',
        ),
        (RunState(phase=Phase.STOPPED, detail='the learner failed'), 'stopped: the learner failed'),
    ],
)
def test_the_run_is_told_in_a_few_words(state, run, text):
    if run is not None:
        state.hear_run(run)
    assert state.phase_text() == text


def test_a_person_looks_at_the_workspace_from_outside_it(state):
    eye, at = view_point(state.task)
    box = state.task.limits.workspace
    assert (np.array(box.low) - 0.15 < at).all() and (at < np.array(box.high) + 0.15).all()
    assert np.linalg.norm(eye - at) > np.linalg.norm(np.subtract(box.high, box.low))
