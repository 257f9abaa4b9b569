# SPDX-License-Identifier: Apache-2.0
"""Demonstrations survive every kind of file and back; what is cut off or foreign is refused in one line."""

from __future__ import annotations

from dataclasses import replace
import json
from pathlib import Path
import random
import shutil

from learner_helpers import demonstrations, toy_task, transition
from mcap.reader import make_reader
from mcap.writer import Writer
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rclpy.serialization import serialize_message

from q2rl_learner.demonstration_files import format_of
from q2rl_learner.episodes import Episode
from q2rl_learner.lerobot_dataset import FILE, write_lerobot
from q2rl_learner.mcap_demonstrations import TYPE, definition, transitions_of
from q2rl_ros.conversions import transition_to_msg
from q2rl_task import InputError

TASK = toy_task()
NAMES = ('demos.hdf5', 'dataset', 'demos.mcap')


@pytest.fixture(scope='module')
def episodes() -> list[Episode]:
    """Three demonstrations, one of which was cut."""
    made = demonstrations(TASK, 3, seed=4)
    made[1] = replace(made[1], terminated=False)
    return made


def write(path: Path, episodes) -> Path:
    format_of(path).write(path, TASK, episodes)
    return path


def read(path: Path, as_is: bool = False, task=TASK):
    return format_of(path).read(path, task, as_is)


def check_same(found, expected) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for name in ('observations', 'actions', 'rewards', 'next_observations'):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert one.terminated == other.terminated


@pytest.mark.parametrize('name', NAMES)
def test_there_and_back(tmp_path, episodes, name):
    path = write(tmp_path / name, episodes)
    found = read(path)
    check_same(found.episodes, episodes)
    assert found.notes == ()
    assert [p.name for p in tmp_path.iterdir()] == [name]
    write(path, episodes[:1])  # replaces the old one whole
    check_same(read(path).episodes, episodes[:1])


def test_round_through_all_of_them(tmp_path, episodes):
    current = episodes
    for name in (*NAMES, 'again.h5'):
        current = read(write(tmp_path / name, current)).episodes
    check_same(current, episodes)


@pytest.mark.parametrize('name', NAMES)
def test_another_contract_is_refused(tmp_path, episodes, name):
    path = write(tmp_path / name, episodes)
    other = toy_task(max_steps=31)
    with pytest.raises(InputError, match=r'contract|task') as caught:
        read(path, as_is=True, task=other)
    assert '\n' not in str(caught.value)


def files_of(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob('*') if p.is_file()) if path.is_dir() else [path]


@pytest.mark.parametrize('name', NAMES)
def test_cut_off_files_are_one_line(tmp_path, episodes, name):
    path = write(tmp_path / name, episodes)
    needed = [
        p for p in files_of(path) if p.name in (name, 'info.json', 'q2rl.json') or 'data' in p.parts
    ]
    for file in needed:
        content = file.read_bytes()
        for length in (0, 7, len(content) // 2, len(content) - 1):
            file.write_bytes(content[:length])
            with pytest.raises(InputError) as caught:
                read(path)
            assert '\n' not in str(caught.value) and caught.value.remedy
        file.write_bytes(content)
    check_same(read(path).episodes, episodes)


@pytest.mark.parametrize('name', NAMES)
def test_noise_is_refused(tmp_path, name):
    noise = random.Random(3).randbytes(3000)
    path = tmp_path / name
    if name == 'dataset':
        path.mkdir()
        (path / 'data.bin').write_bytes(noise)
    else:
        path.write_bytes(noise)
    with pytest.raises(InputError) as caught:
        read(path)
    assert '\n' not in str(caught.value)


def test_a_kind_that_is_unknown(tmp_path):
    with pytest.raises(InputError, match='no kind'):
        format_of(tmp_path / 'demos.csv')


@pytest.mark.parametrize('name', ['demos.hdf5', 'demos.mcap', 'bags'])
def test_a_file_never_takes_the_place_of_a_folder(tmp_path, episodes, name):
    folder = tmp_path / name
    folder.mkdir()
    (folder / 'rosbag2_0.mcap').write_bytes(b'recorded')
    assert not format_of(folder).folder  # so it is refused before
    with pytest.raises(OSError):
        write(folder, episodes)
    assert [p.name for p in tmp_path.rglob('*')] == [name, 'rosbag2_0.mcap']
    assert (folder / 'rosbag2_0.mcap').read_bytes() == b'recorded'


class TestLeRobot:
    @pytest.fixture
    def dataset(self, tmp_path, episodes) -> Path:
        return write(tmp_path / 'dataset', episodes)

    @pytest.mark.parametrize('writes', [write, lambda *a: write_lerobot(a[0], TASK, a[1])])
    def test_a_folder_of_something_else_is_not_replaced(self, tmp_path, episodes, writes):
        folder = tmp_path / 'data'
        (folder / 'inner').mkdir(parents=True)
        (folder / 'inner/thesis.txt').write_text('years')
        with pytest.raises(InputError, match='no LeRobotDataset') as caught:
            writes(folder, episodes)
        assert str(caught.value).startswith(f'{folder}: ') and '\n' not in str(caught.value)
        assert [p.name for p in tmp_path.rglob('*')] == ['data', 'inner', 'thesis.txt']

    def test_a_file_is_not_replaced(self, tmp_path, episodes):
        (tmp_path / 'data').write_text('years')
        with pytest.raises(InputError, match='no LeRobotDataset'):
            write_lerobot(tmp_path / 'data', TASK, episodes)
        assert (tmp_path / 'data').read_text() == 'years'

    def test_an_empty_folder_and_that_of_a_link_are_replaced(self, tmp_path, episodes):
        folder, link = tmp_path / 'empty', tmp_path / 'link'
        folder.mkdir()
        link.symlink_to(folder)
        for path in (folder, link):
            check_same(read(write(path, episodes)).episodes, episodes)
        assert sorted(p.name for p in tmp_path.iterdir()) == ['empty', 'link']
        assert link.is_symlink()

    @pytest.mark.parametrize('failing', ['write', 'aside', 'in'])
    def test_a_failure_leaves_the_old_one(self, dataset, episodes, monkeypatch, failing):
        rename = Path.rename

        def fail(*_):
            raise OSError(28, 'No space left on device')

        def rename_or_fail(path, target):
            wanted = path == dataset if failing == 'aside' else path.suffix == '.partial'
            return fail() if wanted else rename(path, target)

        if failing == 'write':
            monkeypatch.setattr('q2rl_learner.lerobot_dataset._tasks', fail)
        else:
            monkeypatch.setattr(Path, 'rename', rename_or_fail)
        with pytest.raises(OSError, match='No space left'):
            write(dataset, episodes[:1])
        check_same(read(dataset).episodes, episodes)
        assert [p.name for p in dataset.parent.iterdir()] == [dataset.name]

    def test_an_old_one_that_cannot_be_removed_is_named(self, dataset, episodes, monkeypatch):
        remove = shutil.rmtree

        def rmtree(path, **options):
            if path.suffix == '.old':
                raise PermissionError(13, 'Permission denied')
            remove(path, **options)

        monkeypatch.setattr('shutil.rmtree', rmtree)
        with pytest.raises(InputError, match='is left of the dataset before') as caught:
            write(dataset, episodes[:1])
        check_same(read(Path(caught.value.where)).episodes, episodes)
        check_same(read(dataset).episodes, episodes[:1])

    def test_it_is_laid_out_as_v3(self, dataset, episodes):
        info = json.loads((dataset / 'meta/info.json').read_text())
        steps = sum(map(len, episodes))
        assert (info['codebase_version'], info['fps'], info['video_path']) == ('v3.0', 20, None)
        assert (info['total_episodes'], info['total_frames'], info['total_tasks']) == (3, steps, 1)
        table = pq.read_table(dataset / 'data' / FILE)
        assert set(table.column_names) == set(info['features'])
        for name, feature in info['features'].items():
            kind = table.schema.field(name).type
            if feature['shape'] == [1]:
                assert str(kind) == {'float32': 'float'}.get(feature['dtype'], feature['dtype'])
            else:
                assert kind == pa.list_(pa.float32(), feature['shape'][0])
        assert table['index'].to_pylist() == list(range(steps))
        # Without images, ACT and diffusion of LeRobot want this one.
        assert table['observation.environment_state'] == table['observation.state']
        rows = pq.read_table(dataset / 'meta/episodes' / FILE).to_pylist()
        assert [row['length'] for row in rows] == [len(e) for e in episodes]
        assert [row['dataset_to_index'] for row in rows][-1] == steps
        assert rows[0]['tasks'] == [TASK.description]
        stats = json.loads((dataset / 'meta/stats.json').read_text())
        everything = np.concatenate([e.actions for e in episodes])
        np.testing.assert_allclose(stats['action']['mean'], everything.mean(0), atol=1e-6)
        np.testing.assert_allclose(stats['action']['q50'], np.median(everything, 0), atol=1e-6)
        tasks = pq.read_table(dataset / 'meta/tasks.parquet')
        assert json.loads(tasks.schema.metadata[b'pandas'])['index_columns'] == ['task']

    def test_one_of_others_is_taken_at_the_users_word_and_short_of_its_ends(
        self, dataset, episodes
    ):
        (dataset / 'meta/q2rl.json').unlink()
        own = ('next.observation.state', 'next.reward', 'next.success', 'next.done')
        file = dataset / 'data' / FILE
        table = pq.read_table(file).drop_columns(list(own))
        half = len(episodes[0])
        pq.write_table(table[:half], file)
        pq.write_table(table[half:], file.with_name('file-001.parquet'))
        with pytest.raises(InputError, match='--as-is'):
            read(dataset)
        found = read(dataset, as_is=True)
        assert len(found.notes) == 2
        for one, other in zip(found.episodes, episodes, strict=True):
            np.testing.assert_array_equal(one.observations, other.observations[:-1])
            np.testing.assert_array_equal(one.next_observations, other.observations[1:])
            np.testing.assert_array_equal(one.rewards, np.full(len(other) - 1, -1.0))
            assert not one.terminated

    @pytest.mark.parametrize(
        'change, said',
        [
            ({'codebase_version': 'v2.1'}, 'only v3'),
            ({'fps': 30}, '30 frames per second'),
            ({'total_frames': 7}, 'info.json says 7'),
        ],
    )
    def test_a_description_that_does_not_fit(self, dataset, change, said):
        file = dataset / 'meta/info.json'
        file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
        with pytest.raises(InputError, match=said):
            read(dataset)

    @pytest.mark.parametrize(
        'change, said',
        [
            (lambda t: t.drop_columns(['action']), 'no feature `action`'),
            (lambda t: t.set_column(0, 'observation.state', t['action']), 'not of 3 numbers'),
            (lambda t: t.set_column(0, 'observation.state', t['index']), 'not of 3 numbers'),
            (
                lambda t: t.set_column(
                    t.column_names.index('action'), 'action', pa.array([[9.0] * 6] * len(t))
                ),
                r'exceeds \[-1, 1\]',
            ),
            (
                lambda t: t.set_column(0, 'observation.state', pa.array([[np.nan] * 3] * len(t))),
                'not finite',
            ),
        ],
    )
    def test_frames_that_do_not_fit(self, dataset, change, said):
        file = dataset / 'data' / FILE
        table = change(pq.read_table(file))
        pq.write_table(table, file)
        with pytest.raises(InputError, match=said):
            read(dataset)

    def test_the_data_are_missing(self, dataset):
        shutil.rmtree(dataset / 'data')
        with pytest.raises(InputError, match='no parquet file'):
            read(dataset)


class TestMcap:
    def bag(self, path: Path, transitions, kind=TYPE) -> Path:
        with path.open('wb') as file:
            writer = Writer(file)
            writer.start('ros2')
            schema = writer.register_schema(kind, 'ros2msg', b'')
            channel = writer.register_channel('/arm/transition', 'cdr', schema)
            for t in transitions:
                writer.add_message(channel, 0, serialize_message(transition_to_msg(t)), 0)
            writer.finish()
        return path

    def test_it_is_a_bag_with_its_definitions(self, tmp_path, episodes):
        path = write(tmp_path / 'demos.mcap', episodes)
        with path.open('rb') as file:
            reader = make_reader(file)
            assert reader.get_header().profile == 'ros2'
            summary = reader.get_summary()
        (channel,), (schema,) = summary.channels.values(), summary.schemas.values()
        assert (channel.topic, channel.message_encoding) == ('/transition', 'cdr')
        assert (schema.name, schema.encoding) == (TYPE, 'ros2msg')
        assert summary.statistics.message_count == sum(map(len, episodes))
        text = schema.data.decode()
        assert text == definition(TYPE)
        assert f'\n{"=" * 80}\nMSG: std_msgs/Header\n' in text
        assert 'MSG: builtin_interfaces/Time' in text

    def test_a_recorded_run_gives_its_whole_episodes(self, tmp_path):
        """Two robots at once, resent transitions, an episode that was joined late and one that was not finished."""

        def episode(robot, name, first, steps, begin=0, last=True, **more):
            return [
                transition(
                    TASK, first + i, name, begin + i, robot=robot,
                    truncated=last and i == steps - 1, **more,
                )
                for i in range(steps)
            ]  # fmt: skip

        one = episode('a', 'a-1', 1, 3)
        two = episode('b', 'b-1', 1, 2)
        late = episode('a', 'a-2', 4, 2, begin=5)
        open_ended = episode('b', 'b-2', 3, 2, last=False)
        mixed = [one[0], two[0], one[1], one[1], two[1], one[2], *late, *open_ended, one[0]]
        folder = tmp_path / 'rosbag2'
        folder.mkdir()
        self.bag(folder / 'rosbag2_0.mcap', mixed[:5])
        self.bag(folder / 'rosbag2_1.mcap', mixed[5:])
        found = read(folder)
        assert [(e.name, len(e), e.terminated) for e in found.episodes] == [
            ('a-1', 3, False), ('b-1', 2, False),
        ]  # fmt: skip
        assert found.notes == ('2 episodes that were not recorded whole are left out',)

    def test_bags_of_several_runs_in_one_folder_are_kept_apart(self, tmp_path):
        """Every run numbers its transitions from 1; episodes of one name that differ are not mixed up."""

        def run(life: str, seed: int):
            return [
                transition(
                    TASK, n + 1, f'run-d0001@arm.{life}', n, truncated=n == 2,
                    observation=np.full(3, seed + n, dtype=np.float32),
                )
                for n in range(3)
            ]  # fmt: skip

        folder = tmp_path / 'bags'
        folder.mkdir()
        self.bag(folder / 'first_0.mcap', run('a', 1))
        self.bag(folder / 'second_0.mcap', run('b', 5))
        found = read(folder)
        assert [(e.name, float(e.observations[0, 0])) for e in found.episodes] == [
            ('run-d0001@arm.a', 1.0), ('run-d0001@arm.b', 5.0),
        ]  # fmt: skip
        assert not found.notes
        self.bag(folder / 'third_0.mcap', run('a', 9))
        with pytest.raises(
            InputError, match=r'third_0\.mcap: has another episode run-d0001@arm\.a'
        ):
            read(folder)

    def test_bags_of_something_else(self, tmp_path, episodes):
        steps = list(transitions_of(TASK, episodes))
        path = self.bag(tmp_path / 'a.mcap', steps, kind='std_msgs/msg/String')
        with pytest.raises(InputError, match='no whole episode'):
            read(path)
        path = self.bag(tmp_path / 'b.mcap', [replace(steps[0], observation=np.zeros(2))])
        with pytest.raises(InputError, match='not of task toy'):
            read(path)
        with pytest.raises(InputError, match='cannot be read'):
            read(tmp_path / 'none.mcap')
