# SPDX-License-Identifier: Apache-2.0
"""The steps of `q2rl adopt`, in order: read, measure, check, distil, judge, write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
import shlex
from typing import Any

import numpy as np

from q2rl_lab.adoption import (
    Listener,
    Measured,
    as_dict,
    check_actions,
    check_contract,
    check_density,
    check_inputs,
    judge,
)
from q2rl_lab.adoption_order import Order, adopted_task, improving, suite_of
from q2rl_lab.bench_suites import BenchTask, find_suite
from q2rl_lab.candidates import NETWORK, Candidate, find_candidate
from q2rl_lab.cell import Deciders
from q2rl_lab.checks import Finding, show
from q2rl_lab.console import emit, say
from q2rl_lab.gym_scaling import task_file
from q2rl_lab.gym_task import FixedGymTask
from q2rl_lab.in_process import evaluate
from q2rl_lab.progress import EpisodeProgress
from q2rl_lab.statistics import Rate
from q2rl_learner.config import load_preset
from q2rl_learner.demonstrations import load_demonstrations
from q2rl_learner.distillation import Distilled, distil
from q2rl_policies.bc import BCPolicy
from q2rl_policies.gate import QGate
from q2rl_policies.networks_file import pack
from q2rl_policies.policy_file import LoadedBC, network_bc
from q2rl_policies.torch_runtime import prepare_torch
from q2rl_task import InputError, Mode, TaskSpec, episode_seed
from q2rl_task.atomic_file import check_writable, refuse_existing, saying_why, write_atomically

EPISODES = 50
"""Scenes that a policy is measured on, where nothing else is asked for."""
DISTIL_EPISODES = 100
"""The same where a mixture is fitted to them: from fewer it may lose half of what the policy could."""


def adopt_policy(order: Order) -> tuple[dict[str, Any], Callable[[], None]]:
    """Adopt a policy; return the result as plain data, and what shows it to people.

    :raises InputError: nothing that can be adopted, or the file to write is there already or cannot be written
    """
    order.check()
    prepare_torch()
    case = adopted_task(order)
    task = case.spec
    candidate = find_candidate(order.policy, order.spec, task, order.interpreter)
    suffix = NETWORK if order.distil else candidate.suffix
    output = _output(order, suffix, case)
    say(f'{candidate.kind}: {candidate.loaded.what}')
    measured, findings = _measure(candidate, case, order)
    distilled = _distil(candidate.loaded, measured, case, order) if order.distil else None
    verdict = judge(
        findings,
        candidate.loaded,
        measured,
        improving(order, task, output),
        _distilling(order, output),
    )
    if verdict.use:
        content = (
            candidate.content()
            if verdict.use == 'adopted'
            else _packed(distilled, candidate, task, order)
        )
        with saying_why(output):
            if isinstance(task, FixedGymTask):
                write_atomically(task_file(output), task.model_dump_json().encode(), durable=True)
            write_atomically(output, content, durable=True)
    result: dict[str, Any] = {
        'of': order.policy,
        'kind': candidate.kind,
        'task': task.name,
        'seed': order.seed,
        'recurrent': candidate.loaded.recurrent,
        'success': measured.success.as_dict(),
        'success_by_mode': measured.by_mode.as_dict() if measured.by_mode else None,
        'distilled': _distilled_as_dict(distilled, measured),
        'applies': verdict.applies,
        'verdict': verdict.text,
        'next': verdict.next,
        'file': str(output) if verdict.use else None,
    }
    own = [] if order.distil else candidate.notes
    notes = [*own, *measured.notes]

    def shown() -> None:
        for finding in findings:
            show(finding)
        emit(_rows(result), False)
        for note in notes:
            print(f'Note: {note}.')
        print(verdict.text)
        print(f'Next: {verdict.next}')

    return {**result, 'checks': as_dict(findings), 'notes': notes}, shown


def _rows(result: dict[str, Any]) -> dict[str, Any]:
    """Return what the table shows people."""
    hidden = ('verdict', 'next', 'distilled', 'applies', 'file')
    rows = {name: value for name, value in result.items() if name not in hidden}
    if (mixture := result['distilled']) is not None:
        rows['success_of_mixture'] = mixture['success']
        rows['std_of_mixture'] = mixture['std']
        rows['held_out_nll'] = mixture['held_out_nll']
    rows |= {'applies': result['applies'], 'file': result['file']}
    return {name: value for name, value in rows.items() if value is not None}


def _distilling(order: Order, output: Path) -> str:
    """Return the command that adopts a mixture of the same policy."""
    words = ['q2rl', 'adopt', order.policy, '--distil']
    words += ['--suite', order.suite] if order.suite is not None else []
    words += ['--task', order.task]
    if not order.episodes:
        words += ['-n', '0', '--demonstrations', str(order.demonstrations)]
    if order.spec is not None:
        words += ['--spec', str(order.spec)]
    if order.interpreter is not None:
        words += ['--interpreter', str(order.interpreter)]
    if order.output is not None:
        words += ['-o', str(output.with_suffix(NETWORK))]
    return shlex.join(words)


def _output(order: Order, suffix: str, case: BenchTask) -> Path:
    output = order.output or Path(f'bc{suffix}')
    if output.suffix != suffix:
        raise InputError(output, f'this policy is kept in a {suffix} file', 'name it so')
    beside = [task_file(output)] if isinstance(case.spec, FixedGymTask) else []
    for file in (output, *beside):
        check_writable(file)
        refuse_existing(file, order.force)
    return output


def _measure(candidate: Candidate, case: BenchTask, order: Order) -> tuple[Measured, list[Finding]]:
    """Run the policy by its samples, and where it has a mode by that too, on the same scenes."""
    loaded, task = candidate.loaded, case.spec
    sampled = Listener(loaded.make(order.seed, 'monte_carlo', False), loaded.what)
    by_mode = None
    notes = []
    if not order.episodes:
        say(f'asking it about the observations of {order.demonstrations}')
        success = Rate(0, 0)
        for demonstration in load_demonstrations(order.demonstrations, task):
            sampled.reset()
            for observation in demonstration.observations:
                sampled.act(observation)
    else:
        success = run(sampled, case, order, 'by samples' if loaded.has_density else 'as it acts')
    if loaded.has_density and order.episodes:
        try:
            mode = loaded.make(order.seed, 'monte_carlo', True)
        except InputError:
            notes.append('it has no mode, so only its samples were measured')
        else:
            by_mode = run(mode, case, order, 'by its mode')
    seen = sampled.episodes()
    findings = [
        check_contract(loaded, task),
        check_inputs(candidate.shown, seen),
        check_actions(sampled.proposed),
        check_density(loaded, sampled.proposed, order.distil),
    ]
    return Measured(sampled.proposed, seen, success, by_mode, notes=notes), findings


def run(policy: BCPolicy, case: BenchTask, order: Order, how: str) -> Rate:
    """Return how often a policy alone succeeds on fresh scenes, those of `q2rl eval` with that seed."""
    say(f'measuring it {how}')
    deciders = Deciders(policy, QGate(0.0, case.spec.action_size))
    with EpisodeProgress(order.episodes) as progress:
        found = evaluate(
            case.spec, deciders, Mode.BC, order.episodes, order.seed, progress, case.make_cell
        )
    return Rate.of(found.outcomes)


def _distil(
    loaded: LoadedBC, measured: Measured, case: BenchTask, order: Order
) -> Distilled | None:
    """Fit a mixture and measure it; None where the policy proposes nothing to fit to."""
    if not all(np.isfinite(p.action).all() for p in measured.proposed):
        return None
    task = case.spec
    seen = []
    if order.episodes:
        # On scenes of their own: on those that it is measured on, the mixture would have seen the answers.
        shown = Listener(loaded.make(order.seed, 'bound', False), loaded.what)
        run(shown, case, replace(order, seed=episode_seed(order.seed, 'bc', 2)), 'to learn from')
        seen = shown.episodes()
    if order.demonstrations is not None:
        seen += [e.observations for e in load_demonstrations(order.demonstrations, task)]
    suite = suite_of(order)
    config = load_preset(find_suite(suite).preset if suite else 'laptop').bc
    say(f'distilling a mixture on {len(seen)} episodes')
    policy = loaded.make(episode_seed(order.seed, 'bc', 1), 'bound', False)
    found = distil(policy, seen, config, task, episode_seed(order.seed, 'bc', 0))
    mixture = network_bc(found.net, task.contract_hash, 1)
    measured.distilled = Rate(0, 0)
    if order.episodes:
        by_samples = mixture.make(order.seed, 'monte_carlo', False)
        measured.distilled = run(by_samples, case, order, 'distilled')
    if loaded.has_density:
        measured.notes.append(
            'the policy has a density of its own: unless that is wrong, adopt it without --distil'
        )
    if found.deterministic:
        measured.notes.append(
            'the policy hardly varies, so its mixture is as narrow as it may be '
            f'(std {found.std:.3f}): its density says where the policy goes, and little else'
        )
    return found


def _distilled_as_dict(distilled: Distilled | None, measured: Measured) -> dict[str, Any] | None:
    if distilled is None:
        return None
    fit = asdict(distilled.fit)
    kept = ('held_out_nll', 'train_nll', 'samples', 'steps')
    rate = measured.distilled.as_dict()
    return {**{name: fit[name] for name in kept}, 'std': distilled.std, 'success': rate}


def _packed(distilled: Distilled, candidate: Candidate, task: TaskSpec, order: Order) -> bytes:
    meta = {
        'contract': task.contract_hash,
        'task': task.name,
        'version': 1,
        'parent': 0,
        'architecture': distilled.net.architecture,
        'fit': {**asdict(distilled.fit), 'seed': order.seed},
        'distilled': {'from': Path(order.policy).name, 'kind': candidate.kind},
    }
    return pack('bc', distilled.net.state_dict(), meta)
