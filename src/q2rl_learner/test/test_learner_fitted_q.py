# SPDX-License-Identifier: Apache-2.0
"""Q of BC by temporal differences: on processes whose values are known, and on its way to the gate."""

from __future__ import annotations

from learner_helpers import Toy, demonstrations, noisy_bc, small_config, toy_task
import numpy as np
import pytest
import torch

from q2rl_learner.episodes import Episode
from q2rl_learner.fitted_q import fit_bellman, n_steps
from q2rl_learner.learner_state import load_state, save_state
from q2rl_learner.online_learner import OnlineLearner
from q2rl_policies.critics import CriticEnsemble, ValueNet
from q2rl_policies.live_networks import LiveCritic
from q2rl_task import InputError, Phase

GAMMA, LENGTH, MEAN = 0.8, 4, 0.2
TASK = toy_task()
BELLMAN = {'estimator': 'bellman', 'bellman_steps': 60}


def chain(actions: np.ndarray, terminated: bool = True) -> Episode:
    """Return an episode along states 0 .. 3 whose reward is the action; actions: (5,), the last one not taken."""
    actions = actions[:, None].astype(np.float32)
    states = np.eye(LENGTH + 1, dtype=np.float32)
    nothing = np.full(LENGTH, np.nan)
    return Episode(
        name='c',
        observations=states[:-1],
        actions=actions[:-1],
        rewards=actions[:-1, 0].astype(np.float64),
        next_observations=states[1:],
        terminated=terminated,
        held=np.zeros(LENGTH, dtype=bool),
        human=np.zeros(LENGTH, dtype=bool),
        bc_actions=actions[:-1],
        bc_log_probs=nothing,
        bc_entropies=nothing,
        next_bc_actions=actions[1:],
    )


def chains(count: int) -> list[Episode]:
    """Return episodes of a BC whose actions in every state have the mean 0.2 and the standard deviation 0.3."""
    drawn = np.random.default_rng(0).normal(size=(count, LENGTH + 1))
    drawn = MEAN + 0.3 * (drawn - drawn.mean(axis=0)) / drawn.std(axis=0)
    return [chain(actions) for actions in drawn]


def loop(rng: np.random.Generator) -> Episode:
    """Return an episode of one state in which every step costs 1 and nothing ends but by the time limit."""
    length = 12
    actions = rng.uniform(-1, 1, (length + 1, 1)).astype(np.float32)
    state = np.tile(np.eye(LENGTH + 1, dtype=np.float32)[:1], (length, 1))
    nothing = np.full(length, np.nan)
    nobody = np.zeros(length, dtype=bool)
    return Episode(
        'l', state, actions[:-1], -np.ones(length), state, False, nobody, nobody, actions[:-1],
        nothing, nothing, actions[1:],
    )  # fmt: skip


def fit(episodes, n_step=2, bc=None, **changes):
    settings = {
        'bellman_steps': 400,
        'bellman_tau': 0.05,
        'learning_rate': 3e-3,
        'weight_decay': 0.0,
        'value_steps': 200,
        'batch': 64,
    }
    config = small_config(n_step=n_step, clip_targets=False, fit={**settings, **changes})
    torch.manual_seed(0)
    return fit_bellman(
        episodes,
        config,
        GAMMA,
        (-1 / (1 - GAMMA), 1.0),
        lambda: CriticEnsemble(LENGTH + 1, 1, (32,), members=2, layer_norm=False),
        lambda: ValueNet(LENGTH + 1, (32,), layer_norm=False),
        bc,
        torch.Generator().manual_seed(0),
    )


@pytest.mark.parametrize('n_step', [1, 3])
def test_the_value_of_a_chain_is_found(n_step):
    found = fit(chains(50), n_step)
    states = torch.eye(LENGTH + 1)[:LENGTH]
    value = torch.tensor([MEAN * sum(GAMMA**i for i in range(LENGTH - s)) for s in range(LENGTH)])
    onward = torch.cat([value[1:], torch.zeros(1)])
    with torch.no_grad():
        for action in (-0.2, 0.2, 0.5):
            q = found.critics(states, torch.full((LENGTH, 1), action)).mean(0)
            torch.testing.assert_close(q, action + GAMMA * onward, atol=0.12, rtol=0.0)
        torch.testing.assert_close(found.value(states), value, atol=0.12, rtol=0.0)
    # What V cannot know are the actions: the variance of the returns is that of their noise, and V adds little to it.
    assert found.error < 1.25 * found.variance


def test_what_goes_on_for_ever_is_worth_the_fixed_point():
    rng = np.random.default_rng(0)
    found = fit([loop(rng) for _ in range(6)])
    with torch.no_grad():
        state, action = torch.eye(LENGTH + 1)[:1], torch.zeros(1, 1)
        assert float(found.critics(state, action).mean()) == pytest.approx(-5.0, abs=0.1)
        assert float(found.value(state)) == pytest.approx(-5.0, abs=0.1)


def test_n_steps_end_with_the_task_go_on_past_a_cut_and_stop_at_a_hold():
    (taken,) = np.random.default_rng(0).uniform(-1, 1, (1, LENGTH + 1))
    config = small_config(n_step=3)
    steps = n_steps([chain(taken)], config, GAMMA)
    torch.testing.assert_close(steps.bootstrap, torch.tensor([GAMMA**3, 0.0, 0.0, 0.0]))
    r = steps.action[:, 0]
    torch.testing.assert_close(steps.reward[1], r[1] + GAMMA * r[2] + GAMMA**2 * r[3])
    cut = n_steps([chain(taken, terminated=False)], config, GAMMA)
    torch.testing.assert_close(cut.bootstrap, torch.tensor([GAMMA**3, GAMMA**3, GAMMA**2, GAMMA]))
    held = chain(taken)
    held.held[2] = True
    found = n_steps([held], config, GAMMA)
    torch.testing.assert_close(found.bootstrap, torch.tensor([GAMMA**2, GAMMA, 0.0]))
    assert torch.equal(found.following[0], torch.from_numpy(held.next_observations[1]))
    silent = chain(taken)
    silent.next_bc_actions[:] = np.nan  # only what ends with the task can be computed
    assert len(n_steps([silent], config, GAMMA).reward) == 3


def test_v_is_the_mean_over_samples_of_bc():
    class Always:
        """A BC that always does 0.9."""

        def __call__(self, observation):
            self._size = len(observation)
            return self

        def sample(self, generator):
            return torch.full((self._size, 1), 0.9)

    found = fit(chains(30), bc=Always())
    states = torch.eye(LENGTH + 1)[:LENGTH]
    with torch.no_grad():
        said = found.critics(states, torch.full((LENGTH, 1), 0.9)).mean(0)
        torch.testing.assert_close(found.value(states), said, atol=0.05, rtol=0.0)


def learner(**changes) -> tuple[OnlineLearner, Toy]:
    config = small_config(fit=BELLMAN, **{'acting': {'bc_value': 'fitted'}, **changes})
    of = OnlineLearner(config, TASK, 0, demonstrations(TASK, 3, seed=1))
    toy = Toy(TASK, 2, noisy_bc(TASK, 2))
    for k in range(8):
        for t in toy.run(f'r{k}', Phase.ESTIMATING):
            of.add(t)
    return of, toy


def test_the_critics_start_as_the_fitted_q_which_then_stands_still():
    of, toy = learner()
    report = of.fit_estimate()
    assert report.rollouts == 8 and np.isfinite([report.value_error, report.critic_error]).all()
    frozen = {k: v.clone() for k, v in of.bc_critics.state_dict().items()}
    for name, tensor in of.critics.state_dict().items():
        assert torch.equal(tensor, frozen[name])
    for t in toy.run('o', Phase.ONLINE):
        of.add(t)
        of.update()
    changed = [n for n, v in of.critics.state_dict().items() if not torch.equal(v, frozen[n])]
    assert changed
    for name, tensor in of.bc_critics.state_dict().items():
        assert torch.equal(tensor, frozen[name])
    of.refresh_value()
    assert of.value_version == 2
    assert any(not torch.equal(v, frozen[n]) for n, v in of.bc_critics.state_dict().items())


def test_the_fitted_q_goes_out_with_the_weights_and_into_the_state(tmp_path):
    of, _ = learner()
    of.fit_estimate()
    live = LiveCritic.from_file(of.publish()['critic'], 'test', TASK.contract_hash)
    observation, action = np.zeros(3, dtype=np.float32), np.zeros(6, dtype=np.float32)
    said = live.q_bc(observation, action)
    with torch.no_grad():
        expected = of.bc_critics(torch.zeros(1, 3), torch.zeros(1, 6))[:, 0].numpy()
    np.testing.assert_allclose(said, expected, rtol=1e-4, atol=1e-5)
    save_state(tmp_path / 's', of)
    again = OnlineLearner(of.config, TASK, 0)
    load_state(tmp_path / 's', again)
    for name, tensor in of.bc_critics.state_dict().items():
        assert torch.equal(tensor, again.bc_critics.state_dict()[name])


def test_a_gate_on_the_density_sends_no_fitted_q():
    of, _ = learner(acting={'bc_value': 'density'})
    of.fit_estimate()
    live = LiveCritic.from_file(of.publish()['critic'], 'test', TASK.contract_hash)
    assert len(live.q_bc(np.zeros(3, dtype=np.float32), np.zeros(6, dtype=np.float32))) == 0


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ValueError, match='estimator: bellman'):
        small_config(acting={'bc_value': 'fitted'})
    of = OnlineLearner(small_config(fit=BELLMAN), TASK, 0)
    with pytest.raises(InputError, match='at least two rollouts'):
        of.fit_estimate()
