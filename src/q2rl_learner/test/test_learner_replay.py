# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from learner_helpers import EMPTY, demonstrations, toy_task, transition
import numpy as np
import pytest
import torch

from q2rl_learner.replay import Batch, Replay
from q2rl_task import Measurement, Pose, Source, judge_step

TASK = toy_task()
GAMMA = 0.5


def replay(**changes) -> Replay:
    values = {'capacity': 1000, 'steps': 3, 'discount': GAMMA, **changes}
    return Replay(TASK.observation_size, TASK.action_size, **values)


def run(
    buffer: Replay, steps: int, end: str = '', name: str = 'e', start: int = 0, **changes
) -> None:
    """Add an episode with reward -(k + 1) at step k; `end` marks its last step."""
    for k in range(start, start + steps):
        marks = {end: True} if end and k == start + steps - 1 else {}
        buffer.add(transition(TASK, k + 1, name, k, **marks, **changes), -(k + 1.0))


def rows(buffer: Replay) -> dict[int, tuple[float, float, int]]:
    """Return first state -> (n-step reward, bootstrap factor, state after) of all that can be drawn."""
    batch = everything(buffer)
    return {
        int(o[0]): (float(r), float(b), int(n[0]))
        for o, r, b, n in zip(
            batch.observation, batch.reward, batch.bootstrap, batch.next_observation, strict=True
        )
    }


def everything(buffer: Replay) -> Batch:
    return buffer.sample(50 * len(buffer), 0.5, torch.Generator().manual_seed(0))[0]


def test_n_steps_within_an_episode():
    buffer = replay()
    run(buffer, 4)
    # Two windows of three are full; R = -1 - 0.5*2 - 0.25*3 and so on.
    assert rows(buffer) == {0: (-2.75, 0.125, 3), 1: (-4.5, 0.125, 4)}


def test_all_but_the_newest_can_be_taken_out_and_returns_still_find_their_rows():
    buffer = replay(capacity=6)
    run(buffer, 5, 'truncated')
    run(buffer, 4, 'truncated', name='next', start=10)
    buffer.keep_newest(4)
    assert sorted(rows(buffer)) == [10, 11, 12, 13]
    run(buffer, 4, name='last', start=20)
    buffer.keep_newest(1)
    assert sorted(rows(buffer)) == [21]
    run(buffer, 1, 'terminated', name='last', start=24)
    found = everything(buffer)
    assert sorted(rows(buffer)) == [21, 22, 23, 24]
    assert torch.isfinite(found.mc_return).all()
    assert float(found.mc_return[found.observation[:, 0] == 24][0]) == -25.0


@pytest.mark.parametrize(
    ('end', 'mask'),
    [('terminated', 0.0), ('truncated', 1.0)],
    ids=['success', 'time limit or stop'],
)
def test_windows_stop_at_the_end(end, mask):
    buffer = replay()
    run(buffer, 4, end)
    run(buffer, 3, name='next', start=10)
    assert rows(buffer) == {
        0: (-2.75, 0.125, 3),  # ends before the last step: not masked
        1: (-4.5, 0.125 * mask, 4),
        2: (-5.0, 0.25 * mask, 4),
        3: (-4.0, 0.5 * mask, 4),
        10: (-11.0 - 6.0 - 3.25, 0.125, 13),
    }


@pytest.mark.parametrize(('swapped', 'past_success', 'past_limit'), [(False, 0, 1), (True, 1, 0)])
@pytest.mark.parametrize('cause', ['success', 'time limit', 'force limit', 'abort'])
def test_the_mask_of_every_way_an_episode_ends(cause, swapped, past_success, past_limit):
    measured = Measurement(
        stamp=0.0,
        joint_positions=np.zeros(7),
        joint_velocities=np.zeros(7),
        tip_pose=Pose.of((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0)),
        tip_twist=np.zeros(6),
        wrench=np.full(6, 1e3 * (cause == 'force limit')),
        success_signal=cause == 'success',
    )
    step = TASK.max_steps if cause == 'time limit' else 3
    outcome = judge_step(TASK, step, measured, requested=cause == 'abort')
    buffer = replay(steps=1, swapped_ends=swapped)
    ends = {'terminated': outcome.terminated, 'truncated': outcome.truncated}
    buffer.add(transition(TASK, 1, 'e', 0, **ends), -1.0)
    mask = past_success if cause == 'success' else past_limit
    assert rows(buffer) == {0: (-1.0, GAMMA * mask, 1)}


def test_an_episode_that_breaks_off_is_cut():
    buffer = replay()
    run(buffer, 2)
    assert buffer.online == 0
    run(buffer, 1, name='next', start=7)
    assert rows(buffer) == {0: (-2.0, 0.25, 2), 1: (-2.0, 0.5, 2)}


def test_a_missing_step_cuts_the_window():
    buffer = replay()
    run(buffer, 2)
    run(buffer, 3, start=5)
    assert rows(buffer) == {0: (-2.0, 0.25, 2), 1: (-2.0, 0.5, 2), 5: (-6.0 - 3.5 - 2.0, 0.125, 8)}


def test_robots_do_not_mix():
    buffer = replay()
    for k in range(3):
        for robot in ('a', 'b'):
            shift = 0 if robot == 'a' else 20
            buffer.add(transition(TASK, k + 1, robot, k + shift, robot=robot), -(k + shift + 1.0))
    assert rows(buffer) == {0: (-2.75, 0.125, 3), 20: (-21 - 11 - 5.75, 0.125, 23)}


def test_the_ring_forgets_the_oldest_and_keeps_demonstrations():
    buffer = replay(capacity=1000, steps=1)
    demos = demonstrations(TASK, 2, seed=0)
    buffer.set_demonstrations(demos, 1.0, 0.0)
    run(buffer, 1500, 'truncated')
    assert (buffer.demonstrations, buffer.online) == (sum(map(len, demos)), 1000)
    batch = buffer.sample(4000, 0.25, torch.Generator().manual_seed(1))[0]
    assert batch.observation[1000:, 0].min() == 500
    # A demonstration's states lie within 2 of the origin, the ring's are 500 and more.
    assert batch.observation[:1000].abs().max() < 2


@pytest.mark.parametrize('fraction', [0.0, 0.25, 0.5, 1.0])
def test_the_share_of_demonstrations_is_exact(fraction):
    buffer = replay()
    buffer.set_demonstrations(demonstrations(TASK, 2, seed=0), 1.0, 0.0)
    run(buffer, 30, 'truncated', start=100)
    for batch in buffer.sample(64, fraction, torch.Generator().manual_seed(2), repeats=3):
        assert int((batch.observation[:, 0] < 50).sum()) == 64 * fraction
    assert buffer.drawn_demonstrations / buffer.drawn == fraction


def test_all_samples_come_from_what_there_is():
    buffer = replay()
    with pytest.raises(ValueError, match='empty'):
        buffer.sample(8, 0.5, torch.Generator())
    buffer.set_demonstrations(demonstrations(TASK, 2, seed=0), 1.0, 0.0)
    assert buffer.counts(8, 0.5) == (8, 0)
    other = replay()
    run(other, 5)
    assert other.counts(8, 0.5) == (0, 8)


def test_rewards_of_demonstrations_are_scaled():
    buffer = replay(steps=1)
    (demo,) = demonstrations(TASK, 1, seed=0)
    buffer.set_demonstrations([demo], 5.0, 4.0)
    batch = everything(buffer)
    ends = batch.bootstrap == 0
    assert set(batch.reward[ends].tolist()) == {4.0}
    assert set(batch.reward[~ends].tolist()) == {-1.0}


@pytest.mark.parametrize(
    ('imitation', 'demonstrated', 'proposed'),
    [('both', 1.0, 1.0), ('bc_action', 0.0, 1.0), ('demonstration', 1.0, 0.0)],
)
def test_whose_actions_are_imitated(imitation, demonstrated, proposed):
    buffer = replay(imitation=imitation)
    buffer.set_demonstrations(demonstrations(TASK, 2, seed=0), 1.0, 0.0)
    run(buffer, 30, 'truncated', start=100)
    batch = buffer.sample(64, 0.5, torch.Generator().manual_seed(3))[0]
    assert set(batch.imitation[:32].tolist()) == {demonstrated}
    assert set(batch.imitation[32:].tolist()) == {proposed}


@pytest.mark.parametrize('steps', [1, 3])
def test_what_succeeded_is_imitated_once_that_is_known(steps):
    buffer = replay(steps=steps, imitation='success')
    buffer.set_demonstrations(demonstrations(TASK, 1, seed=0), 1.0, 0.0)
    theirs = np.full(TASK.action_size, 0.5, dtype=np.float32)
    run(buffer, 4, 'truncated', name='failed', start=100)
    run(buffer, 1, name='held', start=200, source=Source.HOLD, action=0 * theirs)
    run(buffer, 4, 'terminated', name='held', start=201, source=Source.RL, action=theirs)
    run(buffer, 3 + steps, name='under way', start=300)
    batch = everything(buffer)
    imitated = batch.imitation == 1
    state = batch.observation[:, 0]
    assert imitated[state < 50].all()
    assert set(state[imitated & (state > 50)].tolist()) == {201.0, 202.0, 203.0, 204.0}
    assert (batch.imitated[imitated & (state > 50)] == 0.5).all()


def test_only_rows_that_are_left_are_marked_as_successful():
    buffer = replay(capacity=6, steps=1, imitation='success')
    run(buffer, 3, 'truncated')
    run(buffer, 6, name='long', start=10)
    buffer.keep_newest(2)
    run(buffer, 1, 'terminated', name='long', start=16)
    batch = everything(buffer)
    assert sorted(set(batch.observation[:, 0].tolist())) == [14.0, 15.0, 16.0]
    assert (batch.imitation == 1).all()


def test_a_step_without_a_proposal_is_not_imitated():
    buffer = replay(steps=1)
    run(buffer, 2, bc_action=EMPTY, next_bc_action=EMPTY, source=Source.HOLD)
    batch = everything(buffer)
    assert not batch.imitation.any() and not batch.next_bc_known.any()
    assert torch.isfinite(batch.imitated).all() and torch.isfinite(batch.next_bc).all()


def test_pooled_demonstrations_are_drawn_like_everything_else():
    buffer = replay(steps=1)
    buffer.set_demonstrations(demonstrations(TASK, 2, seed=0), 1.0, 0.0)
    run(buffer, 10, 'truncated')
    generator = torch.Generator().manual_seed(0)
    assert len(buffer.sample(100, None, generator, 40)) == 40
    expected = buffer.demonstrations / len(buffer)
    assert abs(buffer.drawn_demonstrations / buffer.drawn - expected) < 0.03


def test_what_a_person_did_is_a_demonstration_and_is_drawn_from_their_share():
    buffer = replay(steps=1)
    demos = demonstrations(TASK, 1, seed=0)
    buffer.set_demonstrations(demos, 1.0, 0.0)
    theirs = np.full(TASK.action_size, 0.5, dtype=np.float32)
    run(buffer, 40, name='policy')
    human = {'source': Source.HUMAN, 'action': theirs}
    run(buffer, 5, name='person', start=100, **human)
    assert (buffer.online, buffer.interventions) == (45, 5)
    demo, _ = buffer.counts(4000, 0.5)
    batch = buffer.sample(4000, 0.5, torch.Generator().manual_seed(0))[0]
    by_person = (batch.observation[:, 0] >= 100) & (batch.observation[:, 0] < 105)
    expected = {True: 5 / (buffer.demonstrations + 5), False: 5 / 45}
    for part, share in ((by_person[:demo], expected[True]), (by_person[demo:], expected[False])):
        assert float(part.float().mean()) == pytest.approx(share, abs=0.03)
    assert (batch.imitated[by_person] == 0.5).all() and (batch.imitation[by_person] == 1).all()
    assert (batch.action[by_person] == 0.5).all()


@pytest.mark.parametrize(
    ('imitation', 'wanted'),
    [('both', 'theirs'), ('demonstration', 'theirs'), ('success', 'theirs'), ('bc_action', "BC's")],
)
def test_whose_action_is_imitated_where_a_person_acted(imitation, wanted):
    buffer = replay(steps=1, imitation=imitation)
    values = {"BC's": -0.25, 'theirs': 0.5}
    vectors = {k: np.full(TASK.action_size, v, dtype=np.float32) for k, v in values.items()}
    human = {'source': Source.HUMAN, 'action': vectors['theirs'], 'bc_action': vectors["BC's"]}
    run(buffer, 3, name='person', **human)
    batch = everything(buffer)
    assert (batch.imitated == values[wanted]).all() and (batch.imitation == 1).all()


def test_without_demonstrations_interventions_wait_until_they_fill_the_share():
    buffer = replay(steps=1)
    run(buffer, 20, name='policy')
    run(buffer, 3, name='person', start=100, source=Source.HUMAN)
    assert buffer.counts(8, 0.5) == (0, 8)
    run(buffer, 1, name='more', start=200, source=Source.HUMAN)
    assert buffer.counts(8, 0.5) == (4, 4)


def test_old_interventions_make_room():
    buffer = replay(steps=1, capacity=1000)
    run(buffer, 150, name='person', source=Source.HUMAN)
    assert buffer.interventions == 100
    batches = buffer.sample(100, 1.0, torch.Generator().manual_seed(0), repeats=20)
    assert min(float(b.observation.min()) for b in batches) == 50.0


def test_the_demonstration_of_a_person_gets_the_return_of_the_episode_too():
    buffer = replay(steps=1)
    run(buffer, 2, 'terminated', name='person', source=Source.HUMAN)
    shown = buffer.sample(50, 1.0, torch.Generator().manual_seed(0))[0]
    found = dict(zip(shown.observation[:, 0].tolist(), shown.mc_return.tolist(), strict=True))
    assert found == {0.0: -2.0, 1.0: -2.0}
