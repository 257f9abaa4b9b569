# SPDX-License-Identifier: Apache-2.0
"""The state of an `OnlineLearner` as one safetensors file, whole or not at all; nothing is pickled.

The file has networks, optimisers, counters and the random generator. Transitions are not in it: they are replayed
from the log, and a learner restored this way goes on exactly as one that never stopped; on another kind of device it
goes on with other random numbers.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
import torch
from torch import Tensor

from q2rl_learner.config import LearnerConfig
from q2rl_learner.estimation import EstimateReport
from q2rl_learner.interruption import Interrupted
from q2rl_learner.online_learner import OnlineLearner
from q2rl_task import InputError
from q2rl_task.atomic_file import write_atomically
from q2rl_task.errors import one_line

FORMAT = 'q2rl-learner-1'
ANEW = 'remove it: the learner then starts over from the log'
TURNED_BACK = (
    'was turned back once, which the log does not tell, and what it learned is gone',
    'restore a copy of learner/state.safetensors, or start a new run',
)
"""Of a run without a state: the problem, and the remedy."""
_COUNTERS = (
    'trained_steps',
    'gradient_steps',
    'offline_steps',
    'actor_steps',
    'weights_version',
    'value_version',
    'refreshes',
    'networks_made',
    'rollbacks',
    'forgotten',
)
_MOMENTS = ('step', 'exp_avg', 'exp_avg_sq')
_GONE = {'q_filter': False, 'fit.uniform_fraction': 0.0, 'fit.actor_data': 'all'}
"""Settings that were, with the value that means what is done now: states from then stay readable."""

_FREE_ONCE_FITTED = ('rollouts', 'publish_every')
"""Settings that nothing learned depends on once V is fitted."""


def save_state(path: str | Path, learner: OnlineLearner) -> None:
    """Write the learner's state to `path`, atomically and durably.

    :raises ValueError: the learner has diverged; the state of before stays, to go on with
    """
    write_atomically(path, pack_state(learner), durable=True)


def pack_state(learner: OnlineLearner) -> bytes:
    """Return the content of the file that `save_state` writes.

    :raises ValueError: the learner has diverged
    """
    tensors = {name: t.detach().contiguous() for name, t in _everything(learner).items()}
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f'the learner has diverged: {name} holds numbers that are not finite')
    return save(tensors, _description(learner))


class Snapshot:
    """A learner as it was, in memory, before what may be given up half done; its replay is not in it."""

    def __init__(self, learner: OnlineLearner) -> None:
        self._learner = learner
        self._tensors = {name: t.detach().clone() for name, t in _everything(learner).items()}
        self._description = _description(learner)

    def restore(self) -> None:
        """Make the learner what it was."""
        _restore(self._learner, self._tensors, self._description)


def try_fit(learner: OnlineLearner) -> EstimateReport:
    """Run Q-Estimation. A learner whose fit is given up, or says too little to start from, is what it was before.

    :raises Interrupted: it is given up
    :raises InputError: it cannot be done on these rollouts
    """
    before = Snapshot(learner)
    try:
        report = learner.fit_estimate()
    except Interrupted:
        before.restore()
        raise
    if report.problem():
        before.restore()
    return report


def _everything(learner: OnlineLearner) -> dict[str, Tensor]:
    return {**_tensors(learner), 'generator': learner.generator.get_state()}


def _description(learner: OnlineLearner) -> dict[str, str]:
    report = learner.report
    return {
        'format': FORMAT,
        'contract': learner.task.contract_hash,
        'device': learner.generator.device.type,
        'config': learner.config.model_dump_json(),
        'counters': json.dumps({name: getattr(learner, name) for name in _COUNTERS}),
        'drawn': json.dumps([learner.replay.drawn, learner.replay.drawn_demonstrations]),
        'report': json.dumps(dataclasses.asdict(report) if report else None),
    }


def load_state(path: str | Path, learner: OnlineLearner) -> None:
    """Restore a freshly made learner, before any transition is added; then add the whole log to it.

    :raises InputError: damaged, or of another task or other settings
    """
    path = Path(path)
    try:
        with safe_open(path, framework='pt') as file:
            meta = file.metadata() or {}
            stored = {name: file.get_tensor(name) for name in list(file.keys())}
        _check(path, meta, learner)
        _restore(learner, stored, meta)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            path,
            f'is not a readable state of a learner ({one_line(error)})',
            ANEW,
        ) from None


def config_in(meta: dict[str, str]) -> LearnerConfig:
    """Return the settings of the learner that a state's metadata are of.

    :raises KeyError, ValueError: they hold none, or a setting that is not known any more had a say
    """
    settings = json.loads(meta['config'])
    for name, neutral in _GONE.items():
        section, _, field = name.rpartition('.')
        within = settings.get(section, {}) if section else settings
        if within.get(field) == neutral:
            del within[field]
    return LearnerConfig.model_validate(settings)


def _check(path: Path, meta: dict[str, str], learner: OnlineLearner) -> None:
    if meta.get('format') != FORMAT:
        raise InputError(path, f'is not a state of a learner ({FORMAT})', ANEW)
    if meta['contract'] != learner.task.contract_hash:
        raise InputError(
            path, f'is of contract {meta["contract"]}', 'resume with the task of the run'
        )
    theirs = config_in(meta).model_dump(mode='json')
    ours = learner.config.model_dump(mode='json')
    free = _FREE_ONCE_FITTED if json.loads(meta['report']) else ()
    names = (ours.keys() | theirs.keys()).difference(free)
    different = sorted(k for k in names if ours.get(k) != theirs.get(k))
    if different:
        raise InputError(
            path,
            f'was made with other settings of {", ".join(different)}',
            'resume with the preset of the run',
        )


def _restore(learner: OnlineLearner, stored: dict[str, Tensor], meta: dict[str, str]) -> None:
    own = _tensors(learner)
    expected = {name for name in own if not name.startswith('adam.')}
    missing = expected - stored.keys()
    if missing:
        raise ValueError(f'no tensor {min(missing)}')
    for name in sorted(expected):
        if own[name].shape != stored[name].shape:
            raise ValueError(
                f'tensor {name} is {tuple(stored[name].shape)}, not {tuple(own[name].shape)}'
            )
    with torch.no_grad():
        for name in expected:
            own[name].copy_(stored[name])
    for prefix, optimiser in _optimisers(learner).items():
        optimiser.state.clear()
        parameters = optimiser.param_groups[0]['params']
        for index, parameter in enumerate(parameters):
            names = [f'{prefix}.{index}.{moment}' for moment in _MOMENTS]
            if names[0] in stored:
                optimiser.state[parameter] = {
                    moment: stored[name].to(parameter.device, copy=True)
                    for moment, name in zip(_MOMENTS, names, strict=True)
                }
    counters: dict[str, int] = {'refreshes': 0, **json.loads(meta['counters'])}
    report: dict[str, Any] | None = json.loads(meta['report'])
    for name in _COUNTERS:
        setattr(learner, name, int(counters[name]))
    if meta.get('device', 'cpu') == learner.generator.device.type:
        learner.generator.set_state(stored['generator'])
    else:  # it counts differently there; but what was drawn so far must not be drawn again
        learner.generator.manual_seed(learner.generator.initial_seed() + learner.gradient_steps)
    learner.replay.drawn, learner.replay.drawn_demonstrations = json.loads(meta['drawn'])
    learner.report = EstimateReport(**report) if report else None
    learner.replay_until(learner.trained_steps)


def _optimisers(learner: OnlineLearner) -> dict[str, torch.optim.Optimizer]:
    updater = learner.updater
    found = {'adam.actor': updater.actor_optimiser, 'adam.critics': updater.critic_optimiser}
    if updater.expectile_value is not None:
        found['adam.expectile_value'] = updater.expectile_value.optimiser
    return found


def _tensors(learner: OnlineLearner) -> dict[str, Tensor]:
    updater = learner.updater
    modules = {
        'actor': updater.actor,
        'critics': updater.critics,
        'target': updater.target,
        'value': learner.value,
    }
    if updater.acting is not updater.actor:
        modules['acting'] = updater.acting
    if learner.bc_critics is not None:
        modules['bc_critics'] = learner.bc_critics
    if updater.expectile_value is not None:
        modules['expectile_value'] = updater.expectile_value.net
    tensors = {
        f'{prefix}.{name}': tensor
        for prefix, module in modules.items()
        for name, tensor in module.state_dict().items()
    }
    for prefix, optimiser in _optimisers(learner).items():
        for index, parameter in enumerate(optimiser.param_groups[0]['params']):
            for moment, tensor in optimiser.state.get(parameter, {}).items():
                tensors[f'{prefix}.{index}.{moment}'] = tensor
    return tensors
