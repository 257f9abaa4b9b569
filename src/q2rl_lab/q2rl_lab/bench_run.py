# SPDX-License-Identifier: Apache-2.0
"""One run of a benchmark: a method, a task and a seed, from the start that all methods of that seed share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
import fcntl
import json
from pathlib import Path
import time
from typing import Any
import uuid

from q2rl_lab.bench_suites import BenchTask, Suite, bench_task, fingerprint
from q2rl_lab.code_version import code_version
from q2rl_learner.config import load_preset
from q2rl_learner.methods import load_method
from q2rl_learner.remedies import OF_BENCH
from q2rl_task import Contract, InputError, Phase
from q2rl_task.file_hash import sha256_of

Emit = Callable[[dict[str, Any]], None]
DEMONSTRATIONS = 'demonstrations.hdf5'
WITHOUT = 'none'
EVALUATION_STREAM = 1000
"""Added to a run's seed for BC's samples in evaluations: they must not be those of the rollouts."""


@dataclass(frozen=True)
class Given:
    """A policy to start from in place of the clones, one for all seeds.

    demonstrations: a file of them; `none`: without any; empty: recorded, as for a clone.
    """

    policy: Path
    demonstrations: str = ''

    @property
    def file(self) -> Path | None:
        """The file of demonstrations, if one was named."""
        return None if self.demonstrations in ('', WITHOUT) else Path(self.demonstrations)

    @property
    def fingerprint(self) -> dict[str, str]:
        """Hashes of the files: with others it is another comparison."""
        mixed = sha256_of(self.file) if self.file else self.demonstrations
        return {'policy': sha256_of(self.policy), 'demonstrations': mixed}

    @property
    def told(self) -> dict[str, str]:
        """What a results file says of it."""
        return {'adopted': self.policy.name, **self.fingerprint}

    def check(self, case: BenchTask, presets: Sequence[str]) -> None:
        """See that the files are of use to a task and all presets, before anything is started.

        :raises InputError: they are not
        """
        from q2rl_lab.preparation import check_adopted
        from q2rl_learner.demonstrations import load_demonstrations

        if not self.policy.is_file():
            problem, remedy = 'no such file', 'name one that q2rl adopt or train-bc wrote'
            raise InputError(self.policy, problem, remedy)
        task = case.of_policy(self.policy)
        for preset in presets:
            check_adopted(self.policy, task, preset)
        if self.file:
            load_demonstrations(self.file, task)


@dataclass(frozen=True)
class Job:
    """One run. `folder`: where the shared starts are kept; plain data, so that it can go to another process.

    device: where the learner computes, see `find_device`; what is learned depends on it in its random numbers alone.
    """

    suite: Suite
    task: str
    method: str
    seed: int
    folder: Path
    device: str = 'cpu'
    given: Given | None = None

    @property
    def rollouts(self) -> int:
        """BC-only episodes before: the suite's, unless their number is what the method is about."""
        return load_method(self.method).settings.get('rollouts', self.suite.rollouts)

    @property
    def name(self) -> str:
        """What to call it."""
        return f'{self.task} {self.method} seed {self.seed}'

    @property
    def case(self) -> BenchTask:
        """The task."""
        return bench_task(self.task, self.suite.gym)

    def start_content(self) -> dict[str, Any]:
        """Return all that the start of a seed depends on: demonstrations, policy and how it fares."""
        return {
            **self.case.content(),
            'demonstrations': self.suite.demonstrations,
            'scenes': self.suite.evaluation_episodes,
            'bc': load_preset(self.suite.preset).bc.model_dump(mode='json'),
            'given': self.given.fingerprint if self.given is not None else {},
        }

    def settings(self) -> str:
        """Return the fingerprint of all that the result depends on beside the seed."""
        config = load_preset(f'{self.suite.preset}+{self.method}').model_dump(mode='json')
        return fingerprint({'config': config, **self.suite.budget(), **self.start_content()})


@dataclass(frozen=True)
class Start:
    """What the methods of one seed share. `bc`: how the policy fares on the scenes of the last evaluation.

    demonstrations: None where there are none.
    """

    task: Contract
    demonstrations: Path | None
    policy: Path
    bc: dict[str, Any]


def shared_start(job: Job) -> Start:
    """Return demonstrations and policy of a task and seed; made by whoever comes first, the others wait for it."""
    from q2rl_lab.evaluation import bc_alone
    from q2rl_lab.in_process import evaluate
    from q2rl_task import Mode
    from q2rl_task.atomic_file import write_atomically

    case, suite = job.case, job.suite
    folder = job.folder / f'{job.task}-s{job.seed}-{fingerprint(job.start_content())}'
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / '.lock').open('ab') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept, whole = folder / 'bc.json', folder / 'task.json'
        if not (kept.is_file() and whole.is_file()):
            task = _fill(folder, job)
            write_atomically(whole, task.model_dump_json())
            alone = bc_alone(_policy_in(folder), task, job.seed + EVALUATION_STREAM)
            scenes = suite.evaluation_episodes
            found = evaluate(task, alone, Mode.BC, scenes, job.seed, make_cell=case.make_cell)
            bc = {'success': sum(found.outcomes) / scenes, 'n': scenes}
            write_atomically(kept, json.dumps(bc | (job.given.told if job.given else {})))
        demonstrations = folder / DEMONSTRATIONS
        return Start(
            case.restore(whole.read_text()),
            demonstrations if demonstrations.is_file() else None,
            _policy_in(folder),
            json.loads(kept.read_text()),
        )


def _fill(folder: Path, job: Job) -> Contract:
    """Make demonstrations and policy, or take those that were given; return their task."""
    from q2rl_lab.preparation import clone, take
    from q2rl_sim.demonstrations import write_demonstrations
    from q2rl_task.atomic_file import write_atomically

    case, suite, given = job.case, job.suite, job.given
    demonstrations = folder / DEMONSTRATIONS
    task = case.spec if given is None else case.of_policy(given.policy)
    if given is None or not given.demonstrations:
        task, recorded = case.record(task, suite.demonstrations, job.seed)
        write_demonstrations(demonstrations, task, recorded)
    elif given.file:
        write_atomically(demonstrations, given.file.read_bytes())
    if given is None:
        clone(task, demonstrations, suite.preset, job.seed, folder / 'bc.safetensors')
    else:
        take(task, given.policy, folder)
    return task


def _policy_in(folder: Path) -> Path:
    adopted = folder / 'bc.yaml'
    return adopted if adopted.is_file() else folder / 'bc.safetensors'


def run_job(job: Job, emit: Emit) -> None:
    """Run a method on a task and seed; `emit` gets a line per evaluation, the last of which is marked final."""
    case = job.case
    from q2rl_control.run_settings import RunSettings
    from q2rl_lab.learn_run import fresh_run
    from q2rl_policies.torch_runtime import prepare_torch

    prepare_torch()
    suite, start = job.suite, shared_start(job)
    config = load_preset(f'{suite.preset}+{job.method}')
    settings = RunSettings(
        run_id=f'{job.method}-s{job.seed}',
        seed=job.seed,
        rollouts=job.rollouts,
        most_rollouts=job.rollouts,  # all methods have the same
        online_steps=suite.online_steps,
        # Only what refreshes V has a use for them; they are of its budget.
        bc_only_every=RunSettings.bc_only_every if config.refresh_every else 0,
        rl_only_every=0,
        evaluation_episodes=0,
        drift_evidence=0.0,
    )
    watch = _Watch(job, start, emit)
    watch.run = fresh_run(
        start.task,
        settings,
        config,
        start.demonstrations,
        start.policy,
        device=job.device,
        on_progress=watch,
        make_cell=case.make_cell,
        remedies=OF_BENCH,
    )
    watch.run.run()
    watch.finish()


class _Watch:
    """Evaluates a run now and then, beside it: with a cell and a random stream of its own, so nothing in it changes."""

    def __init__(self, job: Job, start: Start, emit: Emit) -> None:
        self.run: Any = None
        self._job, self._start, self._emit = job, start, emit
        self._next = job.suite.evaluate_every
        self._began = time.monotonic()
        self._attempt = uuid.uuid4().hex[:12]
        self._settings = job.settings()
        self._code = code_version()

    def __call__(self, progress: Any) -> None:
        """Take the end of an episode."""
        suite = self._job.suite
        steps = progress.online_steps
        if progress.episode.phase != Phase.ONLINE.name or steps < self._next:
            return
        self._next += suite.evaluate_every
        if steps < suite.online_steps:
            self._evaluate(suite.probe_episodes, final=False)

    def finish(self) -> None:
        """Evaluate the end of the run and add what happened on the way."""
        run = self.run
        online = [r for r in run.records if r.phase == Phase.ONLINE.name]
        more = {
            # Not stopped: the plan went through all its phases.
            'stopped': run.plan.detail if run.plan.phase is not Phase.FINISHED else '',
            'force_soften_n': self._job.case.force_soften_n,
            'training': {
                'outcomes': ''.join('01'[r.success] for r in online),
                'steps': [r.steps for r in online],
                'rl_steps': [r.rl_steps for r in online],
                'peak_force_n': [round(r.peak_force, 2) for r in online],
                'end_reasons': [r.end_reason for r in online],
                'rollouts': ''.join(
                    '01'[r.success] for r in run.records if r.phase == Phase.ESTIMATING.name
                ),
            },
        }
        self._evaluate(self._job.suite.evaluation_episodes, final=True, **more)

    def _evaluate(self, episodes: int, final: bool, **more: Any) -> None:
        from q2rl_lab.evaluation import bc_from_file, learned_deciders
        from q2rl_lab.in_process import evaluate
        from q2rl_task import Mode

        job, run = self._job, self.run
        case, learner = job.case, run.learner
        config, task = learner.config, self._start.task
        seed = job.seed + EVALUATION_STREAM
        bc = bc_from_file(self._start.policy, task, seed, config.entropy)
        # A run that was stopped before it learned anything is as good as its clone.
        mode = Mode.GATED if learner.trained_steps else Mode.BC
        decide = learned_deciders(config, task, bc, run.actor, run.critic, seed)
        found = evaluate(task, decide, mode, episodes, job.seed, make_cell=case.make_cell)
        self._emit(
            {
                'suite': job.suite.name,
                'task': job.task,
                'method': job.method,
                'seed': job.seed,
                'settings': self._settings,
                'device': job.device,
                'attempt': self._attempt,
                'final': final,
                'online_steps': learner.online_steps,
                'online_episodes': sum(r.phase == Phase.ONLINE.name for r in run.records),
                'gradient_steps': learner.gradient_steps,
                'success': sum(found.outcomes) / len(found.outcomes),
                'n': len(found.outcomes),
                'mean_steps': found.steps,
                'peak_force_n': found.peak_force,
                'bc': self._start.bc,
                'wall_s': round(time.monotonic() - self._began, 1),
                'code': self._code,
                **more,
            }
        )
