# SPDX-License-Identifier: Apache-2.0
"""The folder of one run: what lies where in it, and who may use it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
import fcntl
import json
import os
from pathlib import Path
import shlex
import time
from typing import IO, Any

from q2rl_bringup.node_graph import RUN_ID
from q2rl_bringup.run_preparation import policy_in
from q2rl_learner.config import without_method
from q2rl_task.atomic_file import saying_why, write_atomically
from q2rl_task.errors import InputError
from q2rl_task.spec import LearningSpec, TaskSpec

LATEST = 'latest'
LENGTHS = ('rollouts', 'steps', 'goal')
"""What a run may be given more of."""


@dataclass(frozen=True)
class RunConfig:
    """What `q2rl up` was asked for; fixed for the life of a run, but for what `resume_config` lets change."""

    task: str
    seed: int = 0
    preset: str = LearningSpec().preset
    device: str = 'cpu'
    demonstrations: int | str | None = None  # how many to record, or the file to take
    steps: int = LearningSpec().online_steps
    rollouts: int = LearningSpec().rollouts
    goal: int = 0
    drop_bc: bool = False
    eval_episodes: int = 100
    realtime: bool = False
    planner: str = 'straight'
    in_process: bool = False
    bc: str | None = None
    weights: str | None = None  # folder of what acts, where nothing learns
    shadow: bool = False
    sim: str = 'mujoco'
    robot_type: str = 'panda'
    command_sink: str = 'auto'

    @property
    def verb(self) -> str:
        """The command that such a run is of."""
        if not self.in_process:
            return 'up'
        return 'shadow' if self.shadow else 'learn'

    @classmethod
    def of_task(cls, spec: TaskSpec, method: str | None = None, **asked: Any) -> RunConfig:
        """Return what was `asked` for, with the task's own word on how it is learned where that is None.

        :param method: laid over the preset; over that of the task in place of the method which the task names
        """
        said = spec.learning
        default = {
            'preset': said.preset if method is None else without_method(said.preset),
            'steps': said.online_steps,
            'rollouts': said.rollouts,
        }
        given = default | {key: value for key, value in asked.items() if value is not None}
        if method is not None:
            given['preset'] = f'{given["preset"]}+{method}'
        return cls(**given)


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run.

    The episode manager writes `state` and `episodes`, the learner `transitions`, the simulation `trace`, this package
    all the others.
    """

    path: Path

    @property
    def id(self) -> str:
        """The run's name, which its episodes' ids begin with."""
        return self.path.name

    @property
    def config(self) -> Path:
        """What was asked for (JSON)."""
        return self.path / 'config.json'

    @property
    def demonstrations(self) -> Path:
        """The demonstrations (HDF5)."""
        return self.path / 'demonstrations.hdf5'

    @property
    def bc(self) -> Path:
        """The cloned or adopted policy: safetensors, or the YAML of one that is a Python class."""
        return policy_in(self.path)

    @property
    def policy(self) -> Path:
        """The same, or where a launch was given it: it leaves that where it is."""
        given = None if self.bc.is_file() else self.read_config().bc
        return self.bc if given is None else Path(given)

    @property
    def state(self) -> Path:
        """Where the run stands (JSON)."""
        return self.path / 'run_state.json'

    @property
    def episodes(self) -> Path:
        """One finished episode per line (JSON)."""
        return self.path / 'episodes.jsonl'

    @property
    def transitions(self) -> Path:
        """The learner's append-only log (SQLite)."""
        return self.path / 'transitions.db'

    @property
    def timeline(self) -> Path:
        """The learner's status over time, one JSON object per line."""
        return self.path / 'timeline.jsonl'

    @property
    def session(self) -> Path:
        """What `q2rl up` itself measured: wall time, restarts, the arm's counters (JSON)."""
        return self.path / 'session.json'

    @property
    def learner(self) -> Path:
        """Folder of what was learned: the learner's state, or actor and critic."""
        return self.path / 'learner'

    @property
    def learned(self) -> bool:
        """Whether the learner has saved a state: Q-Estimation has been run, and V is fit to learn from."""
        return (self.learner / 'state.safetensors').is_file()

    @property
    def shadow(self) -> Path:
        """What RL in the shadow would have done (one HTML file)."""
        return self.path / 'shadow.html'

    @property
    def logs(self) -> Path:
        """Folder of the nodes' log files."""
        return self.path / 'logs'

    @property
    def trace(self) -> Path:
        """What the simulation did, step by step (see q2rl_sim's TraceFile)."""
        return self.path / 'trace.bin'

    @property
    def why(self) -> Path:
        """Folder of the pages of single episodes (`q2rl why`)."""
        return self.path / 'why'

    @property
    def result(self) -> Path:
        """The numbers (JSON)."""
        return self.path / 'result.json'

    @property
    def report(self) -> Path:
        """The report (one HTML file)."""
        return self.path / 'report.html'

    @property
    def domain(self) -> Path:
        """The ROS_DOMAIN_ID of its nodes, as text, while `q2rl up` runs them."""
        return self.path / 'ros_domain_id'

    def lock(self) -> IO[bytes]:
        """Take the folder for this process; keep the returned file open.

        :raises InputError: another process has it, or it is not ours to take
        """
        with saying_why(self.path / '.lock'):
            lock = (self.path / '.lock').open('ab')
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise InputError(
                self.path, 'another q2rl is at work on this run', 'wait for it or stop it'
            ) from None
        return lock

    def read_config(self) -> RunConfig:
        """Read what the run was asked for.

        :raises InputError: not a run's folder, or of another version
        """
        try:
            content = json.loads(self.config.read_text(encoding='utf-8'))
            return RunConfig(**content['asked'])
        except FileNotFoundError:
            raise InputError(
                self.path, 'is not the folder of a run (no config.json)', 'name a run'
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(self.config, f'cannot be read ({error})', 'start a new run') from None

    def write_config(self, config: RunConfig, versions: dict[str, Any]) -> None:
        """Keep what the run was asked for, when, and by which versions."""
        content = {
            'asked': asdict(config),
            'started': time.strftime('%Y-%m-%dT%H:%M:%S%z'),
            'versions': versions,
        }
        write_atomically(self.config, json.dumps(content, indent=2))

    def keep_length(self, config: RunConfig) -> None:
        """Keep how long the run is to be now, and all else as it is.

        :raises InputError: see `read_config`
        """
        length = {name: getattr(config, name) for name in LENGTHS}
        kept = self.read_config()
        if replace(kept, **length) != kept:
            content = json.loads(self.config.read_text(encoding='utf-8'))
            content['asked'].update(length)
            write_atomically(self.config, json.dumps(content, indent=2))


def create_run(
    runs_dir: Path,
    name: str | None,
    config: RunConfig,
    versions: dict[str, Any],
) -> RunFolder:
    """Make the folder of a new run; see `latest_run` too.

    :param name: of the run; by default the time of the start
    :raises InputError: the name is taken or none that the nodes take, or the folder cannot be written
    """
    if name is not None and (name == LATEST or not RUN_ID.fullmatch(name)):
        raise InputError(
            '--run', f'{name!r} is no name for a run', 'use letters, digits, and any of . _ -'
        )
    run = RunFolder((runs_dir / (name or _free_name(runs_dir))).absolute())
    try:
        run.path.mkdir(parents=True, exist_ok=name is not None)
        if any(run.path.iterdir()):
            remedy = f'name another run, or go on with this one: --resume --run {run.id}'
            raise InputError(run.path, 'is not empty', remedy)
        run.write_config(config, versions)
    except OSError as error:
        raise InputError(
            run.path, f'cannot be made ({error.strerror})', 'choose another --runs-dir'
        ) from None
    return run


@contextmanager
def latest_run(run: RunFolder) -> Iterator[None]:
    """Point `latest` at a run that starts or goes on; where it raises before it began, back to the run before.

    What ends the program (Ctrl-C) leaves it: a run that was interrupted is the one to go on with. So does what happens
    to a run that had begun, and another run that has become the latest meanwhile stays it.

    :raises InputError: the folder of all runs cannot be written
    """
    link = run.path.parent / LATEST
    if link.exists() and not link.is_symlink():
        yield  # someone's own folder of that name
        return
    before = _target(link)
    with saying_why(link):
        _point(link, run.id)
    try:
        yield
    except Exception:
        if not run.state.is_file() and _target(link) == run.id:
            with saying_why(link):
                if before is None:
                    link.unlink(missing_ok=True)
                else:
                    _point(link, before)
        raise


def named(run: RunFolder) -> str:
    """Return how a verb is told which run is meant, from the same folder."""
    return run.id if run.path.parent == Path('runs').absolute() else str(run.path)


def resume_line(verb: str, run: RunFolder, runs_dir: Path) -> str:
    """Return the command that goes on with a run, as it can be pasted."""
    line = f'./q2rl {verb} --resume --run {shlex.quote(run.id)}'
    return line if runs_dir == Path('runs') else f'{line} --runs-dir {shlex.quote(str(runs_dir))}'


def learn_on(config: RunConfig) -> str:
    """Return the options that let a finished run learn on, for as long again."""
    steps = 2 * config.steps or LearningSpec().online_steps
    return f'--steps {steps} --goal 0' if config.goal else f'--steps {steps}'


def open_run(runs_dir: Path, name: str | None) -> RunFolder:
    """Return a run by its name in `runs_dir`, by its path, or the latest.

    :raises InputError: there is no such run
    """
    candidates = [runs_dir / (name or LATEST)] + ([Path(name)] if name else [])
    for path in candidates:
        if (path / 'config.json').is_file():
            return RunFolder(path.resolve())
    there = [path for path in candidates if name and path.exists()]
    known = sorted(
        path.parent.name for path in runs_dir.glob('*/config.json') if path.parent.name != LATEST
    )
    remedy = (
        f'name one of {", ".join(known[-5:])}'
        if known
        else 'start one with: ./q2rl up pipe_assembly'
    )
    if there:
        raise InputError(there[0], 'is not the folder of a run: it has no config.json', remedy)
    raise InputError(candidates[0], 'no such run', remedy)


def task_of_run(task: str | None, resumed: RunFolder | None) -> str:
    """Return the task of a run that is started or gone on with: the one that is named, or that of the run before.

    :raises InputError: neither is there, or the run was started with another one
    """
    if resumed is None:
        if task is None:
            raise InputError('task', 'is missing', 'name one, ./q2rl task lists them, or --resume')
        return task
    begun = resumed.read_config().task
    if task not in (None, begun):
        remedy = 'leave the task out, or start a new run'
        raise InputError(task, f'run {resumed.id} was started with {begun}', remedy)
    return begun


def resume_config(run: RunFolder, asked: dict[str, Any], method: str | None = None) -> RunConfig:
    """Return the config of a run to resume; options given again must not differ.

    But for the device, as the one that the run began on may be gone; for more steps or another goal; and for more
    rollouts, as long as V is not fitted: too few may be why.

    :param asked: options of RunConfig; None where not given
    :param method: laid over the preset; None where not given
    :raises InputError: an option differs from what the run was started with
    """
    config = run.read_config()
    if asked.get('device') is not None:
        config = replace(config, device=asked['device'])
    if (asked.get('rollouts') or 0) > config.rollouts:
        if run.learned:
            raise InputError(
                '--rollouts',
                f'V of run {run.id} is fitted already, on {config.rollouts} rollouts',
                'leave the option out, or start a new run',
            )
        config = replace(config, rollouts=asked['rollouts'])
    if (asked.get('steps') or 0) > config.steps:
        if config.goal and asked.get('goal') is None:
            raise InputError(
                '--steps',
                f'run {run.id} learns until {config.goal} % of the last gated episodes succeed',
                'name a --goal too; 0: learn for all of the steps',
            )
        config = replace(config, steps=asked['steps'])
    if asked.get('goal') is not None:
        config = replace(config, goal=asked['goal'])
    if method is not None:
        below = asked.get('preset') or without_method(config.preset)
        asked = {**asked, 'preset': f'{below}+{method}'}
    for option in fields(RunConfig):
        value, started = asked.get(option.name), getattr(config, option.name)
        if value is not None and value != started:
            raise InputError(
                f'--{option.name.replace("_", "-")}',
                f'run {run.id} was started with {started}, not {value}',
                'leave the option out, or start a new run',
            )
    return config


def _free_name(runs_dir: Path) -> str:
    stamp = time.strftime('r%Y%m%dT%H%M%S')
    name, number = stamp, 1
    while (runs_dir / name).exists():
        number += 1
        name = f'{stamp}-{number}'
    return name


def _target(link: Path) -> str | None:
    return os.readlink(link) if link.is_symlink() else None


def _point(link: Path, target: str) -> None:
    scratch = link.with_name(f'.{LATEST}.{os.getpid()}')
    scratch.unlink(missing_ok=True)
    scratch.symlink_to(target, target_is_directory=True)
    os.replace(scratch, link)
