# SPDX-License-Identifier: Apache-2.0
"""Run a node graph as supervised processes until the run is finished, fails, or is stopped by the user."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
import contextlib
from dataclasses import dataclass
from enum import Enum
import importlib.util
import json
import os
from pathlib import Path
import shlex
import signal
import sys
import time
from types import MappingProxyType
from typing import Any

from q2rl_lab.display import Display
from q2rl_lab.ros_environment import Domain, node_environment, remove_stale_segments
from q2rl_lab.run_data import read_episodes
from q2rl_lab.run_folder import RunConfig, RunFolder, named
from q2rl_lab.run_view import Plan, RunView
from q2rl_lab.supervisor import Crash, ProcessSpec, ProcessState, Supervisor, describe_exit
from q2rl_task import Phase, TaskSpec
from q2rl_task.atomic_file import write_atomically

LOOK_PERIOD_S = 1.0
STOP_PATIENCE_S = 15.0
"""How long the episode under way, and the learner's last acknowledgement, are waited for."""
ACKNOWLEDGED_PATIENCE_S = 10.0


class End(Enum):
    """How watching a run ended."""

    FINISHED = 'finished'
    STOPPED = 'stopped'  # by a fault that the run itself found, or by another operator
    CRASHED = 'crashed'
    INTERRUPTED = 'interrupted'


@dataclass(frozen=True)
class Ending:
    """How it ended and what there is to say about it."""

    end: End
    text: str = ''
    lasting: bool = False
    """Whether going on with the run would only end in the same way: bad input to a node."""


def graph_arguments(
    folder: RunFolder, config: RunConfig, resume: bool, browser_port: int | None = None
) -> dict[str, Any]:
    """Return what the run's config means to the node graph.

    :param browser_port: TCP port of the page to watch this session on; None: no page
    """
    watched = {} if browser_port is None else {'browser': True, 'browser_port': browser_port}
    return {
        **watched,
        'task': config.task,
        'sim': config.sim,
        'robot_type': config.robot_type,
        'command_sink': config.command_sink,
        'lockstep': 'false' if config.realtime else 'true',
        'planner': config.planner,
        'run_dir': str(folder.path),
        'run_id': folder.id,
        'seed': config.seed,
        'preset': config.preset,
        'device': config.device,
        'policy_mode': 'shadow' if config.shadow else 'gated',
        'rollouts': config.rollouts,
        'online_steps': config.steps,
        'goal': config.goal,
        'drop_bc': config.drop_bc,
        'eval_episodes': config.eval_episodes,
        'bc_checkpoint': str(folder.bc),
        'demos': str(folder.demonstrations),
        'resume': resume,
    }


def node_processes(
    folder: RunFolder,
    config: RunConfig,
    resume: bool,
    browser_port: int | None = None,
    changes: Mapping[str, Any] = MappingProxyType({}),
) -> list[ProcessSpec]:
    """Return the processes of the run's node graph; their parameters are written to its `parameters` folder.

    :param browser_port: see `graph_arguments`
    :param changes: arguments of the graph that win over those of the config
    :raises InputError: the graph refuses the arguments, or a program of it is not installed
    """
    # The command line starts what bringup describes.
    from q2rl_bringup.node_graph import FINAL_EXIT_CODE, build_graph

    graph = build_graph({**graph_arguments(folder, config, resume, browser_port), **changes})
    for path, text in graph.files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
    parameters = folder.path / 'parameters'
    parameters.mkdir(exist_ok=True)
    specs = [
        ProcessSpec(
            name=spec.name,
            argv=(
                *('ros2', 'launch', spec.package, spec.file),
                *(f'{name}:={value}' for name, value in spec.arguments.items()),
            ),
            respawn=False,
            environment=graph.environment,
        )
        for spec in graph.includes
    ]
    for node in graph.nodes:
        file = parameters / f'{node.name}.yaml'
        write_atomically(file, graph.parameter_file(node))
        specs.append(
            ProcessSpec(
                name=node.name,
                argv=(*program(node.package, node.executable), *graph.command_line(node, file)),
                respawn=node.respawn,
                respawn_limit=node.respawn_limit,
                backoff_s=node.respawn_delay,
                final_codes=(FINAL_EXIT_CODE,),
                environment=graph.environment,
                required=node.required,
                once=node.once,
            )
        )
    return specs


def program(package: str, executable: str) -> tuple[str, ...]:
    """Return how to start an executable of a package: our own nodes as modules of this interpreter.

    :raises InputError: it is not installed
    """
    from q2rl_task import InputError

    module = f'{package}.{executable}_node'
    with contextlib.suppress(ModuleNotFoundError):
        if importlib.util.find_spec(module) is not None:
            return sys.executable, '-m', module
    from ament_index_python.packages import PackageNotFoundError, get_package_prefix

    try:
        path = Path(get_package_prefix(package)) / 'lib' / package / executable
    except PackageNotFoundError:
        path = Path(package) / executable
    if not path.is_file():
        raise InputError(path, 'is not installed', 'build the workspace, or see `q2rl doctor`')
    return (str(path),)


def run_graph(
    folder: RunFolder,
    config: RunConfig,
    task: TaskSpec,
    specs: Sequence[ProcessSpec],
    display: Display,
    started: float,
    wanted_domain: int | None = None,
    view: RunView | None = None,
) -> Ending:
    """Run the processes and watch them to the end; all of them are gone when this returns.

    :param started: when the user started, on the monotonic clock, less the time of earlier sessions
    :param view: what is shown of the run; None: that of a run that learns
    :raises InputError: no DDS domain is free
    """
    domain = Domain(wanted_domain)
    try:
        removed = remove_stale_segments()
        if removed:
            display.note(f'removed {removed} shared memory files that killed processes had left')
        write_atomically(folder.domain, str(domain.number))
        display.note(
            f'ROS_DOMAIN_ID={domain.number} (for ros2 in another terminal), logs in {folder.logs}'
        )
        stop = f'./q2rl stop {shlex.quote(named(folder))}'
        display.note(f'emergency stop from another terminal: {stop}')
        environment = node_environment(domain.number)
        # Ours too: the watcher must be found by the nodes.
        os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = environment['ROS_AUTOMATIC_DISCOVERY_RANGE']
        if view is None:
            modes = 1 if config.shadow else 3
            plan = Plan(config.rollouts, config.steps, modes * config.eval_episodes)
            view = RunView(plan, started)
        for row in read_episodes(folder, notes=[]):
            view.hear_episode(row)
        return asyncio.run(_run(folder, config, task, specs, environment, domain, view, display))
    finally:
        folder.domain.unlink(missing_ok=True)
        domain.release()


async def _run(
    folder: RunFolder,
    config: RunConfig,
    task: TaskSpec,
    specs: Sequence[ProcessSpec],
    environment: dict[str, str],
    domain: Domain,
    view: RunView,
    display: Display,
) -> Ending:
    from q2rl_lab.watch import Watcher  # rclpy

    stop, hurry = asyncio.Event(), asyncio.Event()

    def interrupted() -> None:
        (hurry if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupted)
    supervisor = Supervisor(specs, folder.logs, environment, display.note)
    watcher = Watcher(view, domain.number, not config.realtime, task.period_s)
    try:
        await supervisor.start()
        return await _Watch(supervisor, watcher, view, display, stop, hurry).until_end()
    finally:
        await supervisor.stop()
        watcher.close()
        display.close()
        _keep_session(folder, view, supervisor)


class _Watch:
    """Looks at a run once a second."""

    def __init__(self, supervisor, watcher, view: RunView, display: Display, stop, hurry) -> None:
        self._supervisor, self._watcher, self._view = supervisor, watcher, view
        self._display, self._stop, self._hurry = display, stop, hurry

    async def until_end(self) -> Ending:
        crash = asyncio.create_task(self._supervisor.wait_crash())
        stopping = asyncio.create_task(self._stop.wait())
        try:
            while True:
                await asyncio.wait(
                    {crash, stopping}, timeout=LOOK_PERIOD_S, return_when=asyncio.FIRST_COMPLETED
                )
                phase, detail = self._look()
                if crash.done():
                    found = crash.result()
                    return Ending(End.CRASHED, crash_text(found), found.lasting)
                if stopping.done():
                    return await self._wind_down()
                if phase is Phase.FINISHED:
                    await self._wait_for(self._is_acknowledged, ACKNOWLEDGED_PATIENCE_S)
                    return Ending(End.FINISHED)
                if phase is Phase.STOPPED:
                    return Ending(End.STOPPED, detail)
        finally:
            for task in (crash, stopping):
                task.cancel()

    async def _wind_down(self) -> Ending:
        self._display.note('stopping after the step under way; Ctrl-C again to stop at once')
        asked = asyncio.create_task(asyncio.to_thread(self._watcher.ask_to_stop, STOP_PATIENCE_S))
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait({asked, hurry}, return_when=asyncio.FIRST_COMPLETED)
        if asked.done() and asked.result() and not hurry.done():
            await self._wait_for(self._is_acknowledged, ACKNOWLEDGED_PATIENCE_S)
        hurry.cancel()
        return Ending(End.INTERRUPTED)

    def _look(self) -> tuple[Phase, str]:
        self._watcher.check()
        states = self._supervisor.states
        with self._watcher.lock:
            view = self._view
            view.alive = {name: state is ProcessState.RUNNING for name, state in states.items()}
            view.respawns = self._supervisor.respawns
            self._display.update(view, time.monotonic())
            return view.phase, '' if view.run is None else view.run.detail

    def _is_acknowledged(self) -> bool:
        run = self._view.run
        ended = run is not None and run.phase in (Phase.FINISHED, Phase.STOPPED)
        return ended and run.acknowledged >= run.sequence

    async def _wait_for(self, condition, patience_s: float) -> bool:
        end = time.monotonic() + patience_s
        while time.monotonic() < end and not self._hurry.is_set():
            with self._watcher.lock:
                if condition():
                    return True
            await asyncio.sleep(0.1)
        return False


def crash_text(crash: Crash) -> str:
    """Tell of a process that was given up, with the end of its log."""
    end = '\n'.join(f'  | {line}' for line in crash.last_lines)
    again = f' after {crash.respawns} restarts' if crash.respawns else ''
    return f'{crash.name} ended with {describe_exit(crash.returncode)}{again}:\n{end}\n  log: {crash.log}'


def _keep_session(folder: RunFolder, view: RunView, supervisor: Supervisor) -> None:
    """Add what this session measured to what earlier ones did."""
    session = read_session(folder)
    respawns = session.get('respawns', {})
    for name, count in supervisor.respawns.items():
        if count:
            respawns[name] = respawns.get(name, 0) + count
    arm = Counter(session.get('arm', {}))
    arm.update(view.arm_counters)
    rejected = session.get('rejected', 0) + arm.pop('rejected', 0)
    session.update({'respawns': respawns, 'rejected': rejected, 'arm': dict(arm)})
    write_session(folder, session)


def read_session(folder: RunFolder) -> dict[str, Any]:
    """Return what sessions of this run measured so far; empty before the first ended."""
    try:
        return json.loads(folder.session.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}


def write_session(folder: RunFolder, session: dict[str, Any]) -> None:
    """Keep what sessions of this run measured."""
    write_atomically(folder.session, json.dumps(session, indent=2))


def keep_wall_time(folder: RunFolder, started: float) -> dict[str, Any]:
    """Keep in the session how long the run has taken; returns the session.

    :param started: when the run was launched, on the monotonic clock, less what earlier sessions took
    """
    session = {**read_session(folder), 'wall_s': time.monotonic() - started}
    write_session(folder, session)
    return session
