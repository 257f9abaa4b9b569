# SPDX-License-Identifier: Apache-2.0
"""Weights that change under way: only sound ones, only between ticks, and never a mixture of two versions."""

import threading

import numpy as np
import pytest
import torch

from q2rl_policies.actor import TanhGaussianActor
from q2rl_policies.critics import CriticEnsemble, ValueNet
from q2rl_policies.inference import GateCritic, RLPolicy
from q2rl_policies.live_networks import LiveActor, LiveCritic
from q2rl_policies.networks_file import pack
from q2rl_policies.weights import LiveWeights
from q2rl_task.errors import InputError

O, D = 5, 2  # noqa: E741
CONTRACT = 'c' * 16
OBSERVATION = np.ones(O, dtype=np.float32)


def meta_of(version: int, architecture: dict, **more) -> dict:
    return {
        'contract': CONTRACT,
        'task': 't',
        'version': version,
        'parent': 0,
        'architecture': architecture,
        **more,
    }


def actor_file(version: int, level: float | None = None, contract: str = CONTRACT) -> bytes:
    """An actor that proposes tanh(level) everywhere: by default the version tells the action."""
    actor = TanhGaussianActor(O, D, (4,))
    with torch.no_grad():
        actor.net[-1].weight.zero_()
        actor.net[-1].bias.fill_(version / 100.0 if level is None else level)
    return pack(
        'actor', actor.state_dict(), meta_of(version, actor.architecture) | {'contract': contract}
    )


def critic_file(version: int, q: float, v: float, **more) -> bytes:
    critics, value = CriticEnsemble(O, D, (4,), 3), ValueNet(O, (4,))
    with torch.no_grad():
        critics.head_weight.zero_()
        critics.head_bias.fill_(q)
        value.net[-1].weight.zero_()
        value.net[-1].bias.fill_(v)
    tensors = {f'critics.{k}': t for k, t in critics.state_dict().items()}
    tensors |= {f'value.{k}': t for k, t in value.state_dict().items()}
    architecture = {'critics': critics.architecture, 'value': value.architecture}
    meta = meta_of(version, architecture, value_version=version + 1, **more)
    return pack('critic', tensors, meta)


def live_actor() -> LiveWeights:
    return LiveWeights(LiveActor, CONTRACT, O)


def take(live: LiveWeights, data: bytes) -> None:
    live.stage(data)
    assert live.promote()


def action_of(live: LiveWeights) -> float:
    return float(RLPolicy(live).act(OBSERVATION).action[0])


def test_staged_weights_are_not_live_before_they_are_promoted():
    live = live_actor()
    assert live.current is None and not live.promote()
    live.stage(actor_file(1))
    assert live.current is None
    assert live.promote() and not live.promote()
    assert live.current.version == 1
    assert action_of(live) == pytest.approx(np.tanh(0.01))
    live.stage(actor_file(2))
    assert action_of(live) == pytest.approx(np.tanh(0.01))
    assert live.promote()
    assert action_of(live) == pytest.approx(np.tanh(0.02))


def test_only_the_last_staged_weights_go_live():
    live = live_actor()
    live.stage(actor_file(1))
    live.stage(actor_file(2))
    assert live.promote() and not live.promote()
    assert live.current.version == 2
    assert live.counts == {'staged': 2, 'promoted': 1}


@pytest.mark.parametrize(
    'data',
    [
        b'',
        b'nonsense' * 50,
        actor_file(2)[:-1],
        actor_file(2, contract='d' * 16),
        critic_file(2, 0.0, 0.0),
    ],
)
def test_bad_files_change_nothing(data):
    live = live_actor()
    take(live, actor_file(1))
    with pytest.raises(InputError, match='the topic'):
        live.stage(data, 'the topic')
    assert not live.promote() and live.current.version == 1
    assert live.counts['refused'] == 1
    take(live, actor_file(2))


def overflowing_actor(version: int) -> bytes:
    """Finite weights whose output is not."""
    actor = TanhGaussianActor(O, D, (4, 4), layer_norm=False)
    with torch.no_grad():
        for parameter in actor.parameters():
            parameter.fill_(3e38)
        actor.net[-1].weight[:, ::2] *= -1.0
    return pack('actor', actor.state_dict(), meta_of(version, actor.architecture))


def test_the_canary_refuses_actors_that_overflow():
    live = live_actor()
    take(live, actor_file(1))
    with pytest.raises(InputError, match='fails its trial'):
        live.stage(overflowing_actor(2))
    assert live.current.version == 1 and not live.promote()


def picky_actor(version: int) -> bytes:
    """An actor that overflows only where the first component of the observation is large."""
    actor = TanhGaussianActor(O, D, (2,), layer_norm=False)
    with torch.no_grad():
        for parameter in actor.parameters():
            parameter.zero_()
        actor.net[0].weight[:, 0] = 1e37
        actor.net[-1].weight[:, 0], actor.net[-1].weight[:, 1] = 3.0, -3.0
    return pack('actor', actor.state_dict(), meta_of(version, actor.architecture))


def test_the_canary_runs_on_the_observations_that_it_is_given():
    live = live_actor()
    calm = np.zeros((3, O), dtype=np.float32)
    live.stage(picky_actor(1), observations=calm)
    wild = calm.copy()
    wild[2, 0] = 99.0
    with pytest.raises(InputError, match='fails its trial'):
        live.stage(picky_actor(2), observations=wild)


@pytest.mark.parametrize(('q', 'v', 'what'), [(50.0, 0.0, 'a Q is 50'), (0.0, -50.0, 'V is -50')])
def test_the_canary_refuses_values_out_of_range(q, v, what):
    live = LiveWeights(LiveCritic, CONTRACT, O)
    take(live, critic_file(1, 19.0, -19.0, attainable=(-2.0, 1.0)))
    with pytest.raises(InputError, match=what):
        live.stage(critic_file(2, q, v, attainable=(-2.0, 1.0)))
    values = GateCritic(live).values(OBSERVATION, np.zeros(D, dtype=np.float32))
    assert (values.v, values.critic_version, values.value_version) == (-19.0, 1, 2)
    np.testing.assert_array_equal(values.q_rl_members, [19.0] * 3)


@pytest.mark.timeout(60)
def test_a_tick_never_sees_two_versions():
    """Q, V and both version numbers of each answer belong together while another thread stages."""
    live = LiveWeights(LiveCritic, CONTRACT, O)
    files = [critic_file(version, float(version), -float(version)) for version in range(1, 40)]
    take(live, files[0])
    failed: list[Exception] = []
    looked = threading.Event()

    def stage() -> None:
        looked.wait(10.0)  # the first version must have been seen
        try:
            for data in files[1:]:
                live.stage(data)
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=stage)
    thread.start()
    critic, action, seen = GateCritic(live), np.zeros(D, dtype=np.float32), set()
    while thread.is_alive() or live.promote():
        live.promote()
        before = live.current
        values = critic.values(OBSERVATION, action)
        assert live.current is before  # nothing but promote exchanges it
        assert set(values.q_rl_members.tolist()) == {-values.v} == {float(values.critic_version)}
        assert values.value_version == values.critic_version + 1
        seen.add(values.critic_version)
        looked.set()
    thread.join(10.0)
    assert not failed
    assert live.current.version == 39 and len(seen) > 1
