# SPDX-License-Identifier: Apache-2.0
"""`q2rl stop`: the emergency stop of a run that is at work, and how it is taken back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from q2rl_lab.commands.options import RunsDir

if TYPE_CHECKING:
    from q2rl_bringup.operator_services import Wish
    from q2rl_lab.run_folder import RunFolder


def stop(
    run: Annotated[
        str | None,
        typer.Argument(
            help='Name or path of the run.', show_default='the one at work, else the latest'
        ),
    ] = None,
    reset: Annotated[
        bool, typer.Option('--reset', help='Take the stop back: it becomes a hold, nothing moves.')
    ] = False,
    release: Annotated[
        bool, typer.Option('--release', help='Let go of the hold: the arm moves again.')
    ] = False,
    hold: Annotated[
        bool, typer.Option('--hold', help='Hold the arm at once, without a stop.')
    ] = False,
    pause: Annotated[
        bool, typer.Option('--pause', help='Pause the run after the episode under way.')
    ] = False,
    resume: Annotated[bool, typer.Option('--resume', help='Go on after a pause.')] = False,
    domain: Annotated[
        int | None,
        typer.Option(
            '--domain',
            min=0,
            max=232,
            help='ROS_DOMAIN_ID of the nodes.',
            show_default="the run's, else that of the environment",
        ),
    ] = None,
    namespace: Annotated[str, typer.Option('--namespace', help='Namespace of the nodes.')] = '',
    wait: Annotated[
        float, typer.Option('--wait', min=0.1, help='How long to wait for an answer, in seconds.')
    ] = 10.0,
    runs_dir: RunsDir = Path('runs'),
) -> None:
    """Stop the arm of a run at once. This is a software stop, not a hardware one.

    The stop is latched, over restarts too, until --reset turns it into a hold and
    --release lets go of that. It needs this command's start and DDS, which takes
    seconds: a robot's own emergency stop is faster and does not depend on q2rl.
    Exit code 1: nobody answered, or it was refused.

    \b
    q2rl stop                      the arm of the run that is at work
    q2rl stop seven --reset; q2rl stop seven --release
    q2rl stop --domain 7           nodes that ros2 launch started
    """  # noqa: D301
    from q2rl_task import InputError

    said = {'RESET': reset, 'RELEASE': release, 'HOLD': hold, 'PAUSE': pause, 'RESUME': resume}
    asked = [name for name, is_asked in said.items() if is_asked]
    if len(asked) > 1:
        raise InputError('options', 'ask for more than one thing', 'say one after the other')
    from q2rl_bringup.operator_services import Wish
    from q2rl_lab.console import EXIT_FAILED, say

    wish = Wish[asked[0]] if asked else Wish.EMERGENCY_STOP
    # Every arm that is at work stops; anything else is said to one.
    several = wish in (Wish.EMERGENCY_STOP, Wish.HOLD)
    meant = [(None, domain)] if domain is not None else _runs_meant(runs_dir, run, several)
    fulfilled = [_tell(wish, folder, number, namespace, wait) for folder, number in meant]
    if not all(fulfilled):
        raise typer.Exit(EXIT_FAILED)
    if wish is Wish.EMERGENCY_STOP:
        say('take it back with --reset, then let go of the hold with --release')


def _tell(
    wish: Wish, folder: RunFolder | None, domain: int | None, namespace: str, wait: float
) -> bool:
    """Ask the nodes of a run, or of a domain, and say what came of it; return whether it was done."""
    import os

    from q2rl_lab.console import say
    from q2rl_lab.operator_call import ask

    where = '--domain' if domain is not None else 'that of the environment'
    if folder is not None and domain is None:
        where = f'that of the environment: `q2rl up` is not at work on run {folder.id}'
    elif folder is not None:
        where = f"run {folder.id}'s"
        # As `up` has its nodes: on this machine alone.
        os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
        os.environ.pop('ROS_LOCALHOST_ONLY', None)
    number = os.environ.get('ROS_DOMAIN_ID', '0') if domain is None else domain
    say(f'ROS_DOMAIN_ID={number} ({where})')
    answer = ask(wish, domain, namespace, wait)
    if answer.fulfilled:
        print(f'{wish.words}: {answer.text}', flush=True)
        return True
    say(f'{wish.words}: {answer.text}')
    if not answer.heard:
        say('Nothing may have happened: use the hardware emergency stop.')
    return False


def _runs_meant(
    runs_dir: Path, name: str | None, several: bool
) -> list[tuple[RunFolder | None, int | None]]:
    """Return the run that is named, else those at work, else the latest, if there is one; each with its nodes' domain.

    :param several: whether more than one may be meant
    :raises InputError: there is no such run, or several are at work and one is to be meant
    """
    from q2rl_lab.operator_call import running_domain
    from q2rl_lab.run_folder import LATEST, RunFolder, open_run
    from q2rl_task import InputError

    if name is not None:
        folder = open_run(runs_dir, name)
        return [(folder, running_domain(folder))]
    # Resolved: `latest` is one of them by another name.
    folders = {RunFolder(path.parent.resolve()) for path in runs_dir.glob('*/ros_domain_id')}
    domains = [(folder, running_domain(folder)) for folder in folders]
    at_work = [(folder, domain) for folder, domain in domains if domain is not None]
    if len(at_work) > 1 and not several:
        names = ', '.join(sorted(folder.id for folder, _ in at_work))
        raise InputError('RUN', f'several runs are at work: {names}', 'name the one that is meant')
    if at_work:
        return sorted(at_work, key=lambda run: run[0].id)
    there = (runs_dir / LATEST / 'config.json').is_file()
    return [(open_run(runs_dir, None) if there else None, None)]
