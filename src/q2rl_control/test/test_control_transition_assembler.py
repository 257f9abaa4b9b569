# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from control_helpers import step
from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from q2rl_control.replay_link import GAP_AFTER_S, PROBE_LIMIT, ReplayLink
from q2rl_control.run_store import Outbox
from q2rl_control.transition_assembler import OutboxFull, TransitionAssembler
from q2rl_task import Phase, load_task

TASK = load_task('pipe_assembly')


def filled(count: int, **kwargs) -> TransitionAssembler:
    assembler = TransitionAssembler('arm', **kwargs)
    assembler.begin('e', Phase.ONLINE)
    for number in range(count + 1):
        assembler.add(step(TASK, 'e', number), now=float(number))
    return assembler


def test_steps_become_transitions_with_contiguous_numbers_across_episodes():
    assembler = TransitionAssembler('arm', first_sequence=5)
    numbers = []
    for episode in ('a', 'b'):
        assembler.begin(episode, Phase.ESTIMATING)
        for number in range(4):
            transition = assembler.add(step(TASK, episode, number, final=number == 3), 0.0)
            assert (transition is None) == (number == 0)
            if transition:
                numbers.append((transition.sequence, transition.episode, transition.step))
                assert transition.phase is Phase.ESTIMATING
                assert transition.next_observation[0] == number
                assert transition.terminated == (number == 3)
    assert numbers == [
        (5, 'a', 0), (6, 'a', 1), (7, 'a', 2), (8, 'b', 0), (9, 'b', 1), (10, 'b', 2),
    ]  # fmt: skip
    assert not assembler.dropped


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(['e', 'old']), st.integers(0, 6)), max_size=40))
def test_whatever_arrives_each_transition_is_made_once_and_in_order(arrivals):
    assembler = TransitionAssembler('arm')
    assembler.begin('e', Phase.ONLINE)
    made, expected = [], 0
    for episode, number in arrivals:
        transition = assembler.add(step(TASK, episode, number), 0.0)
        if episode == 'e' and number == expected:
            expected += 1
        if transition:
            made.append(transition)
    assert [t.step for t in made] == list(range(max(0, expected - 1)))
    assert [t.sequence for t in made] == [t.step + 1 for t in made]
    assert sum(assembler.dropped.values()) == len(arrivals) - expected


def test_what_does_not_belong_is_counted_by_kind():
    assembler = filled(2)
    assembler.add(step(TASK, 'e', 1), 0.0)
    assembler.add(step(TASK, 'e', 5), 0.0)
    assembler.add(step(TASK, 'other', 3), 0.0)
    assembler.add(step(TASK, 'e', 3, robot='left'), 0.0)
    assembler.add(step(TASK, 'e', 3, final=True), 0.0)
    assembler.add(step(TASK, 'e', 4), 0.0)
    assert dict(assembler.dropped) == {
        'repeated': 1, 'out_of_order': 1, 'foreign_episode': 1, 'foreign_robot': 1, 'after_final': 1,
    }  # fmt: skip


def test_acknowledgements_are_cumulative():
    assembler = filled(5)
    assert assembler.unacknowledged_count == 5
    assert assembler.acknowledge('left', 5) == 0
    assert assembler.acknowledge('arm', 3) == 3
    assert assembler.acknowledge('arm', 2) == 0
    assert assembler.acknowledged == 3
    assert [t.sequence for t in assembler.unacknowledged()] == [4, 5]


def test_only_what_is_old_enough_is_sent_again_and_not_at_once_twice():
    assembler = filled(5)
    assert [t.sequence for t in assembler.due(now=6.0, older_than=2.5)] == [1, 2, 3]
    assert assembler.due(now=6.1, older_than=2.5) == []
    assert [t.sequence for t in assembler.due(now=20.0, older_than=2.5, limit=2)] == [1, 2]


def test_a_full_outbox_takes_no_step_and_the_step_may_come_again():
    assembler = filled(3, capacity=3)
    with pytest.raises(OutboxFull, match='3 transitions'):
        assembler.add(step(TASK, 'e', 4), 9.0)
    assembler.acknowledge('arm', 1)
    assert assembler.add(step(TASK, 'e', 4), 9.0).sequence == 4


def test_an_acknowledgement_ahead_numbers_anew_what_the_learner_took_for_repeats():
    assembler = filled(2)
    assert assembler.acknowledge('arm', 100) == 0
    assert [t.sequence for t in assembler.due(0.0, 0.0)] == [101, 102]
    assert assembler.add(step(TASK, 'e', 3), 0.0).sequence == 103
    fresh = TransitionAssembler('arm')
    fresh.acknowledge('arm', 7)
    assert fresh.next_sequence == 8 and fresh.acknowledged == 7


def test_restored_transitions_are_due_and_numbering_goes_on():
    old = filled(4)
    old.acknowledge('arm', 1)
    assembler = TransitionAssembler('arm')
    assembler.restore(old.unacknowledged())
    assert assembler.acknowledged == 1
    assert [t.sequence for t in assembler.due(0.0, 100.0)] == [2, 3, 4]
    assert assembler.next_sequence == 5
    with pytest.raises(ValueError, match='follows'):
        TransitionAssembler('arm').restore([old.unacknowledged()[0], old.unacknowledged()[2]])


class Link:
    """A replay link that publishes into a list."""

    def __init__(self, tmp_path) -> None:
        self.sent = []
        self.outbox = Outbox(tmp_path / 'outbox.bin')
        self.link = ReplayLink(
            TransitionAssembler('arm'), self.sent.append, self.outbox, lambda t: b'%d' % t.step
        )
        self.link.begin('e', Phase.ONLINE)

    def run(self, steps: int) -> None:
        for number in range(steps + 1):
            self.link.add(step(TASK, 'e', number), now=float(number))


def test_transitions_are_stored_before_they_are_forgotten(tmp_path):
    bench = Link(tmp_path)
    bench.run(3)
    assert [t.sequence for t in bench.sent] == [1, 2, 3]
    assert bench.link.published_in_episode == 3
    bench.link.acknowledge('arm', 2, 4.0)
    assert bench.outbox.load() == [(1, b'0'), (2, b'1'), (3, b'2')]
    bench.link.compact()
    assert bench.outbox.load() == [(3, b'2')]


def test_a_silent_learner_is_only_probed(tmp_path):
    bench = Link(tmp_path)
    bench.run(5)
    bench.link.heard(5.0)
    assert not bench.link.silent(6.0, 3.0)
    assert bench.link.silent(60.0, 3.0)
    assert bench.link.resend(60.0, 3.0) == PROBE_LIMIT
    bench.link.heard(61.0)
    assert bench.link.resend(61.5, 1.0) == 5
    bench.link.acknowledge('arm', 5, 62.0)
    assert not bench.link.silent(1e9, 3.0)


def test_renumbering_keeps_the_count_of_the_episode_and_the_outbox(tmp_path):
    bench = Link(tmp_path)
    bench.run(2)
    bench.link.acknowledge('arm', 50, 3.0)
    assert bench.link.published_in_episode == 2
    assert [n for n, _ in bench.outbox.load()] == [51, 52]


def test_numbers_that_nobody_has_any_more_are_noticed(tmp_path):
    bench = Link(tmp_path)
    bench.run(2)
    bench.link.assembler.next_sequence = 11  # 3 to 10 were given, and their records are gone
    bench.link.add(step(TASK, 'e', 3), now=0.0)
    bench.link.acknowledge('other', 0, 1.0)
    for now in (1.0, 2.0, 5.0):
        bench.link.acknowledge('arm', 2, now)
        assert not bench.link.gap(now), 'a late word of a learner that is gone says nothing'
    bench.link.acknowledge('arm', 2, 1.0 + GAP_AFTER_S)
    assert bench.link.gap(1.0 + GAP_AFTER_S) == '3 to 10'
    bench.link.acknowledge('arm', 10, 7.0)  # the learner's log was brought back
    assert not bench.link.gap(60.0)


def test_acknowledgements_that_lag_are_no_gap(tmp_path):
    bench = Link(tmp_path)
    bench.run(5)
    for now in range(20):
        bench.link.acknowledge('arm', 2, float(now))
    assert not bench.link.gap(20.0)
