# SPDX-License-Identifier: Apache-2.0
"""What a run starts from: demonstrations, and a policy cloned from them."""

from __future__ import annotations

from dataclasses import asdict
import json
from pathlib import Path
import time
from typing import Any

from q2rl_lab.console import say
from q2rl_lab.run_folder import RunConfig, RunFolder
from q2rl_task import Contract, InputError, TaskSpec, episode_seed, load_task
from q2rl_task.atomic_file import saying_why, write_atomically


def record(
    task: TaskSpec, count: int | None, seed: int, path: Path, noise: float | None = None
) -> dict[str, Any]:
    """Record successful demonstrations in simulation and write them; returns what was recorded.

    :param count: how many; None: as many as the task says
    :param noise: of the demonstrator; None: what the task says
    :raises InputError: the file cannot be written
    """
    from q2rl_sim.demonstrations import record_demonstrations, write_demonstrations

    began = time.monotonic()
    wanted = task.demonstrations
    demonstrations = record_demonstrations(
        task,
        wanted.count if count is None else count,
        seed,
        wanted.noise if noise is None else noise,
    )
    with saying_why(path):
        write_demonstrations(path, task, demonstrations)
    return {
        'file': str(path),
        'task': task.name,
        'seed': seed,
        'demonstrations': len(demonstrations),
        'steps': sum(len(d) for d in demonstrations),
        'wall_s': time.monotonic() - began,
    }


def clone(
    task: Contract, demonstrations: Path, preset: str, seed: int, path: Path
) -> dict[str, Any]:
    """Fit a policy to demonstrations and write it; returns how the fit went.

    :raises InputError: the preset or the demonstrations cannot be used, or the file cannot be written
    """
    from q2rl_learner.bc_training import train_bc
    from q2rl_learner.config import load_preset
    from q2rl_learner.demonstrations import load_demonstrations
    from q2rl_policies.networks_file import save
    from q2rl_policies.torch_runtime import prepare_torch

    config = load_preset(preset)
    episodes = load_demonstrations(demonstrations, task)
    prepare_torch()
    began = time.monotonic()
    net, fit = train_bc(episodes, config.bc, task, episode_seed(seed, 'bc', 0))
    report = asdict(fit)
    meta = {
        'contract': task.contract_hash,
        'task': task.name,
        'version': 1,
        'parent': 0,
        'architecture': net.architecture,
        'fit': {**report, 'seed': seed},
    }
    with saying_why(path):
        save(path, 'bc', net.state_dict(), meta)
    return {'file': str(path), 'kind': config.bc.kind, **report, 'wall_s': time.monotonic() - began}


def wanted_demonstrations(text: str | None, task: TaskSpec) -> int | str | None:
    """Read the option `--demonstrations`: how many to record, or the path of a file that is there and of this task.

    :raises InputError: neither
    """
    from q2rl_learner.demonstrations import load_demonstrations

    if text is None:
        return None
    if text.isascii() and text.isdigit():
        if int(text) < 2:
            raise InputError('--demonstrations', f'{text} is too few', 'record 2 or more')
        return int(text)
    load_demonstrations(text, task)
    return str(Path(text).absolute())


def check_adopted(policy: Path, task: Contract, preset: str) -> None:
    """Refuse a policy that cannot be used for a task, or by a preset, before anything is made for it.

    :raises InputError: it cannot
    """
    from q2rl_learner.config import load_preset
    from q2rl_policies.policy_file import load_bc

    loaded = load_bc(policy, task)
    if not loaded.has_density and load_preset(preset).needs_density:
        raise InputError(
            policy,
            f'says what to do, not how likely that is, and preset {preset} rates BC by its density',
            'rate BC by its value alone (--method q2rl/alpha-0) or by the critics (ibrl), or q2rl adopt --distil it',
        )


def take(task: Contract, policy: Path, folder: Path) -> dict[str, Any]:
    """Copy the file of an adopted policy into a run's folder; returns what it is.

    :raises InputError: it cannot be used for the task
    """
    from q2rl_policies.policy_file import load_bc

    loaded = load_bc(policy, task)
    kept = keep_policy(policy, folder)
    return {'file': str(kept), 'adopted': str(policy), 'what': loaded.what}


def keep_policy(policy: Path, folder: Path) -> Path:
    """Copy the file of a policy into a folder as the only one that `policy_in` finds; return where it is."""
    named, packed = folder / 'bc.yaml', folder / 'bc.safetensors'
    kept, other = (packed, named) if policy.suffix == '.safetensors' else (named, packed)
    write_atomically(kept, policy.read_bytes(), durable=True)
    other.unlink(missing_ok=True)
    return kept


def prepare(folder: RunFolder, config: RunConfig) -> dict[str, Any]:
    """Record and clone what the run does not have yet; returns reports of what was done, also kept in the folder."""
    from q2rl_learner.demonstrations import load_demonstrations

    task = load_task(config.task)
    done: dict[str, Any] = {}
    wanted = config.demonstrations
    if not folder.demonstrations.is_file() and isinstance(wanted, str):
        load_demonstrations(wanted, task)
        write_atomically(folder.demonstrations, Path(wanted).read_bytes(), durable=True)
        done['demonstrations'] = {'file': str(folder.demonstrations), 'taken': wanted}
    elif not folder.demonstrations.is_file():
        count = task.demonstrations.count if wanted is None else wanted
        say(f'recording {count} demonstrations in simulation')
        done['demonstrations'] = record(task, count, config.seed, folder.demonstrations)
    if not folder.bc.is_file() and config.bc is not None:
        done['bc'] = take(task, Path(config.bc), folder.path)
    elif not folder.bc.is_file():
        done['bc'] = clone(task, folder.demonstrations, config.preset, config.seed, folder.bc)
    kept = folder.path / 'preparation.json'
    before = json.loads(kept.read_text(encoding='utf-8')) if kept.is_file() else {}
    write_atomically(kept, json.dumps({**before, **done}, indent=2))
    return done


def tell(reports: dict[str, Any]) -> None:
    """Say on stderr what was prepared."""
    if 'demonstrations' in reports:
        made = reports['demonstrations']
        if 'taken' in made:
            say(f'demonstrations from {made["taken"]}')
        else:
            say(
                f'{made["demonstrations"]} demonstrations, {made["steps"]} steps ({made["wall_s"]:.1f} s)'
            )
    if 'bc' in reports:
        fit = reports['bc']
        if 'adopted' in fit:
            say(f'BC adopted: {fit["what"]}, from {fit["adopted"]}')
            return
        say(
            f'BC cloned: {fit["held_out_nll"]:.2f} nats per action on held-out demonstrations, '
            f'{fit["steps"]} gradient steps ({fit["wall_s"]:.1f} s)'
        )
