# SPDX-License-Identifier: Apache-2.0
"""robomimic's checkpoints become networks with the very density, and are never unpickled."""

from __future__ import annotations

from pathlib import Path
import pickle

import numpy as np
import pytest
from robomimic_files import density, make_checkpoint
import torch

from q2rl_policies.distributions import GaussianMixture
from q2rl_policies.networks_file import build_bc, pack, unpack
from q2rl_policies.policy_file import network_bc
from q2rl_policies.policy_spec import Actions, Block, Input
from q2rl_policies.robomimic import is_checkpoint, read_robomimic
from q2rl_task import InputError, load_task

TASK = load_task('pipe_assembly')
O, D = TASK.observation_size, TASK.action_size  # noqa: E741
STATS = {
    'force': {'offset': [[1.0, -2.0, 3.0]], 'scale': [[40.0, 50.0, 30.0]]},
    'tip_position': {'offset': [[0.1, 0.0, -0.1]], 'scale': [[10.0, 20.0, 8.0]]},
}


def observations(n: int = 6) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((n, O)).astype(np.float32)


def check_density(read, expected, seen, scale=1.0, offset=0.0, order=range(D)) -> None:
    """Compare what a policy of `read` proposes with the densities expected at each step."""
    policy = network_bc(read.net, TASK.contract_hash, 1).make(5, 'bound', False)
    scale, offset, order = np.broadcast_to(scale, D), np.broadcast_to(offset, D), list(order)
    inside = 0
    for observation, (weights, means, stds) in zip(seen, expected, strict=True):
        proposal = policy.act(observation)
        means = means.double()[:, order] * torch.tensor(scale) + torch.tensor(offset)
        mixture = GaussianMixture(
            weights.double(), means, stds.double()[:, order] * torch.tensor(np.abs(scale))
        )
        assert proposal.entropy == pytest.approx(float(mixture.entropy('bound')), abs=1e-4)
        if np.abs(proposal.action).max() < 1.0:
            inside += 1
            said = float(mixture.log_prob(torch.from_numpy(proposal.action).double()))
            assert proposal.log_prob == pytest.approx(said, rel=1e-3, abs=1e-3)
    assert inside > 0


@pytest.mark.parametrize(
    'kind, algo, options',
    [
        ('gmm', {}, {}),
        ('gmm', {'gmm': {'std_activation': 'exp', 'min_std': 0.0001}}, {}),
        ('gmm', {}, {'modes': 1}),
        ('gaussian', {}, {}),
        ('gaussian', {'gaussian': {'std_activation': 'exp', 'min_std': 0.9}}, {}),
        ('gaussian', {'gaussian': {'fixed_std': True, 'init_std': 0.3}}, {}),
        ('rnn', {}, {}),
        ('rnn', {}, {'rnn': 'GRU', 'hidden': ()}),
    ],
)
def test_a_checkpoint_becomes_a_network_with_its_density(tmp_path, kind, algo, options):
    path = tmp_path / 'model_epoch_3.pth'
    checkpoint = make_checkpoint(path, kind, algo=algo, **options)
    assert is_checkpoint(path)
    read, seen = read_robomimic(path, TASK), observations(40)
    assert read.algorithm == {'gmm': 'BC-GMM', 'gaussian': 'BC-Gaussian', 'rnn': 'BC-RNN-GMM'}[kind]
    assert read.low_noise and read.keys == ('state',)
    check_density(read, density(checkpoint, {'state': seen}), seen)


@pytest.mark.parametrize('kind', ['gmm', 'gaussian', 'rnn'])
def test_it_survives_our_own_file(tmp_path, kind):
    checkpoint = make_checkpoint(tmp_path / 'm.pth', kind)
    net = read_robomimic(tmp_path / 'm.pth', TASK).net
    meta = {'contract': TASK.contract_hash, 'task': TASK.name, 'version': 1, 'parent': 0}
    data = pack('bc', net.state_dict(), {**meta, 'architecture': net.architecture})
    tensors, meta = unpack(data, 'memory', 'bc', TASK.contract_hash)
    read = read_robomimic(tmp_path / 'm.pth', TASK)
    again = type(read)(
        build_bc(meta, tensors), read.algorithm, read.keys, read.shown, read.low_noise
    )
    check_density(again, density(checkpoint, {'state': observations()}), observations())


@pytest.mark.parametrize('kind', ['gmm', 'rnn'])
def test_keys_units_normalisation_and_the_actions_map_are_folded_in(tmp_path, kind):
    """Keys are joined sorted, whatever the order in which they are given; N and mm here, the task has 10 N and 5 mm."""
    keys = {'tip_position': 3, 'force': 3}
    action_stats = {'actions': {'offset': [[0.1] * D], 'scale': [[0.5, 1, 1, 1, 1, 2.0]]}}
    path = tmp_path / 'm.pth'
    checkpoint = make_checkpoint(path, kind, keys=keys, obs_stats=STATS, action_stats=action_stats)
    inputs = (
        Input(name='force', blocks=(Block(field='force', scale=1.0),)),
        Input(name='tip_position', blocks=(Block(field='tip_position', scale=0.001),)),
    )
    actions = Actions(
        order=(1, 0, 2, 3, 4, 5), scale=(1, -1, 1, 1, 1, 0.5), offset=(0,) * 5 + (0.2,)
    )
    read, seen = read_robomimic(path, TASK, inputs, actions), observations(40)
    assert read.keys == ('force', 'tip_position')
    raw = {'force': 10.0 * seen[:, 15:18], 'tip_position': 5.0 * seen[:, :3]}
    own = np.array([0.5, 1, 1, 1, 1, 2.0])
    user = np.array([1, -1, 1, 1, 1, 0.5])
    order = [1, 0, 2, 3, 4, 5]
    check_density(
        read,
        density(checkpoint, raw),
        seen,
        scale=user * own[order],
        offset=user * 0.1 + np.array([0, 0, 0, 0, 0, 0.2]),
        order=order,
    )


def test_keys_that_are_named_as_blocks_need_no_words(tmp_path):
    checkpoint = make_checkpoint(tmp_path / 'm.pth', keys={'force': 3, 'tip_position': 3})
    read, seen = read_robomimic(tmp_path / 'm.pth', TASK), observations()
    expected = density(checkpoint, {'force': seen[:, 15:18], 'tip_position': seen[:, :3]})
    check_density(read, expected, seen)


class Payload:
    """What an attacker's pickle would do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize('where', ['in a checkpoint', 'alone', 'a plain pickle'])
def test_a_pickle_with_a_payload_is_refused_and_not_run(tmp_path, where):
    bait, path = tmp_path / 'ran', tmp_path / 'evil.pth'
    if where == 'a plain pickle':
        path.write_bytes(pickle.dumps(Payload(bait)))
    elif where == 'alone':
        torch.save(Payload(bait), path)
    else:
        make_checkpoint(path, variable_state={'epoch': Payload(bait)})
    assert is_checkpoint(path)
    with pytest.raises(InputError, match='not unpickled') as caught:
        read_robomimic(path, TASK)
    assert '\n' not in str(caught.value) and 'weights_only=False' not in str(caught.value)
    # A copy without its statistics would be another policy.
    assert 'obs_normalization_stats' in caught.value.remedy
    assert not bait.exists()


def test_numpys_numbers_and_arrays_are_data(tmp_path):
    stats = {k: {n: np.array(v) for n, v in s.items()} for k, s in STATS.items()}
    state = {'epoch': np.int64(3), 'loss': np.float32(1.0), 'best': {'Lift': np.float64(0.2)}}
    path = tmp_path / 'm.pth'
    keys = {'force': 3, 'tip_position': 3}
    make_checkpoint(path, keys=keys, obs_stats=stats, variable_state=state)
    assert read_robomimic(path, TASK).algorithm == 'BC-GMM'


@pytest.mark.parametrize('kind', ['gmm', 'gaussian', 'rnn'])
def test_release_0_3_keeps_the_networks_bare_and_calls_its_statistics_mean_and_std(tmp_path, kind):
    stats = {'state': {'mean': [[0.5] * O], 'std': [[2.0] * O]}}
    newer = {'state': {'offset': stats['state']['mean'], 'scale': stats['state']['std']}}
    checkpoint = make_checkpoint(None, kind, obs_stats=newer)
    path = tmp_path / 'model_epoch_1.pth'
    of_0_3 = ('config', 'algo_name', 'env_metadata', 'shape_metadata')
    bare = {'model': checkpoint['model']['nets'], 'obs_normalization_stats': stats}
    torch.save({name: checkpoint[name] for name in of_0_3} | bare, path)
    seen = observations()
    check_density(read_robomimic(path, TASK), density(checkpoint, {'state': seen}), seen)


def without(checkpoint: dict, *path: str) -> dict:
    *parents, last = path
    for name in parents:
        checkpoint = checkpoint[name]
    del checkpoint[last]
    return checkpoint


@pytest.mark.parametrize(
    'kind, options, said',
    [
        ('gmm', {'actions': 7}, 'has actions of 7 numbers'),
        ('gmm', {'keys': {'state': 20}}, f'key `state` has 20 numbers, what it is shown {O}'),
        ('gmm', {'keys': {'robot0_eef_pos': 3}}, 'no counterpart by its name'),
        ('gmm', {'algo_name': 'hbc'}, "algorithm 'hbc'"),
        ('gmm', {'algo': {'gmm': {'enabled': False}}}, 'a plain regression'),
        ('gmm', {'algo': {'transformer': {'enabled': True}}}, 'gmm [+] transformer'),
        ('gaussian', {'algo': {'rnn': {'enabled': True}}}, 'gaussian [+] rnn'),
        ('rnn', {'algo': {'rnn': {'open_loop': True}}}, 'open-loop'),
        ('rnn', {'algo': {'rnn': {'hidden_dim': 8}}}, 'not those of its configuration'),
        ('gmm', {'algo': {'gmm': {'num_modes': 4}}}, 'not those of its configuration'),
        ('gmm', {'obs_stats': {'state': {'mean': [0.0], 'std': [1.0]}}}, f'is not of {O} numbers'),
        (
            'gmm',
            {'obs_stats': {'state': {'offset': [0.0] * O, 'scale': [0.0] * O}}},
            'not positive',
        ),
        ('gmm', {'action_stats': {'a': {}, 'b': {}}}, 'several keys'),
        ('gmm', {'config': '{'}, 'no checkpoint of robomimic'),
        ('gmm', {'shape_metadata': {}}, "misses 'all_shapes'"),
    ],
)
def test_what_cannot_be_rebuilt_is_one_line(tmp_path, kind, options, said):
    make_checkpoint(tmp_path / 'm.pth', kind, **options)
    with pytest.raises(InputError, match=said) as caught:
        read_robomimic(tmp_path / 'm.pth', TASK)
    assert '\n' not in str(caught.value) and caught.value.remedy


def test_weights_that_are_missing_or_not_finite(tmp_path):
    path = tmp_path / 'm.pth'
    checkpoint = make_checkpoint(None)
    without(checkpoint, 'model', 'nets', 'policy.nets.mlp._model.2.bias')
    torch.save(checkpoint, path)
    with pytest.raises(InputError, match=r'mlp\._model\.2\.bias'):
        read_robomimic(path, TASK)
    checkpoint = make_checkpoint(None)
    checkpoint['model']['nets']['policy.nets.mlp._model.0.bias'][0] = np.nan
    torch.save(checkpoint, path)
    with pytest.raises(InputError, match='not finite'):
        read_robomimic(path, TASK)


def test_images_and_goals_are_out_of_reach(tmp_path):
    import json

    checkpoint = make_checkpoint(None)
    config = json.loads(checkpoint['config'])
    config['observation']['modalities']['obs']['rgb'] = ['agentview_image']
    torch.save({**checkpoint, 'config': json.dumps(config)}, tmp_path / 'm.pth')
    with pytest.raises(InputError, match='agentview_image'):
        read_robomimic(tmp_path / 'm.pth', TASK)


@pytest.mark.parametrize(
    'record, at', [(b'PK\1\2', 3), (b'PK\6\7', 16)], ids=['an entry', 'the number of disks']
)
def test_a_damaged_zip_is_one_line(tmp_path, record, at):
    path = tmp_path / 'm.pth'
    make_checkpoint(path)
    data = bytearray(path.read_bytes())
    data[data.index(record) + at] = 9
    path.write_bytes(data)
    with pytest.raises(InputError, match='is a damaged zip') as caught:
        is_checkpoint(path)
    assert '\n' not in str(caught.value)


def test_files_that_are_cut_off_or_foreign(tmp_path):
    path = tmp_path / 'm.pth'
    make_checkpoint(path)
    data = path.read_bytes()
    for content in (data[: len(data) // 2], data[:100], b'', b'hello' * 100):
        path.write_bytes(content)
        with pytest.raises(InputError) as caught:
            read_robomimic(path, TASK)
        assert '\n' not in str(caught.value)
    torch.save([1, 2], path)
    with pytest.raises(InputError, match='holds a list'):
        read_robomimic(path, TASK)
