# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from pathlib import Path

import pytest

from q2rl_learner.config import Decay, LearnerConfig, load_preset, without_method
from q2rl_task import InputError


@pytest.mark.parametrize('name', ['laptop', 'paper'])
def test_shipped_presets_load(name):
    config = load_preset(name)
    assert config.critics >= config.min_subset


def test_the_paper_preset_has_the_published_sizes():
    paper = load_preset('paper')
    assert (paper.critics, paper.critic_hidden, paper.min_subset) == (10, (512, 512, 512), 2)
    # One actor batch of 256 in four critic batches of 64.
    assert paper.critic_updates_per_step * paper.batch == 256 and paper.actor_batch == 'all'
    # -1 per step and 0 on success become the authors' -1 and +4.
    assert (paper.scaled(-1.0), paper.scaled(0.0)) == (-1.0, 4.0)


@pytest.mark.parametrize(
    ('text', 'problem'),
    [
        ('critic: 5\n', 'critic'),
        ('critics: 0\n', 'critics'),
        ('fit: {foldz: 3}\n', 'fit.foldz'),
        ('critics: 2\nmin_subset: 3\n', 'min_subset'),
        ('bc_mixing: convex\nbc_weight: {initial: 2.0}\n', 'bc_mixing'),
        ('alpha: .nan\n', 'alpha'),
        ('alpha: -0.1\n', 'alpha'),
        ('rollouts: 0\n', 'there is no V of BC'),
        ('acting: {bc_value: fitted}\n', 'bellman'),
        ('- 1\n', 'mapping'),
        ('a: [\n', 'YAML'),
    ],
)
def test_a_malformed_preset_is_named(tmp_path, text, problem):
    path = tmp_path / 'mine.yaml'
    path.write_text(text)
    with pytest.raises(InputError, match=problem) as caught:
        load_preset(path)
    assert str(path) in str(caught.value) and '\n' not in str(caught.value)


def test_an_unknown_preset_names_the_known():
    with pytest.raises(InputError, match='laptop, laptop-long, paper'):
        load_preset('laptpo')


def test_bc_weight_decays():
    weight = Decay(initial=1.0, decay_steps=100.0, floor=0.2)
    assert weight.at(0) == 1.0
    assert weight.at(100) == pytest.approx(0.2 + 0.8 * math.exp(-1))
    assert Decay(initial=0.3).at(10**6) == 0.3


def test_a_number_alone_stays():
    assert LearnerConfig(actor_tau=0.25).actor_tau == Decay(initial=0.25)
    with pytest.raises(ValueError, match='actor_tau'):
        LearnerConfig(actor_tau=0.0)
    with pytest.raises(ValueError, match='actor_tau'):
        LearnerConfig(actor_tau=True)


def test_what_is_laid_over_a_preset_is_taken_off_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert without_method('laptop') == 'laptop'
    assert without_method('laptop-long+q2rl/self-imitation') == 'laptop-long'
    Path('one+two.yaml').touch()
    assert without_method('one+two.yaml+ibrl') == without_method('one+two.yaml') == 'one+two.yaml'
