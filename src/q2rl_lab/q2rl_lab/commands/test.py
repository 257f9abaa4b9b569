# SPDX-License-Identifier: Apache-2.0
"""`q2rl test`: run the tests of all packages and of the whole system."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

CONTEXT = {'allow_extra_args': True, 'ignore_unknown_options': True}


def test(
    context: typer.Context,
    everything: Annotated[
        bool, typer.Option('--all', help='Also run the tests marked `long` (minutes each).')
    ] = False,
    proving: Annotated[
        bool,
        typer.Option(
            '--prove',
            help='Take each protection out, one at a time, and require that its test fails; '
            'words that follow choose protections by name.',
        ),
    ] = False,
    skips: Annotated[
        str,
        typer.Option(
            metavar='ENVIRONMENT',
            help='Fail on a skip that tests/allowed_skips.yaml does not allow there. '
            'Without it skips are only counted.',
        ),
    ] = '',
    as_json: Annotated[
        bool, typer.Option('--json', help='Write the summary as JSON to stdout.')
    ] = False,
) -> None:
    """Run the tests: every package's own, then those of the whole system.

    Arguments that q2rl does not know go to pytest as they are; paths among them
    replace the default, src and tests.

    \b
    q2rl test                             all but the long ones
    q2rl test --all                       the long ones too
    q2rl test src/q2rl_task -k pose -x    some, to the first failure
    q2rl test --skips embedded            as a workflow runs them
    q2rl test --prove                     takes each protection out
    q2rl test --prove jerk force          those with these words in their names
    """  # noqa: D301
    import subprocess
    import sys
    import tempfile

    from q2rl_lab.console import emit, say
    from q2rl_lab.outcomes import ALLOWED_SKIPS, allowed_skips, read_summary
    from q2rl_lab.workspace import find_root
    from q2rl_task.errors import InputError

    root = find_root()
    if root is None:
        raise InputError(
            'q2rl test', 'the source tree is not here', 'run it inside a clone of the repository'
        )
    if proving:
        raise typer.Exit(_prove(root, context.args, as_json))
    allowed = allowed_skips(root, skips) if skips else None
    arguments = list(context.args)
    if not any((root / argument.split('::')[0]).exists() for argument in arguments):
        arguments += [folder for folder in ('src', 'tests') if (root / folder).is_dir()]
    marker = [] if everything or '-m' in arguments else ['-m', 'not long']
    with tempfile.TemporaryDirectory(prefix='q2rl-test-') as scratch:
        outcome = Path(scratch) / 'outcome.xml'
        command = [
            sys.executable,
            '-m',
            'pytest',
            '-rs',
            f'--rootdir={root}',
            f'--junitxml={outcome}',
            '-o',
            'junit_family=xunit1',
            *marker,
            *arguments,
        ]
        # pytest's own output is progress, not the result: with --json it goes to stderr.
        code = subprocess.run(
            command, cwd=root, check=False, stdout=2 if as_json else None
        ).returncode
        summary = read_summary(outcome) if outcome.is_file() else None
    if summary is None:
        say(f'q2rl: pytest ended before it ran a test (exit code {code})')
        raise typer.Exit(code or 1)
    unexpected = [] if allowed is None else sorted(set(summary.skips) - allowed)
    code = int(code or bool(unexpected))
    if as_json:
        emit({'exit_code': code, **summary.as_dict()}, True)
    else:
        summary.show()
    for reason in unexpected:
        say(f'q2rl: skipped, which {ALLOWED_SKIPS} does not allow in {skips}: {reason}')
    raise typer.Exit(code)


def _prove(root: Path, wanted: list[str], as_json: bool) -> int:
    """Judge the protections, show the table, and return the exit code."""
    from dataclasses import asdict

    from q2rl_lab.console import emit, say
    from q2rl_lab.prove import prove

    verdicts = prove(root, wanted, told=lambda v: say(f'{v.outcome:12} {v.protection}'))
    bad = [verdict for verdict in verdicts if verdict.outcome != 'noticed']
    if as_json:
        emit({'verdicts': [asdict(v) for v in verdicts], 'bad': len(bad)}, True)
        return bool(bad)
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title='what happens without each protection', title_justify='left', pad_edge=False
    )
    for column in ('protection', 'outcome', 'test'):
        table.add_column(column, overflow='fold')
    for v in verdicts:
        colour = 'green' if v.outcome == 'noticed' else 'red'
        table.add_row(v.protection, f'[{colour}]{v.outcome}[/]', v.test.rpartition('::')[2])
    Console().print(table)
    for v in bad:
        say(f'{v.outcome}: {v.protection} ({v.test}) {v.detail}')
    return bool(bad)
