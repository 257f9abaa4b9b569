# SPDX-License-Identifier: Apache-2.0
"""A network comes back from its file bit by bit, or is refused in one line that names file, problem and remedy."""

import io
import json
import pickle

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest
import safetensors.torch
import torch

from q2rl_policies.actor import TanhGaussianActor
from q2rl_policies.bc import GaussianNet, GmmNet
from q2rl_policies.critics import CriticEnsemble, ValueNet
from q2rl_policies.networks_file import (
    FORMAT,
    _checksum,
    build_actor,
    build_bc,
    build_critics,
    load,
    pack,
    save,
    unpack,
)
from q2rl_task.errors import InputError

O, D = 7, 3  # noqa: E741
CONTRACT = '0123456789abcdef'


def actor_of() -> TanhGaussianActor:
    torch.manual_seed(1)
    return TanhGaussianActor(O, D, (8, 4))


def meta_of(architecture, **more) -> dict:
    return {
        'contract': CONTRACT,
        'task': 'pipe',
        'version': 4,
        'parent': 3,
        'architecture': architecture,
        **more,
    }


def actor_file(**more) -> bytes:
    actor = actor_of()
    return pack('actor', actor.state_dict(), meta_of(actor.architecture, **more))


def forged(tensors, meta, kind='actor') -> bytes:
    """A file with a right checksum over a wrong content, as `pack` would refuse to make it."""
    header = {'kind': kind, 'meta': meta, 'checksum': _checksum(kind, meta, tensors)}
    return safetensors.torch.save(tensors, {FORMAT: json.dumps(header)})


def refuse(data: bytes, *, kind='actor', contract=CONTRACT, build=build_actor) -> InputError:
    with pytest.raises(InputError) as caught:
        tensors, meta = unpack(data, '/some/file.safetensors', kind, contract)
        build(meta, tensors, '/some/file.safetensors')
    assert str(caught.value).startswith('/some/file.safetensors: ')
    assert caught.value.remedy and '\n' not in str(caught.value)
    return caught.value


def test_an_actor_comes_back_from_its_file_alone(tmp_path):
    actor = actor_of()
    path = tmp_path / 'actor.safetensors'
    save(path, 'actor', actor.state_dict(), meta_of(actor.architecture, gradient_steps=12))
    tensors, meta = load(path, 'actor', CONTRACT)
    again = build_actor(meta, tensors, path)
    assert meta == meta_of(actor.architecture, gradient_steps=12)
    for name, tensor in actor.state_dict().items():
        assert torch.equal(tensor.view(torch.int32), again.state_dict()[name].view(torch.int32))
    observation = torch.randn(5, O, generator=torch.Generator().manual_seed(2))
    assert torch.equal(actor.mode(observation), again.mode(observation))
    assert pack('actor', tensors, meta) == path.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ['actor.safetensors']


def test_critics_and_v_come_back_together():
    torch.manual_seed(1)
    critics, value = CriticEnsemble(O, D, (8,), 3, layer_norm=False), ValueNet(O, (4, 4))
    tensors = {f'critics.{k}': t for k, t in critics.state_dict().items()}
    tensors |= {f'value.{k}': t for k, t in value.state_dict().items()}
    architecture = {'critics': critics.architecture, 'value': value.architecture}
    data = pack('critic', tensors, meta_of(architecture, value_version=2))
    read, meta = unpack(data, 'memory', 'critic', CONTRACT)
    critics_again, value_again, of_bc = build_critics(meta, read)
    assert of_bc is None
    observation, action = torch.ones(2, O), torch.zeros(2, D)
    assert torch.equal(critics(observation, action), critics_again(observation, action))
    assert torch.equal(value(observation), value_again(observation))
    assert meta['value_version'] == 2


def test_a_frozen_q_of_bc_goes_along_where_there_is_one():
    torch.manual_seed(1)
    parts = {'critics': CriticEnsemble(O, D, (8,), 3), 'value': ValueNet(O, (4,))}
    parts['bc_critics'] = CriticEnsemble(O, D, (6,), 2)
    tensors = {f'{p}.{k}': t for p, net in parts.items() for k, t in net.state_dict().items()}
    architecture = {part: net.architecture for part, net in parts.items()}
    data = pack('critic', tensors, meta_of(architecture))
    read, meta = unpack(data, 'memory', 'critic', CONTRACT)
    *_, of_bc = build_critics(meta, read)
    observation, action = torch.ones(2, O), torch.zeros(2, D)
    assert torch.equal(of_bc(observation, action), parts['bc_critics'](observation, action))
    undescribed = meta_of({p: a for p, a in architecture.items() if p != 'bc_critics'})
    refuse(pack('critic', tensors, undescribed), kind='critic', build=build_critics)
    untold = {name: t for name, t in tensors.items() if not name.startswith('bc_critics.')}
    refuse(pack('critic', untold, meta_of(architecture)), kind='critic', build=build_critics)


@pytest.mark.parametrize('make', [GmmNet, GaussianNet])
def test_bc_networks_come_back(make):
    torch.manual_seed(1)
    net = make(O, D, (8,), min_std=0.05)
    tensors, meta = unpack(
        pack('bc', net.state_dict(), meta_of(net.architecture)), 'memory', 'bc', None
    )
    again = build_bc(meta, tensors)
    value = torch.zeros(4, D)
    observation = torch.ones(4, O)
    assert torch.equal(net(observation).log_prob(value), again(observation).log_prob(value))


def test_rebuilding_draws_no_random_number():
    tensors, meta = unpack(actor_file(), 'memory', 'actor', CONTRACT)
    before = torch.get_rng_state()
    build_actor(meta, tensors)
    assert torch.equal(before, torch.get_rng_state())


def test_cut_off_files_are_refused():
    data = actor_file()
    for length in (0, 5, 8, 100, len(data) // 2, len(data) - 1):
        refuse(data[:length])


@settings(max_examples=150)
@given(st.integers(0, 10**9), st.integers(0, 7))
def test_every_flipped_bit_is_noticed(position, bit):
    data = bytearray(actor_file())
    data[position % len(data)] ^= 1 << bit
    refuse(bytes(data))


@settings(max_examples=100)
@given(st.binary(max_size=300))
def test_noise_is_refused(data):
    refuse(data)
    refuse(len(data).to_bytes(8, 'little') + data)


def test_a_changed_tensor_is_noticed():
    data = actor_file()
    assert 'checksum' in refuse(data[:-4] + b'\x00\x00\x80\x3f').problem


def test_another_contract_is_named():
    error = refuse(actor_file(), contract='f' * 16)
    assert CONTRACT in error.problem and 'f' * 16 in error.problem and 'pipe' in error.problem


def test_another_kind_is_named():
    error = refuse(actor_file(), kind='critic', build=build_critics)
    assert "'actor'" in error.problem and "'critic'" in error.problem


@pytest.mark.parametrize('bad', [float('nan'), float('inf'), -float('inf')])
def test_numbers_that_are_not_finite_are_neither_written_nor_read(bad):
    tensors = {k: t.clone() for k, t in actor_of().state_dict().items()}
    tensors['net.0.weight'][0, 0] = bad
    with pytest.raises(ValueError, match=r'net\.0\.weight'):
        pack('actor', tensors, meta_of(actor_of().architecture))
    assert 'net.0.weight' in refuse(forged(tensors, meta_of(actor_of().architecture))).problem


def test_another_number_format_is_refused():
    tensors = {k: t.half() for k, t in actor_of().state_dict().items()}
    assert 'float16' in refuse(forged(tensors, meta_of(actor_of().architecture))).problem


def test_a_wrong_shape_is_named():
    tensors = dict(actor_of().state_dict())
    tensors['net.0.weight'] = torch.zeros(8, O + 1)
    error = refuse(forged(tensors, meta_of(actor_of().architecture)))
    assert 'net.0.weight' in error.problem and f'(8, {O + 1})' in error.problem


def test_missing_and_additional_tensors_are_named():
    tensors = dict(actor_of().state_dict())
    missing = {k: t for k, t in tensors.items() if k != 'net.0.bias'}
    assert (
        "'net.0.bias' is absent"
        in refuse(forged(missing, meta_of(actor_of().architecture))).problem
    )
    error = refuse(forged(tensors | {'more': torch.zeros(1)}, meta_of(actor_of().architecture)))
    assert "'more'" in error.problem


def test_pickles_are_never_read():
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ('a pickle was executed',))

    archive = io.BytesIO()
    torch.save(actor_of().state_dict(), archive)
    for data in (pickle.dumps(Bomb()), archive.getvalue()):
        assert 'pickle' in refuse(data).problem


def test_a_header_that_claims_to_be_huge_is_refused_before_it_is_read():
    refuse((1 << 62).to_bytes(8, 'little') + b'{}')
    refuse((200 << 20).to_bytes(8, 'little') + b'{}' * 100)
    deep = b'{"__metadata__":' + b'[' * 200_000
    refuse(len(deep).to_bytes(8, 'little') + deep)


def test_a_safetensors_file_of_somebody_else_is_refused():
    error = refuse(safetensors.torch.save({'w': torch.zeros(2)}))
    assert FORMAT in error.problem


@pytest.mark.parametrize(
    'change',
    [
        {'hidden': [1 << 20]},
        {'hidden': []},
        {'hidden': [8] * 99},
        {'hidden': 'wide'},
        {'hidden': [8, True]},
        {'observation_size': 0},
        {'observation_size': 1 << 40},
        {'action_size': 2.0},
        {'type': 'gmm'},
        {'type': 'os.system'},
        {'log_std_min': 'low'},
        {'log_std_max': float('inf')},
        {'surprise': 1},
        {'hidden': [8, 5]},
        {'layer_norm': False},
    ],
)
def test_architectures_that_are_none_are_refused(change):
    actor = actor_of()
    refuse(forged(dict(actor.state_dict()), meta_of({**actor.architecture, **change})))


def test_an_architecture_must_be_complete():
    actor = actor_of()
    for name in ('type', 'observation_size', 'action_size', 'hidden'):
        architecture = {k: v for k, v in actor.architecture.items() if k != name}
        refuse(forged(dict(actor.state_dict()), meta_of(architecture)))


@pytest.mark.parametrize('key', ['contract', 'task', 'version', 'parent', 'architecture'])
def test_a_description_must_be_complete(key):
    actor = actor_of()
    meta = meta_of(actor.architecture)
    del meta[key]
    with pytest.raises(ValueError, match=key):
        pack('actor', actor.state_dict(), meta)
    assert key in refuse(forged(dict(actor.state_dict()), meta)).problem


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('alpha', -0.1),
        ('alpha', '1'),
        ('alpha', None),
        ('alpha', 10**400),
        ('attainable', 7),
        ('attainable', [1.0]),
        ('attainable', [0.0, None]),
    ],
)
def test_what_a_gate_is_told_of_the_critics_is_numbers(key, value):
    actor = actor_of()
    meta = meta_of(actor.architecture) | {key: value}
    assert key in refuse(forged(dict(actor.state_dict()), meta)).problem


@pytest.mark.parametrize('change', [{'version': -1}, {'parent': True}, {'value_version': '2'}])
def test_versions_are_numbers(change):
    actor = actor_of()
    assert (
        'version'
        in refuse(forged(dict(actor.state_dict()), meta_of(actor.architecture) | change)).problem
    )


def test_a_description_that_is_no_mapping_is_refused():
    refuse(forged(dict(actor_of().state_dict()), [1, 2]))


def test_an_unknown_kind_is_not_written():
    with pytest.raises(ValueError, match='planner'):
        pack('planner', {}, meta_of({}))


def test_a_critic_file_with_foreign_tensors_is_refused():
    data = forged({'other.weight': torch.zeros(1)}, meta_of({}), kind='critic')
    assert 'other.weight' in refuse(data, kind='critic', build=build_critics).problem
    empty = forged({'critics.head_bias': torch.zeros(1)}, meta_of({'critics': None}), kind='critic')
    refuse(empty, kind='critic', build=build_critics)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match='No such file'):
        load(tmp_path / 'absent.safetensors', 'actor', None)


def test_a_file_that_cannot_be_packed_leaves_the_old_one_alone(tmp_path):
    actor = actor_of()
    path = tmp_path / 'actor.safetensors'
    save(path, 'actor', actor.state_dict(), meta_of(actor.architecture))
    before = path.read_bytes()
    bad = {k: t * float('nan') for k, t in actor.state_dict().items()}
    with pytest.raises(ValueError, match='finite'):
        save(path, 'actor', bad, meta_of(actor.architecture))
    assert path.read_bytes() == before


def test_equal_networks_are_equal_files():
    assert actor_file() == actor_file()
