# SPDX-License-Identifier: Apache-2.0
"""A task YAML is read whole, or refused in one line: file, field and remedy."""

from __future__ import annotations

from importlib import resources

import pytest
import yaml

from q2rl_task import InputError, load_task


@pytest.fixture
def content() -> dict:
    return yaml.safe_load(
        (resources.files('q2rl_task') / 'tasks' / 'pipe_assembly.yaml').read_text()
    )


def written(tmp_path, content):
    path = tmp_path / 'task.yaml'
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_shipped_task_loads_by_name_and_by_path(tmp_path, content):
    by_name = load_task('pipe_assembly')
    by_path = load_task(written(tmp_path, content))
    assert by_name == by_path
    assert by_name.observation_size == 22
    assert by_name.action_size == 6
    assert by_name.period_s == pytest.approx(0.05)


@pytest.mark.parametrize(
    ('section', 'field', 'value'),
    [
        ('limits', 'lead_m', -0.1),
        ('limits', 'unheard_of', 1.0),
        ('reward', 'discount', 1.0),
        ('action', 'translation_m', 'far'),
        ('observation', 'wrench_lowpass_hz', float('nan')),
        ('fixture', 'placement_m', [0.1, 0.1]),
    ],
)
def test_a_wrong_field_is_named_in_one_line(tmp_path, content, section, field, value):
    content[section][field] = value
    path = written(tmp_path, content)
    with pytest.raises(InputError) as refused:
        load_task(path)
    line = str(refused.value)
    assert '\n' not in line
    assert str(path) in line
    assert f'{section}.{field}' in line


def test_a_missing_field_is_named(tmp_path, content):
    del content['limits']['force_stop_n']
    with pytest.raises(InputError, match=r'limits\.force_stop_n'):
        load_task(written(tmp_path, content))


def test_a_misspelt_field_is_named_before_the_one_that_is_missing(tmp_path, content):
    content['limits']['force_stpo_n'] = content['limits'].pop('force_stop_n')
    content['limits']['lead_m'] = 'far'
    said = (
        r'`limits\.force_stpo_n`: is unknown, and `force_stop_n` is missing; remove it or correct'
    )
    with pytest.raises(InputError, match=said):
        load_task(written(tmp_path, content))


def test_a_name_that_is_almost_right_is_guessed():
    with pytest.raises(InputError, match='pipe_asembly: no such task, pipe_assembly perhaps; name'):
        load_task('pipe_asembly')


def test_a_file_that_is_there_and_cannot_be_read_says_why(tmp_path):
    with pytest.raises(InputError, match=r'cannot be read \(Is a directory\)'):
        load_task(tmp_path)


def test_stiffness_times_lead_may_not_exceed_the_stop_force(tmp_path, content):
    content['limits']['stiffness_n_m'] = 6000.0
    with pytest.raises(InputError, match='72 N, more than force_stop_n 60 N'):
        load_task(written(tmp_path, content))
    content['limits'].update(stiffness_n_m=5000.0, stiffness_nm_rad=130.0)
    with pytest.raises(InputError, match='13 Nm, more than torque_stop_nm 12 Nm'):
        load_task(written(tmp_path, content))


@pytest.mark.parametrize('text', ['- just\n- a list\n', 'a: [unclosed', ''])
def test_what_is_no_mapping_is_refused(tmp_path, text):
    path = tmp_path / 'task.yaml'
    path.write_text(text)
    with pytest.raises(InputError, match=r'task\.yaml'):
        load_task(path)


def test_a_file_that_is_no_text_is_refused_in_a_line(tmp_path):
    path = tmp_path / 'task.yaml'
    path.write_bytes(b'name: \xff\xfe')
    with pytest.raises(InputError, match=r'task\.yaml: cannot be read \(not UTF-8 text\)'):
        load_task(path)


def test_a_changed_copy_knows_nothing_that_was_computed_of_the_original():
    task = load_task('pipe_assembly')
    size, contract = task.frame_size, task.contract_hash
    fewer = task.observation.model_copy(update={'fields': task.observation.fields[:1]})
    changed = task.model_copy(update={'observation': fewer})
    assert changed.frame_size < size and changed.contract_hash != contract
    assert changed.contract_hash == type(task).model_validate(changed.model_dump()).contract_hash
    assert (task.frame_size, task.contract_hash) == (size, contract)


def test_an_unknown_task_names_the_known_ones():
    with pytest.raises(InputError, match='pipe_assembly'):
        load_task('pipe_dream')


def test_the_contract_hash_follows_meaning_not_limits(tmp_path, content):
    reference = load_task('pipe_assembly').contract_hash
    content['limits']['velocity_m_s'] = 0.2
    content['description'] = 'other words'
    assert load_task(written(tmp_path, content)).contract_hash == reference
    content['reward']['per_step'] = -2.0
    assert load_task(written(tmp_path, content)).contract_hash != reference


VARIANTS = {
    'pipe_assembly_ur5e': {'frames.base'},
    'pipe_assembly_fr3': {'frames.base'},
    'pipe_assembly_tight': {
        'max_steps',
        'fixture.estimate_error_m',
        'fixture.estimate_error_deg',
        'fixture.radial_clearance_m',
        'demonstrations.count',
        'demonstrations.noise',
        'learning.preset',
        'learning.online_steps',
    },
}


@pytest.mark.parametrize('name', VARIANTS)
def test_a_variant_differs_in_what_it_is_about_alone(name):
    first, second = (flat(load_task(n).model_dump()) for n in ('pipe_assembly', name))
    assert first.keys() == second.keys()
    differing = {field for field in first if first[field] != second[field]}
    assert differing == VARIANTS[name] | {'name', 'description'}


def flat(content: dict, above: str = '') -> dict:
    """Return nested mappings as one, by dotted names."""
    found = {}
    for name, value in content.items():
        deeper = isinstance(value, dict)
        found |= flat(value, f'{above}{name}.') if deeper else {f'{above}{name}': value}
    return found
