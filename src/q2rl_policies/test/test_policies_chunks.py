# SPDX-License-Identifier: Apache-2.0
"""Files in pieces: whatever the network does to them, a whole right file comes out or none."""

from dataclasses import replace
import random

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from q2rl_policies.chunks import LEARNERS, ChunkAssembler, split

CONTRACT = 'c' * 16


def file_of(version: int, size: int = 1000) -> bytes:
    return random.Random(version).randbytes(size)


def chunks_of(version: int, size: int = 1000, chunk_bytes: int = 300, **more):
    options = {
        'kind': 'actor',
        'learner': 'one',
        'parent': version - 1,
        'contract': CONTRACT,
    } | more
    return split(file_of(version, size), version=version, chunk_bytes=chunk_bytes, **options)


def assembler(**options) -> ChunkAssembler:
    return ChunkAssembler('actor', CONTRACT, **options)


def feed(target: ChunkAssembler, chunks) -> list[bytes]:
    return [data for data in map(target.add, chunks) if data is not None]


@pytest.mark.parametrize(
    ('size', 'count'), [(1, 1), (299, 1), (300, 1), (301, 2), (900, 3), (1000, 4)]
)
def test_a_file_comes_together(size, count):
    chunks = chunks_of(1, size)
    assert len(chunks) == count and all(0 < len(c.data) <= 300 for c in chunks)
    target = assembler()
    assert feed(target, chunks) == [file_of(1, size)]
    assert target.version == 1
    assert target.counts == {'kept': count, 'whole': 1}


@settings(max_examples=200)
@given(st.data())
def test_order_and_repetition_do_not_matter(data):
    chunks = chunks_of(1)
    tail = data.draw(st.lists(st.sampled_from(chunks), max_size=10))
    order = data.draw(st.permutations(chunks + tail))
    target = assembler()
    assert feed(target, order) == [file_of(1)]
    assert target.counts['repeated'] == len(tail)


@settings(max_examples=200)
@given(st.data())
def test_files_never_mix(data):
    everything = chunks_of(1) + chunks_of(2) + chunks_of(3, 500)
    picked = data.draw(st.lists(st.sampled_from(everything), max_size=40))
    target = assembler()
    out = feed(target, picked)
    assert set(out) <= {file_of(1), file_of(2), file_of(3, 500)}
    assert len(out) == target.counts['whole'] == len(set(out))
    kinds = ('kept', 'repeated', 'late', 'mixed', 'foreign', 'absurd')
    assert sum(target.counts[kind] for kind in kinds) == len(picked)


def test_a_newer_version_supersedes_and_an_older_one_is_late():
    target = assembler()
    old, new = chunks_of(1), chunks_of(2)
    assert feed(target, old[:2] + new + old[2:]) == [file_of(2)]
    assert target.counts['superseded'] == 1 and target.counts['late'] == 2


def test_another_learner_begins_its_own_numbers():
    target = assembler()
    assert feed(target, chunks_of(900)) == [file_of(900)]
    assert (target.learner, target.version) == ('one', 900)
    first = chunks_of(1, learner='two')
    assert feed(target, [*first[:2], *chunks_of(899), *first]) == [file_of(1)]
    assert (target.learner, target.version) == ('two', 1)
    assert target.counts['late'] == 4  # what the network still had of the one before
    assert feed(target, [*first, *chunks_of(900)]) == []
    assert feed(target, chunks_of(901)) == [file_of(901)]  # the first run is resumed


def test_a_file_under_way_gives_way_to_that_of_another_learner():
    target = assembler()
    other = chunks_of(1, learner='two')
    assert feed(target, [*chunks_of(7)[:3], *other]) == [file_of(1)]
    assert target.counts['superseded'] == 1


def test_learners_are_remembered_in_bounded_number():
    target = assembler()
    for number in range(LEARNERS + 5):
        assert feed(target, chunks_of(1, learner=str(number)))
    assert len(target._newest) == LEARNERS


def test_what_is_whole_is_not_put_together_twice():
    target = assembler()
    assert len(feed(target, chunks_of(1) * 3)) == 1
    assert target.counts['repeated'] == 8


@pytest.mark.parametrize('change', [{'kind': 'critic'}, {'contract': 'd' * 16}])
def test_foreign_chunks_are_dropped(change):
    target = assembler()
    assert feed(target, [replace(c, **change) for c in chunks_of(9)]) == []
    assert feed(target, chunks_of(1)) == [file_of(1)]
    assert target.counts['foreign'] == 4


@pytest.mark.parametrize('change', [{'sha256': '0' * 64}, {'count': 5}, {'parent': 7}])
def test_chunks_of_another_file_with_the_same_version_are_dropped(change):
    target = assembler()
    first, *rest = chunks_of(1)
    assert feed(target, [first, *(replace(c, **change) for c in rest), *rest]) == [file_of(1)]
    assert target.counts['mixed'] == 3


@pytest.mark.parametrize(
    'change',
    [
        {'index': 4},
        {'index': -1},
        {'count': 0},
        {'count': 1 << 31},
        {'data': b''},
        {'data': bytes(5001)},
    ],
)
def test_absurd_chunks_are_dropped(change):
    target = assembler(max_bytes=5000)
    first, *rest = chunks_of(1)
    assert feed(target, [replace(first, **change), first, *rest]) == [file_of(1)]
    assert target.counts['absurd'] == 1


def test_memory_is_bounded():
    target = assembler(max_bytes=1000)
    assert feed(target, chunks_of(1, 1001)) == []
    assert target.counts['absurd'] == 1
    assert sum(map(len, target._pieces.values())) <= 1000
    assert feed(target, chunks_of(2, 1000)) == [file_of(2)]
    assert not target._pieces


def test_a_damaged_file_is_dropped_and_may_come_again():
    target = assembler()
    first, *rest = chunks_of(1)
    broken = replace(first, data=bytes([first.data[0] ^ 1]) + first.data[1:])
    assert feed(target, [broken, *rest]) == []
    assert target.counts['damaged'] == 1
    assert feed(target, [first, *rest]) == [file_of(1)]
