# SPDX-License-Identifier: Apache-2.0
"""Tasks with a gripper and a loose part: what goes with what, and what is made of an action and a measurement."""

from __future__ import annotations

from importlib import resources

import numpy as np
import pytest
import yaml

from q2rl_task import (
    InputError,
    Measurement,
    ObservationBuilder,
    Pose,
    advance_gripper,
    draw_start,
    load_task,
)

SHIPPED = sorted(p.name[:-5] for p in (resources.files('q2rl_task') / 'tasks').iterdir())
TASK = load_task('kitting')
FIXTURE, PART = TASK.fixture.nominal.pose, TASK.part.nominal.pose


@pytest.fixture
def content():
    return yaml.safe_load(
        (resources.files('q2rl_task') / 'tasks' / 'kitting.yaml').read_text(encoding='utf-8')
    )


def load(content, folder):
    path = folder / 'task.yaml'
    path.write_text(yaml.safe_dump(content))
    return load_task(path)


@pytest.mark.parametrize('name', SHIPPED)
def test_every_shipped_task_loads_under_its_own_name_and_names_a_scene(name):
    task = load_task(name)
    assert task.name == name and task.scene
    assert len({load_task(n).contract_hash for n in SHIPPED}) == len(SHIPPED)


@pytest.mark.parametrize(
    ('change', 'word'),
    [
        (lambda c: c.pop('gripper'), 'gripper'),
        (lambda c: c['action'].update(gripper=False), 'gripper'),
        (lambda c: c.pop('part'), 'part'),
        (lambda c: c['gripper'].update(threshold=1.5), 'threshold'),
        (lambda c: c['reset'].update(above='table'), 'above'),
    ],
)
def test_halves_of_a_gripper_or_part_are_refused(content, tmp_path, change, word):
    change(content)
    with pytest.raises(InputError, match=word):
        load(content, tmp_path)


@pytest.mark.parametrize(
    ('change', 'same'),
    [
        (lambda c: c['gripper'].update(open_m=0.03), False),
        (lambda c: c['gripper'].update(threshold=0.4), False),
        (lambda c: c['gripper'].update(force_n=30.0), True),
        (lambda c: c['observation']['fields'][1].update(limit=5.0), False),
        (lambda c: c['part'].update(estimate_error_m=0.001), True),
        (lambda c: c['demonstrations'].update(count=7), True),
        (lambda c: c.update(scene='elsewhere'), True),
    ],
)
def test_the_contract_has_what_gives_numbers_their_meaning(content, tmp_path, change, same):
    change(content)
    assert (load(content, tmp_path).contract_hash == TASK.contract_hash) is same


@pytest.mark.parametrize(
    ('before', 'wish', 'after'),
    [(1.0, -1.0, 0.0), (0.0, 1.0, 1.0), (1.0, -0.25, 1.0), (0.0, 0.25, 0.0), (0.0, 0.26, 1.0)],
)
def test_the_seventh_component_opens_closes_or_leaves(before, wish, after):
    assert advance_gripper(TASK, before, np.append(np.ones(6), wish)) == after


def test_without_a_gripper_nothing_is_told_to_it():
    assert np.isnan(advance_gripper(load_task('pipe_assembly'), float('nan'), np.ones(6)))


def measured(tip: Pose, gripper: float) -> Measurement:
    return Measurement(0.0, np.zeros(9), np.zeros(9), tip, np.zeros(6), np.zeros(6), False, gripper)


def test_the_part_is_seen_from_the_tip_finely_and_only_near():
    builder = ObservationBuilder(TASK)
    builder.reset(PART)
    names = [field.name for field in TASK.observation.fields]
    near = builder.build(measured(PART @ Pose.of([0.002, 0.0, -0.01]), 0.5), PART, FIXTURE)
    far = builder.build(measured(FIXTURE, 1.0), FIXTURE, FIXTURE)
    assert names[:3] == ['tip_position', 'tip_position', 'part_position']
    np.testing.assert_allclose(near[6:9], [0.4, 0.0, -2.0], atol=1e-5)
    assert names[-2:] == ['gripper', 'elapsed']
    assert near[-2] == pytest.approx(1.0) and far[-2] == pytest.approx(2.0)
    np.testing.assert_allclose(far[:6], 0.0, atol=1e-5)
    limit = TASK.observation.fields[2].limit
    assert np.abs(far[6:9]).max() == pytest.approx(limit)
    assert np.abs(near[:3]).max() < 3.0 and near[3:6].max() <= limit


def test_an_episode_starts_above_the_part_if_the_task_says_so():
    start = draw_start(TASK, FIXTURE, 3, PART).relative_to(PART).position
    assert np.all(np.abs(start[:2]) <= TASK.reset.spread_m[:2])
    assert abs(start[2] + TASK.reset.height_m) <= TASK.reset.spread_m[2]
